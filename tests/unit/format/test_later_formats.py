"""A version of a later format is refused, and the error says what to install."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import packer
from packer.format.version import Config, Version, load_version
from packer.oci import canonical_json

LATER = "; layer-packer 3.1.0 wrote it: use that or a later one"


@pytest.fixture
def version(tmp_path: Path) -> Version:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "file").write_text("content\n")
    store = packer.MemoryStore()
    packer.pack(tmp_path / "app", tag="app:1", store=store)
    return load_version(store, "app:1")


def changed(version: Version, **members: object) -> bytes:
    return canonical_json(json.loads(version.config.encode()) | members)


def refused(data: bytes) -> str:
    with pytest.raises(packer.UnsupportedVersion) as raised:
        Config.decode(data, "config x")
    return str(raised.value)


def test_a_later_format_names_the_version_that_wrote_it(version: Version) -> None:
    said = refused(changed(version, format=2, tool="layer-packer 3.1.0"))
    assert said == f"config x has format 2, this reader knows 1{LATER}"


def test_so_does_a_later_chunking_rule(version: Version) -> None:
    chunking = json.loads(version.config.encode())["chunking"] | {"rule": 2}
    said = refused(changed(version, chunking=chunking, tool="layer-packer 3.1.0rc1"))
    assert said.endswith("layer-packer 3.1.0rc1 wrote it: use that or a later one")


def test_so_does_a_later_index(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, *rest = version.read_index()
    later = plain.replace(b"\x01", b"\x02", 1) if plain[7] != 1 else plain[:7] + b"\x02" + plain[8:]
    monkeypatch.setattr(Version, "read_index", lambda _: (later, *rest))
    config = version.config._replace(tool="layer-packer 3.1.0")
    newer = Version(
        version.store, version.descriptor, version.manifest, version.manifest_bytes, config
    )
    with pytest.raises(packer.UnsupportedVersion, match="format version 2") as raised:
        _ = newer.index
    assert str(raised.value).endswith(LATER)


@pytest.mark.parametrize(
    "tool",
    [
        *(None, 7, "other 3.1.0", "layer-packer", "layer-packer ", "layer-packer 3.1; rm -rf /"),
        *("layer-packer \x1b[31m3", "layer-packer " + "1" * 33),
    ],
)
def test_a_config_cannot_put_words_into_the_error(version: Version, tool: object) -> None:
    # Whoever writes the config writes the name of the tool: it must be a version to be repeated.
    said = refused(changed(version, format=2, tool=tool))
    assert said == "config x has format 2, this reader knows 1"

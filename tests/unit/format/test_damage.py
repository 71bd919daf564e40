"""Damaged frames are reported with the files and versions that need them."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest

import packer
from packer.errors import IntegrityError, SizeMismatch
from packer.format.frames import Frames

FILES = [f"{number:02}" for number in range(40)]


def pack(root: Path, store: Path, tag: str) -> None:
    packer.pack(root, store=store, tag=tag, cache=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two versions, the second compressed against the first here and there, and another one."""
    made = tmp_path / "store"
    draw = random.Random(1)
    texts = {
        name: "".join(f"key-{draw.getrandbits(60):x}: value\n" for _ in range(5_000))
        for name in FILES
    }
    for version in ("1", "2"):
        root = tmp_path / version
        root.mkdir()
        for at, name in enumerate(FILES):
            text = (
                texts[name].replace("value", "VALUE") if version == "2" and at % 3 else texts[name]
            )
            (root / name).write_text(text)
        (root / "empty").touch()
        pack(root, made, f"app:{version}")
    (tmp_path / "other").write_bytes(draw.randbytes(1000))
    packer.pack(tmp_path / "other", store=made, tag="other:1", base="none")
    return made


def damage(store: Path, frame: int, size: int | None = None) -> str:
    """Change a byte of a frame of the first version, or cut its layer; return its digest."""
    version = packer.open_version("app:1", store=store)
    blob = version.manifest.data_layers[0].digest
    path = store / "blobs" / blob.replace(":", "/")
    data = bytearray(path.read_bytes())
    data[Frames(version.index).offset[frame] + version.index.frame_stored[frame] // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data if size is None else data[:size])
    return blob


def unreadable(store: Path, tag: str) -> dict[str, str]:
    """Return the files of a version that cannot be read, and why."""
    out = {}
    for name in FILES:
        try:
            b"".join(packer.cat(tag, name, store=store))
        except IntegrityError as error:
            out[name] = str(error)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("frame", [0, 1])
def test_reading_says_what_is_touched(store: Path, tmp_path: Path, frame: int) -> None:
    damage(store, frame)
    counts = set()
    for tag in ("app:1", "app:2"):
        found = unreadable(store, tag)
        first = ", ".join(list(found)[:3])
        needed = f"; needed by {len(found)} files ({first}, ...), and listed by 2 versions"
        with pytest.raises(IntegrityError) as caught:
            packer.unpack(tag, tmp_path / "out", store=store)
        for text in (str(caught.value), *found.values()):
            assert text.endswith(f"{needed} (app:1, app:2)")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert len(found) < len(FILES)
        counts.add(len(found))
    assert len(counts) == 2  # deltas make it more


@pytest.mark.slow
def test_packing_on_a_damaged_base_says_so(store: Path, tmp_path: Path) -> None:
    damage(store, 0)
    changed = tmp_path / "2" / FILES[0]
    changed.write_text(changed.read_text().replace("value", "third"))
    with pytest.raises(IntegrityError, match=r"needed by .*, and listed by 2 versions"):
        pack(tmp_path / "2", store, "app:3")


@pytest.mark.slow
def test_verify_speaks_of_the_whole_layer(store: Path) -> None:
    blob = damage(store, 0)
    with pytest.raises(IntegrityError) as caught:
        packer.verify("app:1", store=store)
    assert blob in str(caught.value)
    assert f"needed by {len(FILES)} files (00, 01, 02, ...), and listed by" in str(caught.value)
    packer.verify("other:1", store=store)


@pytest.mark.slow
def test_a_layer_that_was_cut(store: Path, tmp_path: Path) -> None:
    damage(store, 0, 100)
    with pytest.raises(SizeMismatch, match=rf"needed by {len(FILES)} files .*, and listed"):
        packer.unpack("app:1", tmp_path / "out", store=store)

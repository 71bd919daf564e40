"""docs/format.md itself: its worked example is the sample, its tables and limits are the code's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import packer
from packer import oci
from packer.engine import delta, zstd
from packer.engine.tokens import MAX_SPAN_BYTES
from packer.format import index_checks, index_codec, index_layers, layer_writer
from packer.format.version import load_version
from packer.opening import header_times, predecessor, recipe
from packer.packing.older import compaction
from tests.conformance import decoder
from tests.conformance.make_samples import CREATED, TINY
from tests.conformance.test_decoder import (
    TINY_SAMPLE,
    decoded,
    pack_all,
    plain_index,
    tiny_sections,
)

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


def fenced(kind: str) -> str:
    """Return a code block of the specification."""
    found = re.search(rf"^```{kind}\n(.*?)^```", FORMAT.read_text(encoding="utf-8"), re.S | re.M)
    assert found is not None, kind
    return found[1]


def hex_dump(kind: str) -> bytes:
    """Return the bytes of a dump, whose offsets are checked."""
    out = bytearray()
    for line in fenced(kind).splitlines():
        offset, text = line.split("  ", 1)
        assert int(offset, 16) == len(out), line
        out += bytes.fromhex(text[:47])
    return bytes(out)


def test_worked_example_is_the_sample() -> None:
    described = decoder.find_tag(TINY_SAMPLE, "app:1")
    raw = decoder.read_blob(TINY_SAMPLE, described)
    manifest = decoder.parse_json(raw)
    assert fenced("json manifest").replace("\n", "").encode() == raw
    config = decoder.read_blob(TINY_SAMPLE, manifest["config"])
    assert fenced("json config").replace("\n", "").encode() == config
    assert hex_dump("hex index") == plain_index(TINY_SAMPLE, "app:1")
    (described_layer,) = manifest["layers"]
    layer_bytes = decoder.read_blob(TINY_SAMPLE, described_layer)
    assert layer_bytes.startswith(hex_dump("hex data"))
    offset, tail = fenced("hex tail").split("  ")
    assert layer_bytes[int(offset, 16) :] == bytes.fromhex(tail)
    length = len(layer_bytes) - len(hex_dump("hex data")) - 4
    assert int.from_bytes(layer_bytes[-4:], "little") == length
    text = FORMAT.read_text(encoding="utf-8")
    for size in (len(raw), len(config), len(hex_dump("hex index")), len(layer_bytes)):
        assert f"{size} bytes" in text
    vectors = (described["digest"], json.loads(config)["index"]["digest"])
    for value in (*vectors, json.loads(config)["tree"]):
        assert f"`{value}`" in text


def test_worked_example_is_what_is_written_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The format must not drift unnoticed. The config names tool and zstd, so it may differ.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", CREATED)
    store, packed = pack_all(tmp_path, [TINY])
    assert plain_index(store, "app:1") == hex_dump("hex index")
    written = json.loads((fenced("json config")).replace("\n", ""))
    if (written["tool"], written["zstd"]) == (
        f"layer-packer {packer.__version__}",
        zstd.zstd_version(),
    ):
        assert packed[0].digest == decoder.find_tag(TINY_SAMPLE, "app:1")["digest"]


def test_tree_digest_of_an_empty_directory(tmp_path: Path) -> None:
    store, packed = pack_all(tmp_path, [{}])
    tree = load_version(packer.open_store(store), packed[0].digest).config.tree
    assert f"| tree digest of an empty directory | `{tree}` |" in FORMAT.read_text(encoding="utf-8")
    assert decoded(store, "app:1") == {}


def test_tables_are_those_of_the_code() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    constants = dict(re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|$", text, re.M))
    assert constants == {
        "FRAME_MIN": str(layer_writer.FRAME_MIN_BYTES),
        "FRAME_MAX": str(layer_writer.FRAME_MAX_BYTES),
        "DELTA_MIN": str(layer_writer.DELTA_MIN_BYTES),
        "DELTA_MAX": str(layer_writer.DELTA_MAX_BYTES),
        "PREFIX": str(layer_writer.PREFIX_BYTES),
    }
    assert (layer_writer.LAYER_BYTES, layer_writer.LAYER_COUNT) == (16 << 20, 64)
    assert layer_writer.MAX_DELTA_SHARE == 2 / 3
    assert f"a number, n, from 1 to {delta.MAX_COPIES};" in text
    for media_type in (
        oci.MANIFEST_TYPE,
        oci.ARTIFACT_TYPE,
        oci.CONFIG_TYPE,
        oci.DATA_TYPE,
        oci.INDEX_TYPE,
        oci.UPDATE_TYPE,
    ):
        assert f"`{media_type}`" in text
    limits = dict(re.findall(r"^\| ([^|`]+) \| ([^|]+) \|$", text.split("## Limits")[1], re.M))
    assert limits["chunk; frame's plaintext; prefix"] == "8 MiB; 8 MiB; 16 MiB"
    assert limits["update layer"] == (
        f"{index_layers.UPDATE_BYTES >> 10} KiB written, "
        f"{index_layers.READ_UPDATE_BYTES >> 20} MiB read"
    )
    assert (index_checks.MAX_CHUNK_BYTES, index_checks.MAX_FRAME_BYTES) == (8 << 20, 8 << 20)
    assert index_checks.MAX_PREFIX_BYTES == 16 << 20
    assert limits["depth"] == str(index_checks.MAX_DEPTH)
    written, read = re.findall(r"\d+", limits["index layers"])
    assert (int(written), int(read)) == (index_layers.MAX_PATCHES + 1, index_layers.READ_PATCHES)
    assert limits["index"] == f"{index_codec.MAX_INDEX_BYTES >> 20} MiB, 1000 sections"
    assert limits["layers of a manifest"] == f"128 written, {oci.MAX_LAYERS} read"
    assert limits["manifest, config"] == f"{oci.MAX_MANIFEST_BYTES >> 20} MiB"
    index = text.split("\n## Recipes")[0]  # operations are numbers, too
    numbers = [int(number) for number in re.findall(r"^\| (\d\d) \|", index, re.M)]
    assert numbers == [*decoder.ELEMENTS, 70]  # which only versions with predecessors have
    assert list(decoder.ELEMENTS) == list(tiny_sections())
    bounds = (predecessor.MAX_PREDECESSORS, predecessor.MAX_RUNS, predecessor.MAX_OLD_STREAMS)
    stated = limits["predecessors; their runs; their old streams"].replace(",", "")
    assert stated == "; ".join(map(str, bounds))
    stated = limits["links; predecessors of a file"]
    assert stated == f"{predecessor.MAX_LINKS}; {predecessor.MAX_FILES}"
    stated, span = limits["delta; its spans; span of a segment"], f"{MAX_SPAN_BYTES >> 20} MiB"
    assert stated == f"{recipe.MAX_DELTA_BYTES >> 20} MiB; {recipe.MAX_SPANS}, of {span}; {span}"
    assert limits["times that a delta replaces"] == str(header_times.MAX_TIMES)


def test_a_manifest_stays_below_128_layers() -> None:
    # Compaction bounds the data layers, the chain of patches the others; registries see the sum.
    assert compaction.MAX_LAYERS + index_layers.MAX_PATCHES + 1 <= 128
    text = " ".join((FORMAT.parent / "decisions.md").read_text(encoding="utf-8").split())
    assert f"at {compaction.MAX_LAYERS} data layers" in text
    assert f"until {compaction.KEPT_LAYERS} are left" in text


ALONE = """
import runpy, sys
sys.modules["packer"] = None  # an import of it fails
runpy.run_module("tests.conformance.decoder", run_name="__main__", alter_sys=True)
"""
DECODER = frozenset(
    f"tests.conformance.{name}"
    for name in (
        "code_constructions",
        "decoder",
        "frame_decoder",
        "plain_deflate",
        "plain_zstd",
        "recipe_decoder",
        "token_decoder",
        "zstd_decoder",
        "zstd_search",
        "zstd_sequences",
    )
)
"""The modules of the decoder."""


def test_decoder_stands_alone() -> None:
    # It proves nothing if it shares code with what it checks.
    root = Path(decoder.__file__).parents[2]
    for module in DECODER:
        source = (root / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        imported = set(re.findall(r"^ *(?:from|import) ([a-z0-9_.]+)", source, re.M))
        own = {name for name in imported if name.startswith("tests")}
        assert own <= DECODER
        first_parts = {name.split(".")[0] for name in imported - own}
        assert first_parts <= {*sys.stdlib_module_names, "zstandard", "blake3"}
    listing = subprocess.run(
        [sys.executable, "-c", ALONE, str(TINY_SAMPLE), "app:1"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert len(listing.splitlines()) == len(TINY)

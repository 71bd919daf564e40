"""The specification against the package: the decoder knows docs/format.md and nothing of packer.

Committed samples, versions packed now, and indexes that break a rule.
"""

from __future__ import annotations

import email
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import packer
from packer.errors import PackerError
from packer.format import layer_writer
from packer.format.index_codec import decode_index
from tests.conformance import decoder, frame_decoder
from tests.conformance.make_samples import (
    SAMPLES,
    Tree,
    expectation,
    history,
    read_tree,
    write_tree,
)

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
TINY_SAMPLE = SAMPLES / "0.1.0" / "tiny"

needs_raw_names = pytest.mark.skipif(
    sys.platform == "darwin", reason="file names here are UTF-8 only"
)


def decoded(layout: Path, tag: str) -> Tree:
    """Return what the decoder reads."""
    return {
        entry.path: (
            entry.kind,
            entry.mode,
            entry.target if entry.kind == decoder.SYMLINK else entry.content,
        )
        for entry in decoder.decode(layout, tag)
    }


def samples() -> Iterator[Any]:
    for listing in sorted(SAMPLES.glob("*/*/expected.json")):
        for tag, expected in json.loads(listing.read_text(encoding="utf-8")).items():
            name = f"{listing.parent.parent.name}-{listing.parent.name}-{tag}"
            yield pytest.param(listing.parent, tag, expected, id=name)


# Samples of every release. What fails here: a reader that no longer reads what was shipped.


@pytest.mark.parametrize(("layout", "tag", "expected"), list(samples()))
def test_decoder_reads_samples(layout: Path, tag: str, expected: dict[str, Any]) -> None:
    assert expectation(decoded(layout, tag)) == expected


@needs_raw_names
@pytest.mark.parametrize(("layout", "tag", "expected"), list(samples()))
def test_packer_reads_samples(
    layout: Path, tag: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(layout, store, ignore=shutil.ignore_patterns("expected.json"))
    packer.verify(tag, store=store)
    packer.unpack(tag, tmp_path / "out", store=store)
    assert expectation(read_tree(tmp_path / "out")) == expected


def test_the_samples_hold_what_the_format_has_rules_for() -> None:
    # A sample without delta frames or patches would pass whatever becomes of those.
    assert {listing.parent.parent.name for listing in SAMPLES.glob("*/*/expected.json")} >= {
        "0.1.0"
    }
    layout = SAMPLES / "0.1.0" / "history"
    chains = []
    for number in range(1, 8):
        found_tag = decoder.find_tag(layout, f"app:{number}")
        manifest = decoder.parse_json(decoder.read_blob(layout, found_tag))
        chains.append([item["mediaType"] for item in manifest["layers"]].count(decoder.UPDATE))
    assert max(chains) > 2
    config = decoder.parse_json(decoder.read_blob(layout, manifest["config"]))
    found = decoder.Index(decoder.read_index(layout, manifest, config))
    assert max(frame.depth for frame in found.frames) > 1


# Versions packed now.


def pack_all(
    folder: Path,
    trees: list[Tree],
    params: packer.ChunkParams | None = None,
    opening: str = "changed",
) -> tuple[Path, list[packer.Packed]]:
    """Pack trees as versions app:1, app:2, ..., each on the one before."""
    store, root = folder / "store", folder / "app"
    packed = []
    for number, tree in enumerate(trees, 1):
        write_tree(root, tree)
        tag = f"app:{number}"
        packed.append(packer.pack(root, store=store, tag=tag, params=params, opening=opening))
    return store, packed


def check_all(store: Path, trees: list[Tree]) -> decoder.Index:
    """Decode every version and compare; return the last one's index."""
    for number, tree in enumerate(trees, 1):
        assert decoded(store, f"app:{number}") == tree, number
    manifest = decoder.parse_json(
        decoder.read_blob(store, decoder.find_tag(store, f"app:{len(trees)}"))
    )
    config = decoder.parse_json(decoder.read_blob(store, manifest["config"]))
    return decoder.Index(decoder.read_index(store, manifest, config))


@needs_raw_names
@pytest.mark.parametrize("average_bytes", [1024, 65536])
def test_history_with_deltas(tmp_path: Path, average_bytes: int) -> None:
    trees = history()
    store, _ = pack_all(tmp_path, trees, packer.ChunkParams(average_bytes))
    assert max(frame.depth for frame in check_all(store, trees).frames) > 0


def test_real_trees_with_many_frames(tmp_path: Path) -> None:
    # Python's own sources as an application: many small files, edited all over, renamed, removed.
    library = Path(email.__file__).parents[1]
    for name in ("email", "json", "encodings", "asyncio"):
        shutil.copytree(
            library / name, tmp_path / "real" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for module in library.glob("*.py"):
        shutil.copy(module, tmp_path / "real")
    first = read_tree(tmp_path / "real")
    draw = random.Random(5)
    second = {
        path.replace(b"asyncio", b"asyncio2"): (
            kind,
            mode,
            data.replace(b"self", b"this") if draw.random() < 0.3 else data,
        )
        for path, (kind, mode, data) in first.items()
        if kind == decoder.DIRECTORY or draw.random() < 0.97
    }
    third = {**second, b"new": (1, 0o644, first[b"email/message.py"][2] * 2)}
    trees = [first, second, third]
    store, _ = pack_all(tmp_path, trees)
    found = check_all(store, trees)
    assert len(found.frames) > 3
    assert any(frame.prefix for frame in found.frames)


@pytest.mark.slow
def test_large_files_and_several_layers(tmp_path: Path) -> None:
    # Frames of incompressible data, cut by content; then a prefix that lies in several of them.
    noise = random.Random(6).randbytes(40 << 20)
    trees: list[Tree] = [
        {b"big": (1, 0o644, noise), b"half": (1, 0o644, noise[: 20 << 20])},
        {b"big": (1, 0o644, noise[:1000] + b"edit" + noise[1000:-7])},
    ]
    store, packed = pack_all(tmp_path, trees)
    found = check_all(store, trees)
    assert packed[0].layers > 1
    assert len(found.frames) > 10
    for frame in found.frames:
        size = sum(found.lengths[chunk] for chunk in frame.chunks)
        assert size <= (
            layer_writer.DELTA_MAX_BYTES if frame.prefix else layer_writer.FRAME_MAX_BYTES
        )


def test_prefix_that_looks_like_a_dictionary(tmp_path: Path) -> None:
    # zstd takes a prefix with this magic number for a dictionary, unless told that it is none.
    text = b"\x37\xa4\x30\xec" + random.Random(7).randbytes(30000)
    trees: list[Tree] = [
        {b"a": (1, 0o644, text)},
        {b"a": (1, 0o644, text[:20000] + b"!" + text[20000:])},
    ]
    store, _ = pack_all(tmp_path, trees)
    assert check_all(store, trees).frames[-1].prefix


def test_single_file(tmp_path: Path) -> None:
    (tmp_path / "one.tgz").write_bytes(b"content")
    (tmp_path / "one.tgz").chmod(0o640)
    packer.pack(tmp_path / "one.tgz", store=tmp_path / "store", tag="one")
    assert decoded(tmp_path / "store", "one") == {b"one.tgz": (1, 0o640, b"content")}


def test_zstd_program_reads_a_patched_index(tmp_path: Path) -> None:
    # "What zstd --patch-from reads" is a promise to people without this package.
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("the program zstd is not installed")
    layout = SAMPLES / "0.1.0" / "history"
    manifest = decoder.parse_json(decoder.read_blob(layout, decoder.find_tag(layout, "app:2")))
    for at, name in enumerate(("full", "patch")):
        stored = decoder.read_blob(layout, manifest["layers"][at])
        assert manifest["layers"][at]["mediaType"] == decoder.UPDATE
        length = int.from_bytes(stored[-4:], "little")
        (tmp_path / name).write_bytes(stored[-4 - length : -4])
    old, new = tmp_path / "old", tmp_path / "new"
    subprocess.run([program, "-qd", tmp_path / "full", "-o", old], check=True)
    patched: list[str | Path] = [
        program,
        "-qd",
        f"--patch-from={old}",
        tmp_path / "patch",
        "-o",
        new,
    ]
    subprocess.run(patched, check=True)
    config = decoder.parse_json(decoder.read_blob(layout, manifest["config"]))
    assert new.read_bytes() == decoder.read_index(layout, manifest, config)


def test_a_large_index_is_patched_by_delta_frames(tmp_path: Path) -> None:
    rng = random.Random(5)
    root = tmp_path / "tree"
    root.mkdir()
    names = [f"{at:04}-{rng.getrandbits(700):x}" for at in range(1200)]
    for at, name in enumerate(names):
        (root / name).write_text(f"file {at}")
    store = tmp_path / "store"
    packer.pack(root, store=store, tag="app:1")
    assert len(plain_index(store, "app:1")) > 192 << 10
    for number in (2, 3):
        (root / names[400 * number - 100]).write_text(f"changed {number}")
        (root / f"0500-new-{number}").write_text("new")
        packed = packer.pack(root, store=store, tag=f"app:{number}")
        assert packed.index_bytes < 500, "as zstd frames with prefixes these took 2 KB and more"
    for number in (1, 2, 3):
        version = packer.open_version(f"app:{number}", store=store)
        assert version.read_index()[0] == plain_index(store, f"app:{number}")
    assert decoded(store, "app:3") == read_tree(root)


# Damage. Each line of the specification's checks, broken in one place: both readers must refuse.


def tiny_sections() -> dict[int, bytes]:
    return decoder.sections(plain_index(TINY_SAMPLE, "app:1"))


def plain_index(layout: Path, tag: str) -> bytes:
    manifest = decoder.parse_json(decoder.read_blob(layout, decoder.find_tag(layout, tag)))
    config = decoder.parse_json(decoder.read_blob(layout, manifest["config"]))
    return decoder.read_index(layout, manifest, config)


def assemble(parts: dict[int, bytes]) -> bytes:
    """Return the index of these sections, in the order given."""
    head = b"LPINDEX\x01" + struct.pack("<II", len(parts), 0)
    rows = [struct.pack("<IIQ", number, 0, len(data)) for number, data in parts.items()]
    return b"".join([head, *rows, *parts.values()])


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


LONG = b"x" * 256
BROKEN: dict[str, dict[int, bytes]] = {
    "unknown kind": {11: b"\1\0\1\3"},
    "kinds too few": {11: b"\1\0\1"},
    "mode beyond permissions": {12: struct.pack("<4H", 0o4644, 0o755, 0o644, 0o777)},
    "modes too many": {12: struct.pack("<5H", 0, 0, 0, 0, 0)},
    "section of half an element": {12: bytes(7)},
    "runs of a directory": {13: u32(0, 1, 1, 0)},
    "runs too many": {13: u32(1, 0, 2, 0)},
    "target missing": {14: b""},
    "target too many": {14: b"a\0b\0"},
    "empty target": {14: b"\0"},
    "long target": {14: b"x" * 4096 + b"\0"},
    "target without NUL": {14: b"../a.txt"},
    "path without NUL": {10: tiny_sections()[10][:-1]},
    "absolute path": {10: b"/a.txt\0docs\0docs/b\0docs/link\0"},
    "absolute directory": {10: b"/d\0/d/a\0/d/b\0/d/c\0", 11: b"\0\1\1\2", 13: u32(0, 1, 1, 0)},
    "empty path": {10: b"\0docs\0docs/b\0docs/link\0"},
    "path ends in slash": {10: b"a.txt\0docs\0docs/\0docs/link\0"},
    "empty component": {10: b"a.txt\0docs\0docs//b\0docs/link\0"},
    "dot": {10: b"a.txt\0docs\0docs/.\0docs/link\0"},
    "dot dot": {10: b"a.txt\0docs\0docs/..\0docs/link\0"},
    "dot dot at the top": {10: b"..\0docs\0docs/b\0docs/link\0"},
    "climbs": {10: b"../a\0docs\0docs/b\0docs/link\0"},
    "order of paths": {10: b"a.txt\0docs\0docs/m\0docs/link\0"},
    "path twice": {10: b"a.txt\0docs\0docs/link\0docs/link\0"},
    "parent missing": {10: b"a.txt\0docs\0docs/b\0none/link\0"},
    "parent is a file": {10: b"a.txt\0docs\0docs/b\0docs/b/link\0"},
    "long component": {10: b"a.txt\0docs\0docs/b\0docs/" + LONG + b"\0"},
    "run beyond the chunks": {21: u32(1, 2)},
    "run start beyond the chunks": {20: u32(0, 5)},
    "run start below 0": {20: u32(0, 0xFFFFFFFE)},
    "empty run": {21: u32(0, 1)},
    "run columns differ": {21: u32(1)},
    "recipes": {30: b"\0"},
    "frames of layers": {42: u32(2)},
    "layer without frames": {42: u32(1, 0)},
    "chunks of frames": {51: u32(3)},
    "frame without chunks": {
        42: u32(2),
        50: u32(29, 0),
        51: u32(2, 0),
        52: bytes(2),
        53: u32(0, 0),
    },
    "depth without prefix": {52: b"\1"},
    "frame columns differ": {52: b"\0\0"},
    "prefix missing": {53: u32(1)},
    "prefix of itself": {52: b"\1", 53: u32(1), 54: u32(0), 55: u32(1)},
    "prefix columns differ": {54: u32(0)},
    "empty chunk": {60: u32(0, 20)},
    "chunk above 8 MiB": {60: u32(6, (8 << 20) + 1)},
    "frame above 8 MiB": {60: u32(5 << 20, 5 << 20)},
    "chunk digests": {61: bytes(31)},
    "unknown section": {62: b""},
}


@pytest.mark.parametrize("name", BROKEN)
def test_both_readers_refuse(name: str) -> None:
    parts = dict(sorted({**tiny_sections(), **BROKEN[name]}.items()))
    refused_by_both(assemble(parts))


def refused_by_both(data: bytes) -> None:
    with pytest.raises(frame_decoder.Damaged):
        decoder.Index(data)
    with pytest.raises(PackerError):
        decode_index(data)


def test_both_readers_refuse_a_broken_directory() -> None:
    parts = tiny_sections()
    sound = assemble(parts)
    decoder.Index(sound)
    decode_index(sound)
    swapped = {number: parts[number] for number in [11, 10, *list(parts)[2:]]}
    refused_by_both(assemble(swapped))
    refused_by_both(sound + b"\0")
    refused_by_both(sound[:-1])
    refused_by_both(b"LPINDEX\x02" + sound[8:])
    refused_by_both(b"lpindex\x01" + sound[8:])
    refused_by_both(sound[:12] + b"\1" + sound[13:])
    refused_by_both(sound[:20] + b"\1" + sound[21:])
    refused_by_both(sound[:8] + u32(1 << 31) + sound[12:])
    for number in parts:
        refused_by_both(assemble({key: parts[key] for key in parts if key != number}))
    for cut in range(0, 320, 7):
        refused_by_both(sound[:cut])


def delta_index(depths: bytes, prefixes: list[tuple[int, int]], lengths: list[int]) -> bytes:
    """Return an index with one chunk a frame, each with one prefix run or, for (0, 0), none."""
    parts = tiny_sections()
    count = len(depths)
    runs = [run for run in prefixes if run != (0, 0)]
    parts |= {
        20: u32(0, 0),
        42: u32(count),
        50: u32(*[1] * count),
        51: u32(*[1] * count),
        52: depths,
        53: u32(*(int(run != (0, 0)) for run in prefixes)),
        54: u32(*(start for start, _ in runs)),
        55: u32(*(length for _, length in runs)),
        60: u32(*lengths),
        61: bytes(16 * count),
    }
    return assemble(parts)


def test_prefixes_and_depths() -> None:
    def both_read(data: bytes) -> None:
        decoder.Index(data)
        decode_index(data)

    both_read(delta_index(b"\0\1\2", [(0, 0), (0, 1), (0, 2)], [9, 9, 9]))
    refused_by_both(delta_index(b"\0\1\1", [(0, 0), (0, 1), (0, 2)], [9, 9, 9]))
    refused_by_both(delta_index(b"\0\1\3", [(0, 0), (0, 1), (0, 2)], [9, 9, 9]))
    refused_by_both(delta_index(b"\0\1\2", [(0, 0), (0, 1), (1, 2)], [9, 9, 9]))
    refused_by_both(delta_index(b"\0\1\2", [(0, 0), (0, 1), (0xFFFFFFFF, 2)], [9, 9, 9]))
    refused_by_both(delta_index(b"\0\1\2", [(0, 0), (0, 1), (1, 0)], [9, 9, 9]))
    chain = [(0, 0), *((at, 1) for at in range(17))]
    both_read(delta_index(bytes(range(17)), chain[:17], [9] * 17))
    refused_by_both(delta_index(bytes(range(18)), chain, [9] * 18))
    half = 8 << 20
    both_read(delta_index(b"\0\0\1", [(0, 0), (0, 0), (0, 2)], [half, half, 9]))
    refused_by_both(delta_index(b"\0\0\0\1", [(0, 0)] * 3 + [(0, 3)], [half, half, 1, 9]))


def test_optional_sections_are_skipped() -> None:
    data = assemble({**tiny_sections(), 1000: b"from the future", 4000000000: b""})
    assert decoder.Index(data).paths == decode_index(data).paths


def test_both_readers_refuse_flipped_blobs(tmp_path: Path) -> None:
    for blob in sorted((TINY_SAMPLE / "blobs" / "sha256").iterdir()):
        store = tmp_path / blob.name[:8]
        shutil.copytree(TINY_SAMPLE, store, ignore=shutil.ignore_patterns("expected.json"))
        path = store / "blobs" / "sha256" / blob.name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(frame_decoder.Damaged):
            decoded(store, "app:1")
        with pytest.raises(PackerError):
            packer.verify("app:1", store=store)


# Anything at all: the two readers must agree, on what is sound as on what is not.


def outcome(data: bytes) -> tuple[bool, bool]:
    """Tell whether the decoder and whether the package accept an index."""
    try:
        decoder.Index(data)
    except frame_decoder.Damaged:
        by_decoder = False
    else:
        by_decoder = True
    try:
        decode_index(data)
    except PackerError:
        return by_decoder, False
    return by_decoder, True


@given(data=st.data())
def test_readers_agree_on_mutated_indexes(data: st.DataObject) -> None:
    layout, tag = data.draw(
        st.sampled_from([("tiny", "app:1"), ("history", "app:2"), ("history", "app:6")])
    )
    parts = decoder.sections(plain_index(SAMPLES / "0.1.0" / layout, tag))
    number = data.draw(st.sampled_from([key for key in parts if parts[key]]))
    section = bytearray(parts[number])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(section) - 1))
        section[at] = data.draw(st.sampled_from([0, 1, 2, 46, 47, 127, 128, 255, section[at] ^ 1]))
    by_decoder, by_packer = outcome(assemble({**parts, number: bytes(section)}))
    assert by_decoder == by_packer


words = st.sampled_from([b"a", b"a.", b"a-", b"b", b"B", b"\xc3\xa9", b"..x", b" "])
contents = st.builds(
    lambda seed, size, noise: (
        random.Random(seed).randbytes(size) if noise else bytes([seed]) * size
    ),
    st.integers(0, 3),
    st.sampled_from([0, 1, 511, 512, 1536, 1537, 30000]),
    st.booleans(),
)
edits = st.tuples(st.integers(0, 30000), st.binary(max_size=3))


@st.composite
def small_trees(draw: st.DrawFn) -> Tree:
    tree: Tree = {}
    for folder in [b"", *(draw(st.lists(words, max_size=2, unique=True)))]:
        if folder:
            tree[folder] = (0, draw(st.sampled_from([0o755, 0o700])), b"")
        for name in draw(st.lists(words, max_size=3, unique=True)):
            path = folder + b"/" + name if folder else name
            if path in tree:
                continue
            if draw(st.integers(0, 5)) == 0:
                tree[path] = (2, 0o777, draw(words))
                continue
            content = draw(contents)
            at, text = draw(edits)
            mode = draw(st.sampled_from([0o644, 0o755, 0o600]))
            tree[path] = (1, mode, content[:at] + text + content[at:])
    for path in [path for path in tree if b"/" in path]:
        if tree.get(path.split(b"/")[0], (1,))[0] != decoder.DIRECTORY:
            del tree[path]
    return tree


@given(trees=st.lists(small_trees(), min_size=1, max_size=4))
@settings(max_examples=30)
def test_any_history(trees: list[Tree]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, _ = pack_all(Path(folder), trees, packer.ChunkParams(1024))
        check_all(store, trees)
        packer.unpack(f"app:{len(trees)}", Path(folder) / "out", store=store)
        assert read_tree(Path(folder) / "out") == trees[-1]

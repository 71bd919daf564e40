"""Versions that attack whoever unpacks them, and targets that do.

docs/registries.md names the test of every row of the list of attacks. What an index may not say
(absolute paths, climbing, unknown kinds, set-user-id bits) is in tests/conformance/test_decoder.py.
"""

from __future__ import annotations

import ast
import os
import stat
import threading
import tracemalloc
from pathlib import Path

import pytest
import zstandard

import packer
from packer.engine.zstd import content_size, decompress
from packer.errors import FormatError, PackerError, UnsafePath
from packer.files.name_folding import check_distinct, folds_names
from packer.reading import restore
from tests.builders import write
from tests.conformance.make_samples import read_tree

ROOT = Path(__file__).parents[2]


# Row 2: links that come and go in the target while a version is written


def test_links_swapped_in_while_updating(tmp_path: Path) -> None:
    # A thread replaces the directory by a link to a precious one, and back, all the time. Nothing
    # outside is touched, whoever wins.
    outside = write(tmp_path / "outside", {f"f{n}": b"precious" for n in range(20)})
    before = read_tree(outside)
    store = str(tmp_path / "store")
    for number in (1, 2):
        files = {f"dir/f{n}": b"%d %d" % (n, number) for n in range(20)}
        packer.pack(write(tmp_path / f"v{number}", files), store=store, tag=f"app:{number}")
    target = tmp_path / "out"
    packer.unpack("app:1", target, store=store)
    stop = threading.Event()

    def swap() -> None:
        aside = tmp_path / "aside"
        link = tmp_path / "link"
        link.symlink_to(outside)
        while not stop.is_set():
            try:
                os.rename(target / "dir", aside)
                os.rename(link, target / "dir")
                os.rename(target / "dir", link)
                os.rename(aside, target / "dir")
            except OSError:
                # The writer made a directory of its own meanwhile.
                for path in (link, aside):
                    if not os.path.lexists(path):
                        return

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in (2, 1) * 3:
            try:
                packer.unpack(f"app:{number}", target, store=store, update=True)
            except (OSError, PackerError):
                continue
    finally:
        stop.set()
        thread.join()
    assert read_tree(outside) == before


# Rows 3, 5: nothing but files, directories and links, whatever the version says


def test_unpacked_trees_hold_plain_files_alone(tmp_path: Path) -> None:
    root = write(tmp_path / "v", {"file": b"x", "twin": b"x"})
    os.unlink(root / "twin")
    os.link(root / "file", root / "twin")
    os.chmod(root / "file", 0o6755)
    store = str(tmp_path / "store")
    packer.pack(root, store=store, tag="app:1")
    packer.unpack("app:1", tmp_path / "out", store=store)
    for name in ("file", "twin"):
        info = os.lstat(tmp_path / "out" / name)
        assert stat.S_ISREG(info.st_mode)
        assert stat.S_IMODE(info.st_mode) == 0o755
        assert info.st_nlink == 1


# Row 4: Python's tarfile never extracts


def test_nothing_is_extracted_by_tarfile() -> None:
    calls: list[str] = []
    for path in (ROOT / "packer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("extract", "extractall"):
                calls.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Attribute) and node.attr == "unpack_archive":
                calls.append(f"{path}:{node.lineno}")
    assert calls == []


# Row 10: frames that claim or become too much


def test_bombs_of_every_kind() -> None:
    params = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, write_content_size=0)
    unsized = zstandard.ZstdCompressor(compression_params=params)
    block = bytes(1 << 20)
    stream = unsized.compressobj()
    endless = b"".join(stream.compress(block) for _ in range(64)) + stream.flush()
    small = zstandard.ZstdCompressor(level=1).compress(b"x" * 1000)
    large = zstandard.ZstdCompressor(level=1).compress(bytes(64 << 20))
    # The header says 1000, the blocks give 64 MiB: 1000 is written over the real size.
    lying = bytearray(large)
    assert zstandard.frame_content_size(large) == 64 << 20
    offset = lying.index((64 << 20).to_bytes(4, "little"))
    lying[offset : offset + 4] = (1000).to_bytes(4, "little")
    tracemalloc.start()
    try:
        for frame in (endless, large, bytes(lying), small + small, small[:-1], b"", b"\x28\xb5"):
            with pytest.raises(FormatError):
                decompress(frame, 1000, "frame")
        for frame in (endless, large):
            with pytest.raises(FormatError):
                content_size(frame, 8 << 20, "frame")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20, peak


# Row 21: names that are one on some file systems

PAIRS = [
    (b"README", b"readme"),
    (b"dir/a", b"DIR/a"),
    ("stra\u00dfe".encode(), b"STRASSE"),
    ("caf\u00e9".encode(), "cafe\u0301".encode()),
    ("\u212b".encode(), "\u00e5".encode()),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_folded_names_are_refused(pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(UnsafePath, match="only in case or Unicode form"):
        check_distinct([b"a", pair[0], b"z", pair[1]])


def test_different_names_are_not() -> None:
    check_distinct([b"a", b"b", b"a/b", b"\xff\xfe", b"\xff", "\u00e9".encode(), b"e"])


def test_restore_asks_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "v", {"README": b"1", "readme": b"2"})
    store = str(tmp_path / "store")
    packer.pack(root, store=store, tag="app:1")
    packer.unpack("app:1", tmp_path / "out", store=store)
    assert read_tree(tmp_path / "out") == read_tree(root)
    # Where names are folded: refused before anything has the target's name.
    monkeypatch.setattr(restore, "folds_names", lambda path: True)
    with pytest.raises(UnsafePath):
        packer.unpack("app:1", tmp_path / "out2", store=store)
    with pytest.raises(UnsafePath):
        packer.unpack("app:1", tmp_path / "out", store=store, update=True)
    assert read_tree(tmp_path / "out") == read_tree(root)
    assert not (tmp_path / "out2").exists()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".layer-packer")]


def test_folding_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not folds_names(bytes(tmp_path)) or os.path.exists(bytes(tmp_path).upper())
    real = os.path.lexists
    monkeypatch.setattr(
        os.path,
        "lexists",
        lambda path: any(real(p) or p.lower() == path.lower() for p in tmp_files(path)),
    )
    assert folds_names(bytes(tmp_path))
    assert os.listdir(tmp_path) == []


def tmp_files(path: bytes) -> list[bytes]:
    folder = os.path.dirname(path)
    return [os.path.join(folder, name) for name in os.listdir(folder)]

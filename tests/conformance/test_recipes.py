"""The chapter on recipes against the package: opened files, read by the decoder.

Deflate streams need the models of docs/deflate.md, which the decoder does not know.
"""

from __future__ import annotations

import bz2
import io
import random
import tarfile
from pathlib import Path

import pytest

from packer.format.index_codec import decode_index
from tests.conformance import decoder
from tests.conformance.make_samples import Tree, manifests
from tests.conformance.test_decoder import decoded, pack_all, plain_index


def tar(members: dict[str, bytes], form: int, mtime: float) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for number, (name, data) in enumerate(members.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = len(data), mtime - 7 * (number % 3), 10**number
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.yaml"
        archive.addfile(link)
    return out.getvalue()


def tree_of(number: int) -> Tree:
    """Return a version of a tree of archives."""
    text = manifests(4, 150).replace(b"version: 1.0.0", b"version: 1.0.%d" % number)
    files = {"a.yaml": text, "b/" + "c" * 120: text[:3000], "empty": b"", "noise": bytes(90_000)}
    files["inner.tar.bz2"] = bz2.compress(tar({"x": text[:9000]}, tarfile.GNU_FORMAT, 9e8), 3)
    forms = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    inner = [tar(files, form, 1_700_000_000.5 + 99 * number) for form in forms]
    one, two = bz2.compress(inner[0], 1), bz2.compress(inner[1])
    contents = {
        b"a.tar": inner[0],
        b"b.tar.bz2": one,
        b"c.tar.bz2": two,
        b"crds.bz2": bz2.compress(text, 9),
        b"cut-off.bz2": bz2.compress(text * 6, 1)[:-20],
        b"many.bin": text[:2000] + bz2.compress(text) + text[5000:9000] + one + b"end",
        b"nested.bz2": bz2.compress(bz2.compress(text + one)),
        b"plain.yaml": text,
    }
    return {name: (1, 0o644, data) for name, data in contents.items()}


def test_the_decoder_reads_opened_files(tmp_path: Path) -> None:
    trees = [tree_of(number) for number in range(2)]
    store, _ = pack_all(tmp_path, trees)
    for number, tree in enumerate(trees, 1):
        assert decoded(store, f"app:{number}") == tree
    index = decode_index(plain_index(store, "app:1"), "index")
    opened = {index.paths[entry] for entry in index.expansions}
    assert opened == {path for path in trees[0] if path != b"plain.yaml"}


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def recipe(records: bytes, length: int) -> bytes:
    operations = b"\x07\x01" + number(length) + b"\0\0"
    return b"\1" + bytes((len(operations), 0, 0, 1, len(records))) + operations + records


def test_the_example_of_a_bzip2_stream() -> None:
    text = random.Random(1).randbytes(1000).hex().encode()
    stream = bz2.compress(text, 2)
    made = decoder.Recipe(recipe(b"\x02\xd0\x0f\x00", len(text)), text, len(stream)).file()
    assert made == stream


@pytest.mark.parametrize(
    "records",
    [b"", b"\0\xd0\x0f\0", b"\x0a\xd0\x0f\0", b"\1\xd1\x0f\0", b"\1\xcf\x0f\0", b"\1\xd0\x0f\0\0"],
)
def test_what_a_reader_must_refuse(records: bytes) -> None:
    with pytest.raises(decoder.Damaged):
        decoder.Recipe(recipe(records, 2000), bytes(2000), 5000).file()

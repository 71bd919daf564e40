"""The chapter on recipes against the package: opened files, read by the decoder.

It rebuilds bzip2 streams, and deflate streams from the tokens of older ones; it does not know the
models of docs/deflate.md.
"""

from __future__ import annotations

import bz2
import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from packer.format.index_codec import decode_index, encode_index
from packer.opening.predecessor import OldStream
from tests.conformance import decoder, frame_decoder, recipe_decoder
from tests.conformance.make_samples import Tree, manifests
from tests.conformance.test_decoder import assemble, decoded, outcome, pack_all, plain_index
from tests.predecessors import build, closed, gzip_against, write


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
    store, _ = pack_all(tmp_path, trees, opening="all")
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
    made = recipe_decoder.Recipe(recipe(b"\x02\xd0\x0f\x00", len(text)), text, len(stream)).file()
    assert made == stream


@pytest.mark.parametrize(
    "records",
    [b"", b"\0\xd0\x0f\0", b"\x0a\xd0\x0f\0", b"\1\xd1\x0f\0", b"\1\xcf\x0f\0", b"\1\xd0\x0f\0\0"],
)
def test_what_a_reader_must_refuse(records: bytes) -> None:
    with pytest.raises(frame_decoder.Damaged):
        recipe_decoder.Recipe(recipe(records, 2000), bytes(2000), 5000).file()


def gzipped(data: bytes, level: int = 6) -> bytes:
    return gzip.compress(data, level, mtime=0)


def edited(data: bytes, seed: int) -> bytes:
    draw = random.Random(seed)
    out = bytearray(data)
    for _ in range(4):
        at = draw.randrange(len(out))
        out[at : at + draw.randrange(30)] = manifests(draw.randrange(99), 1)[:40]
    return bytes(out)


def test_the_decoder_reads_files_opened_against_predecessors(tmp_path: Path) -> None:
    plains = [manifests(4, 150)]
    for seed in range(3):
        plains.append(edited(plains[-1], seed))
    coded = [gzipped(plain, 9 - at) for at, plain in enumerate(plains)]
    streams = [OldStream(0, 10, len(plain)) for plain in plains]
    older = [closed(coded[0], streams[:1])]
    for at in range(1, 4):
        sizes = {"target": 9_000, "most": 5_000} if at == 2 else {}
        maker = gzip_against(coded[at], coded[at - 1], (plains[at], plains[at - 1]), **sizes)
        older.append(maker.file(coded[at], (at - 1,), streams[at : at + 1]))
    files = {f"v{at}": older[at]._replace(streams=()) for at in range(1, 4)}
    files["plain"] = closed(b"plain")
    write(tmp_path / "s", "a:1", files, older[:3])
    expected = {name.encode(): (1, 0o644, file.data) for name, file in files.items()}
    assert decoded(tmp_path / "s", "a:1") == expected


def test_both_readers_check_predecessors() -> None:
    plain = manifests(4, 20)
    old, new = gzipped(plain), gzipped(edited(plain, 1))
    older = [closed(old, [OldStream(0, 10, len(plain))])]
    maker = gzip_against(new, old, (edited(plain, 1), plain))
    index, _, _ = build({"a": maker.file(new), "b": closed(b"b")}, older)
    sound = encode_index(index)
    assert outcome(sound) == (True, True)
    parts = decoder.sections(sound)
    for at in range(len(parts[70])):
        for value in (0, 1, 2, 127, 128, 255):
            section = bytearray(parts[70])
            section[at] = value
            by_decoder, by_packer = outcome(assemble({**parts, 70: bytes(section)}))
            assert by_decoder == by_packer, (at, value)
    for end in range(len(parts[70])):
        assert outcome(assemble({**parts, 70: parts[70][:end]})) == (False, False)

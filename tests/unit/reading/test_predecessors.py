"""Files that were opened against predecessors: all ways of reading them give back their bytes."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import packer
from packer.errors import FormatError, PackerError
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.index_codec import decode_index, encode_index
from packer.format.rebuilding import HEAVY_BYTES, OldFiles, chunks
from packer.opening.predecessor import OldStream
from packer.reading.differences import changes
from packer.reading.entry_content import frames_of
from packer.reading.restore import restore
from packer.reading.version_file import open_entry
from tests.builders import noise, text
from tests.predecessors import File, Maker, build, closed, delta_of, gzip_against, write


def gzipped(data: bytes, level: int = 6) -> bytes:
    """Return a gzip file with a header of 10 bytes."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return gzip.compress(b"")[:10] + deflate.compress(data) + deflate.flush() + bytes(8)


def proper(data: bytes, level: int = 6) -> bytes:
    """Return a gzip file whose trailer is right."""
    body = gzipped(data, level)[:-8]
    tail = zlib.crc32(data).to_bytes(4, "little") + (len(data) % 2**32).to_bytes(4, "little")
    return body + tail


def edited(data: bytes, seed: int, edits: int = 5) -> bytes:
    draw = random.Random(seed)
    out = bytearray(data)
    for _ in range(edits):
        at = draw.randrange(len(out))
        out[at : at + draw.randrange(30)] = text(draw.random(), draw.randrange(60))
    return bytes(out)


def tarred(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


PLAIN = tarred({f"f{at}": text(at, 9_000) for at in range(9)})
NEXT = tarred({f"f{at}": edited(text(at, 9_000), at, at % 3) for at in range(10)})


def simple(**sizes: int) -> tuple[File, File]:
    """Return a closed predecessor, and a file opened against it."""
    old, new = proper(PLAIN, 9), proper(NEXT, 9)
    streams = [OldStream(0, 10, len(PLAIN))]
    return closed(old, streams), gzip_against(new, old, (NEXT, PLAIN), **sizes).file(new)


def check(layout: Path, files: dict[str, File]) -> None:
    """Read a version in every way."""
    packer.verify("a:1", store=layout)
    version = packer.open_version("a:1", store=layout)
    for jobs in (1, 3):
        target = layout.with_name(f"{layout.name}-out-{jobs}")
        restore(version, bytes(target), jobs=jobs)
        for name, file in files.items():
            assert (target / name).read_bytes() == file.data
    for name, file in files.items():
        assert b"".join(packer.cat("a:1", name, store=layout)) == file.data
        with open_entry(version, name) as opened:
            opened.seek(len(file.data) // 2)
            assert opened.read() == file.data[len(file.data) // 2 :]


@pytest.mark.parametrize("sizes", [{}, {"target": 30_000, "most": 7_000}], ids=["whole", "parts"])
def test_a_closed_predecessor(tmp_path: Path, sizes: dict[str, int]) -> None:
    old, new = simple(**sizes)
    index = write(tmp_path / "s", "a:1", {"new.tgz": new, "other": closed(b"x")}, [old])
    assert len(index.predecessors) == 1
    assert index.chunk_count > 8
    check(tmp_path / "s", {"new.tgz": new, "other": closed(b"x")})


def test_what_reading_costs_is_told(tmp_path: Path) -> None:
    old, new = simple()
    write(tmp_path / "s", "a:1", {"new.tgz": new, "other": closed(noise("other", 9_000))}, [old])
    version = packer.open_version("a:1", store=tmp_path / "s")
    layers = sum(layer.size for layer in version.manifest.data_layers)
    cost, other = packer.Cost(), packer.Cost()
    assert b"".join(packer.cat("a:1", "new.tgz", store=tmp_path / "s", cost=cost)) == new.data
    assert cost.old_text_bytes == len(PLAIN)
    assert len(old.data) < cost.read_bytes <= layers
    b"".join(packer.cat("a:1", "other", store=tmp_path / "s", cost=other))
    assert other.old_text_bytes == 0
    assert 9_000 < other.read_bytes <= layers
    with open_entry(version, "new.tgz") as opened:
        assert opened.cost == packer.Cost(0, 0)
        opened.read(1)
        assert opened.cost == cost
        opened.read()
        assert opened.cost == cost


def test_streams_are_numbered_through_all_predecessors(tmp_path: Path) -> None:
    plains = [text(at, 40_000) for at in range(3)]
    coded = [proper(plain, 6 + at) for at, plain in enumerate(plains)]
    two = coded[0] + coded[1]
    older = [
        closed(coded[2], [OldStream(0, 10, 40_000)]),
        closed(two, [OldStream(0, 10, 40_000), OldStream(0, len(coded[0]) + 10, 40_000)]),
    ]
    files = {}
    for at, (named, number) in enumerate([((1, 0), 0), ((1, 0), 1), ((1, 0), 2), ((0, 1), 0)]):
        source = [0, 1, 2, 2][at]
        plain = edited(plains[source], at)
        new = proper(plain, 7)
        maker = gzip_against(new, coded[source], (plain, plains[source]), stream=number)
        files[f"f{at}"] = maker.file(new, named)
    write(tmp_path / "s", "a:1", files, older)
    check(tmp_path / "s", files)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1 << 30, 0], ids=["streams", "files"])
def test_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("packer.opening.rebuilder._FIRST_BYTES", most)  # of a stream made alone
    plains = [text("chain", 90_000)]
    for at in range(4):
        plains.append(edited(plains[-1], at))
    coded = [proper(plain, 6 + at) for at, plain in enumerate(plains[:4])]
    coded.append(gzipped(plains[4], 1))  # another encoder's trailer, too
    streams = [OldStream(0, 10, len(plain)) for plain in plains]
    older = [closed(coded[0], streams[:1])]
    for at in range(1, 5):
        maker = gzip_against(coded[at], coded[at - 1], (plains[at], plains[at - 1]))
        older.append(maker.file(coded[at], (at - 1,), streams[at : at + 1]))
    # Opened files at each place of the chain, so that a version has all of them to rebuild.
    files = {f"v{at + 1}": older[at]._replace(streams=()) for at in range(1, 5)}
    write(tmp_path / "s", "a:1", files, older[:4])
    check(tmp_path / "s", files)
    files["copy"] = files["v5"]
    write(tmp_path / "t", "a:1", files, older[:4])
    check(tmp_path / "t", files)


def nested() -> tuple[File, File, dict[str, bytes]]:
    """Return a bundle of two archives and its successor, where one archive has changed."""
    inner, changed = text("inner", 60_000), edited(text("inner", 60_000), 1)
    old_tgz, new_tgz = proper(tarred({"in": inner}), 9), proper(tarred({"in": changed}), 9)
    same = proper(tarred({"same": text("same", 9_000)}), 1)
    old_plain = tarred({"a.tgz": old_tgz, "b.tgz": same, "c": text(1, 5_000)})
    new_plain = tarred({"a.tgz": new_tgz, "b.tgz": same, "c": text(1, 5_001)})
    old, new = proper(old_plain, 6), proper(new_plain, 6)
    old_inner = tarred({"in": inner})
    place = old_plain.index(old_tgz) + 10
    streams = [OldStream(0, 10, len(old_plain)), OldStream(1, place, len(old_inner))]
    maker = Maker()
    maker.add(new[:10])
    end = maker.begin(new[10:], old[10:], 0)
    at = new_plain.index(new_tgz)
    maker.patch(new_plain[: at + 10], old_plain)
    inside = maker.begin(new_tgz[10:], old_tgz[10:], 1)
    maker.patch(tarred({"in": changed}), old_inner, 1)
    maker.writer.end()
    maker.add(new_plain[at + 10 + inside : at + len(new_tgz)])
    rest = new_plain[at + len(new_tgz) :]
    maker.writer.delta(len(rest), [(0, 0, len(old_plain))], delta_of(old_plain, rest))
    maker.writer.end()
    maker.add(new[10 + end :])
    members = {
        "new.tgz!/a.tgz!/in": changed,
        "new.tgz!/b.tgz!/same": text("same", 9_000),
        "new.tgz!/c": text(1, 5_001),
    }
    return closed(old, streams), maker.file(new), members


def test_streams_within_streams(tmp_path: Path) -> None:
    old, new, members = nested()
    write(tmp_path / "s", "a:1", {"new.tgz": new}, [old])
    check(tmp_path / "s", {"new.tgz": new})
    for path, data in members.items():
        assert b"".join(packer.cat("a:1", path, store=tmp_path / "s", inside=True)) == data


def test_looking_inside(tmp_path: Path) -> None:
    old, new, members = nested()
    write(tmp_path / "s", "a:1", {"new.tgz": new}, [old])
    write(tmp_path / "t", "a:1", {"new.tgz": closed(new.data)})
    write(tmp_path / "u", "a:1", {"new.tgz": closed(old.data)})
    listings = [packer.ls("a:1", store=tmp_path / name, inside=True) for name in "st"]
    assert listings[0] == listings[1]
    assert members.keys() <= {entry.path for entry in listings[0]}
    before, opened, plain = (packer.open_version("a:1", store=tmp_path / name) for name in "ust")
    alike = [change for change in changes(opened, plain, inside=True) if change.inside]
    assert [change.detail for change in alike] == ["its compression or headers alone"]
    found, expected = (list(changes(before, now, inside=True)) for now in (opened, plain))
    assert found[1:] == expected[1:]
    assert {change.path for change in found} >= {"new.tgz!/a.tgz!/in", "new.tgz!/c"}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def test_zip(tmp_path: Path) -> None:
    plains = {f"f{at}": text(at, 30_000) for at in range(4)}
    changed = {name: edited(data, at) for at, (name, data) in enumerate(plains.items())}
    old, new = zipped(plains), zipped(changed)

    def offsets(data: bytes) -> list[int]:
        infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
        return [info.header_offset + 30 + len(info.filename) for info in infos]

    maker, done = Maker(), 0
    for number, (at, before) in enumerate(zip(offsets(new), offsets(old), strict=True)):
        maker.add(new[done:at])
        size = maker.begin(new[at:], old[before:], number)
        maker.patch(changed[f"f{number}"], plains[f"f{number}"], number)
        maker.writer.end()
        done = at + size
    maker.add(new[done:])
    older = closed(old, [OldStream(0, at, 30_000) for at in offsets(old)])
    files = {"new.zip": maker.file(new)}
    write(tmp_path / "s", "a:1", files, [older])
    check(tmp_path / "s", files)
    for name, data in reversed(changed.items()):
        path = f"new.zip!/{name}"
        assert b"".join(packer.cat("a:1", path, store=tmp_path / "s", inside=True)) == data
    listed = packer.ls("a:1", store=tmp_path / "s", inside=True)
    assert [entry.size for entry in listed[1:]] == list(map(len, changed.values()))


def test_frames_are_decoded_as_often_as_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = simple()
    index = write(tmp_path / "s", "a:1", {"new.tgz": new}, [old])
    fetched: list[int] = []
    real = FrameReader._decode

    def decode(self: FrameReader, frame: int) -> memoryview:
        fetched.append(frame)
        return real(self, frame)

    monkeypatch.setattr(FrameReader, "_decode", decode)
    packer.unpack("a:1", tmp_path / "out", store=tmp_path / "s")
    assert len(set(fetched)) == index.chunk_count
    assert len(fetched) <= index.chunk_count + 1  # the chunk that was read last, once more


# What a stranger may write.


def refused(tmp_path: Path, files: dict[str, File], older: list[File], match: str) -> None:
    """Check that each way of reading refuses a version."""
    layout = tmp_path / "s"
    write(layout, "a:1", files, older)
    with pytest.raises(PackerError, match=match):
        packer.unpack("a:1", tmp_path / "out", store=layout)
    assert not (tmp_path / "out").exists()
    with pytest.raises(PackerError, match=match):
        packer.verify("a:1", store=layout)
    with pytest.raises(PackerError, match=match):
        b"".join(packer.cat("a:1", next(iter(files)), store=layout))


def test_an_old_stream_of_another_size(tmp_path: Path) -> None:
    old, new = simple()
    for number, size in enumerate([len(PLAIN) - 1, len(PLAIN) + 1]):
        older = old._replace(streams=(OldStream(0, 10, size),))
        refused(tmp_path / str(number), {"new.tgz": new}, [older], "predecessor 0 of new.tgz")


def test_an_old_stream_that_is_none(tmp_path: Path) -> None:
    old, new = simple()
    older = old._replace(streams=(OldStream(0, 11, len(PLAIN)),))
    refused(tmp_path, {"new.tgz": new}, [older], "new.tgz: it is no deflate stream|new.tgz")


def test_another_predecessor(tmp_path: Path) -> None:
    _, new = simple()
    plain = edited(PLAIN, 9)
    other = closed(proper(plain, 9), [OldStream(0, 10, len(plain))])
    refused(tmp_path, {"new.tgz": new}, [other], "new.tgz")


def with_a_wrong_digest() -> tuple[File, list[File]]:
    """Return a file, and a chain whose second file has another digest than stated."""
    plains = [PLAIN, edited(PLAIN, 1), edited(PLAIN, 2)]
    coded = list(map(proper, plains))
    streams = [OldStream(0, 10, len(plain)) for plain in plains]
    first = closed(coded[0], streams[:1])
    middle = gzip_against(coded[1], coded[0], (plains[1], plains[0])).file(
        coded[1], (0,), streams[1:2]
    )
    last = gzip_against(coded[2], coded[1], (plains[2], plains[1])).file(coded[2], (1,))
    return last, [first, middle._replace(data=coded[1][:-1] + b"!")]


def test_a_rebuilt_predecessor_with_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packer.opening.rebuilder._FIRST_BYTES", 0)  # so its bytes are made
    last, older = with_a_wrong_digest()
    refused(tmp_path, {"f": last}, older, "predecessor 1 of f.*digest")


def test_the_digest_of_a_predecessor_that_is_not_made_does_not_matter(tmp_path: Path) -> None:
    last, older = with_a_wrong_digest()
    write(tmp_path / "s", "a:1", {"f": last}, older)
    check(tmp_path / "s", {"f": last})


def recipe_of(add: Callable[[Maker], None]) -> File:
    """Return a file of 1,100 bytes that a part of a recipe is to make."""
    maker = Maker()
    add(maker)
    return maker.file(MADE)


def raw_delta(
    maker: Maker,
    length: int,
    *numbers: int,
    payload: bytes = b"",
    times: tuple[tuple[int, int], ...] = (),
) -> None:
    spans = [(numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)]
    maker.writer.delta(length, spans, payload, times=times)


MADE = PLAIN[1900:2900] + noise(1, 100)
PAYLOAD = delta_of(PLAIN[:3000], MADE)
RECIPES: dict[str, tuple[Callable[[Maker], None], str]] = {
    "no such stream": (lambda m: raw_delta(m, 1100, 1, 0, 3000, payload=PAYLOAD), "old stream 1"),
    "span outside": (
        lambda m: raw_delta(m, 1100, 0, len(PLAIN) - 2999, 3000, payload=PAYLOAD),
        "no bytes",
    ),
    "span far outside": (
        lambda m: raw_delta(m, 1100, 0, 1 << 62, 3000, payload=PAYLOAD),
        "no bytes",
    ),
    "large span": (lambda m: raw_delta(m, 1100, 0, 0, (16 << 20) + 1, payload=PAYLOAD), "span"),
    "huge span": (lambda m: raw_delta(m, 1100, 0, 0, 1 << 62, payload=PAYLOAD), "span"),
    "no spans": (lambda m: raw_delta(m, 1100, payload=PAYLOAD), "0 spans"),
    "many spans": (lambda m: raw_delta(m, 1100, *(0, 0, 9) * 65, payload=PAYLOAD), "65 spans"),
    "spans too long together": (
        lambda m: raw_delta(m, 1100, *(0, 0, (8 << 20) + 1) * 2, payload=PAYLOAD),
        "spans of 16777218",
    ),
    "second span empty": (
        lambda m: raw_delta(m, 1100, 0, 0, 3000, 0, 0, 0, payload=PAYLOAD),
        "empty span",
    ),
    "second span outside": (
        lambda m: raw_delta(m, 1100, 0, 0, 3000, 0, len(PLAIN), 1, payload=PAYLOAD),
        "no bytes",
    ),
    "no span": (lambda m: raw_delta(m, 1100, 0, 0, 0, payload=PAYLOAD), "span"),
    "shorter span": (lambda m: raw_delta(m, 1100, 0, 0, 999, payload=PAYLOAD), "f"),
    "many times": (
        lambda m: raw_delta(m, 1100, 0, 0, 3000, payload=PAYLOAD, times=((1, 2),) * 65),
        "65 times",
    ),
    "late time": (
        lambda m: raw_delta(m, 1100, 0, 0, 3000, payload=PAYLOAD, times=((1, 1 << 33),)),
        "too large",
    ),
    "no bytes": (lambda m: raw_delta(m, 0, 0, 0, 3000, payload=PAYLOAD), "delta of 0"),
    "other length": (lambda m: raw_delta(m, 1099, 0, 0, 3000, payload=PAYLOAD), "f"),
    "many bytes": (
        lambda m: raw_delta(m, (16 << 20) + 1, 0, 0, 3000, payload=PAYLOAD),
        "delta of 16777217",
    ),
    "cut": (lambda m: raw_delta(m, 1100, 0, 0, 3000, payload=PAYLOAD[:-1]), "f"),
    "empty": (lambda m: raw_delta(m, 1100, 0, 0, 3000), "f"),
    "behind it": (lambda m: raw_delta(m, 1100, 0, 0, 3000, payload=PAYLOAD + b"\0"), "f"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_bad_deltas(tmp_path: Path, name: str) -> None:
    old, _ = simple()
    add, match = RECIPES[name]
    refused(tmp_path, {"f": recipe_of(add)}, [old], match)


def test_the_delta_of_these_tests_is_sound(tmp_path: Path) -> None:
    old, _ = simple()
    file = recipe_of(lambda m: raw_delta(m, 1100, 0, 0, 3000, payload=PAYLOAD))
    write(tmp_path / "s", "a:1", {"f": file}, [old])
    check(tmp_path / "s", {"f": file})


def test_a_delta_of_several_spans(tmp_path: Path) -> None:
    old, _ = simple()
    payload = delta_of(PLAIN[2000:3000] + PLAIN[1500:2600], MADE)
    numbers = (0, 2000, 1000, 0, 1500, 1100)  # not in order, and they overlap
    file = recipe_of(lambda m: raw_delta(m, 1100, *numbers, payload=payload))
    write(tmp_path / "s", "a:1", {"f": file}, [old])
    check(tmp_path / "s", {"f": file})


def test_a_delta_without_predecessors(tmp_path: Path) -> None:
    file = recipe_of(lambda m: raw_delta(m, 1100, 0, 0, 3000, payload=PAYLOAD))
    refused(tmp_path, {"f": file._replace(predecessors=())}, [], "old stream 0")


def stream_of(record: bytes, plain: int = 1000) -> Callable[[Maker], None]:
    def add(maker: Maker) -> None:
        number = maker.writer.deflate()
        maker.writer.segment(number, plain, 0, record)
        maker.add(bytes(plain))
        maker.writer.end()

    return add


@pytest.mark.parametrize(
    "record",
    [
        b"\x40",  # no number
        b"\x40\0",  # nothing behind it
        b"\x40\1" + bytes(20),  # no such stream
        b"\x40\0" + bytes(20),
        b"\x40\0" + b"\xff" * 20,
        b"\x41" + bytes(20),  # of a later version
        b"\x80\1" + bytes(20),
        b"",
    ],
    ids=lambda record: record[:3].hex() or "empty",
)
def test_bad_segments(tmp_path: Path, record: bytes) -> None:
    old, _ = simple()
    refused(tmp_path, {"f": recipe_of(stream_of(record))}, [old], "recipe of f")


def test_the_work_of_a_recipe_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _ = simple()

    def many(maker: Maker) -> None:
        for _ in range(10):
            raw_delta(maker, 100, 0, 0, 3000, payload=delta_of(PLAIN[:3000], bytes(100)))

    file = recipe_of(many)._replace(data=bytes(1000))
    monkeypatch.setattr("packer.opening.against._SPAN_RATIO", 0.0025)
    write(tmp_path / "sound", "a:1", {"f": file}, [old])
    packer.verify("a:1", store=tmp_path / "sound")
    monkeypatch.setattr("packer.opening.against._SPAN_RATIO", 0.0024)
    refused(tmp_path, {"f": file}, [old], "too many spans")


def test_damage_names_the_files_that_refer_to_it(tmp_path: Path) -> None:
    old, new = simple()
    layout = tmp_path / "s"
    index = write(layout, "a:1", {"new.tgz": new, "other": closed(b"x" * 100)}, [old])
    version = packer.open_version("a:1", store=layout)
    layer = layout / "blobs/sha256" / version.manifest.data_layers[0].digest[7:]
    data = bytearray(layer.read_bytes())
    data[sum(index.frame_stored[:3]) + 30] ^= 1  # a chunk of the predecessor
    layer.write_bytes(data)
    with pytest.raises(PackerError, match=r"needed by 1 file \(new.tgz\)"):
        packer.unpack("a:1", tmp_path / "out", store=layout)


def test_hostile_indexes(tmp_path: Path) -> None:
    old, new = simple()
    index, _, _ = build({"new.tgz": new}, [old])
    sound = index.predecessors[0]
    for row in (
        sound._replace(size=sound.size + 1),  # closed, and not its chunks' length
        sound._replace(size=0),
        sound._replace(size=1 << 45),
        sound._replace(size=1, recipe_chunks=1),  # streams behind the file
    ):
        index.predecessors = [row]
        with pytest.raises(FormatError):
            decode_index(encode_index(index))
    index.predecessors = [sound]
    decode_index(encode_index(index))


def test_chunks_of_predecessors_are_live(tmp_path: Path) -> None:
    old, new = simple()
    write(tmp_path / "s", "a:1", {"new.tgz": new}, [old])
    (layer,) = packer.inspect("a:1", store=tmp_path / "s").layers
    assert layer.live_chunks == layer.chunks


def test_what_takes_much_memory() -> None:
    old, new = simple()
    middle = closed(b"x" * 100, [OldStream(0, 10, HEAVY_BYTES - len(PLAIN))])
    index, _, _ = build(
        {"a": new, "b": new._replace(predecessors=(0, 1)), "c": new._replace(predecessors=(2,))},
        [old, middle, new._replace(predecessors=(1,), streams=(OldStream(0, 10, 9),))],
    )
    reader = SimpleNamespace(index=index)
    files = OldFiles(reader)  # type: ignore[arg-type]
    assert [files.is_heavy(entry) for entry in range(3)] == [False, False, False]
    index.predecessors[1] = index.predecessors[1]._replace(
        streams=(OldStream(0, 10, HEAVY_BYTES - len(PLAIN) + 1),)
    )
    assert [files.is_heavy(entry) for entry in range(3)] == [False, True, False]
    index.predecessors[1] = index.predecessors[1]._replace(
        streams=(OldStream(0, 10, HEAVY_BYTES + 1),)
    )
    assert [files.is_heavy(entry) for entry in range(3)] == [False, True, True]


def test_what_a_registry_holds_of_a_predecessor_is_fetched_once(tmp_path: Path) -> None:
    old, new = simple()
    write(tmp_path / "s", "a:1", {"new.tgz": new}, [old])
    version = packer.open_version("a:1", store=tmp_path / "s")
    layers = version.manifest.data_layers
    fetched: list[tuple[int, int]] = []
    with BlobRanges(version.store, layers) as ranges:

        def fetch(layer: int, offset: int, length: int) -> bytes | memoryview:
            fetched.append((layer, offset))
            return ranges.read(layer, offset, length)

        with FrameReader(version.index, layers, fetch, cache_bytes=0, remote=True) as reader:
            reader.expect(frames_of(reader, 0))
            row = version.index.predecessors[0]
            for _ in range(3):  # as often as threads go back to checkpoints: not known before
                assert b"".join(chunks(reader, row.runs)) == old.data
    assert len(fetched) == len(set(fetched)) > 1

"""Files of archives in archives, regular or not: opened, rebuilt, every byte the same."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.engine.chunking import ChunkParams
from packer.engine.deflate import Segment
from packer.errors import FormatError
from packer.files.temporary import Gathered
from packer.opening.deflate_streams import MIN_PLAIN_BYTES, DeflateStream
from packer.opening.expander import Expander
from packer.opening.rebuilder import Rebuilder
from packer.opening.workers import Workers

PARAMS = ChunkParams()
ALONE, TOGETHER = Workers(), Workers(ThreadPoolExecutor(3))


def text(size: int, seed: int = 1) -> bytes:
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(40):x}" for _ in range(300)]
    out = bytearray()
    while len(out) < size:
        out += f"{rng.choice(words)}: {rng.choice(words)}\n".encode()
    return bytes(out[:size])


def opened(data: bytes, workers: Workers = ALONE) -> tuple[list[bytes], bytes]:
    """Return the chunks of the content, and the recipe ("" if the file stays as it is)."""
    file = io.BytesIO(data)
    expander = Expander(file.readinto, len(data), PARAMS, bytearray(1 << 20), workers)
    content = [bytes(chunk) for chunk in expander.content()]
    recipe = b"".join(bytes(chunk) for chunk in expander.recipe_chunks())
    expander.close()
    return content, recipe


def round_trip(data: bytes) -> tuple[list[bytes], bytes]:
    """Open, rebuild, compare; return what `opened` does."""
    content, recipe = opened(data)
    assert (content, recipe) == opened(data, TOGETHER), "threads decide nothing"
    with patch("packer.opening.recipe.SPILL_BYTES", 100):
        assert (content, recipe) == opened(data), "nor does where a recipe lies meanwhile"
    assert ALONE.in_flight == TOGETHER.in_flight == 0
    if not recipe:
        assert b"".join(content) == data
    else:
        for most in (len(recipe), len(recipe) - 1):  # in memory, in a file
            views = (memoryview(chunk) for chunk in content)
            given = Gathered([memoryview(recipe)], len(recipe), most, None)
            pieces = Rebuilder(given, views, len(data), "file").pieces()
            assert b"".join(bytes(piece) for piece in pieces) == data
    return content, recipe


def tar(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT, mtime: float = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(
                zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED
            )
    return out.getvalue()


def gz(data: bytes, level: int = 6) -> bytes:
    return gzip.compress(data, level, mtime=1)


FILES = {"a.yaml": text(5000), "b/c.yaml": text(90_000, 2), "empty": b"", "x" * 150: b"short"}


def test_gzip_costs_its_plaintext() -> None:
    data = text(300_000)
    content, recipe = round_trip(gz(data))
    assert b"".join(content) == data
    assert len(recipe) < 100


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_chunks_of_their_own(form: int) -> None:
    content, recipe = round_trip(gz(tar(FILES if form != tarfile.USTAR_FORMAT else {
        name[:90]: data for name, data in FILES.items()}, form)))  # fmt: skip
    assert FILES["a.yaml"] in content
    assert b"short" in content
    assert len(recipe) < 1500


def test_new_times_change_the_recipe_alone() -> None:
    one, first = round_trip(gz(tar(FILES, mtime=1_700_000_000)))
    two, second = round_trip(gz(tar(FILES, mtime=1_700_009_999)))
    assert one == two
    assert first != second
    assert len(second) < 1500


def test_archives_within_archives() -> None:
    inner = gz(tar(FILES))
    middle = tar(
        {"layer.tar.gz": inner, "chart.tgz": gz(text(40_000, 5)), "other": text(70_000, 3)}
    )
    wheel = zip_of({**FILES, "inner.whl": zip_of(FILES)})
    content, _ = round_trip(gz(tar({"image.tar": middle, "app.whl": wheel})))
    assert FILES["a.yaml"] in content
    assert text(40_000, 5) in content


def test_tars_within_tars() -> None:
    # As `docker save` writes images: headers of all archives of a stream follow one another.
    layers = [
        tar({f"etc/{at}": text(3000, at), "usr/x": text(99_000, 9)}, form, mtime=1_700_000_000 + at)
        for at, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT))
    ]
    image = tar({"a/layer.tar": layers[0], "b": b"x" * 999, "c/layer.tar": layers[1]}, mtime=5)
    outer = tar({"image.tar": image, "d/layer.tar": layers[2], "e": b"end"}, tarfile.GNU_FORMAT)
    round_trip(outer)
    round_trip(gz(outer) + tar({"behind": text(700)}, mtime=7) + gz(layers[0]) + layers[1])
    round_trip(tar({"one.tgz": gz(image), "two": b"two"}, mtime=9) + layers[2])


REPETITIVE = {
    "zeros": bytes(3_000_000),
    "log": b"2026-01-01 INFO health check ok\n" * 60_000,
    "disk": b"MBR" + bytes(2_500_000) + b"end",
}


@pytest.mark.parametrize("name", REPETITIVE)
@pytest.mark.parametrize("level", [1, 6, 9])
def test_streams_that_are_longer_than_the_file_around_them(name: str, level: int) -> None:
    data = REPETITIVE[name]
    inner = gz(data, level)
    whole = gz(inner)
    assert len(whole) < len(inner)
    content, recipe = round_trip(whole)
    assert recipe and b"".join(content) == data, "opened, both of them"
    round_trip(gz(tar({f"{name}.gz": inner, "README": b"hi" * 50})))
    round_trip(zip_of({f"{name}.gz": inner}))
    round_trip(gz(tar({f"{name}.zip": zip_of({name: data})})))
    round_trip(gz(gz(whole)))


def test_stored_blocks_within_a_stream() -> None:
    round_trip(gz(gz(text(150_000), 0)))
    round_trip(gz(tar({"plain.gz": gz(text(5_000_000, 4), 0), "other": text(300)})))


def test_more_blocks_than_plaintext_stay_closed() -> None:
    coder = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = coder.compress(text(3000)) + coder.flush(zlib.Z_FULL_FLUSH)
    empty = b"\0\0\0\xff\xff"
    few, many = (body + empty * count + b"\3\0" for count in (20, 30_000))
    head = gz(b"")[:10]
    for stream in (few, many):
        plain = zlib.decompress(stream, -15)
        end = zlib.crc32(plain).to_bytes(4, "little") + len(plain).to_bytes(4, "little")
        _, recipe = round_trip(head + stream + end)
        assert bool(recipe) == (stream is few)


ARCHIVES: list[Callable[[bytes], bytes]] = [
    gz,
    lambda data: gz(data, 0),
    lambda data: gz(data, 1),
    lambda data: tar({"a": data, "b": b"b" * 700}),
    lambda data: zip_of({"a": data, "b": data[:100]}),
    lambda data: data + data,
    lambda data: b"#!" + data + b"garbage",
]


@given(
    st.sampled_from([*REPETITIVE.values(), text(30_000), b"", b"a"]),
    st.lists(st.sampled_from(ARCHIVES), min_size=1, max_size=5),
)
def test_archives_in_any_order_within_one_another(data: bytes, around: list[object]) -> None:
    for archive in around:
        assert callable(archive)
        data = archive(data)
    round_trip(data[:4_000_000])


def test_depth_is_bounded() -> None:
    data = text(20_000)
    for _ in range(7):
        data = gz(data)
    round_trip(data)


def test_members_one_after_another_and_garbage_behind() -> None:
    one, two = text(30_000), text(40_000, 2)
    content, recipe = round_trip(gz(one) + gz(two) + b"garbage" * 1000)
    assert one in content
    assert two in content
    assert recipe


def test_headers_with_every_field() -> None:
    body = gz(text(20_000))[10:]
    head = b"\x1f\x8b\x08\x1f" + bytes(6) + b"\x05\x00extra" + b"name\0" + b"comment\0" + b"\0\0"
    content, _ = round_trip(head + body)
    assert content == [text(20_000)]


def test_wrong_trailers_come_back() -> None:
    data = bytearray(gz(text(20_000)))
    data[-8:] = b"\xff" * 8
    content, recipe = round_trip(bytes(data))
    assert recipe
    assert content == [text(20_000)]


def test_large_streams_have_several_segments() -> None:
    data = text(9_000_000)
    stream = gz(data)
    content, recipe = round_trip(b"before" * 500 + stream + b"behind" * 500)
    before, behind = b"before" * 500 + stream[:10], stream[-8:] + b"behind" * 500
    assert b"".join(content).removeprefix(before).startswith(data)
    assert b"".join(content).endswith(behind)
    assert len(recipe) < 2000


def test_what_no_model_knows_stays_closed() -> None:
    rng = random.Random(5)
    encoded = []
    for _ in range(40):  # an encoder that decides by chance
        encoder = zlib.compressobj(rng.randrange(1, 10), zlib.DEFLATED, -15, rng.randrange(1, 10))
        encoded.append(encoder.compress(text(3000, rng.randrange(99))))
        encoded.append(encoder.flush(zlib.Z_FULL_FLUSH))
    round_trip(b"\x1f\x8b\x08" + bytes(7) + b"".join(encoded))


def test_bombs_stay_closed() -> None:
    bomb = gz(gz(bytes(400 << 20), 9), 9)
    content, _ = opened(bomb)
    assert sum(map(len, content)) <= 32 * len(bomb) + (257 << 20)


@pytest.mark.parametrize("cut", [1, 8, 9, 20, 500, 5000, 20_000])
def test_cut_short(cut: int) -> None:
    whole = gz(tar({"a": text(50_000), "b": text(20_000, 2)}))
    round_trip(whole[: max(len(whole) - cut, 0)])
    plain = tar({"a": text(50_000), "b": text(20_000, 2)})
    round_trip(plain[:-cut])


def test_odd_tars() -> None:
    plain = bytearray(tar({"a": text(5000), "b": text(700, 2), "c": text(99, 3)}))
    padded = bytearray(plain)
    padded[512 + 5000] = 1  # padding that is not zero
    round_trip(bytes(padded))
    broken = bytearray(plain)
    broken[512 + 5120 + 10] ^= 1  # the second header's checksum is wrong
    round_trip(bytes(broken))
    round_trip(bytes(plain) + b"behind" * 300)
    round_trip(bytes(plain) + bytes(1 << 20))
    round_trip(bytes(plain) + bytes(plain))
    huge = bytearray(plain[:512])
    huge[124:136] = b"77777777777\0"
    huge[148:156] = b"%06o\0 " % (sum(huge) - sum(huge[148:156]) + 256)
    round_trip(bytes(huge) + text(9000))


def _edits(data: bytes) -> Iterator[bytes]:
    rng = random.Random(len(data))
    for _ in range(60):
        out = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(out))
            kind = rng.randrange(4)
            if kind == 0:
                out[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del out[at : at + rng.randrange(1, 600)]
            elif kind == 2:
                out[at:at] = rng.randbytes(rng.randrange(1, 600))
            else:
                out[at : at + 300] = bytes(300)
            if not out:
                break
        yield bytes(out)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gz(tar(FILES)),
        lambda: tar({**FILES, "in.tgz": gz(tar(FILES))}),
        lambda: zip_of(FILES),
        lambda: gz(zip_of(FILES)) + gz(text(3000)),
    ],
)
def test_damaged_archives_come_back(make: Callable[[], bytes]) -> None:
    for damaged in _edits(make()):
        round_trip(damaged)


def test_hostile_recipes_are_refused() -> None:
    data = gz(tar(FILES)) + zip_of(FILES)
    content, recipe = opened(data)
    rng = random.Random(7)
    outcomes = set()
    for _ in range(600):
        hostile = bytearray(recipe)
        for _ in range(rng.randrange(1, 4)):
            hostile[rng.randrange(len(hostile))] = rng.randrange(256)
        views = (memoryview(chunk) for chunk in content)
        try:
            given = Gathered([memoryview(hostile)], len(hostile), len(hostile), None)
            made = sum(map(len, Rebuilder(given, views, len(data), "file").pieces()))
            assert made == len(data)
            outcomes.add("same length")
        except FormatError:
            outcomes.add("refused")
    assert "refused" in outcomes


@given(
    st.lists(st.sampled_from(["text", "gz", "tar", "zip", "zeros", "noise"]), max_size=6), st.data()
)
def test_any_sequence(kinds: list[str], data: st.DataObject) -> None:
    makers: dict[str, Callable[[bytes], bytes]] = {
        "text": lambda body: body,
        "gz": lambda body: gz(body, data.draw(st.integers(1, 9))),
        "tar": lambda body: tar({"m": body, "n": body[:300]}),
        "zip": lambda body: zip_of({"m": body, "n": body[:300]}),
        "zeros": lambda body: bytes(len(body)),
        "noise": lambda body: random.Random(len(body)).randbytes(len(body)),
    }
    out = b""
    for kind in kinds:
        out += makers[kind](out[-4000:] + text(data.draw(st.integers(0, 3000))))
    round_trip(out)


def test_many_short_streams() -> None:
    """More than the look-ahead, and than may be in flight; some are too short to be opened."""
    rng = random.Random(3)
    texts = [text(rng.randrange(100, 3000), at) for at in range(1000)]
    content, _ = round_trip(b"".join(map(gz, texts)))
    assert {data for data in texts if len(data) >= MIN_PLAIN_BYTES} <= set(content)
    members = {f"d/{at}": data for at, data in enumerate(texts)}
    content, _ = round_trip(zip_of(members) + gz(zip_of(members)))
    assert sum(len(data) >= MIN_PLAIN_BYTES for data in texts) * 2 <= len(content)


def test_what_is_too_short_is_not_analysed() -> None:
    """An archive may have a hundred thousand such members."""
    texts = [text(MIN_PLAIN_BYTES - at % 9, at) for at in range(100)]
    members = {str(at): text(MIN_PLAIN_BYTES - at % 9, at) for at in range(100, 200)}
    data = b"".join(map(gz, texts)) + zip_of(members)
    with patch.object(Segment, "analyse", autospec=True, side_effect=Segment.analyse) as analyse:
        opened(data, Workers())
    lengths = [*map(len, texts), *map(len, members.values())]
    assert analyse.call_count == lengths.count(MIN_PLAIN_BYTES)


@pytest.mark.parametrize("size", [512, 4095, 4096, 70_000, 1_000_000, 3_000_000])
def test_a_stream_that_is_all_in_memory_is_read_as_any_other(size: int) -> None:
    members = {"text": text(size, size), "zeros": bytes(size), "tar": tar({"a": text(size)})}
    members |= {"zip": zip_of({"a": text(size, 3)}), "gz in it": text(size) + gz(text(700))}
    data = zip_of(members) + gz(zip_of(members)) + b"behind"
    with patch.object(DeflateStream, "whole", None):
        expected = opened(data)
    assert round_trip(data) == expected

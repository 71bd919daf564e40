"""Opening against a predecessor: every update comes back, and what did not change stays closed."""

from __future__ import annotations

import bz2
import gc
import gzip
import random
import tracemalloc
import weakref
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import pytest

from packer.engine.chunking import ChunkParams
from packer.engine.deflate import SEGMENT_BYTES
from packer.files.temporary import Gathered
from packer.opening import discovery, stream_plans, text_pieces, updating
from packer.opening.discovery import Discovery
from packer.opening.found_stream import FoundStream, MadeStream, Read
from packer.opening.locating import MARGIN_BYTES, Fingerprints, Votes
from packer.opening.old_streams import OldFile, OldStreams
from packer.opening.old_text import OldText
from packer.opening.predecessor import OldStream
from packer.opening.rebuilder import Rebuilder
from packer.opening.recipe import MAX_SPANS
from packer.opening.segment_recipes import SegmentRecipes
from packer.opening.shelf import Shelf
from packer.opening.text_pieces import Stream, TextPieces
from packer.opening.update_plan import DeltaPiece, Opened
from packer.opening.updating import Update
from packer.opening.workers import Workers
from tests.updates import as_gzip, changed, libdeflate, one_block, tar, texts, zipped, zlib_gzip

PARAMS = ChunkParams(4 << 10)
TEXTS = texts(files=12)


def reading(data: bytes) -> Read:
    return lambda start, length: data[start : start + length]


class Result(NamedTuple):
    recipe: bytes
    content: bytes
    streams: Sequence[OldStream]


def update(old: bytes, new: bytes, *, threads: int = 0, most: float = 1e9) -> Result | None:
    """Open a file against another, rebuild it, and compare; None if that does not pay."""
    executor = ThreadPoolExecutor(threads) if threads else None
    text = OldText(reading(old), len(old), None)
    made = Update(reading(new), len(new), text, Workers(executor))
    if not made.begin(most):
        return None
    content = b"".join(bytes(chunk) for chunk in made.content(PARAMS))
    recipe = b"".join(bytes(chunk) for chunk in made.recipe_chunks(PARAMS))
    streams = OldStreams([OldFile(reading(old), len(old), made.old_streams[0], "old")])
    gathered = Gathered([memoryview(recipe)], len(recipe), 1 << 30, None)
    pieces = Rebuilder(
        gathered, iter([memoryview(content)]), len(new), "new", executor, streams
    ).pieces()
    assert b"".join(bytes(piece) for piece in pieces) == new
    result = Result(recipe, content, made.old_streams[0])
    made.close()
    text.close()
    streams.close()
    if executor is not None:
        executor.shutdown()
    return result


def archive(version: int) -> bytes:
    return libdeflate(tar(changed(TEXTS, version)))


def one_block_gzip(data: bytes) -> bytes:
    return as_gzip(one_block(data), data)


def test_an_update_is_a_small_recipe_whatever_the_threads() -> None:
    old, new = archive(1), archive(2)
    found = update(old, new)
    assert found is not None
    assert len(found.recipe) < len(new) // 20
    assert not found.content
    assert [stream.parent for stream in found.streams] == [0]
    assert update(old, new, threads=3) == found


@pytest.mark.parametrize("threads", [0, 2])
def test_one_block_for_a_whole_stream(threads: int) -> None:
    old = b"".join(texts(files=600).values())
    assert len(old) > 5 << 20  # three segments
    new = old[: 1 << 20] + b"changed" + old[(1 << 20) + 90 :]
    closed = as_gzip(one_block(new), new)
    found = update(as_gzip(one_block(old), old), closed, threads=threads)
    assert found is not None
    assert len(found.recipe) + len(found.content) < len(closed) // 2000


def test_memory_is_released_at_once_without_the_garbage_collector() -> None:
    old, new = archive(1), archive(2)
    gc.collect()
    gc.disable()
    try:
        text = OldText(reading(old), len(old), None)
        made = Update(reading(new), len(new), text, Workers())
        assert made.begin(1e9)
        kept = [weakref.ref(item) for item in (made, text, text._found)]
        made.close()
        text.close()
        del made, text
        assert not any(item() for item in kept)
    finally:
        gc.enable()


def test_what_may_not_be_taken_is_not() -> None:
    assert update(archive(1), archive(2), most=100) is None


def test_only_the_streams_that_changed_are_opened_and_referred_to() -> None:
    parts = [libdeflate(tar(changed(texts(seed, 4), 1))) for seed in range(5)]
    other = libdeflate(tar(changed(texts(3, 4), 2)))
    found = update(b"".join(parts), b"".join([*parts[:3], other, parts[4]]))
    assert found is not None
    assert [stream.offset for stream in found.streams] == [sum(map(len, parts[:3])) + 10]
    closed = sum(map(len, parts)) - len(parts[3])
    assert closed - 40 <= len(found.content) <= closed + 40
    assert update(b"".join(parts), b"".join(parts[::-1])) is None  # all of them are old


def test_streams_in_streams() -> None:
    same = archive(9)
    old = libdeflate(tar({"a.tgz": archive(1), "b.tgz": same}))
    new = libdeflate(tar({"a.tgz": archive(2), "b.tgz": same}))
    found = update(old, new)
    assert found is not None
    assert len(found.recipe) < len(new) // 20
    assert {stream.parent for stream in found.streams} == {0, 1}
    assert len(found.streams) == 2


def test_a_stream_may_refer_to_one_that_is_still_there() -> None:
    old = archive(1)
    found = update(old, old + archive(2))
    assert found is not None
    assert len(found.recipe) < len(old) // 20
    assert len(found.content) >= len(old) - 10


@pytest.mark.parametrize("tail", [b"", b"trailer", bytes(5000)])
def test_bytes_around_streams(tail: bytes) -> None:
    front = random.Random(1).randbytes(3000)
    found = update(b"x" + archive(1), front + archive(2) + tail)
    assert found is not None
    assert found.content.startswith(front)


def test_segments_that_end_anywhere() -> None:
    """Streams that share their last byte with the trailer, and empty last blocks."""
    plain = b"".join(TEXTS.values())
    for level in (1, 6, 9):
        for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH):
            made = []
            for version in (1, 2):
                encoder = zlib.compressobj(level, zlib.DEFLATED, -15)
                text = plain + b"version %d" % version
                body = encoder.compress(text) + encoder.flush(flush) + encoder.flush()
                made.append(as_gzip(body, text))
            assert update(*made) is not None


@pytest.mark.parametrize("encoder", [libdeflate, zlib_gzip, one_block_gzip])
def test_streams_that_are_cut_off_anywhere(encoder: Callable[[bytes], bytes]) -> None:
    """What is whole of either file is opened, but for the bytes that a token is cut off in."""
    drawn = random.Random(7)
    old, new = (encoder(tar(changed(TEXTS, version))) for version in (1, 2))
    for _ in range(4):
        end = drawn.randrange(len(new) // 3, len(new) - 9)
        for before, after in ((old, new[:end]), (old[: end + 99], new[:end]), (new[:end], new)):
            found = update(before, after)  # of little old text it may not pay
            if after is not new:
                assert found is not None
                assert len(found.recipe) + len(found.content) < len(after) / 8


def bzip2_within(data: bytes, version: int, encoder: Callable[[bytes], bytes]) -> bytes:
    return encoder(tar({"a.bz2": data, **changed(TEXTS, version)}))


@pytest.mark.parametrize("encoder", [libdeflate, bytes])
def test_bzip2_streams_within(encoder: Callable[[bytes], bytes]) -> None:
    text = b"".join(texts(3, 30).values())
    first, second = bz2.compress(text, 2), bz2.compress(text[:9000] + b"new" + text[9000:], 2)
    before = bzip2_within(first, 1, encoder)
    if encoder is bytes:  # what holds it must hold deflate streams as well
        first, second = (data + libdeflate(text[:9000] + data[:9]) for data in (first, second))
        before = bzip2_within(first, 1, encoder)
    found = update(before, bzip2_within(second, 2, encoder))
    assert found is not None and text[200_000:300_000] in found.content
    assert update(before, bzip2_within(second, 2, encoder), threads=3) == found
    # What did not change, or does not come back, stays as it is.
    hurt = second[:3000] + bytes(12) + second[3012:]
    closed = [first] if encoder is libdeflate else []  # without chunks all of a file is new
    for data in (*closed, hurt, b"BZh91AY&SY" * 99 + second[20:], second[:50_000]):
        found = update(before, bzip2_within(data, 2, encoder))
        assert found is None or text[200_000:300_000] not in found.content


@pytest.mark.slow
def test_random_edits_come_back() -> None:
    drawn = random.Random(5)
    plain = bytearray(b"".join(TEXTS.values()))
    old = libdeflate(bytes(plain))
    for _ in range(12):
        at, count = drawn.randrange(len(plain)), drawn.randrange(1, 3000)
        edit = drawn.choice(["insert", "delete", "replace", "move"])
        part = bytes(plain[at : at + count])
        if edit != "insert":
            del plain[at : at + count]
        if edit in ("insert", "replace"):
            plain[at:at] = drawn.randbytes(count)
        elif edit == "move":
            to = drawn.randrange(len(plain))
            plain[to:to] = part
        new = libdeflate(bytes(plain), drawn.choice([1, 6, 9, 12]))
        update(old, new)  # whether it pays or not, what comes back is compared
        old = new


def test_discovery_finds_all_streams_and_nothing_else() -> None:
    inner = libdeflate(b"inner text " * 200)
    data = b"\x1f\x8b\x08\0" * 3 + libdeflate(tar({"i.gz": inner})) + zipped(TEXTS) + b"PK\3\4"
    seen: dict[int, int] = {}

    def visit(stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
        seen[stream.number] = seen.get(stream.number, 0) + 1

    found = Discovery(reading(data), len(data), visit=visit)
    assert len(found.roots) == 1 + len(TEXTS)
    assert [len(root.children) for root in found.roots] == [1] + len(TEXTS) * [0]
    child = found.roots[0].children[0]
    assert child.read(0, child.size) == b"inner text " * 200
    assert child.is_equal(found.roots[0].read, child.offset)
    assert child.is_equal(reading(inner), 10)
    for root, text in zip(found.roots[1:], (TEXTS[name] for name in sorted(TEXTS)), strict=True):
        assert root.read(0, root.size) == text
    found.close()


def test_many_short_streams_take_little_memory() -> None:
    body = b"".join(zlib.compress(b"%d " % at * 300, 6, 31) for at in range(2000))
    tracemalloc.start()
    with closing(Discovery(reading(body), len(body), visit=lambda *_: None)) as found:
        found.release()
        gc.collect()
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(found.streams) == 2000
    assert memory < 2000 * 1100


def test_a_stream_that_ends_with_an_empty_segment() -> None:
    """Its last block has no text, and begins where a segment ends: as Go ends a stream."""
    text = tar(texts(4, 300))
    text = (text * (1 + (4 << 20) // len(text)))[: 4 << 20]

    def coded(data: bytes) -> bytes:
        encoder = zlib.compressobj(6, zlib.DEFLATED, -15)
        parts = (data[at : at + SEGMENT_BYTES] for at in range(0, len(data), SEGMENT_BYTES))
        body = b"".join(encoder.compress(part) + encoder.flush(zlib.Z_FULL_FLUSH) for part in parts)
        return as_gzip(body + encoder.flush(), data)

    new = text[:900] + b"something else" + text[914:]
    found = update(coded(text), coded(new))
    assert found is not None
    assert len(found.recipe) + len(found.content) < 3000


def test_discovery_gives_up_at_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(TEXTS)
    monkeypatch.setattr(discovery, "MAX_FOUND_STREAMS", 5)
    with closing(Discovery(reading(data), len(data), visit=lambda *_: None)) as found:
        assert (len(found.streams), found.is_full) == (5, True)
        (unread,) = found.unread
        assert (unread.kind, unread.reason, unread.end) == ("zip", "limit", len(data))
    monkeypatch.undo()
    monkeypatch.setattr(discovery, "most_opened", lambda _: 30_000)
    with closing(Discovery(reading(data), len(data), visit=lambda *_: None)) as found:
        assert found.is_full and 0 < sum(each.size for each in found.streams) <= 30_000
        assert found.unread[-1].reason == "limit" and found.unread[-1].end == len(data)


def test_what_is_too_much_to_inflate_stays_as_it_is_and_the_rest_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = random.Random(8)
    inner = [gzip.compress(drawn.randbytes(150_000).hex().encode(), 1) for _ in range(4)]
    plain = [drawn.randbytes(400_000).hex().encode() for _ in range(4)]
    members = {f"{at}": data for at, data in enumerate(inner + plain)}
    edited = members | {"4": plain[0][:50_000] + b"edited" + plain[0][50_000:]}
    old, new = (gzip.compress(tar(each), 1, mtime=0) for each in (members, edited))
    text = len(gzip.decompress(new))
    for most, cost in ((text + 310_000, 2_000), (text - 400_000, len(new) // 2)):
        monkeypatch.setattr(discovery, "most_opened", lambda _, most=most: most)
        with closing(Discovery(reading(new), len(new), visit=lambda *_: None)) as streams:
            assert streams.is_full and sum(each.size for each in streams.streams) <= most
            assert {each.reason for each in streams.unread} == {"limit"}
        found = update(old, new)
        assert found is not None
        assert len(found.recipe) + len(found.content) < cost
    monkeypatch.setattr(discovery, "most_opened", lambda _: text + 310_000)
    with closing(OldText(reading(old), len(old), None)) as before:
        made = Update(reading(new), len(new), before, Workers(None))
        assert made.begin(1e9) and not made.closed.rows()  # those that are closed did not change
        made.close()


def test_a_change_behind_what_may_be_inflated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    text = random.Random(4).randbytes(2 << 20).hex().encode()
    old, new = (gzip.compress(each, 6, mtime=0) for each in (text, text[:-999] + text[:999]))
    monkeypatch.setattr(discovery, "most_opened", lambda _: 3 << 20)
    with closing(OldText(reading(old), len(old), None)) as before:
        (first,) = (each for each in before.streams if isinstance(each, FoundStream))
        assert first.is_too_long
        made = Update(reading(new), len(new), before, Workers(None))
        with closing(made):
            assert not made.begin(1e9)  # what was found of it is the same
            (row,) = made.closed.rows()
    behind = first.offset + first.closed_bytes
    assert row == ("gzip", "limit", 1, len(new) - behind)


def test_streams_that_the_predecessor_does_not_list_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = {f"{at}": random.Random(at).randbytes(9_000).hex().encode() for at in range(12)}
    new = old | {name: old[name][:4000] + b"edited" + old[name][4000:] for name in ("0", "9")}
    before, after = (gzip.compress(zipped(each), 1, mtime=0) for each in (old, new))
    whole = update(before, after)
    monkeypatch.setattr(discovery, "MAX_FOUND_STREAMS", 6)
    found = update(before, after)
    assert whole is not None and found is not None
    whole_bytes, bytes_found = (len(each.recipe) + len(each.content) for each in (whole, found))
    # Of the last entry, which is not listed, what follows the change is stored as it is.
    assert whole_bytes < bytes_found < whole_bytes + len(zlib.compress(old["9"])) + 500


def test_discovery_counts_what_was_inflated_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    text = random.Random(3).randbytes(3 << 20)
    data = b"".join(gzip.compress(text + bytes([at]), 1)[:-20] for at in range(4))
    monkeypatch.setattr(discovery, "SPARE_BYTES", 0)
    for ratio, is_full in ((3.0, False), (0.5, True)):
        monkeypatch.setattr(discovery, "MAX_RATIO", ratio)
        with closing(Discovery(reading(data), len(data), visit=lambda *_: None)) as found:
            assert found.is_full == is_full


@pytest.mark.parametrize(("size", "average"), [(0, 1), (1 << 30, 1), (3 << 29, 4), (1 << 50, 64)])
def test_texts_above_a_gib_have_longer_pieces(size: int, average: int) -> None:
    assert Fingerprints(size).average == average << 10


def test_votes_find_a_text_wherever_it_went() -> None:
    drawn = random.Random(3)
    old = [drawn.randbytes(300_000), drawn.randbytes(300_000)]
    prints = Fingerprints(600_000)
    for number, text in enumerate(old):
        prints.add(number, 0, text)
    new = b"front" + old[1][100_000:200_000] + drawn.randbytes(100) + old[0][:50_000]
    votes = Votes()
    prints.find(0, new, votes)
    sizes = [len(text) for text in old]
    place = votes.locate(0, 100_000, len(new), sizes, 0, 1 << 20)
    assert place.stream == 1
    start, size = place.span
    assert start <= 100_000
    assert start + size >= 200_000
    assert votes.locate(105_000, 150_000, len(new), sizes, 0, 1 << 20).stream == 0
    short = votes.locate(0, 100_000, len(new), sizes, 0, 50_000).span
    assert short.size == 50_000
    assert start <= short.start <= start + size - 50_000
    # Without a vote: the guess, within the stream.
    guessed = Votes().locate(0, 1000, 1000, sizes, 1, 1 << 20)
    assert guessed.stream == 1
    assert 0 <= guessed.span.start < sum(guessed.span) <= sizes[1]


def test_a_text_of_many_places_has_a_span_for_each() -> None:
    drawn = random.Random(5)
    old = [drawn.randbytes(2_000_000), drawn.randbytes(1_000_000)]
    prints = Fingerprints(3_000_000)
    for number, text in enumerate(old):
        prints.add(number, 0, text)
    parts = [(0, 1_500_000, 100_000), (1, 400_000, 200_000), (0, 300_000, 300_000)]
    new = b"".join(old[stream][start : start + size] for stream, start, size in parts)
    votes, sizes = Votes(), [len(text) for text in old]
    prints.find(0, new, votes)
    places = votes.spans(0, len(new), len(new), sizes, 0, 1 << 24)
    assert [place.stream for place in places] == [0, 0, 1]
    for (stream, start, size), at in zip(parts, (1, 2, 0), strict=True):
        place, span = places[at]
        assert place == stream
        assert start - MARGIN_BYTES <= span.start <= start
        assert start + size <= sum(span) <= start + size + MARGIN_BYTES + 2000
    # Less room: narrower margins, then what has the most votes.
    narrow = votes.spans(0, len(new), len(new), sizes, 0, 640_000)
    assert len(narrow) == 3
    assert sum(place.span.size for place in narrow) <= 640_000
    few = votes.spans(0, len(new), len(new), sizes, 0, 350_000)
    assert sum(place.span.size for place in few) <= 350_000
    assert any(place.stream == 0 and place.span.start <= 300_000 for place in few)
    # A stretch without votes is guessed, as one place.
    assert len(Votes().spans(0, 1000, 1000, sizes, 1, 1 << 20)) == 1


def test_no_more_spans_than_a_reader_takes() -> None:
    drawn = random.Random(6)
    old = drawn.randbytes(12 << 20)
    prints = Fingerprints(1 << 20)
    prints.add(0, 0, old)
    order = list(range(100))
    drawn.shuffle(order)
    new = b"".join(old[at * 120_000 :][:8_000] for at in order)
    votes = Votes()
    prints.find(0, new, votes)
    places = votes.spans(0, len(new), len(new), [len(old)], 0, 2 << 20)
    assert 1 < len(places) <= MAX_SPANS
    for before, behind in pairwise(places):
        assert sum(before.span) < behind.span.start


def test_old_text_from_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(7)
    blocks = [drawn.randbytes(60_000) for _ in range(30)]
    old = gzip.compress(b"".join(blocks), 6)
    new = gzip.compress(b"".join((blocks[25], b"changed", blocks[2], blocks[14])), 6)
    monkeypatch.setattr(text_pieces, "MAX_SPAN_BYTES", 400_000)
    result = update(old, new)
    assert result is not None
    assert len(result.recipe) + len(result.content) < 2000


def test_an_encoder_that_nothing_predicts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = zipped(changed(texts(2, 2), 1)), zipped(changed(texts(2, 2), 2))
    monkeypatch.setattr(SegmentRecipes, "get", lambda *_: None)
    text = OldText(reading(old), len(old), None)
    made = Update(reading(new), len(new), text, Workers())
    assert not made.begin(1e9)
    (row,) = made.closed.rows()
    assert (row.kind, row.reason) == ("zip", "encoder")
    made.close()
    text.close()


def test_what_does_not_pay_is_told() -> None:
    old = zipped(changed(texts(1, 2), 1))
    # Of a long text; a short one would become a chunk that is compressed with others.
    new = zipped({**changed(texts(1, 2), 2), "new.yaml": b"".join(texts(50, 8).values())})
    text = OldText(reading(old), len(old), None)
    made = Update(reading(new), len(new), text, Workers())
    assert made.begin(1e9)
    (row,) = made.closed.rows()
    assert (row.kind, row.reason, row.streams) == ("zip", "new", 1)
    made.close()
    text.close()


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_cannot_be_read_any_more(threads: int, share: float) -> None:
    old, new = zipped(changed(TEXTS, 1)), zipped(changed(TEXTS, 2))
    text, left = OldText(reading(old), len(old), None), 1 << 30

    def read(start: int, length: int) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("gone")
        return new[start : start + length]

    with ThreadPoolExecutor(threads or 1) as executor:
        workers = Workers(executor if threads else None)
        whole = Update(read, len(new), text, workers)
        assert whole.begin(1e9)
        left = int(((1 << 30) - left) * share)
        cut = Update(read, len(new), text, workers)
        with pytest.raises(OSError, match="gone"):
            cut.begin(1e9)
        whole.close()
        cut.close()
    text.close()


def held(plan: Opened) -> tuple[int, int]:
    """Return the bytes of recipes and deltas that a plan holds in memory, and all of them."""
    kept = [*(each.recipe for each in plan.segments)]
    kept += [each.payload for each in plan.items if isinstance(each, DeltaPiece)]
    inner = [held(each) for each in plan.items if isinstance(each, Opened)]
    own = sum(len(each) for each in kept if isinstance(each, bytes))
    return own + sum(each[0] for each in inner), sum(map(len, kept)) + sum(
        each[1] for each in inner
    )


def test_what_waits_for_the_decision_does_not_grow_with_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rand, files = random.Random(3), texts(files=60)
    newer = {name: data + rand.randbytes(2000).hex().encode() for name, data in files.items()}
    old, new = zipped(files), zipped(newer)
    usual = update(old, new)
    assert usual is not None
    monkeypatch.setattr(updating, "Shelf", partial(Shelf, most=4096))
    assert update(old, new) == usual
    with closing(OldText(reading(old), len(old), None)) as text:
        made = Update(reading(new), len(new), text, Workers(None))
        with closing(made):
            assert made.begin(1e9)
            assert made._plan is not None
            memory, all_of_it = held(made._plan)
    assert all_of_it > 60_000
    assert memory < 4096 + 200 * 60


def test_deltas_of_much_text_are_made_when_nothing_else_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = random.Random(5).randbytes(3 << 19).hex().encode()
    old, new = libdeflate(data), libdeflate(data[: 2 << 20] + b"more" + data[2 << 20 :])
    seen: list[tuple[int, int, int]] = []
    make = TextPieces.make

    def making(self: TextPieces, stream: Stream, *args: int) -> object:
        assert made._found is not None
        caches = made._found._cache._bytes + text._found._cache._bytes
        seen.append((caches, len(made._recipes._spans), len(text.prints._places)))
        return make(self, stream, *args)

    monkeypatch.setattr(stream_plans, "_MUCH_TEXT", 0)
    monkeypatch.setattr(TextPieces, "make", making)
    with closing(OldText(reading(old), len(old), None)) as text:
        made = Update(reading(new), len(new), text, Workers(None))
        with closing(made):
            assert made.begin(1e9)
    assert seen[0] == (0, 0, 0)

"""What an update costs, by encoder, closed, from tokens and by model: the table of docs/deflate.md.

    python -m benchmarks.tokens OLD NEW [--only NAME] [--json RECORD]

OLD and NEW, uncompressed, are written by every encoder that is at hand; programs in Go and Rust are
built, at the first run, into build/encoders. Each new stream is analysed against the old one,
rebuilt, and compared bit for bit; then again by the models, without the old one. Rates are of new
plaintext and of CPU time in one thread; with tokens they hold inflating the old stream.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shutil
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from benchmarks import measure as measured
from benchmarks.deflate import KEPT, body, run
from benchmarks.deflate import measure as measure_model
from benchmarks.go_encoders import go_encoders
from benchmarks.rust_encoders import rust_encoders
from packer.engine.deflate import WINDOW_BYTES, Segment
from packer.engine.tokens import OldSpan, Span, bits_of, span_of

SLOW_BYTES = 2 << 20
"""Plaintext for zopfli, which takes seconds for a mebibyte."""
MARGIN_BYTES = 1 << 20
"""How far before and behind the place expected a span reaches."""


class Piece(NamedTuple):
    """A segment of a stream, and where it is."""

    segment: Segment
    position: int
    plain_bytes: int
    at: int
    bit: int
    end_bit: int


class Row(NamedTuple):
    """What was measured of one pair of streams."""

    stream: int
    plain: int
    segments: int
    closed: int
    closed_bytes: int
    tokens: int
    wrong: int
    shifts: int
    headers: int
    recipes: bytes
    analyse_seconds: float
    rebuild_seconds: float


def inflate(stream: bytes) -> list[Piece]:
    """Return the segments of a raw deflate stream."""
    out = []
    at = bit = position = 0
    window = carry = b""
    while True:
        segment = Segment()
        found = segment.inflate(memoryview(stream)[at:], bit, window, position, carry=carry)
        if found is None:
            raise ValueError("a stream that is cut off")
        out.append(Piece(segment, position, found.plain_length, at, bit, found.end_bit))
        window = (window + bytes(segment.plain[-WINDOW_BYTES:]))[-WINDOW_BYTES:]
        at, bit = at + (found.end_bit >> 3), found.end_bit & 7
        position += found.plain_length
        carry = found.carry
        if found.last:
            return out


def span_for(old: list[Piece], span: Span, out: OldSpan) -> OldSpan:
    """Fill a span of an old stream."""
    out.begin(span)
    for piece in old:
        if (
            piece.position < span.start + span.size
            and piece.position + piece.plain_bytes > span.start
        ):
            out.add(piece.segment)
    return out


def spans(old: list[Piece], new: list[Piece]) -> list[Span]:
    """Return the span for each new segment: around the same share of the old stream."""
    old_size = sum(piece.plain_bytes for piece in old)
    new_size = sum(piece.plain_bytes for piece in new)
    out = []
    for piece in new:
        first = min(piece.position, max(piece.position + old_size - new_size, 0))
        last = max(piece.position, piece.position + old_size - new_size) + piece.plain_bytes
        start = max(first - MARGIN_BYTES, 0)
        size = max(min(last + MARGIN_BYTES, old_size) - start, 0)
        out.append(Span(start, min(size, 16 << 20)))
    return out


def measure(before: bytes, stream: bytes) -> Row:
    """Analyse a raw deflate stream against an older one and rebuild it, in one thread."""
    start = time.process_time()
    old, new, filled = inflate(before), inflate(stream), OldSpan(Span(0, 0))
    recipes: list[bytes | None] = []
    totals = [0] * 5
    for piece, span in zip(new, spans(old, new), strict=True):
        recipe, report = span_for(old, span, filled).analyse(piece.segment)
        recipes.append(recipe)
        totals = [one + more for one, more in zip(totals, report, strict=True)]
    analysing = time.process_time() - start
    plain = [(bytes(piece.segment.plain), piece) for piece in new]
    closed = sum(
        (piece.end_bit >> 3) for piece, recipe in zip(new, recipes, strict=True) if recipe is None
    )
    del old, new
    start = time.process_time()
    old = inflate(before)
    window, made = b"", []
    for (text, piece), recipe in zip(plain, recipes, strict=True):
        if recipe is not None:
            span_for(old, span_of(recipe), filled)
            segment = filled.decode(text, window, piece.position, recipe)
            made.append((piece, *bits_of(segment, piece.bit, len(stream))))
        window = (window[-32768:] + text[-32768:])[-32768:]
    rebuilding = time.process_time() - start
    for piece, data, bits in made:
        whole = bits >> 3
        if bits != piece.end_bit or data[1:whole] != stream[piece.at + 1 : piece.at + whole]:
            raise ValueError("rebuilt to other bytes")
    size = plain[-1][1].position + len(plain[-1][0])
    return Row(
        len(stream),
        size,
        len(plain),
        sum(recipe is None for recipe in recipes),
        closed,
        totals[0],
        totals[1],
        totals[3],
        totals[4],
        b"".join(recipe or b"" for recipe in recipes),
        analysing,
        rebuilding,
    )


def encoders() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Yield name and function of each encoder at hand; functions return raw deflate streams."""

    def zlib_at(level: int) -> Callable[[bytes], bytes]:
        def encode(data: bytes) -> bytes:
            encoder = zlib.compressobj(level, zlib.DEFLATED, -15)
            return encoder.compress(data) + encoder.flush()

        return encode

    def command(*words: str) -> Callable[[bytes], bytes]:
        return lambda data: body(run(list(words), data))

    for level in (1, 6, 9):
        yield f"zlib {level}", zlib_at(level)
    yield "gzip -6", command("gzip", "-6n")
    if shutil.which("pigz"):
        yield "pigz", command("pigz", "-np4")
        yield "pigz -i", command("pigz", "-inp4")
    yield from packages()
    for name in ("7z", "7zz"):
        if shutil.which(name):
            yield "7-Zip 5, gzip", command(name, "a", "-tgzip", "-mx=5", "-si", "-so", "x.gz")
            yield "7-Zip 5, zip", zip_by(name, "a", "-tzip", "-mx=5")
            break
    if shutil.which("jar"):
        yield "Java's jar", zip_by("jar", "cfM")
    for program in go_encoders(KEPT):
        yield program.name, command(*program.command)
    for program in rust_encoders(KEPT):
        yield program.name, raw(program.command)
    if shutil.which("zopfli"):
        yield f"zopfli, first {SLOW_BYTES >> 20} MiB", zopfli


def raw(words: list[str]) -> Callable[[bytes], bytes]:
    """Return the encoder of a program that writes a raw deflate stream."""
    return lambda data: run(words, data)


def zip_by(*words: str) -> Callable[[bytes], bytes]:
    """Return the encoder of a program that is given a zip archive to make, and a file."""

    def encode(data: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as work:
            file, archive = Path(work, "x"), Path(work, "x.zip")
            file.write_bytes(data)
            run([*words, str(archive), str(file)], b"")
            with zipfile.ZipFile(archive) as held:
                (entry,) = held.infolist()
            made, at = archive.read_bytes(), entry.header_offset
            names = struct.unpack_from("<HH", made, at + 26)
            start = at + 30 + sum(names)
            return made[start : start + entry.compress_size]

    return encode


def zopfli(data: bytes) -> bytes:
    """Return the stream that zopfli makes of the beginning."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data[:SLOW_BYTES])
        file.flush()
        return run(["zopfli", "--deflate", "-c", file.name], b"")


def packages() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Yield the encoders of Python packages that are installed."""

    def libdeflate(module: Any, level: int) -> Callable[[bytes], bytes]:
        return lambda data: bytes(module.deflate_compress(data, level))

    def igzip(module: Any, level: int) -> Callable[[bytes], bytes]:
        return lambda data: bytes(module.compress(data, level, module.COMP_DEFLATE))

    def zlib_ng(module: Any, level: int) -> Callable[[bytes], bytes]:
        def encode(data: bytes) -> bytes:
            encoder = module.compressobj(level, module.DEFLATED, -15)
            return bytes(encoder.compress(data) + encoder.flush())

        return encode

    for title, name, make, levels in (
        ("libdeflate", "deflate", libdeflate, (1, 6, 9, 12)),
        ("igzip", "isal.igzip_lib", igzip, (0, 1, 2, 3)),
        ("zlib-ng", "zlib_ng.zlib_ng", zlib_ng, (1, 2, 3, 6, 9)),
    ):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            for level in levels:
                yield f"{title} {level}", make(module, level)


def pair_row(name: str, encode: Callable[[bytes], bytes], old: bytes, new: bytes) -> measured.Row:
    """Measure one encoder."""
    before, stream = encode(old), encode(new)
    row = measure(before, stream)
    packed = len(zstandard.ZstdCompressor(level=19).compress(row.recipes))
    model = measure_model(stream)
    is_known = not model.refused
    return {
        "encoder": name,
        "stream_bytes": row.stream,
        "plain_bytes": row.plain,
        "segments": row.segments,
        "closed": row.closed,
        "tokens": row.tokens,
        "right_percent": 100 * (1 - row.wrong / max(row.tokens, 1)),
        "shifts": row.shifts,
        "headers": row.headers,
        "recipe_bytes": len(row.recipes),
        "packed_bytes": min(packed, len(row.recipes)) + row.closed_bytes,
        "analyse_rate": row.plain / row.analyse_seconds,
        "rebuild_rate": row.plain / row.rebuild_seconds,
        "model_recipe_bytes": model.recipe if is_known else None,
        "model_open_rate": model.plain / model.open_seconds,
        "model_rebuild_rate": model.plain / model.rebuild_seconds if is_known else None,
    }


HEAD = (
    "| encoder | closed | right | from tokens | analyse MB/s | rebuild MB/s "
    "| by model | open MB/s | rebuild MB/s |\n| --- |" + " ---: |" * 8
)


def line_of(row: measured.Row) -> str:
    """Return a row of the table."""
    closed = f" ({row['closed']} of {row['segments']} closed)" if row["closed"] else ""
    model = "none | - | -"
    if row["model_recipe_bytes"] is not None:
        rates = (row["model_open_rate"], row["model_rebuild_rate"])
        model = " | ".join((str(row["model_recipe_bytes"]), *(f"{it / 1e6:.0f}" for it in rates)))
    return (
        f"| {row['encoder']} | {row['stream_bytes']} | {row['right_percent']:.2f} %{closed} "
        f"| {row['packed_bytes']} | {row['analyse_rate'] / 1e6:.0f} "
        f"| {row['rebuild_rate'] / 1e6:.0f} | {model} |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.tokens", description=__doc__)
    parser.add_argument("old", type=Path, help="plaintext of the predecessor", metavar="OLD")
    parser.add_argument("new", type=Path, help="plaintext", metavar="NEW")
    parser.add_argument("--only", help="encoders whose name begins so", metavar="NAME", default="")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    given = parser.parse_args(arguments)
    old, new = given.old.read_bytes(), given.new.read_bytes()
    try:
        record = measured.Record("tokens", given.json, file=given.new.name, bytes=len(new))
        print(f"{given.old.name} to {given.new.name}: {len(new)} bytes\n\n{HEAD}", flush=True)
        for name, encode in encoders():
            if not name.startswith(given.only):
                continue
            row = record.find(encoder=name)
            if row is None:
                row = pair_row(name, encode, old, new)
                record.add(row)
            print(line_of(row), flush=True)
    except measured.BenchmarkError as error:
        measured.say(f"tokens: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What deflate recipes cost, by encoder: the tables of docs/deflate.md.

    python -m benchmarks.deflate FILE [GZIP ...] [--json RECORD]

FILE, uncompressed, is written by every encoder that is at hand; each GZIP file is taken as it is.
Encoders in Go are built, at the first run, into build/encoders.
Rates are of plaintext and of CPU time, in one thread, beside zlib's at level 6, of the same
plaintext and run.
"""

from __future__ import annotations

import argparse
import gzip
import io
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure as measured
from benchmarks.go_encoders import go_encoders
from packer.engine.deflate import WINDOW_BYTES, Segment, rebuild

ROUNDS = 3
KEPT = Path("build", "encoders")
"""Programs that were built to be measured."""


class Row(NamedTuple):
    """What was measured of one stream."""

    stream: int
    plain: int
    segments: int
    refused: int
    tokens: int
    wrong: int
    recipe: int
    open_seconds: float
    rebuild_seconds: float


def measure(stream: bytes) -> Row:
    """Open a raw deflate stream and give it back; both as `packer` does, in one thread."""
    segment = Segment()
    at = bit = position = segments = refused = tokens = wrong = size = 0
    window, guess, carry = b"", -1, b""
    opening = rebuilding = 0.0
    while True:
        start = time.process_time()
        rest = memoryview(stream)[at:]
        found = segment.inflate(rest, bit, window, position, carry=carry)
        if found is None:
            raise ValueError("a stream that is cut off")
        recipe = segment.analyse(guess)
        opening += time.process_time() - start
        plain, carry = bytes(segment.plain), found.carry
        segments += 1
        tokens += segment.tokens[0]
        wrong += segment.tokens[1]
        if recipe is None:
            refused += 1
        else:
            guess = recipe[0]
            size += len(recipe)
            start = time.process_time()
            data, bits = rebuild(plain, window, position, recipe, bit, len(stream))
            rebuilding += time.process_time() - start
            if bits != found.end_bit:
                raise ValueError("rebuilt to another length")
            whole = bits // 8
            if data[1:whole] != stream[at + 1 : at + whole]:
                raise ValueError("rebuilt to other bytes")
        at, bit = at + (found.end_bit >> 3), found.end_bit & 7
        window = (window + plain[-WINDOW_BYTES:])[-WINDOW_BYTES:]
        position += len(plain)
        if found.last:
            return Row(at, position, segments, refused, tokens, wrong, size, opening, rebuilding)


def body(member: bytes) -> bytes:
    """Return the deflate stream of a gzip member."""
    flags, at = member[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(member[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            at = member.index(b"\0", at) + 1
    return member[at + 2 * (flags >> 1 & 1) :]


def run(command: list[str], data: bytes) -> bytes:
    """Return what a command makes of its input."""
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def encoders(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and raw deflate stream of each encoder at hand."""
    for level in range(1, 10):
        encoder = zlib.compressobj(level, zlib.DEFLATED, -15)
        yield f"zlib {level}", encoder.compress(data) + encoder.flush()
    for memory in (1, 9):
        encoder = zlib.compressobj(6, zlib.DEFLATED, -15, memory)
        yield f"zlib 6, memLevel {memory}", encoder.compress(data) + encoder.flush()
    for level in range(1, 10):
        yield f"gzip -{level}", body(run(["gzip", f"-{level}n"], data))
    if shutil.which("pigz"):
        yield "pigz -p4", body(run(["pigz", "-np4"], data))
    for program in go_encoders(KEPT):
        yield program.name, body(run(program.command, data))
    if shutil.which("libdeflate-gzip"):
        yield "libdeflate 6", body(run(["libdeflate-gzip", "-6"], data))
    if shutil.which("7z"):
        command = ["7z", "a", "-tgzip", "-mx=5", "-si", "-so", "x.gz"]
        yield "7-Zip 5", body(run(command, data))


def zlib_rate(data: bytes) -> float:
    """Return the rate of zlib's level 6, bytes a second."""
    best = min(timed(data) for _ in range(ROUNDS))
    return len(data) / best


def timed(data: bytes) -> float:
    """Return the seconds zlib's level 6 takes, and inflating after it: ``gzip -dc | gzip -6``."""
    packed = gzip.compress(data, 6)
    start = time.process_time()
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        file.read()
    zlib.compress(data, 6)
    return time.process_time() - start


def stream_row(name: str, stream: bytes, reference: float) -> measured.Row:
    """Measure one stream, the best of some rounds."""
    rows = [measure(stream) for _ in range(ROUNDS)]
    row = rows[0]
    opening = row.plain / min(each.open_seconds for each in rows)
    again = min(each.rebuild_seconds for each in rows)
    return {
        "encoder": name,
        "stream_bytes": row.stream,
        "plain_bytes": row.plain,
        "segments": row.segments,
        "refused": row.refused,
        "tokens": row.tokens,
        "wrong": row.wrong,
        "recipe_bytes": row.recipe,
        "recipe_percent": 100 * row.recipe / row.stream,
        "open_rate": opening,
        "rebuild_rate": row.plain / again if row.refused < row.segments else None,
        "zlib_ratio": reference / opening,
    }


HEAD = (
    "| encoder | stream | tokens | wrong | recipe | of it | open MB/s | rebuild MB/s "
    "| zlib 6 / open |\n| --- |" + " ---: |" * 8
)


def line_of(row: measured.Row) -> str:
    """Return a row of the table."""
    cost = f"{row['recipe_bytes']} | {row['recipe_percent']:.3f} %"
    tokens = f"{row['tokens']} | {row['wrong']}"
    if row["refused"]:
        tokens = "- | -"
        cost = f"{row['refused']} of {row['segments']} segments closed | -"
    back = f"{row['rebuild_rate'] / 1e6:.0f}" if row["rebuild_rate"] else "-"
    return (
        f"| {row['encoder']} | {row['stream_bytes']} | {tokens} | {cost} "
        f"| {row['open_rate'] / 1e6:.0f} | {back} | {row['zlib_ratio']:.1f} |"
    )


def measure_encoders(
    record: measured.Record, data: bytes, gzips: list[Path], limit: int | None = None
) -> None:
    """Add to a record the encoders that it lacks, `limit` of them at most."""
    reference = zlib_rate(data)
    made = ((name, stream, reference) for name, stream in encoders(data))
    for name, stream, rate in islice(chain(made, published(gzips)), limit):
        if record.find(encoder=name) is None:
            record.add(stream_row(name, stream, rate))


def published(paths: list[Path]) -> Iterator[tuple[str, bytes, float]]:
    """Yield name, raw deflate stream and `zlib_rate` of gzip files."""
    for path in paths:
        file = path.read_bytes()
        yield path.name, body(file), zlib_rate(gzip.decompress(file))


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.deflate", description=__doc__)
    parser.add_argument("file", type=Path, help="plaintext", metavar="FILE")
    parser.add_argument("gzip", type=Path, nargs="*", help="members as published", metavar="GZIP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    given = parser.parse_args(arguments)
    data = given.file.read_bytes()
    try:
        record = measured.Record("deflate", given.json, file=given.file.name, bytes=len(data))
        measure_encoders(record, data, given.gzip)
    except measured.BenchmarkError as error:
        measured.say(f"deflate: {error}")
        return 2
    row = record.rows[0]
    rate = row["zlib_ratio"] * row["open_rate"] / 1e6
    print(f"{given.file.name}: {len(data)} bytes; zlib 6, inflate and deflate: {rate:.0f} MB/s\n")
    print(HEAD)
    for row in record.rows:
        print(line_of(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())

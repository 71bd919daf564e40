"""Inputs that chunkers are known to fail on, the same bytes on every machine and Python.

Everything comes from SHAKE-128, not from `random`, because the goldens depend on these bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice


def noise(seed: str, length: int) -> bytes:
    """Random bytes."""
    return hashlib.shake_128(seed.encode()).digest(length)


def numbers(seed: str, below: int, count: int) -> Iterator[int]:
    """Random integers in [0, below), as uniform as 32 bits allow."""
    raw = noise(seed, 4 * count)
    return (int.from_bytes(raw[i : i + 4], "little") * below >> 32 for i in range(0, 4 * count, 4))


def letters(alphabet: bytes, length: int) -> bytes:
    """Random letters of an alphabet whose size is a power of two."""
    table = bytes(alphabet[i % len(alphabet)] for i in range(256))
    return noise("letters" + alphabet.decode(), length).translate(table)


def integers(width: int, values: int, length: int) -> bytes:
    """Little-endian integers of `width` bytes below `values` (<= 256)."""
    out = bytearray(length)
    small = bytes(i % values for i in range(256))
    out[::width] = noise(f"integers {width} {values}", -(-length // width)).translate(small)
    return bytes(out)


def sparse(background: int, every: int, length: int) -> bytes:
    """One byte repeated, and here and there another."""
    out = bytearray([background]) * length
    count = length // every
    places = numbers(f"sparse {every}", max(length, 1), count)
    for at, value in zip(places, noise(f"values {every}", count), strict=True):
        out[at] = value
    return bytes(out)


def sparse_integers(length: int) -> bytes:
    """int64, of which 2 % are not 0."""
    out = bytearray(length)
    count = length // 8
    for at, value in zip(numbers("sparse integers", 50, count), range(count), strict=True):
        if at == 0:
            out[value * 8 : value * 8 + 3] = noise(f"value {value}", 3)
    return bytes(out[:length])


def lines(length: int, line: Callable[[list[int]], bytes], seed: str) -> bytes:
    """Text of lines made of random integers."""
    source = numbers(seed, 1 << 30, length // 2 + 64)
    out = bytearray()
    while len(out) < length:
        out += line(list(islice(source, 4)))
    return bytes(out[:length])


def csv(length: int) -> bytes:
    """Comma-separated values."""
    return lines(length, lambda v: b"%d,%d,%d,%d\n" % (v[0], v[1] % 10, v[2] % 100, v[3]), "csv")


def log(length: int) -> bytes:
    """Lines of a server's log."""
    return lines(
        length,
        lambda v: (
            b"2024-05-01T10:%02d INFO [worker-%d] GET /api/v1/items/%d in %d ms\n"
            % (v[0] % 60, v[1] % 8, v[2] % 500, v[3] % 90)
        ),
        "log",
    )


def runs(length: int) -> bytes:
    """Pixels: runs of 50 bytes."""
    return b"".join(bytes([value]) * 50 for value in noise("runs", length // 50 + 1))[:length]


def disk(length: int) -> bytes:
    """4 KiB pages, most of them zero."""
    count = length // 4096 + 1
    pages = (
        noise(f"page {i}", 4096) if pick < 15 else bytes(4096)
        for i, pick in enumerate(numbers("disk", 100, count))
    )
    return b"".join(pages)[:length]


def periodic(period: int, length: int) -> bytes:
    """A random period, repeated."""
    return (noise(f"period {period}", period) * (length // period + 1))[:length]


def noisy_periodic(period: int, length: int) -> bytes:
    """The same, with a byte changed about every 10,000."""
    out = bytearray(periodic(period, length))
    for at in numbers(f"noisy {period}", max(length, 1), length // 10_000):
        out[at] ^= 0x55
    return bytes(out)


INPUTS: dict[str, Callable[[int], bytes]] = {
    "random": lambda n: noise("random", n),
    "dna": lambda n: letters(b"ACGT", n),
    "bits as text": lambda n: letters(b"01", n),
    "csv": csv,
    "log": log,
    "int64 0/1": lambda n: integers(8, 2, n),
    "int32 0-9": lambda n: integers(4, 10, n),
    "int64 2%": sparse_integers,
    "runs": runs,
    "disk": disk,
    "zeros 1e-4": lambda n: sparse(0, 10_000, n),
    "spaces 1e-4": lambda n: sparse(32, 10_000, n),
    "zeros": bytes,
    "ones": lambda n: b"\xff" * n,
    **{f"period {p}": partial(periodic, p) for p in (2, 3, 5, 48, 64, 77, 300, 512)},
    **{f"noisy period {p}": partial(noisy_periodic, p) for p in (3, 5, 77)},
}
"""Name to a function from a length in bytes to that many bytes."""

"""Archives of what is compressed already, with zstd around them, as package tools write them."""

from __future__ import annotations

import random
import struct

import zstandard

from tests.updates import as_gzip, changed, libdeflate, tar, texts

SKIPPABLE = struct.pack("<II", 0x184D2A53, 100) + bytes(range(100))


def layers(version: int, *, noise_bytes: int = 3 << 20) -> dict[str, bytes]:
    """Return the files of a package: a layer that never changes, one that does, and some text."""
    noise = random.Random(5).randbytes(noise_bytes)
    files = changed(texts(), version)
    return {
        "blobs/base.gz": as_gzip(_stored(noise), noise),
        "blobs/layer.gz": libdeflate(tar(files, 1_700_000_000 + version)),
        "index.json": b'{"version": "1.%d"}\n' % version * 50,
    }


def package(version: int, *, noise_bytes: int = 3 << 20) -> bytes:
    """Return a version of a package, as a tar archive."""
    return tar(layers(version, noise_bytes=noise_bytes))


def _stored(data: bytes) -> bytes:
    """Return a deflate stream of stored blocks."""
    out = bytearray()
    for start in range(0, len(data), 65535):
        part = data[start : start + 65535]
        last = start + 65535 >= len(data)
        out += struct.pack("<BHH", last, len(part), len(part) ^ 0xFFFF) + part
    return bytes(out)


def zstd(data: bytes, level: int = 3, **options: int | bool) -> bytes:
    """Return one frame, made as a stream makes it: without a content size by default."""
    threads = options.pop("threads", 0)
    is_told = bool(options.pop("content_size", False))
    params = zstandard.ZstdCompressionParameters.from_level(
        level, threads=threads, write_content_size=is_told, **options
    )
    compressor = zstandard.ZstdCompressor(compression_params=params)
    made = compressor.compressobj(size=len(data) if is_told else -1)
    return made.compress(data) + made.flush()


def frames(data: bytes, size: int, level: int = 3) -> bytes:
    """Return a frame for each `size` bytes."""
    parts = range(0, len(data), size)
    return b"".join(
        zstandard.ZstdCompressor(level=level, write_checksum=True).compress(data[at : at + size])
        for at in parts
    )

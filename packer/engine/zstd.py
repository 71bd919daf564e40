"""Zstandard frames: one context per thread, prefixes for deltas, bounded decompression.

A *prefix* is older plaintext that a frame is compressed against. On the wire it is a raw-content
dictionary (RFC 8878 section 5), which ``zstd --patch-from`` uses too. Frames carry their content
size and no checksum: each chunk in them is verified by its own digest.
"""

from __future__ import annotations

import threading

import zstandard

from packer.errors import FormatError

DEFAULT_LEVEL, LARGE_LEVEL = 9, 3
"""Levels of versions for which none is given: small ones, and large ones. Level 9 makes the latter
a tenth smaller in 2.2 to 2.5 times the time: worth it on links below 30 to 40 Mb/s."""
MIN_LEVEL, MAX_LEVEL = 1, 22

MAX_TABLE_LOG = 21
"""Binary logarithm of the entries in each match finder table of a frame with a prefix: 8 MiB each.
The tables are cleared for every frame, so their size bounds its least time."""
MAX_TREE_LOG = 22
"""The same for the binary trees that strong levels keep instead, which have two entries a byte."""
ROWS_LEVEL = 12
"""Level that keeps a table of rows instead of both, whatever the size. To fill it with a prefix
takes 10 ns a byte; to put that into trees, as stronger levels do, 100 to 200."""
FAST_LEVEL = 3
"""Level that keeps a table for matches of eight bytes, and one for shorter ones. It takes half the
time of ROWS_LEVEL; frames are 5 to 25 % larger."""
_LEAST_TABLE_LOG = 10
"""Binary logarithm of the entries in the smallest of these tables. Others fit the size of prefix
and content, which have at least as many bytes as the table has entries, and not twice as many."""
_FAST_LOG, _FAST_SHORT_LOG, _FAST_LEAST_MATCH = 20, 18, 6
"""Of FAST_LEVEL: binary logarithms of the entries in its largest tables, for eight bytes and for
shorter matches, and the bytes of the latter. Tables as usual at this level are too small for a
prefix."""
_MAX_ROWS_LOG = 21
"""Binary logarithm of the entries in the largest table of ROWS_LEVEL: 8 MiB. One of 16 saves 1 % of
the bytes, and takes a quarter longer."""
_LARGE_PREFIX_BYTES = 512 << 10
"""Prefix and content in bytes from which ROWS_LEVEL searches 32 entries, not 64, for matches of
five bytes, not four: those of four are no gain there."""
_PLAIN_ROWS_LOG, _PLAIN_ROWS_SEARCH_LOG = 20, 5
"""Of a frame that stands alone, at all levels that keep rows: binary logarithms of the entries in
the table, and of those searched. The table stays in the cache, so one more step of search costs
nothing: first packs are 0.5 to 2.6 % smaller in the same time."""
_LARGE_BYTES = 256 << 10
"""Plaintext above which zstd has one set of parameters a level; below, they depend on the size."""
MAX_WINDOW_LOG = 28
"""Binary logarithm of the greatest window of a frame with a prefix: it holds prefix and content of
an index of 256 MiB."""

_ROWS = (zstandard.STRATEGY_GREEDY, zstandard.STRATEGY_LAZY, zstandard.STRATEGY_LAZY2)
_TREES, _OPTIMAL = zstandard.STRATEGY_BTLAZY2, zstandard.STRATEGY_BTOPT
_LONG_MATCH = 999
"""Match length in bytes that optimal parsers take without searching on (level 17 has 64). Matches
in a prefix are long, and searching for longer ones costs no time."""

_PLAIN_HEAD = b"\x28\xb5\x2f\xfd\xa0"
"""Magic number; a single segment, whose size follows in four bytes."""
_BLOCK_BYTES = 128 << 10
"""Greatest block of a zstd frame."""
_BLOCK_HEAD_BYTES = 3
_RLE = 1
"""Type of a block that is one byte, many times."""
_CHECKSUM_BYTES = 4
_FOUR_BYTE_SIZE = 65792
"""Size of plaintext from which a frame's header has four bytes for it (RFC 8878, 3.1.1.1.4)."""

_contexts = threading.local()


def zstd_version() -> str:
    """Return the version of the zstd library in use, which decides the bytes of a frame."""
    return ".".join(map(str, zstandard.ZSTD_VERSION))


def compress(
    data: bytes | bytearray | memoryview, level: int, prefix: bytes | bytearray = b""
) -> bytes:
    """Compress `data` into one zstd frame.

    Args:
        data: the plaintext.
        level: MIN_LEVEL to MAX_LEVEL.
        prefix: plaintext that the decoder will have; b"" for a frame that stands alone.

    Returns:
        The frame.

    Determinism: the same arguments and zstd version give the same bytes.
    """
    if prefix:
        dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        params = _prefix_parameters(level, len(prefix) + len(data))
        return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=params).compress(
            data
        )
    contexts: dict[tuple[int, bool], zstandard.ZstdCompressor] = _contexts.__dict__.setdefault(
        "compress", {}
    )
    key = level, len(data) > _LARGE_BYTES
    context = contexts.get(key)
    if context is None:
        context = contexts[key] = _plain_context(*key)
    return context.compress(data)


def plain_frame(data: bytes | bytearray) -> bytes:
    """Return a zstd frame of `data` whose blocks hold it as it is.

    Args:
        data: at least a byte.
    """
    out = bytearray(_PLAIN_HEAD + len(data).to_bytes(4, "little"))
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        is_last = start + len(block) == len(data)
        out += (len(block) << 3 | is_last).to_bytes(3, "little")
        out += block
    return bytes(out)


def plain_position(stored: int, size: int, at: int) -> int | None:
    """Return where a byte of the plaintext lies in a frame, if all of its blocks hold it as it is.

    That follows from the frame's size: zstd stores what does not compress so, too.

    Args:
        stored: length of the frame in bytes.
        size: length of its plaintext in bytes.
        at: offset in the plaintext.

    Returns:
        The offset in the frame; None if it has other blocks, or too little plaintext.
    """
    head = stored - size - _BLOCK_HEAD_BYTES * -(-size // _BLOCK_BYTES)
    if size < _FOUR_BYTE_SIZE or head not in (len(_PLAIN_HEAD) + 4, len(_PLAIN_HEAD) + 5):
        return None  # its header has a byte more if the window is smaller than the plaintext
    return head + at + _BLOCK_HEAD_BYTES * (at // _BLOCK_BYTES + 1)


def start_bytes(size: int) -> int:
    """Return how many bytes of a frame hold the first `size` of its plaintext, whatever it holds.

    That is so for frames of encoders, which store a block as it is rather than let it grow.
    """
    return size + size // 256 + _BLOCK_BYTES + 64  # a block and the headers of blocks of 1 KiB


def decompress_start(part: bytes, size: int, what: str) -> bytes:
    """Return the first bytes of a frame's plaintext.

    Args:
        part: the beginning of a frame from a stranger.
        size: how many bytes to return, which the caller has bounded.
        what: how errors name the frame.

    Returns:
        `size` bytes; fewer if the part holds no more.

    Raises:
        FormatError: the part is damaged, or wants a larger window than is allowed.
    """
    context = zstandard.ZstdDecompressor(max_window_size=1 << MAX_WINDOW_LOG)
    try:
        return context.stream_reader(part).read(size)
    except zstandard.ZstdError as error:
        raise FormatError(what, f"damaged zstd frame: {error}") from None


def _prefix_parameters(level: int, size: int) -> zstandard.ZstdCompressionParameters:
    """Return the parameters of a frame with a prefix, which has `size` bytes with its prefix."""
    # The window spans both: otherwise the far end of the prefix would be out of reach.
    window_log = min(max(size.bit_length(), 17), MAX_WINDOW_LOG)
    fitted = max(size.bit_length() - 1, _LEAST_TABLE_LOG)
    # zstd fills the tables anew for every frame, twice: for the prefix and for the content.
    if level == ROWS_LEVEL:
        is_large = size >= _LARGE_PREFIX_BYTES
        found = {
            "strategy": zstandard.STRATEGY_LAZY2,
            "hash_log": min(fitted, _MAX_ROWS_LOG),
            "chain_log": _LEAST_TABLE_LOG,  # is not used
            "search_log": 5 if is_large else 6,
            "min_match": 5 if is_large else 4,
            "target_length": 64,
        }
    elif level == FAST_LEVEL:
        found = {
            "strategy": zstandard.STRATEGY_DFAST,
            "hash_log": min(fitted, _FAST_LOG),
            "chain_log": min(fitted, _FAST_SHORT_LOG),
            "search_log": 1,
            "min_match": _FAST_LEAST_MATCH,
        }
    else:
        usual = zstandard.ZstdCompressionParameters.from_level(
            level, window_log=window_log, source_size=size
        )
        most_chain = MAX_TREE_LOG if usual.strategy >= _TREES else MAX_TABLE_LOG
        long_match = _LONG_MATCH if usual.strategy >= _OPTIMAL else 0
        found = {
            "strategy": usual.strategy,
            "hash_log": min(usual.hash_log, MAX_TABLE_LOG),
            "chain_log": min(usual.chain_log, most_chain),
            "search_log": usual.search_log,
            "min_match": usual.min_match,
            "target_length": max(usual.target_length, long_match),
        }
    return zstandard.ZstdCompressionParameters(
        window_log=window_log,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
        **found,
    )


def _plain_context(level: int, large: bool) -> zstandard.ZstdCompressor:
    """Return a compressor of frames that stand alone."""
    usual = zstandard.ZstdCompressionParameters.from_level(level)
    if not large or usual.strategy not in _ROWS:
        return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            level,
            hash_log=min(usual.hash_log, _PLAIN_ROWS_LOG),
            search_log=max(usual.search_log, min(usual.search_log + 1, _PLAIN_ROWS_SEARCH_LOG)),
            write_checksum=False,
            write_content_size=True,
        )
    )


def decompress(
    frame: bytes | memoryview, size: int, what: str, prefix: bytes | bytearray | None = None
) -> bytes:
    """Return the plaintext of one zstd frame from a stranger.

    Args:
        frame: exactly one frame.
        size: length of the plaintext in bytes, which the caller has bounded.
        what: how errors name the frame.
        prefix: the plaintext that the frame was compressed against, if any.

    Returns:
        `size` bytes.

    Raises:
        FormatError: not a zstd frame, bytes behind it, a content size other than `size` (so that
            nothing larger is ever allocated), a dictionary, or damaged data.
    """
    _check_header(frame, size, what)
    if prefix:
        dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        context = zstandard.ZstdDecompressor(dict_data=dictionary)
    else:
        context = _plain_decompressor()
    try:
        data = context.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(what, f"damaged zstd frame: {error}") from None
    if len(data) != size:
        raise FormatError(what, f"frame gave {len(data)} bytes, expected {size}")
    return data


def decompress_into(out: memoryview, frame: bytes | memoryview, what: str) -> None:
    """Fill memory with the plaintext of one zstd frame from a stranger that stands alone.

    Memory that is used again spares the system's pages, which take longer than zstd where it stored
    what it could not compress.

    Args:
        out: as long as the plaintext; undefined after an error.
        frame: exactly one frame.
        what: how errors name the frame.

    Raises:
        FormatError: as `decompress` raises it.
    """
    header = _check_header(frame, len(out), what)
    if _end_of_blocks(frame) + _CHECKSUM_BYTES * header.has_checksum != len(frame):
        raise FormatError(what, "damaged zstd frame: it is cut off, or bytes follow it")
    try:
        with _plain_decompressor().stream_reader(frame, read_size=len(frame)) as reader:
            count = reader.readinto(out)  # at once, as all of the frame and its plaintext is there
    except zstandard.ZstdError as error:
        raise FormatError(what, f"damaged zstd frame: {error}") from None
    if count != len(out):
        raise FormatError(what, f"frame gave {count} bytes, expected {len(out)}")


def _check_header(frame: bytes | memoryview, size: int, what: str) -> zstandard.FrameParameters:
    """Return what a frame's header says; FormatError unless it has `size` bytes, no dictionary."""
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise FormatError(what, f"not a zstd frame: {error}") from None
    if header.content_size != size:
        raise FormatError(what, f"frame holds {header.content_size} bytes, expected {size}")
    if header.dict_id:
        raise FormatError(what, f"frame wants dictionary {header.dict_id}")
    return header


def _end_of_blocks(frame: bytes | memoryview) -> int:
    """Return where the last block of a frame ends; more than its length if it is cut off."""
    at, is_last = zstandard.frame_header_size(frame), 0
    while not is_last and at < len(frame):
        head = int.from_bytes(frame[at : at + _BLOCK_HEAD_BYTES], "little")
        is_last = head & 1
        at += _BLOCK_HEAD_BYTES + (1 if head >> 1 & 3 == _RLE else head >> 3)
    return at if is_last else len(frame) + 1


def _plain_decompressor() -> zstandard.ZstdDecompressor:
    """Return this thread's decompressor of frames that stand alone."""
    plain: zstandard.ZstdDecompressor | None = getattr(_contexts, "decompress", None)
    if plain is None:
        plain = _contexts.decompress = zstandard.ZstdDecompressor()
    return plain


def content_size(frame: bytes | memoryview, limit: int, what: str) -> int:
    """Return the plaintext length that a frame's header states.

    Args:
        frame: from a stranger; its header is enough.
        limit: greatest length in bytes that the caller accepts.
        what: how errors name the frame.

    Returns:
        The length in bytes.

    Raises:
        FormatError: the header states no length, or one above `limit`.
    """
    try:
        size = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise FormatError(what, f"not a zstd frame: {error}") from None
    if not 0 <= size <= limit:
        raise FormatError(what, f"content size {size} is unknown or above {limit}")
    return size


def number(value: int) -> bytes:
    """Return a number coded in groups of 7 bits, the lowest first (docs/format.md, "Recipes")."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_number(data: bytes, what: str) -> tuple[int, int]:
    """Read the number at the start of `data`, as `number` codes it.

    Args:
        data: from a stranger; its first four bytes are read.
        what: how errors name it.

    Returns:
        The number, and the offset behind it.

    Raises:
        FormatError: no number below 2^28 begins there.
    """
    value = 0
    for at, byte in enumerate(data[:4]):
        value |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return value, at + 1
    raise FormatError(what, "a number is cut off or too large")

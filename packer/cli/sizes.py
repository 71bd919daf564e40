"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

from packer.errors import InvalidParameter

_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))? ?(?:([KMGT])(i?)B?|B?)", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Return a size in bytes.

    Args:
        text: ``700MB`` and ``4G`` are decimal, ``2GiB`` is binary.

    Returns:
        Bytes, above 0.

    Raises:
        InvalidParameter: it is no size, or no whole number of bytes.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidParameter(f"{text[:40]!r} is no size; write 700MB, 4GB or 2GiB")
    whole, fraction, power, binary = found.groups(default="")
    unit: int = (1024 if binary else 1000) ** _POWERS[power.upper()]
    parts = int("1" + "0" * len(fraction))
    size, rest = divmod((int(whole) * parts + int(fraction or 0)) * unit, parts)
    if rest or not size:
        raise InvalidParameter(f"{text[:40]!r} is no whole number of bytes above 0")
    return size

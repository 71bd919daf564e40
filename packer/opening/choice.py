"""Which archives are opened when a version is packed."""

from __future__ import annotations

from packer.errors import InvalidParameter

CHANGED = "changed"
"""Those of which the base holds an older self: they are opened against it. Packing is quick, and
the first version of an archive is stored as it is."""
ALL = "all"
"""These, and those of an encoder that is modelled: the first version is smaller as well."""
NONE = "none"
OPENINGS = (CHANGED, ALL, NONE)
DEFAULT_OPENING = CHANGED
"""What is opened unless a caller says otherwise."""


def check_opening(opening: str) -> str:
    """Return a choice that is one of OPENINGS.

    Args:
        opening: of a caller.

    Raises:
        InvalidParameter: it is none of them.
    """
    if opening not in OPENINGS:
        raise InvalidParameter(f"opening {opening!r} is none of {', '.join(OPENINGS)}")
    return opening

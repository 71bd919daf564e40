"""What it took to read a part of a version."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Cost:
    """What was read and made for some content; grows while the content is taken.

    Args:
        read_bytes: stored bytes of the frames that were read, from a registry the bytes that were
            fetched of its layers. One that was read twice counts twice.
        old_text_bytes: plaintext of older archives that was made because a file is opened against
            them, each of a chain.
    """

    read_bytes: int = 0
    old_text_bytes: int = 0

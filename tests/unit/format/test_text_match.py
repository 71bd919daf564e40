"""Bytes are compared with a predecessor's text, closed or opened."""

from __future__ import annotations

import random

import blake3
import pytest

from packer.format.index import Index
from packer.format.text_match import TextMatch
from packer.opening.predecessor import NO_FILE, Predecessor

CHUNKS = [random.Random(at).randbytes(size) for at, size in enumerate((700, 1, 4000, 300))]
ORDER = (2, 3, 0, 1)
TEXT = b"".join(CHUNKS[at] for at in ORDER)
RUNS = ((2, 2), (0, 2))


def closed() -> tuple[Predecessor, Index]:
    index = Index()
    for chunk in CHUNKS:
        index.chunk_lengths.append(len(chunk))
        index.chunk_digests += blake3.blake3(chunk).digest()[:16]
    return Predecessor(len(TEXT), 0, b"", RUNS), index


def opened() -> tuple[Predecessor, Index]:
    return Predecessor(len(TEXT), 1, blake3.blake3(TEXT).digest()[:16], RUNS), Index()


def is_text(row: Predecessor, index: Index, data: bytes, step: int = 1000) -> bool:
    match = TextMatch(row, index)
    return (
        all(match.take(data[at : at + step]) for at in range(0, len(data), step)) and match.is_whole
    )


@pytest.mark.parametrize("made", [closed, opened])
@pytest.mark.parametrize("step", [1, 299, 1000, 1 << 20])
def test_the_text(made: object, step: int) -> None:
    row, index = made()  # type: ignore[operator]
    assert is_text(row, index, TEXT, step)
    for other in (TEXT[:-1], TEXT + b"!", b"", b"!" + TEXT[1:], TEXT[:-1] + b"!"):
        assert not is_text(row, index, other, step)


def test_a_closed_one_is_told_by_its_first_chunk() -> None:
    match = TextMatch(*closed())
    assert match.take(TEXT[:3999])
    assert not match.take(b"!" + TEXT[4000:4100])
    assert not match.take(b"")


def test_a_text_that_is_no_file() -> None:
    row, index = opened()
    row = row._replace(digest=NO_FILE)
    assert not row.is_opened_file
    assert not is_text(row, index, TEXT)


def test_a_row_of_another_size_than_its_chunks() -> None:
    row, index = closed()
    assert not is_text(row._replace(size=len(TEXT) + 1), index, TEXT + b"!")
    assert not is_text(row._replace(size=len(TEXT) - 1), index, TEXT[:-1])

"""Spools hold what was appended, in memory or in a file, and serve parts of it."""

from __future__ import annotations

import pytest

from packer.files.spool import Memory, Spool


@pytest.mark.parametrize("memory", [0, 100])
def test_parts_of_what_was_appended(memory: int) -> None:
    spool = Spool(8, Memory(memory), None)
    assert spool.append(b"abc")
    assert spool.append(b"defgh")
    assert not spool.append(b"i")
    out = bytearray(3)
    spool.read_into(2, memoryview(out))
    assert (spool.size, bytes(spool.read(1, 4)), bytes(out)) == (8, b"bcde", b"cde")
    spool.close()


def test_a_text_that_is_there_is_not_copied() -> None:
    text = bytearray(b"abcdefgh")
    spool = Spool.of(memoryview(text))
    text[0] = ord("A")
    assert (spool.size, bytes(spool.read(0, 3))) == (8, b"Abc")
    assert not spool.append(b"i")
    spool.close()


@pytest.mark.parametrize("memory", [0, 100])
def test_a_text_that_is_taken_whole_stays_where_it_is(memory: int) -> None:
    text = bytearray(b"abcdefgh")
    spool = Spool(8, Memory(memory), None)
    assert spool.take(memoryview(text))
    text[0] = ord("A")
    assert bytes(spool.read(0, 3)) == (b"Abc" if memory else b"abc")
    assert not spool.append(b"i")
    spool.close()


def test_a_part_of_something_larger_is_copied() -> None:
    text = bytearray(b"abcdefgh")
    spool = Spool(4, Memory(4), None)
    assert spool.take(memoryview(text)[2:6])
    text[2] = ord("C")
    assert bytes(spool.read(0, 4)) == b"cdef"


def test_parts_that_are_taken_are_appended() -> None:
    spool = Spool(8, Memory(8), None)
    assert spool.take(b"abcde")
    assert spool.take(b"fgh")
    assert not spool.take(b"i")
    assert bytes(spool.read(3, 4)) == b"defg"


def test_memory_is_given_back() -> None:
    memory = Memory(8)
    spool = Spool(8, memory, None)
    assert not memory.take(1)
    spool.close()
    assert memory.take(8)

"""Sequence numbers that are unique under any number of writers, without a lock server.

A registry has no compare-and-swap: of two writers of one tag the last wins, and both are told they
succeeded. But a tag that only one writer ever writes is safe, and the list of tags shows everybody
what was written before it was asked for. That is enough to agree (docs/storage.md has the
argument):

    <n>                     the version with sequence number n; written once, by one writer
    claim-<n>-<nonce>       a writer wants n; removed when it has decided
    claim-<n>-<nonce>-void  it gave n up, and the registry does not delete
    gone-<n>                n was deleted when it was the greatest; keeps it from being used again

A writer writes its claim to the next number, lists the tags, and takes the number only if it sees
no other claim to it, no greater number, and, asked for by name, not the number itself. Two writers
can not both miss the other's claim. Of those who see each other, the one with the least nonce stays
until the others have withdrawn.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from packer.errors import Cancelled, Conflict, InvalidParameter, NotFound, StoreError
from packer.oci import Descriptor
from packer.progress import CancelEvent
from packer.storage.repository import Shelf
from packer.stores.cancelling import pause

PATIENCE_SECONDS = 15.0
"""A claim seen undecided for as long is taken for a dead writer's, and its number is skipped."""
MAX_SEQUENCE = (1 << 53) - 1
"""Greatest sequence number: what JSON readers hold exactly."""

_FIRST_WAIT_SECONDS, _MAX_WAIT_SECONDS = 0.01, 0.3
_MAX_ROUNDS = 10_000

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
_CLAIM = re.compile(r"claim-(0|[1-9][0-9]{0,15})-([0-9a-f]{16})(-void)?\Z")
_GONE = re.compile(r"gone-(0|[1-9][0-9]{0,15})\Z")

_log = logging.getLogger(__name__)

T = TypeVar("T")


def check_sequence(sequence: int) -> int:
    """Return a sequence number that a caller gave.

    Raises:
        InvalidParameter: it is none: no integer, or out of range.
    """
    if not isinstance(sequence, int) or isinstance(sequence, bool):
        raise InvalidParameter(f"sequence {sequence!r} is no integer")
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise InvalidParameter(f"sequence {sequence} is not from 0 to {MAX_SEQUENCE}")
    return sequence


def is_number(tag: str) -> bool:
    """Tell whether a tag is a version's sequence number."""
    return _NUMBER.match(tag) is not None


@dataclass(slots=True)
class Numbers:
    """What a list of tags says.

    Args:
        saved: sequence numbers that versions have.
        gone: numbers that were deleted when they were the greatest.
        claims: nonces of undecided claims, by number.
    """

    saved: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    claims: dict[int, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, names: Iterable[str]) -> Numbers:
        """Sort tags by what they mean; those of others are left out."""
        out, void = cls(), set()
        for name in names:
            if _NUMBER.match(name):
                out.saved.add(int(name))
            elif match := _GONE.match(name):
                out.gone.add(int(match[1]))
            elif match := _CLAIM.match(name):
                claim = int(match[1]), match[2]
                if match[3]:
                    void.add(claim)
                else:
                    out.claims.setdefault(claim[0], set()).add(claim[1])
        for number, nonce in void:
            out.claims.get(number, set()).discard(nonce)
        for number in list(out.claims):
            if number in out.saved or not out.claims[number]:
                del out.claims[number]  # decided: its writer took it
        return out

    @property
    def top(self) -> int:
        """The greatest number ever used, -1 if there is none."""
        return max(max(self.saved, default=-1), max(self.gone, default=-1))


class Numbering(Generic[T]):
    """Finds a number for one version and stores the version under it.

    Args:
        shelf: of the application.
        commit: stores the version under the tag of a number; called with the number decided, and
            again with another one should its blobs turn out to be missing.
        wanted: a number the caller chose, or None for the next one.
        patience_seconds: see PATIENCE_SECONDS.
        cancel: stops waiting for other writers.
    """

    def __init__(
        self,
        shelf: Shelf,
        commit: Callable[[int], T],
        *,
        wanted: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        cancel: CancelEvent | None = None,
    ) -> None:
        self._shelf = shelf
        self._commit = commit
        self._wanted = wanted
        self._patience = patience_seconds
        self._cancel = cancel
        self._since: dict[tuple[int, str], float] = {}  # when each claim was first seen
        self._round = 0

    def run(self) -> tuple[int, T]:
        """Decide on a number and commit; return both.

        Raises:
            Conflict: the wanted number has a version.
            Cancelled: while waiting for other writers; nothing was committed.
            StoreError: the registry's list of tags does not show what was written.
        """
        with self._shelf.lock() as locked:
            if locked:
                numbers = self._list()
                number = self._next(numbers)
                return number, self._commit(number)
        while True:
            numbers = self._list()
            number = self._next(numbers)
            if self._others(numbers, number):
                self._wait()
                continue
            if self._wanted is not None:
                self._bury(numbers, number)
            if (done := self._claim(number)) is not None:
                return number, done[0]

    def _list(self) -> Numbers:
        self._round += 1
        if self._round > _MAX_ROUNDS:
            raise StoreError(
                f"{self._shelf.store.name}: no sequence number after {_MAX_ROUNDS} tries",
                retryable=True,
            )
        numbers = Numbers.read(self._shelf.names())
        now = time.monotonic()
        for number, nonces in numbers.claims.items():
            for nonce in nonces:
                self._since.setdefault((number, nonce), now)
        return numbers

    def _next(self, numbers: Numbers) -> int:
        if self._wanted is not None:
            if self._wanted in numbers.saved or self._wanted in numbers.gone:
                raise Conflict("sequence", str(self._wanted), "another version has or had it")
            return self._wanted
        number = numbers.top + 1
        while number in numbers.claims and not self._others(numbers, number):
            number += 1  # of a writer that died
        if number > MAX_SEQUENCE:
            raise Conflict("sequence", str(number), f"the greatest is {MAX_SEQUENCE}")
        return number

    def _others(self, numbers: Numbers, number: int) -> set[str]:
        """Return the claims to a number that may still be decided."""
        now = time.monotonic()
        return {
            nonce
            for nonce in numbers.claims.get(number, ())
            if now - self._since[number, nonce] < self._patience
        }

    def _claim(self, number: int) -> tuple[T] | None:
        """Try to take a number; None if another writer has it, or may have."""
        nonce = secrets.token_hex(8)
        tag = f"claim-{number}-{nonce}"
        claim = self._shelf.put_note(tag, {})
        committing = committed = False
        try:
            if not self._alone(number, nonce):
                return None
            committing = True
            done = self._commit(number)
            committing, committed = False, True
            return (done,)
        except NotFound:
            committing = False  # the registry lacks a blob, and says so: nothing was tagged
            raise
        finally:
            # If it failed on the way, whether the number was taken is not known: the claim stays,
            # and the number is nobody else's.
            if not committing:
                self._withdraw(tag, claim, decided=committed)

    def _alone(self, number: int, nonce: str) -> bool:
        """Wait until no other writer can take the number; False if one has, or may have."""
        visible = False
        claimed = time.monotonic()
        while True:
            listed = time.monotonic()
            numbers = self._list()
            if number in numbers.saved or (self._wanted is None and numbers.top >= number):
                return False
            if nonce not in numbers.claims.get(number, ()):
                if visible:
                    return False  # another writer took us for dead
                # The list lags behind what was written: it proves nothing.
                if listed - claimed > self._patience:
                    raise StoreError(
                        f"{self._shelf.store.name}: the list of tags does not show a tag that was "
                        f"written {self._patience:g} s ago",
                        retryable=True,
                    )
                self._wait()
                continue
            visible = True
            others = numbers.claims[number] - {nonce}
            if others:
                # Dead ones too: who sees another claim must not take the number.
                if min(others) < nonce or others - self._others(numbers, number):
                    return False
                self._wait()
                continue
            if self._shelf.holds(str(number)):
                return False  # it came, and its claim went, while the tags were listed
            if time.monotonic() - listed <= self._patience / 2:
                return True  # or else we were asleep, and others may have taken us for dead

    def _bury(self, numbers: Numbers, number: int) -> None:
        """Remove dead writers' claims to a number that the caller insists on."""
        for nonce in numbers.claims.get(number, ()):
            tag = f"claim-{number}-{nonce}"
            with contextlib.suppress(NotFound):
                self._withdraw(tag, self._shelf.store.resolve(tag))

    def _withdraw(self, tag: str, claim: Descriptor, *, decided: bool = False) -> None:
        """Take back a claim, so that nobody waits for it; one whose number is taken is harmless."""
        try:
            if not self._shelf.try_remove(tag, claim.digest) and not decided:
                self._shelf.put_note(tag + "-void", {})
        except (StoreError, NotFound) as error:  # costs another writer its patience
            _log.warning("could not remove %s of %s: %s", tag, self._shelf.store.name, error)

    def _wait(self) -> None:
        limit = min(_FIRST_WAIT_SECONDS * 2 ** min(self._round, 10), _MAX_WAIT_SECONDS)
        if pause(random.uniform(0, limit), self._cancel):  # noqa: S311 - spreads writers in time
            raise Cancelled("waiting for other writers")

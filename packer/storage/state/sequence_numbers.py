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
can not both miss the other's claim. Of writers that see each other, the one with the least nonce
stays until the others have withdrawn.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from packer.errors import (
    Cancelled,
    Conflict,
    InvalidParameter,
    NotFound,
    RegistryError,
    StoreError,
)
from packer.oci import Descriptor
from packer.progress import CancelEvent
from packer.storage.state.repository import Repository, is_refusal
from packer.stores.cancelling import pause

PATIENCE_SECONDS = 15.0
"""Seconds after which an undecided claim counts as a dead writer's, and its number is skipped."""
MAX_SEQUENCE = (1 << 53) - 1
"""Greatest sequence number: JSON readers hold integers exactly up to here."""

_FIRST_WAIT_SECONDS, _MAX_WAIT_SECONDS = 0.01, 0.3
"""Bounds of a random pause before the tags are listed again; it doubles with each list."""
_MAX_ROUNDS = 10_000
"""Lists of tags after which a writer gives up: hours, so that no loop is endless."""

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
_CLAIM = re.compile(r"claim-(0|[1-9][0-9]{0,15})-([0-9a-f]{16})(-void)?\Z")
_GONE = re.compile(r"gone-(0|[1-9][0-9]{0,15})\Z")

_log = logging.getLogger(__name__)


def check_sequence(sequence: int) -> int:
    """Return a caller's sequence number if it is one.

    Args:
        sequence: from 0 to MAX_SEQUENCE.

    Returns:
        The same.

    Raises:
        InvalidParameter: it is no integer, or out of range.
    """
    if not isinstance(sequence, int) or isinstance(sequence, bool):
        raise InvalidParameter(f"sequence {sequence!r} is no integer")
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise InvalidParameter(f"sequence {sequence} is not from 0 to {MAX_SEQUENCE}")
    return sequence


def is_number(tag: str) -> bool:
    """Return whether a tag is a version's sequence number."""
    return _NUMBER.match(tag) is not None and int(tag) <= MAX_SEQUENCE


@dataclass(slots=True)
class Numbers:
    """The sequence numbers that a list of tags tells of.

    Args:
        saved: numbers that versions have.
        gone: numbers that were deleted while they were the greatest.
        claims: nonces of undecided claims, by number.
    """

    saved: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    claims: dict[int, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, names: Iterable[str]) -> Numbers:
        """Return the numbers in a list of tags; tags of other kinds are ignored.

        Args:
            names: all tags of a repository.

        Returns:
            Numbers above MAX_SEQUENCE are ignored: no storage gave them.
        """
        out, void = cls(), set()
        for name in names:
            if is_number(name):
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


def sweep_claims(repository: Repository, names: Iterable[str]) -> None:
    """Remove the claims of dead writers to numbers below the greatest.

    A living writer withdraws such a claim, as a greater number is there. The claims of writers that
    were killed are in nobody's way, but every list of tags grows by them.

    Args:
        repository: of the application.
        names: all its tags, as listed before.
    """
    top = Numbers.read(names).top
    for tag in names:
        match = _CLAIM.match(tag)
        if match is None or int(match[1]) >= top:
            continue
        try:
            if not repository.try_remove(tag, repository.store.resolve(tag).digest):
                return  # the registry does not delete
        except NotFound:
            continue  # its writer has withdrawn it
        except StoreError as error:
            _log.warning("could not remove %s of %s: %s", tag, repository.store.name, error)


class Numbering:
    """Claims sequence numbers for one writer.

    Args:
        repository: of the application.
        wanted: a number that the caller chose, or None for the next one.
        patience_seconds: see PATIENCE_SECONDS.
        cancel: stops the wait for other writers.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        wanted: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        cancel: CancelEvent | None = None,
    ) -> None:
        self._repository = repository
        self._wanted = wanted
        self._patience = patience_seconds
        self._cancel = cancel
        self._since: dict[tuple[int, str], float] = {}  # when each claim was first seen
        self._round = 0

    @contextlib.contextmanager
    def claim(self) -> Iterator[int]:
        """Hold a number that nobody else takes, while the context writes its tag.

        A context that ends with NotFound wrote nothing, as the registry lacks a blob and says so;
        nor does one that the registry refuses. The number is released, and may be claimed again.
        After any other error nobody knows whether the tag was written: the claim stays, and the
        number is nobody else's.

        Yields:
            The number.

        Raises:
            Conflict: the wanted number has a version, or had one.
            Cancelled: while waiting for other writers.
            NotFound: the context raised it.
            RegistryError: the context raised it.
            StoreError: the registry's list of tags does not show what was written.
        """
        with self._repository.lock() as locked:
            if locked:
                yield self._next(self._list())
                return
        number, tag, claim = self._claimed()
        try:
            yield number
        except (NotFound, RegistryError) as error:
            if isinstance(error, NotFound) or is_refusal(error):
                self._withdraw(tag, claim)
            raise
        self._withdraw(tag, claim, decided=True)

    def _claimed(self) -> tuple[int, str, Descriptor]:
        """Claim a number; return it, and the claim's tag and descriptor."""
        while True:
            numbers = self._list()
            number = self._next(numbers)
            if self._others(numbers, number):
                self._wait()
                continue
            if self._wanted is not None:
                self._bury(numbers, number)
            nonce = secrets.token_hex(8)
            tag = f"claim-{number}-{nonce}"
            claim = self._repository.put_note(tag, {})
            alone = False
            try:
                alone = self._alone(number, nonce)
            finally:
                if not alone:
                    self._withdraw(tag, claim)
            if alone:
                return number, tag, claim

    def _list(self) -> Numbers:
        self._round += 1
        if self._round > _MAX_ROUNDS:
            raise StoreError(
                f"{self._repository.store.name}: no sequence number after {_MAX_ROUNDS} tries",
                retryable=True,
            )
        numbers = Numbers.read(self._repository.names())
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
                        f"{self._repository.store.name}: the list of tags does not show a tag that"
                        f" was written {self._patience:g} s ago",
                        retryable=True,
                    )
                self._wait()
                continue
            visible = True
            others = numbers.claims[number] - {nonce}
            if others:
                # Dead writers' too: a writer that sees another claim must not take the number.
                if min(others) < nonce or others - self._others(numbers, number):
                    return False
                self._wait()
                continue
            if self._repository.holds(str(number)):
                return False  # it came, and its claim went, while the tags were listed
            if time.monotonic() - listed <= self._patience / 2:
                return True  # or else we were asleep, and others may have taken us for dead

    def _bury(self, numbers: Numbers, number: int) -> None:
        """Remove dead writers' claims to a number that the caller insists on."""
        for nonce in numbers.claims.get(number, ()):
            tag = f"claim-{number}-{nonce}"
            with contextlib.suppress(NotFound):
                self._withdraw(tag, self._repository.store.resolve(tag))

    def _withdraw(self, tag: str, claim: Descriptor, *, decided: bool = False) -> None:
        """Take back a claim, so that nobody waits for it; one whose number is taken is harmless."""
        try:
            if not self._repository.try_remove(tag, claim.digest) and not decided:
                self._repository.put_note(tag + "-void", {})
        except (StoreError, NotFound) as error:  # costs another writer its patience
            _log.warning("could not remove %s of %s: %s", tag, self._repository.store.name, error)

    def _wait(self) -> None:
        limit = min(_FIRST_WAIT_SECONDS * 2 ** min(self._round, 10), _MAX_WAIT_SECONDS)
        if pause(random.uniform(0, limit), self._cancel):  # noqa: S311 - spreads writers in time
            raise Cancelled("waiting for other writers")

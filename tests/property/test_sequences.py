"""Sequence numbers under every order of events that a seeded scheduler can think of.

Writers run as threads that take one step at a time, a step being one request as the registry sees
it. A list of tags is no snapshot: what appears or goes while it is made may be in it or not. Some
writers die between two steps, and patience is so short that the living are taken for dead too. The
real registry has its turn in tests/conformance/test_storage_registry.py.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import Conflict, StoreError
from packer.oci import Descriptor, digest_of
from packer.progress import CancelEvent
from packer.storage.state import sequence_numbers
from packer.storage.state.repository import Repository
from packer.storage.state.sequence_numbers import Numbering, Numbers


class Died(BaseException):
    """A writer's process ends."""


class World:
    """A registry's tags, and a scheduler that lets one writer at a time take a step."""

    def __init__(self, seed: int, deletes: bool) -> None:
        self.random = random.Random(seed)
        self.deletes = deletes
        self.tags: dict[str, str] = {}
        self.steps = 0
        self.overwritten: list[str] = []
        self.scans: list[tuple[set[str], set[str]]] = []
        self.doomed: dict[threading.Thread, int] = {}
        self._turn = threading.Condition()
        self._waiting: list[threading.Thread] = []
        self._chosen: threading.Thread | None = None
        self._alive = 0

    def step(self) -> None:
        """Wait for this thread's turn."""
        me = threading.current_thread()
        with self._turn:
            self._waiting.append(me)
            self._choose()
            self._turn.wait_for(lambda: self._chosen is me)
            self._chosen = None
            self.steps += 1
            if me in self.doomed:
                self.doomed[me] -= 1
                if self.doomed[me] < 0:
                    raise Died

    def _choose(self) -> None:
        if self._chosen is None and len(self._waiting) == self._alive and self._waiting:
            self._chosen = self._waiting.pop(self.random.randrange(len(self._waiting)))
            self._turn.notify_all()

    def run(self, writers: list[threading.Thread]) -> None:
        self._alive = len(writers)
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

    def leave(self) -> None:
        with self._turn:
            self._alive -= 1
            self._choose()

    def put(self, tag: str, digest: str) -> None:
        self.step()
        if tag in self.tags and tag.isdecimal():
            self.overwritten.append(tag)
        self.tags[tag] = digest
        for _, maybe in self.scans:
            maybe.add(tag)

    def scan(self) -> set[str]:
        self.step()
        always, maybe = set(self.tags), set[str]()
        scan = always, maybe
        self.scans.append(scan)
        try:
            self.step()
        finally:
            self.scans = [other for other in self.scans if other is not scan]
        return always | {tag for tag in sorted(maybe) if self.random.random() < 0.5}

    def remove(self, tag: str) -> bool:
        self.step()
        if not self.deletes:
            return False
        self.tags.pop(tag, None)
        for always, maybe in self.scans:
            if tag in always:
                always.discard(tag)
                maybe.add(tag)
        return True


class ModelRepository:
    """What `Numbering` uses of a repository."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = self
        self.name = "model"

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        yield False

    def names(self) -> set[str]:
        return self.world.scan()

    def holds(self, tag: str) -> bool:
        self.world.step()
        return tag in self.world.tags

    def resolve(self, tag: str) -> Descriptor:
        return Descriptor("", digest_of(tag.encode()), 0)

    def put_note(self, tag: str, annotations: dict[str, str]) -> Descriptor:
        self.world.put(tag, "note")
        return self.resolve(tag)

    def try_remove(self, tag: str, digest: str) -> bool:
        return self.world.remove(tag)


class Clock:
    """The world's steps as time, and its scheduler as sleep."""

    def __init__(self, world: World) -> None:
        self.world = world

    def monotonic(self) -> float:
        return float(self.world.steps)

    def pause(self, _: float, cancel: CancelEvent | None) -> bool:
        self.world.step()
        return False

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(sequence_numbers, "time", self)
        patch.setattr(sequence_numbers, "pause", self.pause)


def play(
    seed: int, writers: int, deaths: int, patience: float, *, deletes: bool
) -> tuple[World, list[tuple[int, int]]]:
    world = World(seed, deletes)
    clock = Clock(world)
    out: list[tuple[int, int]] = []
    repository = cast(Repository, ModelRepository(world))

    def write(writer: int) -> None:
        try:
            for _ in range(2):
                with Numbering(repository, patience_seconds=patience).claim() as number:
                    world.put(str(number), f"version of {writer}")
                out.append((number, writer))
        except Died:
            pass
        finally:
            world.leave()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads[:deaths]:
        world.doomed[thread] = world.random.randrange(1, 25)
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        world.run(threads)
    return world, out


@given(
    seed=st.integers(0, 1 << 32),
    writers=st.integers(2, 5),
    deaths=st.integers(0, 1),
    patience=st.sampled_from([6.0, 60.0]),
    deletes=st.booleans(),
)
def test_no_number_is_given_twice(
    seed: int, writers: int, deaths: int, patience: float, deletes: bool
) -> None:
    world, out = play(seed, writers, deaths, patience, deletes=deletes)
    numbers = [number for number, _ in out]
    assert world.overwritten == []
    assert len(set(numbers)) == len(numbers)
    assert len(out) >= 2 * (writers - deaths)  # who lives gets numbers
    for number, writer in out:
        assert world.tags[str(number)] == f"version of {writer}"


def test_a_rule_without_the_second_look_fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    # Proof that the scheduler finds what it is for: without asking for the number itself after the
    # list, two writers take one number, if claims are removed at once.
    monkeypatch.setattr(ModelRepository, "holds", lambda self, tag: False)
    broken = (play(seed, 4, 0, 400.0, deletes=True)[0].overwritten for seed in range(400))
    assert any(broken)


def test_a_list_that_never_shows_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    # Such a registry cannot tell writers apart: no number is taken, and who asked is told.
    monkeypatch.setattr(World, "scan", lambda self: self.step() or set())
    world = World(1, deletes=True)
    clock = Clock(world)
    failed: list[StoreError] = []

    def write() -> None:
        repository = cast(Repository, ModelRepository(world))
        try:
            with Numbering(repository, patience_seconds=20).claim():
                pass
        except StoreError as error:
            failed.append(error)
        finally:
            world.leave()

    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        world.run([threading.Thread(target=write)])
    assert "does not show a tag" in str(failed[0])
    assert failed[0].retryable
    assert world.tags == {}


def test_numbers_in_tags() -> None:
    numbers = Numbers.read(
        {
            "0", "3", "07", "1.2", "latest", "history", "deployed", "gone-5", "gone-x",
            "claim-3-0123456789abcdef",  # decided: 3 is there
            "claim-6-0123456789abcdef", "claim-6-00000000000000aa",
            "claim-6-00000000000000aa-void", "claim-7-short", "claim-8-0123456789abcdef",
            "claim-8-0123456789abcdef-void",
        }
    )  # fmt: skip
    assert numbers.saved == {0, 3}
    assert numbers.gone == {5}
    assert numbers.top == 5
    assert numbers.claims == {6: {"0123456789abcdef"}}
    assert Numbers.read([]).top == -1


def test_a_dead_writers_number_is_skipped_and_its_claim_cleared_for_who_insists() -> None:
    world = World(1, deletes=True)
    world.tags.update({"0": "v", "claim-1-0000000000000000": "note"})
    clock = Clock(world)
    repository = cast(Repository, ModelRepository(world))
    out: list[object] = []

    def write(wanted: int | None) -> None:
        try:
            numbering = Numbering(repository, wanted=wanted, patience_seconds=20)
            with numbering.claim() as number:
                world.put(str(number), "w")
            out.append(number)
        except Conflict as error:
            out.append(error)
        finally:
            world.leave()

    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        for wanted in (None, 1, 1):
            world.run([threading.Thread(target=write, args=(wanted,))])
    assert out[:2] == [2, 1]
    assert isinstance(out[2], Conflict)
    assert sorted(world.tags) == ["0", "1", "2"]

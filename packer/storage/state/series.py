"""A record that changes, in a registry whose tags may be immutable: each state is a tag of its own.

A tag that moves is refused by registries with immutable tags, and of two writers of one tag the
first is lost. So nothing here writes a tag twice: a new state is written under

    <prefix>-<generation>-<nonce>

with a generation above every one that is listed. The newest generation counts. Writers that listed
the same tags write the same generation; readers see both. States that are older than the newest are
removed where the registry deletes, and ignored where it does not.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable

from packer.errors import NotFound, StoreError
from packer.storage.state.repository import Repository


class Series:
    """The tags of one record.

    Args:
        repository: holds them.
        prefix: of the tags.

    Thread safety: threads may share it.
    """

    def __init__(self, repository: Repository, prefix: str) -> None:
        self._repository = repository
        self._prefix = prefix
        self._tag = re.compile(rf"{re.escape(prefix)}-(0|[1-9][0-9]{{0,15}})-[0-9a-f]{{16}}\Z")

    def generation(self, tag: str) -> int:
        """Return the generation of a tag, -1 if it is not one of the record."""
        match = self._tag.match(tag)
        return -1 if match is None else int(match[1])

    def tags(self, names: Iterable[str]) -> set[str]:
        """Return the tags of the record, of all generations, among the names of all tags."""
        return {tag for tag in names if self.generation(tag) >= 0}

    def newest(self, names: Iterable[str]) -> list[str]:
        """Return the tags of the newest generation.

        Args:
            names: all tags of the repository.

        Returns:
            Mostly one tag, several if they were written at once; in an order that all readers
            agree on: the first one counts.
        """
        found = [(self.generation(tag), tag) for tag in names]
        newest = max((number for number, _ in found), default=-1)
        return sorted((tag for number, tag in found if number == newest >= 0), reverse=True)

    def next_tag(self, names: Iterable[str], nonce: str = "") -> str:
        """Return the tag for a new state, newer than all that are listed.

        Args:
            names: all tags of the repository.
            nonce: 16 hexadecimal digits that no other tag has; "" for new ones.
        """
        newest = max(map(self.generation, names), default=-1)
        return f"{self._prefix}-{newest + 1}-{nonce or secrets.token_hex(8)}"

    def behind(self, names: Iterable[str], most: int) -> list[str]:
        """Return the tags that are some generations older than the newest, or fewer; newest first.

        Args:
            names: all tags of the repository.
            most: generations.
        """
        found = [(self.generation(tag), tag) for tag in names]
        newest = max((number for number, _ in found), default=-1)
        return [
            tag
            for number, tag in sorted(found, reverse=True)
            if newest - most <= number < newest and number >= 0
        ]

    @staticmethod
    def nonce(tag: str) -> str:
        """Return the nonce of a tag of the record."""
        return tag.rpartition("-")[2]

    def sweep(self, names: Iterable[str], tag: str) -> None:
        """Remove the states older than a new one; a failure leaves a tag that nobody reads.

        Args:
            names: tags that the writer of the new state had listed.
            tag: of the new state.
        """
        limit = self.generation(tag)
        for older in names:
            if 0 <= self.generation(older) < limit:
                with contextlib.suppress(NotFound, StoreError):
                    self._remove(older)

    def _remove(self, tag: str) -> None:
        if not self._repository.is_remote:
            self._repository.remove(tag, "")
            return
        try:
            digest = self._repository.store.resolve(tag).digest
        except NotFound:
            self._repository.remove_tag(tag)  # if it is still listed: its manifest is gone
        else:
            self._repository.drop(digest)

"""Patterns of paths in the syntax of gitignore: which files to pack, and which to restore.

The library pathspec compiles them. A pattern that it would take as "matches nothing" is an error
here: whoever wrote it meant something. Source: git, Documentation/gitignore.txt.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import NamedTuple

from packer.errors import InvalidParameter

MAX_PATTERN_CHARS = 4096
"""Greatest length of a pattern; no path is longer."""
MAX_PATTERNS = 4096
"""Greatest number of patterns of one list: each path is compared with all of them."""
MAX_WILDCARDS = 6
"""Greatest number of ``*`` in a component. The time to match grows with a power of it, so patterns
and names of a stranger could keep a processor busy for hours."""


class Patterns:
    """Patterns in order; the last one that matches a path decides.

    Args:
        lines: patterns, one each. Blank lines and lines that begin with ``#`` say nothing.
        where: where they stand, for errors, such as ``--exclude``.

    Raises:
        InvalidParameter: a pattern is malformed or too long, or there are too many.
    """

    def __init__(self, lines: Iterable[str], where: str) -> None:
        from pathspec import GitIgnoreSpec  # few calls need it, and it takes 30 ms to load

        patterns = [line for line in map(_clean, lines) if line]
        if len(patterns) > MAX_PATTERNS:
            raise InvalidParameter(f"{where}: more than {MAX_PATTERNS} patterns")
        for pattern in patterns:
            _check(pattern, where)
        self._rules: list[_Rule] = []
        for pattern in reversed(patterns):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # re warns of sets that it takes otherwise
                    (found,) = GitIgnoreSpec.from_lines([_anywhere_below(pattern)]).patterns
            except (ValueError, re.error, Warning):
                raise InvalidParameter(f"{where}: {pattern!r} is no pattern of gitignore") from None
            if found.include is None or found.regex is None:
                raise InvalidParameter(f"{where}: {pattern!r} matches nothing")
            self._rules.append(_Rule(found.include, found.regex))

    def __bool__(self) -> bool:
        """Return whether there is a pattern."""
        return bool(self._rules)

    def matches(self, path: str, *, is_directory: bool) -> bool | None:
        """Compare a path itself with the patterns, not the directories above it.

        Args:
            path: relative, components joined by ``/``.
            is_directory: patterns with a ``/`` at the end match directories alone.

        Returns:
            True if the last pattern that matches is a plain one, False if it begins with ``!``;
            None if none matches.
        """
        text = path + "/" if is_directory else path
        return next((rule.include for rule in self._rules if rule.matches(text)), None)


def given_patterns(patterns: str | Iterable[str], where: str) -> Patterns | None:
    """Return the patterns of an argument, each of which has to say something.

    A blank one is what a variable that is not set leaves of an option; without this error, it would
    choose everything.

    Args:
        patterns: one, or several.
        where: the argument's name in errors, such as ``--exclude``.

    Returns:
        The patterns; None for none.

    Raises:
        InvalidParameter: a pattern is blank, a comment, malformed or too long.
    """
    lines = [patterns] if isinstance(patterns, str) else list(patterns)
    for line in lines:
        if not _clean(line):
            raise InvalidParameter(f"{where}: {line[:40]!r} is blank or a comment, and no pattern")
    return Patterns(lines, where) if lines else None


class _Rule(NamedTuple):
    """A compiled pattern.

    Args:
        include: False if the pattern begins with ``!``.
        regex: matches the paths, and what lies below them.
    """

    include: bool
    regex: re.Pattern[str]

    def matches(self, text: str) -> bool:
        """Return whether it matches a path; that of a directory ends with a slash."""
        if self.regex.pattern in _ANY_DIRECTORY:
            return text.endswith("/")
        found = self.regex.search(text)
        if found is None:
            return False
        if found.lastgroup is not None:  # the slash behind the directory that matches
            return found.end() == len(text)
        # "a/**" matches all below "a", and not "a".
        return not (self.regex.pattern.endswith("/") and found.end() == len(text))


_ANY_DIRECTORY = ("(?P<ps_d>/)", "/")
"""What ``*/`` compiles to."""


def _anywhere_below(pattern: str) -> str:
    """Return a pattern that ends in ``/**/`` as one that pathspec takes as git does."""
    return pattern + "*/" if pattern.endswith("/**/") else pattern


def _clean(line: str) -> str:
    """Return a line without its end; "" for a blank one and for a comment."""
    line = line.rstrip("\r\n")
    return "" if not line.strip() or line.startswith("#") else line


def _check(pattern: str, where: str) -> None:
    """Raise InvalidParameter for a pattern that may not be compiled."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise InvalidParameter(f"{where}: a pattern has more than {MAX_PATTERN_CHARS} characters")
    if "\0" in pattern or "\n" in pattern:
        raise InvalidParameter(f"{where}: {pattern!r} holds a NUL or the end of a line")
    for component in pattern.split("/"):
        if component != "**" and len(re.findall(r"\*+", component)) > MAX_WILDCARDS:
            why = f"has more than {MAX_WILDCARDS} * between two slashes"
            raise InvalidParameter(f"{where}: {pattern[:80]!r} {why}")
    if pattern.split("/").count("**") > MAX_WILDCARDS:
        raise InvalidParameter(f"{where}: {pattern[:80]!r} has more than {MAX_WILDCARDS} **")

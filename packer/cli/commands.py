"""The command line as data, from its parser: for completions of shells and for the manual page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from packer.cli.parser import OPTIONS, VERBS, Parser

_NAMES = {"NAME", "SRC", "OLD", "NEW", "NAME|REF|DIR", "NAME|APP"}
"""Positional arguments that a version of the local store may stand for."""
_NAME_OPTIONS = {"--base", "--from", "--have"}
"""Options with such a value."""
_ELSEWHERE = {"storage", "migrate", "registry"}
"""Verbs whose arguments name nothing of the local store."""
_FOLDERS = {"DIR"}
_FILES = {"FILE", "PEM", "RECEIPT", "DIR|FILE", "DIR|FILE|-", "FILE|DIR"}


class Argument(NamedTuple):
    """An option or a positional argument.

    Args:
        names: of an option, such as ``("-u", "--update")``; empty for a positional argument.
        metavar: stands for the value; "" for an option without one.
        kind: of the value: "name" of a local version, "folder", "file", "word" (one of `words`), or
            "" for any text.
        words: the values of kind "word".
        help: one line.
        is_many: whether it may be repeated.
    """

    names: tuple[str, ...]
    metavar: str
    kind: str
    words: tuple[str, ...]
    help: str
    is_many: bool


class Command(NamedTuple):
    """A verb, or a verb below ``storage``.

    Args:
        words: ``("pack",)`` or ``("storage", "save")``.
        text: what it does.
        description: of its help.
        example: of its help; "" for a family of verbs.
        positionals: in order.
        options: its own first, then those that verbs share.
        shared: names of the options that verbs share.
    """

    words: tuple[str, ...]
    text: str
    description: str
    example: str
    positionals: tuple[Argument, ...]
    options: tuple[Argument, ...]
    shared: frozenset[str]


def commands(parser: argparse.ArgumentParser) -> Iterator[Command]:
    """Yield all verbs, in the order of the help; a family of verbs before its members.

    Args:
        parser: of the whole command line.

    Yields:
        One command a verb.
    """
    texts = {verb.name: verb.text for verb in VERBS}
    yield from _below(parser, (), texts)


def global_options(parser: argparse.ArgumentParser) -> tuple[Argument, ...]:
    """Return the options that may stand before a verb."""
    return tuple(_argument(action) for action in parser._actions if action.option_strings)


def _below(
    parser: argparse.ArgumentParser, before: tuple[str, ...], texts: dict[str, str]
) -> Iterator[Command]:
    for family in parser._actions:
        if not isinstance(family, argparse._SubParsersAction):
            continue
        helps = {each.dest: each.help or "" for each in family._choices_actions}
        for name, child in family.choices.items():
            if isinstance(child, Parser):
                child.fill()
            words = (*before, name)
            yield _command(child, words, texts.get(name, "") if not before else helps[name])
            yield from _below(child, words, texts)


def _command(parser: argparse.ArgumentParser, words: tuple[str, ...], text: str) -> Command:
    positionals: list[Argument] = []
    options: list[Argument] = []
    shared: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        found = _argument(action, words[0])
        if found.names:
            options.append(found)
            if action.help == argparse.SUPPRESS or action.dest in ("help", "jobs"):
                shared.update(found.names)
        else:
            positionals.append(found)
    example = (parser.epilog or "").partition("example:\n")[2].partition("\n\n")[0].strip()
    return Command(
        words,
        text,
        parser.description or "",
        example,
        tuple(positionals),
        tuple(sorted(options, key=lambda option: bool(shared & set(option.names)))),
        frozenset(shared),
    )


def _argument(action: argparse.Action, verb: str = "") -> Argument:
    takes_value = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    words = tuple(str(word) for word in action.choices or ())
    kind = ""
    if words:
        kind = "word"
    elif action.dest == "topic":
        kind, words = "word", (*(verb.name for verb in VERBS), OPTIONS)
    elif action.dest == "seed":
        kind = "folder"
    elif verb not in _ELSEWHERE and (
        _NAME_OPTIONS & set(action.option_strings)
        or (metavar in _NAMES and not action.option_strings)
    ):
        kind = "name"
    elif metavar in _FOLDERS:
        kind = "folder"
    elif metavar in _FILES:
        kind = "file"
    is_many = action.nargs in ("*", "+") or isinstance(
        action, (argparse._AppendAction, argparse._ExtendAction)
    )
    text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help).replace("%%", "%")
    return Argument(
        tuple(action.option_strings),
        metavar if takes_value else "",
        kind if takes_value else "",
        words if takes_value else (),
        text,
        is_many,
    )

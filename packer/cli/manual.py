"""The manual page, made from the parser: roff in the macros of man(7)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from packer._version import VERSION
from packer.cli.arguments import make_parser
from packer.cli.commands import Argument, commands, global_options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.progress import ProgressCallback

_ENVIRONMENT = (
    ("LAYER_PACKER_STORE", "directory of the local store"),
    ("LAYER_PACKER_STORAGE", "base URI of the verbs below storage"),
    ("LAYER_PACKER_PAGER, PAGER", "pager of diff --patch"),
    ("NO_COLOR", "if set, nothing is coloured"),
    ("LAYER_PACKER_KEY_PASSWORD", "password of an encrypted private key"),
    ("SOURCE_DATE_EPOCH", "time of new versions, in seconds since 1970"),
)


def manual(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Print the manual page."""
    text = page(make_parser())
    return Report(lambda: {"text": text}, lambda: text.splitlines(), is_summary=False)


def page(parser: argparse.ArgumentParser) -> str:
    """Return the manual page of the whole command line.

    Args:
        parser: of the command line.

    Returns:
        Source for man(7), with a line's end behind it.
    """
    return "\n".join(_page(parser)) + "\n"


def _page(parser: argparse.ArgumentParser) -> Iterator[str]:
    found = list(commands(parser))
    yield f'.TH LAYER\\-PACKER 1 "" "layer\\-packer {VERSION}" "User Commands"'
    yield ".SH NAME"
    yield "layer\\-packer \\- ship application versions through any OCI registry"
    yield ".SH SYNOPSIS"
    yield ".B layer\\-packer"
    yield ".I VERB"
    yield "[options]"
    yield ".SH DESCRIPTION"
    yield _text(parser.description or "")
    before, _, codes = (parser.epilog or "").partition("exit codes:\n")
    yield ".PP"
    yield _text(" ".join(before.split()))
    yield ".SH VERBS"
    for command in found:
        yield f".SS {_text(_usage(command.words, command.positionals))}"
        yield _text(command.description)
        own = [option for option in command.options if not command.shared & set(option.names)]
        yield from _arguments((*command.positionals, *own))
        if command.example:
            yield ".PP"
            yield "Example:"
            yield ".br"
            yield f".B {_text(command.example)}"
    shared = {
        option.names: option
        for command in found
        for option in command.options
        if command.shared & set(option.names)
    }
    helps = {option.names: option for option in _shared_options()}
    yield ".SH OPTIONS THAT VERBS SHARE"
    yield from _arguments(helps.get(names, option) for names, option in shared.items())
    yield from _arguments(option for option in global_options(parser) if option.names not in shared)
    yield ".SH ENVIRONMENT"
    for name, text in _ENVIRONMENT:
        yield ".TP"
        yield f".B {_text(name)}"
        yield _text(text)
    yield ".SH EXIT STATUS"
    yield ".nf"
    yield from (_text(line) for line in codes.rstrip().splitlines())
    yield ".fi"


def _shared_options() -> Iterator[Argument]:
    """Yield the options that verbs share, with their help."""
    from packer.cli.parser import shared_parser

    return iter(global_options(shared_parser()))


def _usage(words: tuple[str, ...], positionals: Iterable[Argument]) -> str:
    return " ".join([*words, *(each.metavar + "..." * each.is_many for each in positionals)])


def _arguments(arguments: Iterable[Argument]) -> Iterator[str]:
    for argument in arguments:
        if not argument.help:
            continue
        name = ", ".join(argument.names)
        yield ".TP"
        if name:
            yield f'.BI "{_text(name)}" " {_text(argument.metavar)}"'
        else:
            yield f".I {_text(argument.metavar)}"
        yield _text(argument.help)


def _text(text: str) -> str:
    """Return a line of text in which nothing is taken for a request of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    return "\\&" + text if text.startswith((".", "'")) else text

"""What a verb reports, and the options that verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from packer.errors import InvalidParameter
from packer.locations import RegistryOptions


@dataclass(frozen=True, slots=True)
class Report:
    """What a verb found; only what is asked for is put into words or JSON.

    Args:
        value: makes the JSON object; None if the verb wrote its output itself.
        lines: makes the lines for people.
        is_summary: the lines tell what was done, and are left out with --quiet.
        exit_code: of the process.
    """

    value: Callable[[], dict[str, Any]] | None
    lines: Callable[[], Iterable[str]]
    is_summary: bool = True
    exit_code: int = 0


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of calls that may reach a registry."""
    return {"store": args.store, "registry": registry_options(args)}


def registry_options(args: argparse.Namespace) -> RegistryOptions:
    """Return how to reach a registry."""
    password = None
    if args.password_stdin != (args.username is not None):
        raise InvalidParameter("--username and --password-stdin go together")
    if args.password_stdin:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        password = line.removesuffix("\n").removesuffix("\r")
        if not password:
            raise InvalidParameter("--password-stdin: standard input holds no password")
    return RegistryOptions(
        plain_http=args.plain_http,
        username=args.username,
        password=password,
        ca_file=args.ca_file,
    )

"""What a verb reports, and the options that verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from packer.copy import CopyResult
from packer.display import format_count, format_size
from packer.errors import InvalidParameter
from packer.locations import RegistryOptions
from packer.output import text_fields


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
    return {"store": args.store, "registry": _registry(args)}


def _registry(args: argparse.Namespace) -> RegistryOptions:
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


def copied(key: str, name: str, done: CopyResult) -> Report:
    """Return the report of a copy; `key` is what JSON calls the `name` given."""

    def value() -> dict[str, Any]:
        return {
            **text_fields(key, name),
            "digest": done.descriptor.digest,
            "copied_blobs": done.blobs_copied,
            "copied_bytes": done.bytes_copied,
            "present_blobs": done.blobs_present,
            "unchanged": done.unchanged,
        }

    def lines() -> Iterator[str]:
        yield f"{name}  {done.descriptor.digest}"
        if done.unchanged:
            yield "unchanged, nothing sent"
        else:
            yield (
                f"sent {format_size(done.bytes_copied)} in"
                f" {format_count(done.blobs_copied, 'blob')}, {done.blobs_present} already there"
            )

    return Report(value, lines)

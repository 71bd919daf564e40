"""What a verb reports, and the options that verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from packer.access import OTHERS, RegistryLike, RegistryOptions, registry_host
from packer.errors import InvalidParameter


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


def read_password() -> str:
    """Return the first line of standard input."""
    line = sys.stdin.readline() if sys.stdin is not None else ""
    password = line.removesuffix("\n").removesuffix("\r")
    if not password:
        raise InvalidParameter("--password-stdin: standard input holds no password")
    return password


def _registry(args: argparse.Namespace) -> RegistryLike:
    if args.password_stdin != (args.username is not None):
        raise InvalidParameter("--username and --password-stdin go together")
    general = RegistryOptions(
        plain_http=args.plain_http,
        username=args.username,
        password=read_password() if args.password_stdin else None,
        auth_file=args.auth_file,
        ca_file=args.ca_file,
        cert_file=args.cert_file,
        key_file=args.key_file,
        insecure_skip_tls_verify=args.insecure_skip_tls_verify,
    )
    if not args.registry:
        return general
    if general.is_for_one_host:
        raise InvalidParameter("--registry says what is for which host; so must all other options")
    return {OTHERS: general} | dict(_one_registry(text, general) for text in args.registry)


_FLAGS = ("plain-http", "no-plain-http", "insecure-skip-tls-verify")
_FILES = ("auth-file", "ca-file", "cert-file", "key-file")


def _one_registry(text: str, general: RegistryOptions) -> tuple[str, RegistryOptions]:
    """Parse the value of ``--registry``: ``HOST,OPTION[=VALUE],...``."""
    host, *parts = text.split(",")
    changes: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name in _FLAGS and not equals:
            changes[name.removeprefix("no-").replace("-", "_")] = not name.startswith("no-")
        elif name in _FILES and value:
            changes[name.replace("-", "_")] = value
        else:
            known = ", ".join([*_FLAGS, *(f"{file}=FILE" for file in _FILES)])
            raise InvalidParameter(f"--registry {host},...: {part[:80]!r} is none of {known}")
    return registry_host(host), replace(general, **changes)

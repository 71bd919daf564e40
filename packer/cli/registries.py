"""Verbs about registries themselves: login, logout, doctor."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterator
from typing import Any

from packer.cli.call_options import options, read_password
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.stores.registry import logins
from packer.stores.registry.access import RegistryOptions
from packer.stores.registry.diagnosis import YES
from packer.stores.registry.diagnosis import doctor as probe

EXIT_STORE = 5


def login(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Ask for missing credentials, check them with the registry, keep them."""
    username, password = _ask(args)
    reached = RegistryOptions(
        plain_http=args.plain_http,
        ca_file=args.ca_file,
        cert_file=args.cert_file,
        key_file=args.key_file,
        insecure_skip_tls_verify=args.insecure_skip_tls_verify,
        outage_seconds=args.outage_seconds,
    )
    done = logins.login(args.host, username, password, options=reached)

    def value() -> dict[str, Any]:
        return {"registry": done.registry, "username": username, "kept_in": done.kept_in}

    def lines() -> Iterator[str]:
        yield f"{done.registry}: logged in as {username}, kept in {done.kept_in}"

    return Report(value, lines)


def logout(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Forget a login."""
    host = logins.logout(args.host)

    def lines() -> Iterator[str]:
        yield f"{host}: logged out"

    return Report(lambda: {"registry": host}, lines)


def doctor(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Probe a registry; the exit code says whether versions can be pulled from it."""
    found = probe(args.reference, registry=options(args)["registry"], write=args.write)
    code = 0 if found.works("pull") == YES else EXIT_STORE

    def value() -> dict[str, Any]:
        probes = [{"name": p.name, "works": p.works, "detail": p.detail} for p in found.probes]
        return {"reference": found.reference, "registry": found.registry, "probes": probes}

    def lines() -> Iterator[str]:
        width = max(len(item.name) for item in found.probes)
        for item in found.probes:
            yield f"{item.name:<{width}}  {item.works:<7}  {item.detail}"

    return Report(value, lines, is_summary=False, exit_code=code)


def _ask(args: argparse.Namespace) -> tuple[str, str]:
    """Return user name and password, from options and standard input or from the terminal."""
    if args.password_stdin:
        if args.username is None:
            raise InvalidParameter("--password-stdin needs --username")
        return args.username, read_password()
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidParameter("not on a terminal: give --username and --password-stdin")
    try:
        sys.stderr.write("" if args.username else "User name: ")
        sys.stderr.flush()
        username = args.username or sys.stdin.readline().strip()
        return username, getpass.getpass("Password: ", stream=sys.stderr)
    except EOFError:
        raise InvalidParameter("no password was given") from None

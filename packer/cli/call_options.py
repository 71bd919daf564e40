"""The options of the command line as arguments of the library's calls, and checks of them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packer.cli.output import Output
from packer.errors import InvalidParameter
from packer.stores.registry.access import OTHERS, RegistryLike, RegistryOptions, registry_host

if TYPE_CHECKING:
    from packer.api.trust import Trust


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of calls that may reach a registry."""
    return {"store": args.store, "registry": registry_options(args)}


def read_password() -> str:
    """Return the first line of standard input.

    Returns:
        The line without its end.

    Raises:
        InvalidParameter: it is empty.
    """
    line = sys.stdin.readline() if sys.stdin is not None else ""
    password = line.removesuffix("\n").removesuffix("\r")
    if not password:
        raise InvalidParameter("--password-stdin: standard input holds no password")
    return password


def registry_options(args: argparse.Namespace) -> RegistryLike:
    """Return how to reach registries.

    Args:
        args: of a verb that takes the options of registries.

    Returns:
        Options for all hosts, or for each host its own.

    Raises:
        InvalidParameter: options contradict each other.
    """
    made: RegistryLike = getattr(args, "registry_options", None)
    if made is None:  # a password is read once
        made = args.registry_options = _registry_options(args)
    return made


def _registry_options(args: argparse.Namespace) -> RegistryLike:
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
        outage_seconds=args.outage_seconds,
        limit_rate=_limit_rate(args.limit_rate),
        on_retry=args.on_retry,
    )
    if not args.registry:
        return general
    if general.is_for_one_host:
        raise InvalidParameter("--registry says what is for which host; so must all other options")
    return {OTHERS: general} | dict(_one_registry(text, general) for text in args.registry)


def _limit_rate(text: str | None) -> int | None:
    """Parse the value of ``--limit-rate``."""
    if text is None:
        return None
    from packer.cli.sizes import parse_size  # rare
    from packer.stores.registry.transport.rate import RateLimit

    try:
        rate = parse_size(text)
        RateLimit(rate)
    except InvalidParameter as error:
        raise InvalidParameter(f"--limit-rate: {error}") from None
    return rate


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


def check_dry_run(args: argparse.Namespace) -> None:
    """Raise if a dry run is asked for together with options that it cannot estimate.

    Args:
        args: of a verb that copies.

    Raises:
        InvalidParameter: the estimate would have to read the blobs, or to send them.
    """
    if args.verify or args.force:
        raise InvalidParameter("--dry-run does not know what --verify and --force would send")


def refuse_terminal(args: argparse.Namespace, out: Output) -> None:
    """Raise if a tar archive would be written to a terminal.

    Args:
        args: of the verb.
        out: standard output.

    Raises:
        InvalidParameter: standard output is a terminal.
    """
    if out.is_terminal and not args.json:
        raise InvalidParameter("a tar archive is not for a terminal: redirect standard output")


def check_target(args: argparse.Namespace) -> None:
    """Raise if the options of a directory to restore into contradict each other.

    Args:
        args: of a verb that writes a tree.

    Raises:
        InvalidParameter: ``--delete`` without ``--update``.
    """
    if args.delete and not args.update:
        raise InvalidParameter("--delete needs --update")


def part(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of calls that write a part of a version."""
    return {"paths": args.paths, "include": args.include, "exclude": args.exclude}


def trust(args: argparse.Namespace) -> Trust | None:
    """Return what the options about signatures and receipts mean.

    Args:
        args: of a verb that takes them.

    Returns:
        None if none of them is given.

    Raises:
        InvalidParameter: options contradict each other.
    """
    after, receipt = getattr(args, "after", None), getattr(args, "receipt", None)
    key = getattr(args, "receipt_key", None)
    if args.repository is not None and args.policy is None:
        raise InvalidParameter("--repository chooses a rule of a policy: give --policy")
    if not (args.verify_key or args.policy or after or receipt or key):
        return None
    from packer.api.trust import Trust
    from packer.trust.policy import Policy
    from packer.trust.receipt import read_receipt

    policy = None
    if args.policy is not None:
        policy = Policy.load(args.policy)
    elif args.verify_key:
        policy = Policy.of_keys(args.verify_key)
    last = None if after is None else read_receipt(after)
    return Trust(policy, args.repository, last, receipt, key)


def refuse_trust(args: argparse.Namespace) -> None:
    """Raise if a verb that does not check signatures this time is given options about them.

    Args:
        args: of the verb.

    Raises:
        InvalidParameter: such an option is given.
    """
    given = (args.verify_key, args.policy, args.repository, args.after, args.receipt)
    if any(given) or args.receipt_key or args.allow_older:
        raise InvalidParameter("--dry-run and oci-image: check no signature and write no receipt")

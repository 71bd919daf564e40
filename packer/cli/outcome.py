"""The report of a verb, and reports and options that several verbs share."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from packer.cli.output import Output
from packer.errors import InvalidParameter
from packer.stores.registry.access import OTHERS, RegistryLike, RegistryOptions, registry_host
from packer.text import format_count, format_size, text_fields

if TYPE_CHECKING:
    from packer.api.trust import Trust
    from packer.files.rules import LeftOut
    from packer.format.closed_files import Closed
    from packer.format.usage import Use
    from packer.packing.job import BaseChoice, Packed
    from packer.reading.restore import Restored
    from packer.transfer.copy_cost import Estimate
    from packer.transfer.copy_graph import CopyResult
    from packer.trust.checking import Trusted


class Report(NamedTuple):
    """The result of a verb; only the form that is asked for is made.

    Args:
        value: makes the JSON object; None if the verb wrote its output itself.
        lines: makes the lines for people.
        is_summary: the lines sum up the work; --quiet leaves them out.
        exit_code: of the process.
        notes: lines for standard error, also with --quiet and --json: what the result lacks.
    """

    value: Callable[[], dict[str, Any]] | None
    lines: Callable[[], Iterable[str]]
    is_summary: bool = True
    exit_code: int = 0
    notes: tuple[str, ...] = ()


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
    from packer.cli.airgap import parse_size  # rare
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


def copied(key: str, name: str, done: CopyResult) -> Report:
    """Return the report of a copy.

    Args:
        key: JSON key of `name`.
        name: the destination, as given.
        done: the result.

    Returns:
        The report.
    """

    def value() -> dict[str, Any]:
        return {
            **text_fields(key, name),
            "digest": done.descriptor.digest,
            "copied_blobs": done.blobs_copied,
            "copied_bytes": done.bytes_copied,
            "present_blobs": done.blobs_present,
            "mounted_blobs": done.blobs_mounted,
            "mounted_bytes": done.bytes_mounted,
            "copied_referrers": done.referrers_copied,
            "present_referrers": done.referrers_present,
            "kept_referrers": done.referrers_kept,
            "unchanged": done.unchanged,
        }

    def lines() -> Iterator[str]:
        yield f"{name}  {done.descriptor.digest}"
        if done.unchanged:
            yield "unchanged, nothing sent"
        else:
            line = (
                f"sent {format_size(done.bytes_copied)} in"
                f" {format_count(done.blobs_copied, 'blob')}, {done.blobs_present} already there"
            )
            if done.blobs_mounted:
                line += (
                    f"; {format_size(done.bytes_mounted)} in"
                    f" {format_count(done.blobs_mounted, 'blob')} mounted within the registry"
                )
            yield line
        if done.referrers_copied or done.referrers_present:
            yield (
                f"referrers (signatures, SBOMs and the like): {done.referrers_copied} sent,"
                f" {done.referrers_present} already there"
            )

    return Report(value, lines)


def check_dry_run(args: argparse.Namespace) -> None:
    """Raise if a dry run is asked for together with options that it cannot estimate.

    Args:
        args: of a verb that copies.

    Raises:
        InvalidParameter: the estimate would have to read the blobs, or to send them.
    """
    if args.verify or args.force:
        raise InvalidParameter("--dry-run does not know what --verify and --force would send")


def estimated(key: str, name: str, found: Estimate) -> Report:
    """Return the report of a dry run.

    Args:
        key: JSON key of `name`.
        name: the destination, as given.
        found: the estimate.

    Returns:
        The report.
    """

    def value() -> dict[str, Any]:
        return {
            **text_fields(key, name),
            "digest": found.digest,
            "dry_run": True,
            "blobs": found.blobs,
            "bytes": found.bytes,
            "present_blobs": found.blobs_present,
            "present_bytes": found.bytes_present,
            "requests": found.requests,
            "mountable_blobs": found.mountable_blobs,
            "mountable_bytes": found.mountable_bytes,
            "referrers": found.referrers,
            "unchanged": found.unchanged,
            "closed": closed_value(found.closed),
        }

    def lines() -> Iterator[str]:
        yield f"{name}  {found.digest}"
        if found.unchanged:
            yield "unchanged, nothing to move"
            return
        line = (
            f"would move {format_size(found.bytes)} in {format_count(found.blobs, 'blob')}, with at"
            f" most {format_count(found.requests, 'request')}; {found.blobs_present} already there"
        )
        if found.mountable_blobs:
            line += (
                f"; {format_size(found.mountable_bytes)} of it lie in another repository of the"
                " registry, and stay there if it mounts blobs"
            )
        yield line
        if found.referrers:
            count = format_count(found.referrers, "referrer")
            yield f"with {count} (signatures, SBOMs and the like)"
        if found.closed:
            total = sum(row.stored_bytes for row in found.closed)
            yield f"archives that are stored closed, {format_size(total)}: " + closed_texts(
                found.closed
            )

    return Report(value, lines)


def parts_value(parts: Iterable[Use]) -> list[dict[str, Any]]:
    """Return the JSON value of the costs of the parts of a tree."""
    return [
        {
            **text_fields("path", part.path),
            "files": part.files,
            "bytes": part.bytes,
            "reused_bytes": part.reused_bytes,
            "new_bytes": part.new_bytes,
            "delta_bytes": part.delta_bytes,
            "stored_bytes": part.stored_bytes,
        }
        for part in parts
    ]


def base_value(base: BaseChoice | None) -> dict[str, Any] | None:
    """Return the JSON value of the version that another one was packed on."""
    if base is None:
        return None
    return {
        **text_fields("name", base.name),
        "digest": base.digest,
        "found_by": base.found_by,
        "shared_paths": None if base.shared_paths is None else round(base.shared_paths, 4),
    }


def base_lines(packed: Packed, asked: str | None) -> Iterator[str]:
    """Yield what a person reads of the base: one that was searched for, or that there was none.

    Args:
        packed: the version.
        asked: the base that the user named; None for none.

    Yields:
        At most one line.
    """
    base = packed.base
    if base is not None and base.found_by != "given" and base.name != asked:
        if base.shared_paths is not None:
            share = f"{100 * base.shared_paths:.0f} % of the paths in common"
            yield f"on {base.name}  {base.digest[:19]}, {share}"
        elif asked is not None:
            yield f"on {base.name}  {base.digest[:19]}"
    elif base is None and asked != "none":
        yield (
            "no base found, so all of it is new; if there is an older version, name it by --base"
            " NAME, or its repository by --base auto:REGISTRY/REPOSITORY"
        )


def closed_value(closed: Iterable[Closed]) -> list[dict[str, Any]]:
    """Return the JSON value of archives that stayed closed."""
    return [
        {
            **text_fields("path", row.path),
            "kind": row.kind,
            "reason": row.reason,
            "streams": row.streams,
            "bytes": row.bytes,
            "stored_bytes": row.stored_bytes,
        }
        for row in closed
    ]


_REASONS = {
    "encoder": "its encoder is not known",
    "format": "this format is not opened",
    "method": "compressed by a method that is not opened",
    "encrypted": "encrypted",
    "damaged": "damaged or cut off",
    "limit": "too large to open",
    "depth": "too deep in other archives",
    "new": "too little of it is in the base",
    "text": "zstd of text is opened against an older self alone",
    "unknown": "was not opened",
}


def closed_texts(closed: Sequence[Closed]) -> str:
    """Return what a person reads of archives that stayed closed: the largest, and how many more."""
    more = len(closed) - 1
    return closed_text(closed[0]) + (f" and {more} more, see --json" if more else "")


def closed_text(row: Closed) -> str:
    """Return what a person reads of archives that stayed closed in a file."""
    kind = f"{row.streams} {row.kind}" if row.streams > 1 else row.kind
    return f"{row.path} ({kind}, {_REASONS[row.reason]}; {format_size(row.bytes)})"


_SHOWN_LEFT_OUT = 4
"""Entries left out of a version that people are shown."""


def left_out_value(left_out: LeftOut) -> dict[str, Any]:
    """Return the JSON value of what rules left out of a version."""
    return {
        "files": left_out.files,
        "bytes": left_out.bytes,
        "directories": left_out.directories,
        "paths": [text_fields("path", path) for path in left_out.paths],
    }


def left_out_text(left_out: LeftOut) -> str:
    """Return what a person reads of what rules left out of a version."""
    counts = []
    if left_out.files:
        counts.append(f"{format_count(left_out.files, 'file')}, {format_size(left_out.bytes)}")
    if left_out.directories:
        counts.append(format_count(left_out.directories, "directory"))
    rest = left_out.files + left_out.directories - _SHOWN_LEFT_OUT
    more = f" and {rest} more, see --json" if rest > 0 else ""
    return f"left out {' and '.join(counts)}: {' '.join(left_out.paths[:_SHOWN_LEFT_OUT])}{more}"


_BASE64_BYTES = 3 << 16
"""Bytes of a file encoded at a time: a multiple of 3, so that the parts can be joined."""


def write_content(
    args: argparse.Namespace,
    out: Output,
    pieces: Iterable[bytes | memoryview],
    names: dict[str, str],
) -> Report:
    """Write content to standard output piece by piece, as bytes or JSON.

    Args:
        args: of the verb.
        out: standard output.
        pieces: of the content.
        names: fields of the JSON object that say what it is.

    Returns:
        A report with nothing more to show.
    """
    if args.json:
        _write_base64(out, pieces, names)
    else:
        for piece in pieces:
            out.write(piece)
    return Report(None, tuple, is_summary=False)


def _write_base64(out: Output, pieces: Iterable[bytes | memoryview], names: dict[str, str]) -> None:
    """Write content as a JSON document without holding it in memory."""
    size = 0
    held = bytearray()
    for piece in pieces:
        if not size:
            # Only now: a path that is not there is reported by a document of its own.
            out.write(b'{"content_base64": "')
        size += len(piece)
        held += piece
        count = len(held) // _BASE64_BYTES * _BASE64_BYTES
        out.write(base64.b64encode(held[:count]))
        del held[:count]
    if not size:
        out.write(b'{"content_base64": "')
    rest = json.dumps({**names, "bytes": size}).removeprefix("{")
    out.write(base64.b64encode(held) + b'", ' + rest.encode("ascii") + b"\n")


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


def trusted_value(trusted: Trusted | None) -> dict[str, Any] | None:
    """Return the JSON value of the signatures that were checked."""
    if trusted is None:
        return None
    from packer.trust.receipt import trusted_value as value

    return value(trusted)


def trusted_lines(trusted: Trusted | None) -> Iterator[str]:
    """Yield what a person reads of the signatures that were checked."""
    if trusted is None:
        return
    for each in trusted.signatures:
        yield f"signed by {each.signer}  {each.identity} ({each.kind})"
    if not trusted.signatures:
        yield f"no signature is asked for by the rule {trusted.rule} of {trusted.policy}"


def restored(
    names: dict[str, Any], title: str, directory: str, done: Restored, fetched: str = ""
) -> Report:
    """Return the report of a tree that was written to a directory.

    Args:
        names: first fields of the JSON object: what was restored.
        title: what was restored, for people.
        directory: where to.
        done: counts of files and bytes.
        fetched: a line about the transfer, "" for none.

    Returns:
        The report.
    """

    def value() -> dict[str, Any]:
        return {
            **names,
            "digest": done.digest,
            **text_fields("directory", directory),
            "files": done.files,
            "bytes": done.bytes,
            "written_files": done.written_files,
            "written_bytes": done.written_bytes,
            "deleted": done.deleted,
            "seeded_bytes": done.seeded_bytes,
            "verification": trusted_value(done.trusted),
        }

    def lines() -> Iterator[str]:
        yield f"{title}  {done.digest}"
        yield from trusted_lines(done.trusted)
        if fetched:
            yield fetched
        yield _restored_line(directory, done)

    return Report(value, lines)


def _restored_line(directory: str, done: Restored) -> str:
    line = (
        f"wrote {format_count(done.written_files, 'file')},"
        f" {format_size(done.written_bytes)} to {directory}"
    )
    if kept := done.files - done.written_files:
        line += f"; {format_count(kept, 'file')} untouched"
    if done.seeded_bytes:
        line += f"; {format_size(done.seeded_bytes)} from seeds"
    if done.deleted:
        line += f"; {done.deleted} deleted"
    return line

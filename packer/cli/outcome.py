"""The report of a verb, and reports that several verbs share."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from packer.cli.output import Output
from packer.text import format_count, format_size, text_fields

if TYPE_CHECKING:
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


def estimated(key: str, name: str, found: Estimate) -> Report:
    """Return the report of a dry run.

    Args:
        key: JSON key of `name`.
        name: the destination, as given.
        found: the estimate.

    Returns:
        The report.
    """
    from packer.cli.packed_report import closed_texts, closed_value  # a dry run is rare

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


_BASE64_BYTES = 3 << 16
"""Bytes of a file encoded at a time: a multiple of 3, so that the parts can be joined."""


def write_content(
    args: argparse.Namespace,
    out: Output,
    pieces: Iterable[bytes | memoryview],
    names: dict[str, str],
    more: Callable[[], dict[str, Any]] = dict,
) -> Report:
    """Write content to standard output piece by piece, as bytes or JSON.

    Args:
        args: of the verb.
        out: standard output.
        pieces: of the content.
        names: fields of the JSON object that say what it is.
        more: returns fields that are known behind the last piece.

    Returns:
        A report with nothing more to show.
    """
    if args.json:
        _write_base64(out, pieces, names, more)
    else:
        for piece in pieces:
            out.write(piece)
    return Report(None, tuple, is_summary=False)


def _write_base64(
    out: Output,
    pieces: Iterable[bytes | memoryview],
    names: dict[str, str],
    more: Callable[[], dict[str, Any]],
) -> None:
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
    rest = json.dumps({**names, "bytes": size, **more()}).removeprefix("{")
    out.write(base64.b64encode(held) + b'", ' + rest.encode("ascii") + b"\n")


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

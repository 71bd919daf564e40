"""The verbs that check versions and mend them: verify, repair."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from packer.api import integrity, readings
from packer.api.integrity import DAMAGED, SOUND, UNKNOWN, Checked, Repaired
from packer.api.locations import default_store_path
from packer.cli.call_options import options, trust
from packer.cli.outcome import Report, trusted_lines, trusted_value
from packer.cli.output import Output
from packer.cli.tables import Column, short_digest, table, terminal_width
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.reading.verification import Verified
from packer.stores.graph import check_expected
from packer.text import format_count, format_size, text_fields
from packer.trust.checking import Trusted

EXIT_DAMAGED = 4
"""Exit code if a version is damaged, and of `repair` if it still is."""
EXIT_FAILING = 5
"""Exit code if a registry that holds a part of a version fails."""


def verify(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Read every blob of a version, or of all, and check it."""
    if args.all == (args.name is not None):
        raise InvalidParameter("name a version, or give --all for every version of the local store")
    with_bases = args.base_at_hand or args.base_from is not None
    if args.all:
        if with_bases:
            raise InvalidParameter("--base-at-hand is for one archive, --all for the local store")
        if trust(args) is not None:
            raise InvalidParameter("--all reads blobs: name a version to check its signatures")
        return _verify_all(args, progress)
    trusted = _check_signatures(args)
    verified = readings.verify(
        args.name,
        base_at_hand=args.base_at_hand,
        base_from=args.base_from,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    if trusted is not None:
        check_expected(verified.digest, trusted.digest, args.name)  # the tag moved meanwhile

    def value() -> dict[str, Any]:
        found: dict[str, Any] = {
            **text_fields("name", args.name),
            "digest": verified.digest,
            "blobs": verified.blobs,
            "bytes": verified.bytes,
            "chunks": verified.chunks,
            "referrers": verified.referrers,
            "referrer_bytes": verified.referrer_bytes,
            "verification": trusted_value(trusted),
        }
        if with_bases:
            found["left_out_blobs"] = verified.left_out_blobs
            found["left_out_bytes"] = verified.left_out_bytes
            found["bases"] = list(verified.bases)
        return found

    def lines() -> Iterator[str]:
        yield f"{args.name}  {verified.digest}"
        yield from trusted_lines(trusted)
        yield (
            f"sound: {format_count(verified.blobs, 'blob')}, {format_size(verified.bytes)},"
            f" {format_count(verified.chunks, 'chunk')}"
        )
        if verified.referrers:
            yield (
                f"with {format_count(verified.referrers, 'referrer')} (signatures, SBOMs and the"
                f" like), {format_size(verified.referrer_bytes)}: digests checked, no signature"
            )
        if with_bases:
            yield from _bases_lines(verified)

    return Report(value, lines)


def _check_signatures(args: argparse.Namespace) -> Trusted | None:
    """Check the signatures that the options ask for."""
    asked = trust(args)
    if asked is None or asked.policy is None:
        return None
    from packer.api.trust import verify_signatures

    return verify_signatures(args.name, asked.policy, repository=asked.repository, **options(args))


def _bases_lines(verified: Verified) -> Iterator[str]:
    if not verified.left_out_blobs:
        yield "nothing is left out: it completes anywhere"
        return
    yield (
        f"{format_size(verified.left_out_bytes)} in"
        f" {format_count(verified.left_out_blobs, 'blob')} are left out;"
        " it completes wherever these are:"
    )
    yield from verified.bases


def _verify_all(args: argparse.Namespace, progress: ProgressCallback | None) -> Report:
    found = integrity.verify_all(progress=progress, cancel=args.cancel, **options(args))

    def value() -> dict[str, Any]:
        return {
            **text_fields("store", args.store or default_store_path()),
            "versions": [
                {
                    **text_fields("tag", one.tag),
                    "digest": one.digest,
                    "condition": one.condition,
                    "why": one.why or None,
                }
                for one in found
            ],
        }

    def lines() -> Iterator[str]:
        if found:
            columns = (Column("TAG", cut=True), Column("DIGEST"), Column("CONDITION"))
            rows = ((one.tag, short_digest(one.digest), one.condition) for one in found)
            yield from table(columns, rows, width=terminal_width())
        for one in found:
            if one.condition in (DAMAGED, UNKNOWN):
                yield f"{one.tag}: {one.why}"
        sound = sum(one.condition == SOUND for one in found)
        yield f"{sound} of {format_count(len(found), 'version')} sound"

    return Report(value, lines, is_summary=False, exit_code=_verdict(found))


def _verdict(found: Iterable[Checked]) -> int:
    conditions = {one.condition for one in found}
    if DAMAGED in conditions:
        return EXIT_DAMAGED
    return EXIT_FAILING if UNKNOWN in conditions else 0


def repair(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Fetch again what is damaged in the local store."""
    if args.all == bool(args.names):
        raise InvalidParameter("name versions, or give --all for every version of the local store")
    found = integrity.repair(
        args.names, source=args.source, progress=progress, cancel=args.cancel, **options(args)
    )

    def value() -> dict[str, Any]:
        return {
            **text_fields("store", args.store or default_store_path()),
            "versions": [
                {
                    **text_fields("tag", one.tag),
                    "digest": one.digest,
                    "damaged_blobs": one.damaged_blobs,
                    "repaired_blobs": one.repaired_blobs,
                    "repaired_bytes": one.repaired_bytes,
                    "sources": list(one.sources),
                    "why": one.why or None,
                }
                for one in found
            ],
        }

    def lines() -> Iterator[str]:
        for one in found:
            if one.damaged_blobs:
                yield _repaired_line(one)
        sound = sum(not one.why for one in found)
        repaired = sum(bool(one.damaged_blobs) and not one.why for one in found)
        line = f"{sound} of {format_count(len(found), 'version')} sound"
        yield f"{line}, {repaired} of them repaired" if repaired else line

    damaged = any(one.why for one in found)
    return Report(value, lines, is_summary=False, exit_code=EXIT_DAMAGED if damaged else 0)


def _repaired_line(one: Repaired) -> str:
    line = (
        f"{one.tag}: {one.repaired_blobs} of {format_count(one.damaged_blobs, 'damaged blob')}"
        f" fetched again, {format_size(one.repaired_bytes)}"
    )
    if one.sources:
        line += f" from {', '.join(one.sources)}"
    return line + (f"; {one.why}" if one.why else "")

"""The verbs for air gaps: copy, also to archives that leave blobs out, and inventory."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from packer.api import readings, transfers
from packer.cli.call_options import check_dry_run, options, refuse_trust, trust
from packer.cli.outcome import Report, copied, estimated, trusted_lines, trusted_value
from packer.cli.output import Output
from packer.cli.sizes import parse_size
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.reference import IMAGE_PREFIX
from packer.stores.graph import check_expected
from packer.text import format_count, format_size
from packer.transfer.copy_cost import Estimate


def estimated_archive(name: str, found: Estimate) -> Report:
    """Return the report of a dry run of `copy`.

    Args:
        name: the destination, as given.
        found: the estimate.

    Returns:
        The report.
    """
    plain = estimated("destination", name, found)
    assert plain.value is not None
    base = plain.value

    def value() -> dict[str, Any]:
        return {
            **base(),
            "left_out_blobs": found.blobs_left_out,
            "left_out_bytes": found.bytes_left_out,
            "archive_bytes": found.archive_bytes,
            "parts": found.parts,
        }

    def lines() -> Iterator[str]:
        yield from plain.lines()
        if found.archive_bytes:
            parts = f", in {found.parts} parts" if found.parts > 1 else ""
            yield f"the archive: {format_size(found.archive_bytes)}{parts}"
        if found.blobs_left_out:
            yield _left_out(found.blobs_left_out, found.bytes_left_out)

    return Report(value, lines)


def _left_out(blobs: int, size: int) -> str:
    return f"left out {format_size(size)} in {format_count(blobs, 'blob')} that the other side has"


def copy(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Copy a version, also into an archive that leaves out blobs that the other side has."""
    split = None if args.split is None else parse_size(args.split)
    if args.destination.startswith(IMAGE_PREFIX):
        from packer.cli.exports import export  # rare

        return export(args, progress, split)
    if args.one_layer or (args.compression, args.platform) != (None, None):
        raise InvalidParameter(
            f"--compression, --one-layer and --platform are for {IMAGE_PREFIX} before DST"
        )
    if args.dry_run:
        check_dry_run(args)
        refuse_trust(args)
        from packer.api.estimates import estimate

        found = estimate(
            args.source,
            args.destination,
            have=args.have,
            split_bytes=split,
            referrers=not args.no_referrers,
            **options(args),
        )
        check_expected(found.digest, args.expect, args.source)
        return estimated_archive(args.destination, found)
    done = transfers.copy(
        args.source,
        args.destination,
        verify=args.verify,
        force=args.force,
        referrers=not args.no_referrers,
        expect=args.expect,
        have=args.have,
        split_bytes=split,
        trust=trust(args),
        allow_older=args.allow_older,
        jobs=args.jobs,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    plain = copied("destination", args.destination, done)
    assert plain.value is not None
    base = plain.value

    def value() -> dict[str, Any]:
        promised = {"left_out_blobs": done.blobs_left_out, "left_out_bytes": done.bytes_left_out}
        return {**base(), **promised, "verification": trusted_value(done.trusted)}

    def lines() -> Iterator[str]:
        yield from plain.lines()
        yield from trusted_lines(done.trusted)
        if done.blobs_left_out:
            yield _left_out(done.blobs_left_out, done.bytes_left_out)

    return Report(value, lines)


def inventory(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Print the inventory of a store."""
    found = readings.inventory(args.name, **options(args))

    def lines() -> Iterator[str]:
        # The same document with --json and without: it is for the other side, not for people.
        yield from json.dumps(found.to_json(), indent=2).splitlines()

    return Report(found.to_json, lines, is_summary=False)

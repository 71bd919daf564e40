"""The verbs that move versions: pack, push, pull, unpack; and versions, which lists them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from packer.api.locations import default_store_path
from packer.cli import outcome
from packer.cli.display import format_count, format_share, format_size
from packer.cli.outcome import Report, options
from packer.cli.output import Output, text_fields
from packer.progress import ProgressCallback


def pack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Pack a directory or file."""
    level = {} if args.level is None else {"level": args.level}
    from packer.api import packs

    packed = packs.pack(
        args.path,
        tag=args.tag,
        base=args.base,
        opening=args.opening,
        cache=not args.no_cache,
        progress=progress,
        cancel=args.cancel,
        **level,
        **options(args),
    )

    def value() -> dict[str, Any]:
        return {
            "digest": packed.digest,
            "tag": packed.tag,
            "files": packed.files,
            "bytes": packed.bytes,
            "new_bytes": packed.new_bytes,
            "new_layers": packed.new_layers,
            "layers": packed.layers,
            "unchanged": packed.unchanged,
            "parent": packed.parent or None,
            "index_bytes": packed.index_bytes,
            "parts": outcome.parts_value(packed.parts),
            "closed_bytes": packed.closed_bytes,
            "closed": outcome.closed_value(packed.closed),
        }

    def lines() -> Iterator[str]:
        yield f"{packed.tag}  {packed.digest}"
        tree = f"{format_count(packed.files, 'file')}, {format_size(packed.bytes)}"
        if packed.unchanged:
            yield f"{tree}; unchanged, nothing added"
            return
        where = (
            f"in {format_count(packed.new_layers, 'layer')}"
            if packed.new_layers
            else "of index and manifest"
        )
        share = format_share(packed.new_bytes, packed.bytes)
        yield (
            f"{tree}; added {format_size(packed.new_bytes)} {where}"
            f" ({share} of {format_size(packed.bytes)})"
        )
        if packed.closed:
            more = len(packed.closed) - 1
            rest = f" and {more} more, see --json" if more else ""
            yield (
                f"archives that stayed closed, {format_size(packed.closed_bytes)}:"
                f" {outcome.closed_text(packed.closed[0])}{rest}"
            )

    return Report(value, lines)


def push(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Push a version, or tell what a push would cost."""
    if args.dry_run:
        from packer.api.estimates import estimate

        outcome.check_dry_run(args)
        found = estimate(args.name, args.reference, **options(args))
        return outcome.estimated("reference", args.reference, found)
    from packer.api import transfers

    done = transfers.push(
        args.reference,
        args.name,
        jobs=args.jobs,
        verify=args.verify,
        force=args.force,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    return outcome.copied("reference", args.reference, done)


def pull(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Pull a version and write its tree, or tell what a pull would cost."""
    outcome.check_target(args)
    if args.dry_run:
        from packer.api.estimates import estimate
        from packer.stores.graph import check_expected

        found = estimate(args.reference, **options(args))
        check_expected(found.digest, args.expect, args.reference)
        return outcome.estimated("reference", args.reference, found)
    from packer.api import transfers

    pulled = transfers.pull(
        args.reference,
        args.directory,
        update=args.update,
        delete=args.delete,
        seed=args.seed,
        expect=args.expect,
        jobs=args.jobs,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    names = {
        **text_fields("reference", pulled.reference),
        "fetched_blobs": pulled.fetched_blobs,
        "fetched_bytes": pulled.fetched_bytes,
    }
    fetched = (
        f"fetched {format_size(pulled.fetched_bytes)} in"
        f" {format_count(pulled.fetched_blobs, 'blob')}"
    )
    title = pulled.reference
    return outcome.restored(names, title, args.directory, pulled.restored, fetched)


def unpack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Write a version's tree to a directory."""
    outcome.check_target(args)
    from packer.api import readings

    restored = readings.unpack(
        args.name,
        args.directory,
        update=args.update,
        delete=args.delete,
        seed=args.seed,
        expect=args.expect,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    return outcome.restored(text_fields("name", args.name), args.name, args.directory, restored)


def versions(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """List the tags of the local store."""
    from packer.api import readings

    found = readings.versions(store=args.store)

    def value() -> dict[str, Any]:
        return {
            **text_fields("store", args.store or default_store_path()),
            "versions": [{"tag": tag, "digest": digest} for tag, digest in found],
        }

    def lines() -> Iterator[str]:
        width = max((len(tag) for tag, _ in found), default=0)
        for tag, digest in found:
            yield f"{tag:<{width}}  {digest}"

    return Report(value, lines, is_summary=False)

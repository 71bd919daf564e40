"""The verbs that move versions: pack, push, pull, unpack."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from packer.cli import call_options, outcome, packed_report
from packer.cli.call_options import options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.text import format_count, format_size, text_fields

if TYPE_CHECKING:
    pass


def pack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Pack a directory or file."""
    from packer.api import packs

    packed = packs.pack(
        _standard_input() if args.path == "-" else args.path,
        tag=args.tag,
        base=args.base,
        level=args.level,
        opening=args.opening,
        cache=not args.no_cache,
        durable=not args.no_sync,
        exclude=args.exclude,
        exclude_from=args.exclude_from,
        ignore_files=not args.no_ignore_files,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )

    def lines() -> Iterator[str]:
        yield f"{packed.tag}  {packed.digest}"
        if packed.left_out:
            yield packed_report.left_out_text(packed.left_out)
        yield packed_report.tree_text(packed)
        if packed.unchanged:
            return
        if packed.closed:
            yield (
                f"archives that stayed closed, {format_size(packed.closed_bytes)}:"
                f" {packed_report.closed_texts(packed.closed)}"
            )
        yield from packed_report.base_lines(packed, args.base)

    return Report(lambda: packed_report.packed_value(packed), lines)


def _standard_input() -> BinaryIO:
    """Return standard input, which is to hold a tar archive."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InvalidParameter("standard input is a terminal: pipe a tar archive into it")
    return sys.stdin.buffer


def push(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Push a version, or tell what a push would cost."""
    if args.dry_run:
        from packer.api.estimates import estimate

        call_options.check_dry_run(args)
        found = estimate(
            args.name, args.reference, referrers=not args.no_referrers, **options(args)
        )
        return outcome.estimated("reference", args.reference, found)
    from packer.api import transfers

    done = transfers.push(
        args.reference,
        args.name,
        jobs=args.jobs,
        verify=args.verify,
        force=args.force,
        referrers=not args.no_referrers,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    plain = outcome.copied("reference", args.reference, done)
    packed = done.packed
    if packed is None:
        return plain
    assert plain.value is not None
    value = plain.value

    def lines() -> Iterator[str]:
        title, *sent = plain.lines()
        yield title
        yield packed_report.tree_text(packed)
        if packed.base is not None and not packed.unchanged:
            yield from packed_report.base_lines(packed, "auto")
        yield from sent

    return Report(lambda: {**value(), "packed": packed_report.packed_value(packed)}, lines)


def pull(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Pull a version and write its tree, or tell what a pull would cost."""
    call_options.check_target(args)
    keep = _pulls_kept(args)
    if args.dry_run:
        from packer.api.estimates import estimate
        from packer.stores.graph import check_expected

        if any(call_options.part(args).values()):
            raise InvalidParameter("--dry-run counts whole versions: leave out PATH and patterns")
        call_options.refuse_trust(args)
        found = estimate(args.reference, referrers=not args.no_referrers, **options(args))
        check_expected(found.digest, args.expect, args.reference)
        return outcome.estimated("reference", args.reference, found)
    from packer.api import pulls

    pulled = pulls.pull(
        args.reference,
        args.directory,
        update=args.update,
        delete=args.delete,
        seed=args.seed,
        **call_options.part(args),
        expect=args.expect,
        durable=not args.no_sync,
        referrers=not args.no_referrers,
        trust=call_options.trust(args),
        allow_older=args.allow_older,
        jobs=args.jobs,
        progress=progress,
        cancel=args.cancel,
        **keep,
        **options(args),
    )
    names = {
        **text_fields("reference", pulled.reference),
        "fetched_blobs": pulled.fetched_blobs,
        "fetched_bytes": pulled.fetched_bytes,
        "referrers": pulled.referrers,
        "forgotten": list(pulled.forgotten),
    }
    fetched = (
        f"fetched {format_size(pulled.fetched_bytes)} in"
        f" {format_count(pulled.fetched_blobs, 'blob')}"
    )
    if pulled.referrers:
        fetched += f", {format_count(pulled.referrers, 'referrer')} among them"
    if pulled.forgotten:
        fetched += f"; forgot {', '.join(pulled.forgotten)} (--keep)"
    title = pulled.reference
    return outcome.restored(names, title, args.directory, pulled.restored, fetched)


def _pulls_kept(args: argparse.Namespace) -> dict[str, Any]:
    """Return the argument of ``--keep``, none if it was not given."""
    if args.keep is None:
        return {}
    if args.seed or any(call_options.part(args).values()):
        why = "which --seed, PATH and patterns leave alone"
        raise InvalidParameter(f"--keep is about the local store, {why}")
    if args.keep == "all":
        return {"keep": None}
    if not (args.keep.isascii() and args.keep.isdigit() and 0 < len(args.keep) < 10):
        raise InvalidParameter(f"--keep {args.keep[:40]!r} is no number of versions, and not 'all'")
    return {"keep": int(args.keep)}


def unpack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Write a version's tree to a directory, or as a tar archive."""
    from packer.api import readings

    if args.output:
        if args.update or args.delete or args.seed or args.receipt:
            raise InvalidParameter(
                "--output writes no DIR: --update, --delete, --seed, --receipt are of no use"
            )
        # With no DIR, every word behind NAME is a PATH.
        args.paths = [args.directory, *args.paths] if args.directory is not None else []
        call_options.refuse_terminal(args, out)
        pieces = readings.unpack_tar(
            args.name,
            **call_options.part(args),
            expect=args.expect,
            trust=call_options.trust(args),
            **options(args),
        )
        return outcome.write_content(args, out, pieces, text_fields("name", args.name))
    if args.directory is None:
        raise InvalidParameter("say the DIR to write to, or -o - for standard output")
    call_options.check_target(args)
    restored = readings.unpack(
        args.name,
        args.directory,
        update=args.update,
        delete=args.delete,
        seed=args.seed,
        **call_options.part(args),
        expect=args.expect,
        durable=not args.no_sync,
        trust=call_options.trust(args),
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    return outcome.restored(text_fields("name", args.name), args.name, args.directory, restored)

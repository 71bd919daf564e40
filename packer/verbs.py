"""The verbs of the command line: each calls `packer.api` and words the result."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from packer import api, reports, verbs_migrate, verbs_registry, verbs_storage
from packer.copy import CopyResult
from packer.display import format_count, format_share, format_size
from packer.errors import InvalidParameter
from packer.locations import default_store_path
from packer.output import Output, text_fields
from packer.progress import ProgressCallback
from packer.report import Report, options


def run(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Carry out the verb that the arguments name.

    Args:
        args: as the command line's parser makes them.
        out: for verbs that write their output piece by piece.
        progress: called now and then.

    Raises:
        PackerError, OSError: as the calls of `packer.api`.
    """
    if args.verb in ("pull", "unpack") and args.delete and not args.update:
        raise InvalidParameter("--delete needs --update")
    return _VERBS[args.verb](args, out, progress)


def _pack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    level = {} if args.level is None else {"level": args.level}
    packed = api.pack(
        args.path,
        tag=args.tag,
        base=args.base,
        expand=not args.no_expand,
        progress=progress,
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
            "parts": reports.parts_value(packed.parts),
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

    return Report(value, lines)


def _push(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    done = api.push(args.reference, args.name, jobs=args.jobs, progress=progress, **options(args))
    return _copied("reference", args.reference, done)


def _copy(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    done = api.copy(
        args.source, args.destination, jobs=args.jobs, progress=progress, **options(args)
    )
    return _copied("destination", args.destination, done)


def _copied(key: str, name: str, done: CopyResult) -> Report:
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


def _pull(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    pulled = api.pull(
        args.reference,
        args.directory,
        update=args.update,
        delete=args.delete,
        jobs=args.jobs,
        progress=progress,
        **options(args),
    )

    def value() -> dict[str, Any]:
        return {
            **text_fields("reference", pulled.reference),
            "fetched_blobs": pulled.fetched_blobs,
            "fetched_bytes": pulled.fetched_bytes,
            **reports.restored_value(args.directory, pulled.restored),
        }

    def lines() -> Iterator[str]:
        yield f"{pulled.reference}  {pulled.digest}"
        yield (
            f"fetched {format_size(pulled.fetched_bytes)} in"
            f" {format_count(pulled.fetched_blobs, 'blob')}"
        )
        yield reports.restored_line(args.directory, pulled.restored)

    return Report(value, lines)


def _unpack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    restored = api.unpack(
        args.name,
        args.directory,
        update=args.update,
        delete=args.delete,
        progress=progress,
        **options(args),
    )

    def value() -> dict[str, Any]:
        return {
            **text_fields("name", args.name),
            **reports.restored_value(args.directory, restored),
        }

    def lines() -> Iterator[str]:
        yield f"{args.name}  {restored.digest}"
        yield reports.restored_line(args.directory, restored)

    return Report(value, lines)


def _versions(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    found = api.versions(store=args.store)

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


_Verb = Callable[[argparse.Namespace, Output, "ProgressCallback | None"], Report]

_VERBS: dict[str, _Verb] = {
    "pack": _pack,
    "push": _push,
    "pull": _pull,
    "unpack": _unpack,
    "ls": reports.ls,
    "cat": reports.cat,
    "diff": reports.diff,
    "inspect": reports.inspect,
    "verify": reports.verify,
    "copy": _copy,
    "versions": _versions,
    "storage": verbs_storage.run,
    "migrate": verbs_migrate.migrate,
    "registry": verbs_registry.registry,
}

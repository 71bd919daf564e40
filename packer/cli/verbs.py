"""The verbs of the command line: each calls `packer.api` and words the result."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from packer.api.locations import default_store_path
from packer.cli import outcome
from packer.cli.display import format_count, format_share, format_size
from packer.cli.outcome import Report, options
from packer.cli.output import Output, text_fields
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback


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
    carry_out = _VERBS.get(args.verb)
    if carry_out is None:
        module, function = _LATER[args.verb]
        carry_out = getattr(importlib.import_module(f"packer.cli.{module}"), function)
    done: Report = carry_out(args, out, progress)
    return done


def _pack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    level = {} if args.level is None else {"level": args.level}
    from packer.api.packs import pack

    packed = pack(
        args.path,
        tag=args.tag,
        base=args.base,
        expand=not args.no_expand,
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


def _pull(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
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

    def value() -> dict[str, Any]:
        return {
            **text_fields("reference", pulled.reference),
            "fetched_blobs": pulled.fetched_blobs,
            "fetched_bytes": pulled.fetched_bytes,
            **outcome.restored_value(args.directory, pulled.restored),
        }

    def lines() -> Iterator[str]:
        yield f"{pulled.reference}  {pulled.digest}"
        yield (
            f"fetched {format_size(pulled.fetched_bytes)} in"
            f" {format_count(pulled.fetched_blobs, 'blob')}"
        )
        yield outcome.restored_line(args.directory, pulled.restored)

    return Report(value, lines)


def _unpack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
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

    def value() -> dict[str, Any]:
        return {
            **text_fields("name", args.name),
            **outcome.restored_value(args.directory, restored),
        }

    def lines() -> Iterator[str]:
        yield f"{args.name}  {restored.digest}"
        yield outcome.restored_line(args.directory, restored)

    return Report(value, lines)


def _versions(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
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


_Verb = Callable[[argparse.Namespace, Output, "ProgressCallback | None"], Report]

_VERBS: dict[str, _Verb] = {
    "pack": _pack,
    "push": _push,
    "pull": _pull,
    "unpack": _unpack,
    "versions": _versions,
}

_LATER = {
    "ls": ("reading", "ls"),
    "cat": ("reading", "cat"),
    "diff": ("reading", "diff"),
    "inspect": ("reading", "inspect"),
    "verify": ("reading", "verify"),
    "storage": ("storage", "run"),
    "migrate": ("migration", "migrate"),
    "registry": ("builtin", "registry"),
    "copy": ("airgap", "copy"),
    "inventory": ("airgap", "inventory"),
    "login": ("registries", "login"),
    "logout": ("registries", "logout"),
    "doctor": ("registries", "doctor"),
}
"""Verbs in modules that are loaded when they are used: packing must not wait for them."""

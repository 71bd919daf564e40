"""The verbs below ``layer-packer storage``: each calls `packer.storage` and words the result."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

from packer.cli import reading
from packer.cli.display import format_count, format_size
from packer.cli.outcome import Report, registry_options, restored_line, restored_value
from packer.cli.output import Output, text_fields
from packer.engine import zstd
from packer.errors import InvalidParameter
from packer.oci import READ_BYTES
from packer.progress import ProgressCallback
from packer.storage.results import SavedVersion, SupportBundle
from packer.storage.storage import Storage, open_storage


def run(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Carry out the verb below ``storage`` that the arguments name.

    Args:
        args: as the command line's parser makes them.
        out: for verbs that write their output piece by piece.
        progress: called now and then.

    Raises:
        PackerError, OSError: as the calls of `packer.Storage`.
    """
    if args.storage_verb == "load" and args.delete and not args.update:
        raise InvalidParameter("--delete needs --update")
    storage = open_storage(args.storage_base_uri, cache=args.cache, registry=registry_options(args))
    with storage:
        return _VERBS[args.storage_verb](storage, args, out, progress)


def _save(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    saved = storage.save(
        args.app,
        args.path,
        sequence=args.sequence,
        labels=_labels(args),
        level=zstd.DEFAULT_LEVEL if args.level is None else args.level,
        expand=not args.no_expand,
        progress=progress,
        cancel=args.cancel,
    )

    def lines() -> Iterator[str]:
        yield f"{saved.app} {saved.sequence}  {saved.digest}"
        yield (
            f"{format_count(saved.files, 'file')}, {format_size(saved.bytes)};"
            f" added {format_size(saved.new_bytes)}"
        )

    return Report(lambda: _version_value(saved), lines)


def _load(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    restored = storage.load(
        args.app,
        args.sequence,
        args.directory,
        update=args.update,
        delete=args.delete,
        seed=args.seed,
        expect=args.expect,
        progress=progress,
        cancel=args.cancel,
    )

    def value() -> dict[str, Any]:
        names = {**text_fields("app", args.app), "sequence": args.sequence}
        return {**names, **restored_value(args.directory, restored)}

    def lines() -> Iterator[str]:
        yield f"{args.app} {args.sequence}  {restored.digest}"
        yield restored_line(args.directory, restored)

    return Report(value, lines)


def _apps(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    apps = storage.apps()
    return Report(lambda: {"apps": apps}, lambda: apps, is_summary=False)


def _history(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    history = storage.history(args.app)
    log = storage.deployments(args.app)
    current = log[-1].sequence if log else None

    def value() -> dict[str, Any]:
        return {
            **text_fields("app", args.app),
            "current": current,
            "versions": [_version_value(saved) for saved in history],
        }

    def lines() -> Iterator[str]:
        for saved in history:
            yield _version_line(saved, current)

    return Report(value, lines, is_summary=False)


def _version_line(saved: SavedVersion, current: int | None) -> str:
    mark = "*" if saved.sequence == current else " "
    labels = "".join(f"  {name}={text}" for name, text in saved.labels.items())
    return (
        f"{mark} {saved.sequence:>5}  {saved.created}  {saved.digest[:19]}"
        f"  {format_size(saved.bytes):>9}  +{format_size(saved.new_bytes)}{labels}"
    )


def _current(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    current = storage.current(args.app)

    def value() -> dict[str, Any]:
        version = None if current is None else _version_value(current)
        return {**text_fields("app", args.app), "current": version}

    def lines() -> Iterable[str]:
        return ["nothing is deployed" if current is None else _version_line(current, None).strip()]

    return Report(value, lines, is_summary=False)


def _deploy(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    if args.storage_verb == "deploy":
        done = storage.deploy(args.app, args.sequence)
    else:
        done = storage.rollback(args.app)
    value = {**text_fields("app", args.app), **asdict(done)}
    return Report(lambda: value, lambda: [f"{args.app} {done.sequence}  deployed {done.time}"])


def _diff(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    changes = storage.diff(args.app, args.old, args.new, inside=args.inside)
    return reading.diff_report(args, changes)


def _open(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    args.name = f"{args.app} {args.sequence}"
    with storage.open(args.app, args.sequence, args.path) as file:
        return reading.content_report(args, out, _parts(file))


def _delete(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    storage.delete(args.app, args.sequence)
    value = {**text_fields("app", args.app), "sequence": args.sequence}
    return Report(lambda: value, lambda: [f"{args.app} {args.sequence}  deleted"])


def _retain(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    done = storage.retain(args.app, keep=args.keep, protect=args.protect)

    def lines() -> Iterator[str]:
        yield (
            f"{args.app}: deleted {format_count(len(done.deleted), 'version')}, kept"
            f" {len(done.kept)}; {format_size(done.freed_bytes)} can be collected,"
            f" {format_size(done.kept_bytes)} stay"
        )

    return Report(lambda: {**text_fields("app", args.app), **asdict(done)}, lines)


def _save_bundle(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    saved = storage.save_support_bundle(
        args.id, args.path, labels=_labels(args), progress=progress, cancel=args.cancel
    )
    return Report(lambda: _bundle_value(saved), lambda: [_bundle_line(saved)])


def _bundles(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    found = storage.support_bundles()
    return Report(
        lambda: {"bundles": [_bundle_value(bundle) for bundle in found]},
        lambda: map(_bundle_line, found),
        is_summary=False,
    )


def _open_bundle(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    args.name = args.path = args.id
    with storage.open_support_bundle(args.id) as file:
        return reading.content_report(args, out, _parts(file))


def _load_bundle(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    restored = storage.bundles.load(args.id, args.directory, progress=progress, cancel=args.cancel)

    def value() -> dict[str, Any]:
        return {**text_fields("id", args.id), **restored_value(args.directory, restored)}

    def lines() -> Iterator[str]:
        yield f"{args.id}  {restored.digest}"
        yield restored_line(args.directory, restored)

    return Report(value, lines)


_NOT_OF_BUNDLES = ("files", "layers", "parent")
"""Fields of a bundle that are no use to people: a bundle is one archive."""


def _bundle_value(bundle: SupportBundle) -> dict[str, Any]:
    value = {key: value for key, value in asdict(bundle).items() if key not in _NOT_OF_BUNDLES}
    return {**value, **text_fields("id", bundle.id)}


def _bundle_line(bundle: SupportBundle) -> str:
    size = f"{format_size(bundle.bytes)}  +{format_size(bundle.new_bytes)}"
    return f"{bundle.id}  {bundle.created}  {bundle.digest[:19]}  {size}"


def _version_value(saved: SavedVersion) -> dict[str, Any]:
    return {**asdict(saved), "parent": saved.parent or None}


def _labels(args: argparse.Namespace) -> dict[str, str]:
    out: dict[str, str] = {}
    for text in args.label:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(f"--label {text[:80]!r} is not NAME=VALUE")
        out[name] = value
    return out


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(READ_BYTES):
        yield data


_Verb = Callable[[Storage, argparse.Namespace, Output, "ProgressCallback | None"], Report]

_VERBS: dict[str, _Verb] = {
    "save": _save,
    "load": _load,
    "apps": _apps,
    "history": _history,
    "current": _current,
    "deploy": _deploy,
    "rollback": _deploy,
    "diff": _diff,
    "open": _open,
    "delete": _delete,
    "retain": _retain,
    "save-bundle": _save_bundle,
    "bundles": _bundles,
    "open-bundle": _open_bundle,
    "load-bundle": _load_bundle,
}

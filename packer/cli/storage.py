"""The family of verbs below ``layer-packer storage``: their calls and reports."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO

from packer.cli import reading
from packer.cli.call_options import check_target, registry_options, trust
from packer.cli.display import did_you_mean
from packer.cli.outcome import Report, restored
from packer.cli.output import Output
from packer.cli.storage_arguments import LATEST, NUMBERS
from packer.cli.tables import Column, short_digest, short_time, table, terminal_width
from packer.errors import AuthError, InvalidParameter, NotFound, PackerError
from packer.oci import READ_BYTES
from packer.progress import ProgressCallback
from packer.storage.condition import Condition, Finding
from packer.storage.results import SavedVersion, SupportBundle
from packer.storage.storage import Storage, open_storage
from packer.text import format_count, format_size, text_fields

EXIT_DAMAGED = 4
"""Exit code of ``storage verify`` if a version is damaged or lost."""
EXIT_FAILING = 5
"""Exit code of ``storage verify`` if the registry fails for a version."""
LIST_JOBS = 8
"""Applications whose versions are looked for at once: each takes a few requests."""

_SAVED_COLUMNS = (
    Column("CREATED (UTC)"),
    Column("DIGEST"),
    Column("SIZE", right=True),
    Column("ADDS", right=True),
    Column("LABELS", cut=True, optional=True),
)
_HISTORY_COLUMNS = (Column(""), Column("SEQUENCE", right=True), *_SAVED_COLUMNS)
_BUNDLE_COLUMNS = (Column("ID", cut=True), *_SAVED_COLUMNS)


def storage(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Carry out the verb below ``storage`` that the arguments name.

    Args:
        args: as the command line's parser makes them.
        out: for verbs that write their output piece by piece.
        progress: called now and then.

    Returns:
        The report to show.

    Raises:
        PackerError, OSError: as the calls of `packer.Storage`.
    """
    if args.storage_verb == "load":
        check_target(args)
    opened = open_storage(args.storage_base_uri, cache=args.cache, registry=registry_options(args))
    with opened:
        _find_latest(opened, args)
        return _VERBS[args.storage_verb](opened, args, out, progress)


def _find_latest(storage: Storage, args: argparse.Namespace) -> None:
    """Replace ``latest`` by the number of the newest version.

    Raises:
        NotFound: there is no version.
    """
    asked = [name for name in NUMBERS if getattr(args, name, None) == LATEST]
    if not asked:
        return
    newest = storage.latest(args.app)
    if newest is None:
        _check_app(storage, args.app)
        raise NotFound("version", LATEST, f"of {args.app} in {storage.base_uri}")
    for name in asked:
        setattr(args, name, newest.sequence)


def _save(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    saved = storage.save(
        args.app,
        args.path,
        sequence=args.sequence,
        labels=_labels(args),
        level=args.level,
        opening=args.opening,
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
    done = storage.load(
        args.app,
        args.sequence,
        args.directory,
        update=args.update,
        delete=args.delete,
        seed=args.seed,
        expect=args.expect,
        trust=trust(args),
        progress=progress,
        cancel=args.cancel,
    )
    names = {**text_fields("app", args.app), "sequence": args.sequence}
    return restored(names, f"{args.app} {args.sequence}", args.directory, done)


def _apps(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    apps = storage.apps()
    with ThreadPoolExecutor(LIST_JOBS, "packer-list") as pool:
        found = dict(zip(apps, pool.map(partial(_has_versions, storage), apps), strict=True))
    empty = [app for app in apps if not found[app]]
    shown = [app if found[app] else f"{app}  (no version)" for app in apps]
    value = {"apps": apps, "without_versions": empty}
    return Report(lambda: value, lambda: shown, is_summary=False)


def _has_versions(storage: Storage, app: str) -> bool:
    """Return whether an application has a version that can be read, as far as we may look."""
    try:
        return bool(storage.history(app))
    except PackerError:
        return True


def _history(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    history = storage.history(args.app)
    if not history:
        _check_app(storage, args.app)
    log = storage.deployments(args.app)
    current = log[-1].sequence if log else None

    def value() -> dict[str, Any]:
        return {
            **text_fields("app", args.app),
            "current": current,
            "versions": [_version_value(saved) for saved in history],
        }

    def lines() -> Iterator[str]:
        if history:
            rows = (_version_row(saved, current) for saved in history)
            yield from table(_HISTORY_COLUMNS, rows, width=terminal_width())

    return Report(value, lines, is_summary=False)


def _check_app(storage: Storage, app: str) -> None:
    """Raise unless an application that has no versions had some.

    Raises:
        NotFound: there is no such application; names one that is spelled alike.
    """
    try:
        apps = storage.apps()
    except AuthError:
        return  # the list of applications is not for us
    if app not in apps:
        where = f"in {storage.base_uri}"
        raise NotFound("application", app, where + did_you_mean(app, apps))


def _version_row(saved: SavedVersion, current: int | None) -> tuple[str, ...]:
    mark = "*" if saved.sequence == current else ""
    return mark, str(saved.sequence), *_saved_row(saved)


def _saved_row(saved: SavedVersion | SupportBundle) -> tuple[str, ...]:
    """Return the texts of what was saved, by `_SAVED_COLUMNS`."""
    return (
        short_time(saved.created),
        short_digest(saved.digest),
        format_size(saved.bytes),
        format_size(saved.new_bytes),
        "  ".join(f"{name}={text}" for name, text in saved.labels.items()),
    )


def _current(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    current = storage.current(args.app)
    if current is None:
        _check_app(storage, args.app)

    def value() -> dict[str, Any]:
        version = None if current is None else _version_value(current)
        return {**text_fields("app", args.app), "current": version}

    def lines() -> Iterator[str]:
        if current is None:
            yield "nothing is deployed"
        else:
            row = _version_row(current, None)[1:]
            yield from table(_HISTORY_COLUMNS[1:], [row], width=terminal_width())

    return Report(value, lines, is_summary=False)


def _deploy(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    if args.storage_verb == "deploy":
        done = storage.deploy(args.app, args.sequence, trust=trust(args))
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
        return reading.content_report(args, out, _parts(file), file.cost)


def _delete(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    storage.delete(args.app, args.sequence)
    value = {**text_fields("app", args.app), "sequence": args.sequence}
    return Report(lambda: value, lambda: [f"{args.app} {args.sequence}  deleted"])


def _retain(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    done = storage.retain(
        args.app, keep=args.keep, protect=args.protect, dry_run=args.dry_run, cancel=args.cancel
    )
    if not (done.kept or done.deleted or done.skipped):
        _check_app(storage, args.app)

    def lines() -> Iterator[str]:
        deleted, kept, can = "deleted", "kept", "can"
        if args.dry_run:
            deleted, kept, can = "would delete", "keep", "could"
        yield (
            f"{args.app}: {deleted} {format_count(len(done.deleted), 'version')}, {kept}"
            f" {len(done.kept)}; {format_size(done.freed_bytes)} {can} be collected,"
            f" {format_size(done.kept_bytes)} stay"
        )
        if args.dry_run and done.deleted:
            yield f"to be deleted: {', '.join(map(str, done.deleted))}"
        if done.skipped:
            numbers = ", ".join(map(str, done.skipped))
            yield f"left alone, as they cannot be loaded: {numbers} (storage verify says why)"

    value = {**text_fields("app", args.app), **asdict(done), "dry_run": args.dry_run}
    return Report(lambda: value, lines)


def _verify(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    apps = storage.apps() if args.app is None else [args.app]
    found = {app: storage.verify(app, cancel=args.cancel) for app in apps}
    bundles = storage.bundles.verify(cancel=args.cancel) if args.app is None else {}
    everything = [*(one for findings in found.values() for one in findings), *bundles.values()]

    def value() -> dict[str, Any]:
        return {
            "applications": [
                {
                    **text_fields("app", app),
                    "versions": [
                        {"sequence": one.sequence, **_condition_value(one)} for one in findings
                    ],
                }
                for app, findings in found.items()
            ],
            "bundles": [
                {**text_fields("id", name), **_condition_value(one)}
                for name, one in bundles.items()
            ],
        }

    def lines() -> Iterator[str]:
        for app, findings in found.items():
            yield f"{app}: {_sound(findings, 'version')}"
            for one in findings:
                if one.condition is not Condition.SOUND:
                    yield f"{app} {one.sequence}  {one.condition.value}: {one.why}"
        if bundles:
            yield f"support bundles: {_sound(bundles.values(), 'bundle')}"
        for name, one in bundles.items():
            if one.condition is not Condition.SOUND:
                yield f"{name}  {one.condition.value}: {one.why}"

    return Report(value, lines, is_summary=False, exit_code=_verdict(everything))


def _sound(findings: Collection[Finding], noun: str) -> str:
    sound = sum(one.condition is Condition.SOUND for one in findings)
    return f"{sound} of {format_count(len(findings), noun)} sound"


def _condition_value(one: Finding) -> dict[str, Any]:
    return {"condition": one.condition.value, "why": one.why or None}


def _verdict(findings: Iterable[Finding]) -> int:
    """Return the exit code: 4 if a version is damaged or lost, 5 if one could not be read."""
    conditions = {one.condition for one in findings}
    if conditions & {Condition.DAMAGED, Condition.STALE}:
        return EXIT_DAMAGED
    return EXIT_FAILING if Condition.UNKNOWN in conditions else 0


def _save_bundle(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    saved = storage.save_support_bundle(
        args.id, args.path, labels=_labels(args), progress=progress, cancel=args.cancel
    )
    return Report(lambda: _bundle_value(saved), lambda: _bundle_lines(saved))


def _bundles(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    found = storage.support_bundles()

    def lines() -> Iterator[str]:
        if found:
            rows = ((bundle.id, *_saved_row(bundle)) for bundle in found)
            yield from table(_BUNDLE_COLUMNS, rows, width=terminal_width())

    return Report(
        lambda: {"bundles": [_bundle_value(bundle) for bundle in found]}, lines, is_summary=False
    )


def _open_bundle(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    args.name = args.path = args.id
    with storage.open_support_bundle(args.id) as file:
        return reading.content_report(args, out, _parts(file), file.cost)


def _load_bundle(
    storage: Storage, args: argparse.Namespace, out: Output, progress: ProgressCallback | None
) -> Report:
    done = storage.bundles.load(args.id, args.directory, progress=progress, cancel=args.cancel)
    return restored(text_fields("id", args.id), args.id, args.directory, done)


_NOT_OF_BUNDLES = ("files", "layers", "parent")
"""Fields of a bundle that are no use to people: a bundle is one archive."""


def _bundle_value(bundle: SupportBundle) -> dict[str, Any]:
    value = {key: value for key, value in asdict(bundle).items() if key not in _NOT_OF_BUNDLES}
    return {**value, **text_fields("id", bundle.id)}


def _bundle_lines(bundle: SupportBundle) -> Iterator[str]:
    yield f"{bundle.id}  {bundle.digest}"
    yield f"{format_size(bundle.bytes)}; added {format_size(bundle.new_bytes)}"


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
    "verify": _verify,
    "save-bundle": _save_bundle,
    "bundles": _bundles,
    "open-bundle": _open_bundle,
    "load-bundle": _load_bundle,
}

"""The verbs of the command line: each calls `packer.api` and words the result."""

from __future__ import annotations

import argparse
import base64
import json
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from packer import api, listing
from packer.copy import CopyResult
from packer.display import format_count, format_share, format_size
from packer.errors import InvalidParameter
from packer.listing import Change, Details, Entry
from packer.output import Output, text_fields
from packer.progress import ProgressCallback
from packer.restore import Restored

EXIT_DIFFERENT = 10

_BASE64_BYTES = 3 << 16
"""How much of a file is encoded at a time: a multiple of 3, so that the parts can be joined."""

_KIND_BITS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
_CHANGE_MARKS = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True, slots=True)
class Report:
    """What a verb found; only what is asked for is put into words or JSON.

    Args:
        value: makes the JSON object; None if the verb wrote its output itself.
        lines: makes the lines for people.
        is_summary: the lines tell what was done, and are left out with --quiet.
        exit_code: of the process.
    """

    value: Callable[[], dict[str, Any]] | None
    lines: Callable[[], Iterable[str]]
    is_summary: bool = True
    exit_code: int = 0


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


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of calls that may reach a registry."""
    return {"store": args.store, "registry": _registry(args)}


def _registry(args: argparse.Namespace) -> api.RegistryOptions:
    password = None
    if args.password_stdin != (args.username is not None):
        raise InvalidParameter("--username and --password-stdin go together")
    if args.password_stdin:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        password = line.removesuffix("\n").removesuffix("\r")
        if not password:
            raise InvalidParameter("--password-stdin: standard input holds no password")
    return api.RegistryOptions(
        plain_http=args.plain_http,
        username=args.username,
        password=password,
        ca_file=args.ca_file,
    )


def _pack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    level = {} if args.level is None else {"level": args.level}
    packed = api.pack(
        args.path,
        tag=args.tag,
        base=args.base,
        expand=not args.no_expand,
        progress=progress,
        **level,
        **_options(args),
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
    done = api.push(args.reference, args.name, jobs=args.jobs, progress=progress, **_options(args))
    return _copied("reference", args.reference, done)


def _copy(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    done = api.copy(
        args.source, args.destination, jobs=args.jobs, progress=progress, **_options(args)
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
        **_options(args),
    )

    def value() -> dict[str, Any]:
        return {
            **text_fields("reference", pulled.reference),
            "fetched_blobs": pulled.fetched_blobs,
            "fetched_bytes": pulled.fetched_bytes,
            **_restored_value(args.directory, pulled.restored),
        }

    def lines() -> Iterator[str]:
        yield f"{pulled.reference}  {pulled.digest}"
        yield (
            f"fetched {format_size(pulled.fetched_bytes)} in"
            f" {format_count(pulled.fetched_blobs, 'blob')}"
        )
        yield _restored_line(args.directory, pulled.restored)

    return Report(value, lines)


def _unpack(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    restored = api.unpack(
        args.name,
        args.directory,
        update=args.update,
        delete=args.delete,
        progress=progress,
        **_options(args),
    )

    def value() -> dict[str, Any]:
        return {**text_fields("name", args.name), **_restored_value(args.directory, restored)}

    def lines() -> Iterator[str]:
        yield f"{args.name}  {restored.digest}"
        yield _restored_line(args.directory, restored)

    return Report(value, lines)


def _restored_value(directory: str, restored: Restored) -> dict[str, Any]:
    return {
        "digest": restored.digest,
        **text_fields("directory", directory),
        "files": restored.files,
        "bytes": restored.bytes,
        "written_files": restored.written_files,
        "written_bytes": restored.written_bytes,
        "deleted": restored.deleted,
    }


def _restored_line(directory: str, restored: Restored) -> str:
    line = (
        f"wrote {format_count(restored.written_files, 'file')},"
        f" {format_size(restored.written_bytes)} to {directory}"
    )
    if kept := restored.files - restored.written_files:
        line += f"; {format_count(kept, 'file')} untouched"
    if restored.deleted:
        line += f"; {restored.deleted} deleted"
    return line


def _ls(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    version = api.open_version(args.name, **_options(args))
    entries = listing.entries(version)

    def value() -> dict[str, Any]:
        return {
            **text_fields("name", args.name),
            "digest": version.descriptor.digest,
            "entries": [_entry_value(entry) for entry in entries],
        }

    def lines() -> Iterator[str]:
        if args.long:
            listed = list(entries)
            width = max((len(str(entry.size)) for entry in listed), default=0)
            for entry in listed:
                mode = stat.filemode(_KIND_BITS[entry.kind] | entry.mode)
                arrow = f" -> {entry.target}" if entry.kind == "symlink" else ""
                yield f"{mode}  {entry.size:>{width}}  {entry.path}{arrow}"
        else:
            for entry in entries:
                yield entry.path + ("/" if entry.kind == "directory" else "")

    return Report(value, lines, is_summary=False)


def _entry_value(entry: Entry) -> dict[str, Any]:
    value = {
        **text_fields("path", entry.path),
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "size": entry.size,
    }
    if entry.kind == "symlink":
        value.update(text_fields("target", entry.target))
    return value


def _cat(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    parts = api.cat(args.name, args.path, **_options(args))
    if args.json:
        _write_base64(args, out, parts)
    else:
        for part in parts:
            out.write(part)
    return Report(None, tuple, is_summary=False)


def _write_base64(args: argparse.Namespace, out: Output, parts: Iterable[bytes]) -> None:
    """Write a file as a JSON document without holding it in memory."""
    size = 0
    held = bytearray()
    for part in parts:
        if not size:
            # Only now: a path that is not there is reported by a document of its own.
            out.write(b'{"content_base64": "')
        size += len(part)
        held += part
        count = len(held) // _BASE64_BYTES * _BASE64_BYTES
        out.write(base64.b64encode(held[:count]))
        del held[:count]
    if not size:
        out.write(b'{"content_base64": "')
    value = {**text_fields("name", args.name), **text_fields("path", args.path), "bytes": size}
    rest = json.dumps(value).removeprefix("{")
    out.write(base64.b64encode(held) + b'", ' + rest.encode("ascii") + b"\n")


def _diff(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    changes = api.diff(args.old, args.new, **_options(args))
    counts = {
        kind: sum(change.change == kind for change in changes)
        for kind in ("added", "removed", "changed")
    }
    fresh = sum(change.new_chunk_bytes for change in changes)

    def value() -> dict[str, Any]:
        return {
            **text_fields("old", args.old),
            **text_fields("new", args.new),
            **counts,
            "new_chunk_bytes": fresh,
            "changes": [
                {
                    **text_fields("path", change.path),
                    "change": change.change,
                    "old_size": change.old_size,
                    "new_size": change.new_size,
                    "new_chunk_bytes": change.new_chunk_bytes,
                }
                for change in changes
            ],
        }

    def lines() -> Iterator[str]:
        for change in changes:
            yield f"{_CHANGE_MARKS[change.change]} {change.path}  {_sizes(change)}"
        if not args.quiet:
            yield (
                f"{counts['added']} added, {counts['removed']} removed,"
                f" {counts['changed']} changed; {format_size(fresh)} in new chunks"
                if changes
                else "no differences"
            )

    code = EXIT_DIFFERENT if changes and args.exit_code else 0
    return Report(value, lines, is_summary=False, exit_code=code)


def _sizes(change: Change) -> str:
    if change.change == "added":
        return format_size(change.new_size)
    if change.change == "removed":
        return format_size(change.old_size)
    if change.old_size == change.new_size:
        sizes = format_size(change.new_size)
    else:
        sizes = f"{format_size(change.old_size)} -> {format_size(change.new_size)}"
    return f"{sizes}, {format_size(change.new_chunk_bytes)} in new chunks"


def _inspect(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    details = api.inspect(args.name, **_options(args))
    return Report(
        lambda: _details_value(args.name, details),
        lambda: _details_lines(details),
        is_summary=False,
    )


def _details_value(name: str, details: Details) -> dict[str, Any]:
    return {
        **text_fields("name", name),
        "digest": details.digest,
        "created": details.created or None,
        "parent": details.parent or None,
        "tool": details.tool,
        "zstd": details.zstd,
        "level": details.level,
        "average_chunk_bytes": details.average_chunk_bytes,
        "files": details.files,
        "directories": details.directories,
        "symlinks": details.symlinks,
        "bytes": details.bytes,
        "chunks": details.chunks,
        "stored_bytes": details.stored_bytes,
        "index_bytes": details.index_bytes,
        "index_layers": details.index_layers,
        "index_stored_bytes": details.index_stored_bytes,
        "layers": [
            {
                "digest": layer.digest,
                "size": layer.size,
                "frames": layer.frames,
                "chunks": layer.chunks,
                "live_chunks": layer.live_chunks,
                "plain_bytes": layer.plain_bytes,
                "live_bytes": layer.live_bytes,
            }
            for layer in details.layers
        ],
    }


def _details_lines(details: Details) -> Iterator[str]:
    yield f"digest   {details.digest}"
    yield f"created  {details.created or 'not said'}"
    yield f"parent   {details.parent or 'none'}"
    yield (
        f"packed   by {details.tool}, zstd {details.zstd} level {details.level},"
        f" chunks of {details.average_chunk_bytes / 1024:g} KiB on average"
    )
    yield (
        f"tree     {format_count(details.files, 'file')},"
        f" {format_count(details.directories, 'directory')},"
        f" {format_count(details.symlinks, 'symlink')},"
        f" {format_size(details.bytes)} in {format_count(details.chunks, 'chunk')}"
    )
    yield (
        f"stored   {format_size(details.stored_bytes)}: "
        f"{format_count(len(details.layers), 'data layer')},"
        f" {format_count(details.index_layers, 'index layer')}"
        f" ({format_size(details.index_stored_bytes)})"
    )
    for layer in details.layers:
        yield (
            f"layer    {layer.digest}  {format_size(layer.size)},"
            f" {format_count(layer.frames, 'frame')},"
            f" {layer.live_chunks} of {format_count(layer.chunks, 'chunk')} in use,"
            f" {format_size(layer.live_bytes)} of {format_size(layer.plain_bytes)}"
        )


def _verify(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    verified = api.verify(args.name, progress=progress, **_options(args))

    def value() -> dict[str, Any]:
        return {
            **text_fields("name", args.name),
            "digest": verified.digest,
            "blobs": verified.blobs,
            "bytes": verified.bytes,
            "chunks": verified.chunks,
        }

    def lines() -> Iterator[str]:
        yield f"{args.name}  {verified.digest}"
        yield (
            f"sound: {format_count(verified.blobs, 'blob')}, {format_size(verified.bytes)},"
            f" {format_count(verified.chunks, 'chunk')}"
        )

    return Report(value, lines)


def _versions(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    found = api.versions(store=args.store)

    def value() -> dict[str, Any]:
        return {
            **text_fields("store", args.store or api.default_store_path()),
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
    "ls": _ls,
    "cat": _cat,
    "diff": _diff,
    "inspect": _inspect,
    "verify": _verify,
    "copy": _copy,
    "versions": _versions,
}

"""The pages as data: each function returns the object that JSON shows and templates draw."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packer.errors import IntegrityError, InvalidParameter, NotFound, StoreError
from packer.files.tree import DIRECTORY, FILE, KIND_NAMES, show
from packer.oci import Manifest
from packer.opening.members.archive import SEPARATOR
from packer.serve import parameters as query
from packer.serve import texts, trees
from packer.serve.limits import Stop
from packer.serve.opened import Opened, Versions
from packer.serve.parameters import Parameter
from packer.serve.places import Place, Row

MAX_MATRIX = 24
"""Versions of a matrix of layers."""
MAX_LAYERS = 512
"""Layers of a matrix; versions written here have below 128 each."""
_SIGNATURES = 100

Values = Mapping[str, Any]


class Views:
    """The pages of a place; threads may share it.

    Args:
        place: what is served.
        on_open: called when a version is opened that was not kept.
    """

    def __init__(self, place: Place, on_open: Callable[[], None] = lambda: None) -> None:
        self.place = place
        self.versions = Versions(place, on_open)
        self.archives = trees.Archives()
        self.comparisons = texts.Comparisons()

    def apps(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return the applications, each with its newest version."""
        place = self.place
        names = place.apps()
        rows = []
        for app in names[given["offset"] :][: given["limit"]]:
            stop.check()
            found = place.names(app)
            newest = place.rows(app, found[-1:])
            rows.append(
                {
                    "app": app,
                    "versions": len(found),
                    "newest": _row_value(newest[0]) if newest else None,
                }
            )
        return {"place": place.title, "kind": place.kind, "total": len(names), "apps": rows}

    def history(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return a page of an application's versions, the newest first."""
        app = given["app"]
        names = self.place.names(app)
        first, last = _window(names, given)
        # One more than is shown: what a version added shows beside the one before it.
        rows = self.place.rows(app, names[max(first - 1, 0) : last])
        stop.check()
        values = _with_added(rows)[-(last - first) :] if last > first else []
        log = self.place.deployments(app)
        return {
            "app": app,
            "total": len(names),
            "offset": given["offset"],
            "current": log[-1].name if log else None,
            "versions": values[::-1],
        }

    def version(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return what a version says of itself."""
        app, name = given["app"], given["version"]
        opened = self.versions.open(app, name)
        stop.check()
        facts = opened.details
        names = self.place.names(app)
        before = names[names.index(name) - 1] if name in names and names.index(name) else None
        return {
            "app": app,
            "version": name,
            "digest": facts.digest,
            "created": facts.created,
            "parent": facts.parent,
            "before": before,
            "tool": facts.tool,
            "zstd": facts.zstd,
            "level": facts.level,
            "average_chunk_bytes": facts.average_chunk_bytes,
            "files": facts.files,
            "directories": facts.directories,
            "symlinks": facts.symlinks,
            "bytes": facts.bytes,
            "chunks": facts.chunks,
            "stored_bytes": facts.stored_bytes,
            "layers": len(facts.layers),
            "index_layers": facts.index_layers,
            "index_stored_bytes": facts.index_stored_bytes,
            "opened_files": len(facts.opened),
            "closed_files": len(facts.closed),
            **self._signatures(app, name),
        }

    def tree(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return a page of what lies in a directory, or in an archive."""
        app, name, path = given["app"], given["version"], given["path"]
        opened = self.versions.open(app, name)
        place = trees.find(opened, path)
        kind = "directory" if place.entry < 0 else KIND_NAMES[opened.index.kinds[place.entry]]
        if place.within is not None or kind == "file":
            archive = show(opened.index.paths[place.entry])
            within = place.within or ""
            listing = self.archives.listing(opened, place.entry, stop)
            found = trees.members(listing, archive, within)
            total = len(found)
            rows = found[given["offset"] :][: given["limit"]]
            problems = [f"{at}: {why}" for at, why in listing.all_problems(archive)]
            path = archive + SEPARATOR + within
        elif kind == "directory":
            inner = trees.raw(path)
            total, rows = trees.directory(opened, inner, given["offset"], given["limit"])
            problems = []
            path = os.fsdecode(trees.raw(path))
        else:
            raise InvalidParameter(f"{path} is a {kind}")
        return {
            "app": app,
            "version": name,
            "path": path,
            "total": total,
            "offset": given["offset"],
            "entries": rows,
            "problems": problems[:20],
        }

    def text(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return the beginning of a file as text."""
        app, name, path = given["app"], given["version"], given["path"]
        opened = self.versions.open(app, name)
        found = texts.text_of(opened, path, stop)
        place = trees.find(opened, path)
        size = opened.sizes[place.entry] if place.within is None else None
        return {
            "app": app,
            "version": name,
            "path": path,
            "size": size,
            "type": trees.content_type(path),
            **found,
        }

    def space(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return what the parts of a directory of a version take, or its layers."""
        opened = self.versions.open(given["app"], given["version"])
        path = trees.raw(given["path"])
        if given["by"] == "layer":
            cells = trees.space_by_layer(opened)
        else:
            entry = opened.index.find(path) if path else -1
            if path and (entry < 0 or opened.index.kinds[entry] != DIRECTORY):
                raise NotFound("directory", given["path"], f"in {opened.version.name}")
            cells = trees.space_by_path(opened, path)
        stop.check()
        return {
            "app": given["app"],
            "version": given["version"],
            "path": show(path),
            "by": given["by"],
            "stored_bytes": sum(cell["stored_bytes"] for cell in cells),
            "cells": [
                {key: cell[key] for key in ("name", "path", "kind", "size", "stored_bytes")}
                for cell in cells
            ],
        }

    def changes(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return a page of the paths that differ between two versions."""
        old, new = self._sides(given)
        found = self.comparisons.changes(old, new, stop)
        if path := given["path"]:
            found = [it for it in found if it.path == path or it.path.startswith(path + "/")]
        page = found[given["offset"] :][: given["limit"]]
        return {
            **_pair(given),
            "total": len(found),
            "offset": given["offset"],
            "totals": texts.totals(found),
            "changes": [texts.change_value(change) for change in page],
        }

    def patches(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return which lines changed in a page of files, also inside archives."""
        old, new = self._sides(given)
        path = given["path"]
        if SEPARATOR in path or self._is_file(path, old, new):
            paths, total = [path], 1
        else:
            page = self.changes(given, stop)
            paths, total = [change["path"] for change in page["changes"]], page["total"]
        found, cut = texts.patches_of(old, new, paths, stop, alone=bool(path) and total == 1)
        return {
            **_pair(given),
            "total": total,
            "offset": given["offset"],
            "cut": cut,
            "patches": found,
        }

    def layers(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return which data layers some versions share."""
        app = given["app"]
        names = self.place.names(app)
        first, last = _window(names, given)
        rows = self.place.rows(app, names[first:last])
        layers: dict[str, dict[str, Any]] = {}
        for at, row in enumerate(rows):
            stop.check()
            for digest, size in _data_layers(self.place, app, row):
                layer = layers.setdefault(digest, {"digest": digest, "size": size, "versions": []})
                layer["versions"].append(at)
        return {
            "app": app,
            "total": len(names),
            "offset": given["offset"],
            "versions": [row.name for row in rows],
            "layers": list(layers.values())[:MAX_LAYERS],
            "cut": len(layers) > MAX_LAYERS,
        }

    def deployments(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return the deployments of an application, the newest first."""
        log = self.place.deployments(given["app"])
        rows = [{"version": it.name, "time": it.time} for it in reversed(log)]
        return {"app": given["app"], "deployments": rows}

    def bundles(self, given: Values, stop: Stop) -> dict[str, Any]:
        """Return a page of the support bundles, the newest first."""
        found = self.place.bundles()[::-1]
        page = found[given["offset"] :][: given["limit"]]
        return {
            "total": len(found),
            "offset": given["offset"],
            "bundles": [
                {
                    "id": it.id,
                    "digest": it.digest,
                    "created": it.created,
                    "labels": dict(it.labels),
                    "files": it.files,
                    "bytes": it.bytes,
                    "stored_bytes": it.stored_bytes,
                    "added_bytes": it.new_bytes,
                }
                for it in page
            ],
        }

    def _signatures(self, app: str, name: str) -> dict[str, Any]:
        """Return what refers to a version; a list that is damaged does not hide the version."""
        try:
            found, problem = self.place.referrers(app, name)[:_SIGNATURES], ""
        except (IntegrityError, StoreError) as error:
            found, problem = (), str(error)
        rows = [
            {
                "kind": one.kind,
                "type": one.type,
                "digest": one.digest,
                "size": one.size,
                "subject": one.subject,
                "tag": one.tag,
                "signer": one.signer,
            }
            for one in found
        ]
        return {"signatures": rows, "signatures_problem": problem}

    def _sides(self, given: Values) -> tuple[Opened, Opened]:
        app = given["app"]
        return self.versions.open(app, given["old"]), self.versions.open(app, given["new"])

    def _is_file(self, path: str, *sides: Opened) -> bool:
        """Return whether a path names a file of either version."""
        name = trees.raw(path)
        entries = ((side.index, side.index.find(name)) for side in sides if name)
        return any(entry >= 0 and index.kinds[entry] == FILE for index, entry in entries)


def _window(names: Sequence[str], given: Values) -> tuple[int, int]:
    """Return the range of names, oldest first, that a page of the newest first shows."""
    last = max(len(names) - given["offset"], 0)
    return max(last - given["limit"], 0), last


def _with_added(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as objects; where it is not recorded, what each added to the one before."""
    out = []
    before: Mapping[str, int] = {}
    for row in rows:
        value = _row_value(row)
        if value["added_bytes"] is None and row.stored_bytes is not None:
            value["added_bytes"] = sum(
                size for digest, size in row.blobs.items() if digest not in before
            )
        before = row.blobs
        out.append(value)
    return out


def _row_value(row: Row) -> dict[str, Any]:
    return {
        "version": row.name,
        "digest": row.digest,
        "created": row.created,
        "files": row.files,
        "bytes": row.bytes,
        "stored_bytes": row.stored_bytes,
        "added_bytes": row.added_bytes,
        "labels": dict(row.labels),
        "origin": row.origin,
        "problem": row.problem,
    }


def _pair(given: Values) -> dict[str, Any]:
    return {key: given[key] for key in ("app", "old", "new", "path")}


def _data_layers(place: Place, app: str, row: Row) -> list[tuple[str, int]]:
    """Return digest and size of the data layers of a version; none if it cannot be read."""
    if row.problem or row.files is None:
        return []
    version = place.version(app, row.name)
    manifest: Manifest = version.manifest
    return [(layer.digest, layer.size) for layer in manifest.data_layers]


@dataclass(frozen=True, slots=True)
class View:
    """A page.

    Args:
        name: of the function of `Views`, and of the path below ``/api``.
        text: what it shows, for the OpenAPI document.
        takes: its parameters.
    """

    name: str
    text: str
    takes: tuple[Parameter, ...]


_PAIR = (query.APP, query.OLD, query.NEW, query.PATH, query.OFFSET)

VIEWS = {
    view.name: view
    for view in (
        View("apps", "The applications.", (query.OFFSET, query.limit(100, 200))),
        View(
            "history",
            "The versions of an application, the newest first.",
            (query.APP, query.OFFSET, query.limit(50, 200)),
        ),
        View("version", "What a version says of itself.", (query.APP, query.VERSION)),
        View(
            "tree",
            "What lies in a directory of a version, or in an archive.",
            (query.APP, query.VERSION, query.PATH, query.OFFSET, query.limit(200, 1000)),
        ),
        View(
            "text",
            "The beginning of a file as text.",
            (query.APP, query.VERSION, query.FILE),
        ),
        View(
            "space",
            "What the parts of a version take.",
            (query.APP, query.VERSION, query.PATH, query.BY),
        ),
        View(
            "changes",
            "The paths that differ between two versions.",
            (*_PAIR, query.limit(100, 1000)),
        ),
        View(
            "patches",
            "Which lines differ between two versions, also inside archives.",
            (*_PAIR, query.limit(20, 50)),
        ),
        View(
            "layers",
            "Which data layers the versions of an application share.",
            (query.APP, query.OFFSET, query.limit(12, MAX_MATRIX)),
        ),
        View("deployments", "What was deployed, the newest first.", (query.APP,)),
        View("bundles", "The support bundles.", (query.OFFSET, query.limit(100, 500))),
    )
}
"""The pages by their names."""

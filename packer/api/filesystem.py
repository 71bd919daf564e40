"""Versions as a read-only file system for fsspec: ``fsspec.open("layerpacker://...")``.

    layerpacker://registry.example/org/base/app:7/manifests/app.yaml
    layerpacker://oci:/var/lib/base/app:7/manifests/app.yaml

A path is the reference of a version, then the path within the version. Listing reads the index
alone; reading a file reads only the frames that hold the bytes asked for. This module needs the
extra ``layer-packer[fsspec]``, and no other module imports fsspec.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from fsspec.spec import AbstractFileSystem

from packer.api.locations import name_at, open_location
from packer.errors import InvalidReference, NotFound
from packer.forks import Lock
from packer.format.version import Version, load_version
from packer.reading.contents import entries
from packer.reading.version_file import EntryFile, open_entry
from packer.reference import is_registry_url, parse_location
from packer.stores.caching import CachedStore, SmallBlobs
from packer.stores.protocols import LocalBlobs
from packer.stores.registry.access import Access, RegistryOptions

PROTOCOL = "layerpacker"
_KINDS = {"file": "file", "directory": "directory", "symlink": "link"}


def split_path(path: str) -> tuple[str, str]:
    """Split a path into the reference of a version, and the path within it.

    The reference ends with the first component that holds a tag or digest. The very first component
    is a host, which may have a port, or the beginning of a directory.

    Args:
        path: a path without the protocol.

    Returns:
        The reference, and the path within the version; "" for the version itself.

    Raises:
        InvalidReference: no component has a tag or digest.
    """
    if is_registry_url(path):
        path = path.partition("://")[2]
    first, *rest = path.strip("/").split("/")
    if first.startswith("oci:") and ":" in first.removeprefix("oci:"):
        return first, "/".join(rest)
    for at, part in enumerate(rest):
        if ":" in part or "@" in part:
            return "/".join((first, *rest[: at + 1])), "/".join(rest[at + 1 :])
    raise InvalidReference(path, "say which version: host/repository:tag/path")


class LayerPackerFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The versions that can be reached with one set of options, as a read-only file system.

    A tag is looked up once; `invalidate_cache` makes the next call look it up again.

    Args:
        plain_http: as in `packer.RegistryOptions`.
        username: name to log in with; without it the docker configuration is used.
        password: password of `username`.
        ca_file: file of certificate authorities, in PEM.
        kwargs: arguments of fsspec.

    Thread safety: threads may share a file system, but not the files that it opens.
    """

    protocol = PROTOCOL
    root_marker = ""

    def __init__(
        self,
        plain_http: bool | None = None,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._options = Access(
            RegistryOptions(
                plain_http=plain_http, username=username, password=password, ca_file=ca_file
            )
        )
        self._small = SmallBlobs()
        self._trees: dict[str, _Tree] = {}
        self._guard = Lock()

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the entries of a directory, or the one of a file, as fsspec does."""
        reference, tree, inner = self._find(path)
        if inner in tree.children:
            names = tree.children[inner]
        elif inner in tree.infos:
            names = [inner]
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        found = [{**tree.infos[name], "name": f"{reference}/{name}"} for name in names]
        return found if detail else [info["name"] for info in found]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return size, type and mode of one file or directory, as fsspec does."""
        reference, tree, inner = self._find(path)
        if not inner:
            return {"name": reference, "size": 0, "type": "directory"}
        if inner not in tree.infos:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return {**tree.infos[inner], "name": f"{reference}/{inner}"}

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget which versions the tags name."""
        with self._guard:
            self._trees.clear()
        super().invalidate_cache(path)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> EntryFile:
        """Open a file for reading."""
        if mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        kind = self.info(path)["type"]
        if kind == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if kind == "link":
            raise OSError(errno.ELOOP, "symbolic links are not followed", path)
        _, tree, inner = self._find(path)
        return open_entry(tree.version, inner)

    def _find(self, path: str) -> tuple[str, _Tree, str]:
        reference, inner = split_path(self._strip_protocol(path))
        with self._guard:
            tree = self._trees.get(reference)
        if tree is None:
            try:
                tree = _Tree(self._load(reference))
            except NotFound as error:
                raise FileNotFoundError(errno.ENOENT, str(error), path) from error
            with self._guard:
                self._trees[reference] = tree
        return reference, tree, inner

    def _load(self, reference: str) -> Version:
        location = parse_location(reference)
        store, tag = open_location(location, self._options, create=False)
        if not isinstance(store, LocalBlobs):
            return load_version(
                CachedStore(store, self._small, None), name_at(location, store, tag)
            )
        return load_version(store, location.digest or name_at(location, store, tag))


class _Tree:
    """A version's entries by path, and the paths in each directory."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.infos: dict[str, dict[str, Any]] = {}
        self.children: dict[str, list[str]] = {"": []}
        for entry in entries(version):
            info = {"size": entry.size, "type": _KINDS[entry.kind], "mode": entry.mode}
            if entry.kind == "symlink":
                info.update(islink=True, destination=entry.target)
            if entry.kind == "directory":
                self.children[entry.path] = []
            self.infos[entry.path] = info
            self.children[entry.path.rpartition("/")[0]].append(entry.path)

"""Opens the repositories of a storage: one for each application, below a base.

``docker://host/org/app-base`` holds the application ``a`` in ``host/org/app-base/a``; on Docker
Hub, whose repositories have exactly two components, in ``docker.io/org/app-base-a``. ``oci:DIR``
holds it in the image layout ``DIR/a``. The list of applications and the support bundles are in the
base itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from packer.api.locations import names_registry, open_location
from packer.errors import IntegrityError, InvalidParameter, InvalidReference, NotFound
from packer.forks import Lock
from packer.reference import DOCKER_HUB, LayoutLocation, Reference, parse_location
from packer.storage.state.encoded_names import decode_app, encode_app
from packer.storage.state.repository import Repository
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import Store
from packer.stores.registry.access import Access, RegistryLike

SHARED_FOLDER = "_shared"
"""Layout of the base itself; no application's name begins so."""
MEMORY = "memory:"
"""URI of a storage in memory, new each time."""


class Repositories:
    """Opens the repositories of one base, each once.

    Args:
        base_uri: ``docker://host/repository``, ``oci:DIR``, or ``memory:``.
        options: how to reach the registry.

    Raises:
        InvalidReference: `base_uri` is none of these, has a tag or digest, or begins with neither
            a transport nor a host: Docker Hub would be asked for what was mistyped.
        InvalidParameter: `options` are given for a storage in memory.

    Thread safety: threads may share it.
    """

    def __init__(self, base_uri: str, options: RegistryLike) -> None:
        self.uri = base_uri
        self._options = Access(options)
        self._lock = Lock()
        self._open: dict[str, Repository] = {}
        self._location: Reference | LayoutLocation | None = None
        if base_uri != MEMORY:
            location = parse_location(base_uri)
            if location.tag is not None or location.digest is not None:
                raise InvalidReference(base_uri, "a storage's base has no tag or digest")
            if not names_registry(base_uri):
                why = f"no host; write docker://{base_uri} for Docker Hub, or oci:{base_uri}"
                raise InvalidReference(base_uri, why)
            self._location = location
        elif options is not None:
            raise InvalidParameter("memory: has no registry to reach")

    @property
    def is_layout(self) -> bool:
        """Whether it is a directory of image layouts."""
        return isinstance(self._location, LayoutLocation)

    @property
    def is_remote(self) -> bool:
        """Whether the base is in a registry."""
        return isinstance(self._location, Reference)

    def repository(self, app: str | None, *, create: bool = False) -> Repository:
        """Return the repository of an application, or the base itself.

        Args:
            app: the application's ID; None for the base.
            create: make a layout that does not exist; registries make repositories by themselves.

        Returns:
            The repository; the same object each time.

        Raises:
            InvalidParameter: the ID cannot be a name.
            NotFound: the layout does not exist, and `create` is false.
        """
        name = "" if app is None else encode_app(app)
        with self._lock:
            if (found := self._open.get(name)) is None:
                found = self._open[name] = Repository(self._store(name, create))
            return found

    def reference(self, app: str, tag: str) -> str:
        """Return the reference of an application's tag for other tools."""
        location = self._at(encode_app(app))
        return f"{location}:{tag}" if location is not None else f"{MEMORY}{app}:{tag}"

    def local_names(self) -> list[str]:
        """Return the encoded names of the applications that have a layout."""
        if not isinstance(self._location, LayoutLocation):
            return []
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                entry.name
                for entry in os.scandir(self._location.path)
                if decode_app(entry.name) is not None and _has_manifests(entry.path)
            )
        return []

    def close(self) -> None:
        """Close connections."""
        with self._lock:
            for repository in self._open.values():
                close: Callable[[], None] | None = getattr(repository.store, "close", None)
                if close is not None:
                    close()
            if self._location is not None:
                self._open.clear()

    def _at(self, name: str) -> Reference | LayoutLocation | None:
        base = self._location
        if isinstance(base, LayoutLocation):
            return LayoutLocation(os.path.join(base.path, name or SHARED_FOLDER))
        if isinstance(base, Reference) and name:
            joint = "-" if base.registry == DOCKER_HUB else "/"
            return Reference(base.registry, base.repository + joint + name)
        return base

    def _store(self, name: str, create: bool) -> Store:
        location = self._at(name)
        if location is None:
            return MemoryStore()
        if isinstance(location, LayoutLocation):
            try:
                return open_location(location, self._options, create=create)[0]
            except NotFound:
                raise NotFound("application", name or SHARED_FOLDER, f"in {self.uri}") from None
        return open_location(location, self._options, create=create)[0]


def _has_manifests(path: str) -> bool:
    """Return whether a directory is a layout that anything was saved in, or that is damaged."""
    try:
        return any(True for _ in LayoutStore(path, create=False).tags())
    except (NotFound, InvalidParameter):
        return False
    except IntegrityError:
        return True

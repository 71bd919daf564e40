"""Parses references: a repository, layout directory or archive, and a tag or digest in it.

Sources: containers-transports(5) for transports and the rules of docker.io; distribution-spec 1.1,
"Pulling manifests", for the grammar of names and tags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from packer.errors import InvalidReference
from packer.oci import is_digest

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME_CHARS = 255

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*\Z"
)
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@+/-]{0,254}\Z")
"""A tag in an archive; other tools write names with colons and slashes there."""

IMAGE_PREFIX = "oci-image:"
"""Before a reference that a version is written to as a plain image; no transport."""

_UNSUPPORTED = frozenset(
    {
        "atomic",
        "containers-storage",
        "dir",
        "docker-archive",
        "docker-daemon",
        "oci-sif",
        "ostree",
        "sif",
        "tarball",
    }
)


def is_registry_url(text: str) -> bool:
    """Return whether `text` names a registry by ``docker://`` or ``oci://``.

    Helm, Flux and Argo CD write ``oci://host/repository``. ``oci:///path`` is a directory, as
    ``oci:/path`` is.

    Args:
        text: a reference.

    Returns:
        Whether the text begins as such a URL.
    """
    return text.startswith("docker://") or (
        text.startswith("oci://") and not text.startswith("oci:///")
    )


def is_tag(text: str) -> bool:
    """Return whether `text` follows the grammar of tags."""
    return _TAG.match(text) is not None


def is_repository(text: str) -> bool:
    """Return whether `text` follows the grammar of repository names."""
    # The bound comes first, so the pattern cannot backtrack over a megabyte.
    return len(text) <= MAX_NAME_CHARS and _REPOSITORY.match(text) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository in a registry, and possibly a tag or digest in it.

    Args:
        registry: ``host`` or ``host:port``; ``docker.io`` for Docker Hub.
        repository: the repository's name within the registry.
        tag: a tag; None for none.
        digest: ``sha256:<hex>``; None for none. When reading, the digest wins over the tag.

    Raises:
        InvalidReference: a part does not follow its grammar. So a reference is always safe to use
            as part of a URL.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        """Check the grammar of each part."""
        shown = str(self)
        check_registry(self.registry, shown)
        if not is_repository(self.repository):
            why = f"{self.repository!r} is not a repository name"
            if is_repository(self.repository.lower()):
                why += ": registries take lower-case letters only"
            raise InvalidReference(shown, why)
        if len(self.registry) + 1 + len(self.repository) > MAX_NAME_CHARS:
            raise InvalidReference(shown, f"longer than {MAX_NAME_CHARS} characters")
        if self.tag is not None and not is_tag(self.tag):
            why = f"{self.tag!r} is not a tag: 1 to 128 letters, digits and ._-"
            raise InvalidReference(shown, why)
        if self.digest is not None and not is_digest(self.digest):
            raise InvalidReference(shown, f"{self.digest!r} is not sha256:<64 hex digits>")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def selector(self) -> str:
        """What to ask the repository for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or DEFAULT_TAG

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse ``[docker://][host[:port]/]repository[:tag][@digest]``, or ``oci://host/...``.

        The first component is a host if it holds ``.`` or ``:`` or is ``localhost``; otherwise the
        registry is docker.io, where a name of one component is below ``library/``. After ``oci://``
        it must be a host.

        Args:
            text: the reference.

        Returns:
            The parsed reference.

        Raises:
            InvalidReference: `text` does not follow the grammar.
        """
        rest = text.removeprefix("docker://")
        has_host = rest == text and is_registry_url(text)
        if has_host:
            rest = text.removeprefix("oci://")
        if "://" in rest:
            raise InvalidReference(text, "a reference is no URL; write host/repository:tag")
        rest, at, digest = rest.partition("@")
        first, slash, path = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, name = first, path
        elif has_host:
            why = f"{first!r} is no host with a dot or a port, and oci:// names one"
            raise InvalidReference(text, why)
        else:
            registry, name = DOCKER_HUB, rest
        name, colon, tag = name.partition(":")
        if registry in ("index.docker.io", "registry-1.docker.io"):
            registry = DOCKER_HUB
        if registry == DOCKER_HUB and name and "/" not in name:
            name = "library/" + name
        try:
            return cls(registry, name, tag if colon else None, digest if at else None)
        except InvalidReference as error:
            raise InvalidReference(text, error.why) from None


@dataclass(frozen=True, slots=True)
class LayoutLocation:
    """An OCI image layout directory, and possibly a tag or digest in it.

    Args:
        path: the directory, which need not exist.
        tag: a tag; None for none.
        digest: a digest; None for none. Never both.
    """

    path: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"oci:{self.path}{tag}{digest}"

    @property
    def selector(self) -> str | None:
        """What to ask the layout for: the digest, else the tag, else None."""
        return self.digest or self.tag


@dataclass(frozen=True, slots=True)
class ArchiveLocation(LayoutLocation):
    """An OCI archive (a tar file of a layout), and possibly a tag or digest in it."""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"oci-archive:{self.path}{tag}{digest}"


def parse_location(text: str) -> Reference | LayoutLocation:
    """Parse a reference with any supported transport.

    None, ``docker://`` or ``oci://`` for registries, ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]``.
    Tags of layouts and archives may hold colons (``oci:store:app:1.4.2``). The longest prefix that
    is a layout (or a file) is the place. Without one, the place ends at the first colon behind its
    last slash, and for archives at the first colon. ``@sha256:<hex>`` names a manifest by digest.

    Args:
        text: the reference.

    Returns:
        A repository, a layout or an archive.

    Raises:
        InvalidReference: `text` does not follow the grammar, or its transport is not supported.
    """
    if is_registry_url(text):
        return Reference.parse(text)
    transport, colon, rest = text.partition(":")
    if colon and transport == "oci":
        return _parse_layout(text, rest)
    if colon and transport == "oci-archive":
        return _parse_archive(text, rest)
    if text.startswith(IMAGE_PREFIX):
        why = "the command copy and export_image write an image; no version is read from it"
        raise InvalidReference(text, why)
    if colon and transport in _UNSUPPORTED:
        why = f"transport {transport}: is not supported"
        raise InvalidReference(text, f"{why}; use docker://, oci: or oci-archive:")
    if colon and transport == "docker" and not rest[:1].isdigit():  # or a port
        place = rest.lstrip("/") or "registry.example/repository:tag"
        raise InvalidReference(text, f"a registry is written {place} or docker://{place}")
    return Reference.parse(text)


def _parse_layout(text: str, rest: str) -> LayoutLocation:
    """Parse the part of a reference behind ``oci:``."""
    path, at, digest = rest.rpartition("@")
    if at and is_digest(digest):
        location = LayoutLocation(path, None, digest)
    else:
        found = _split_place(rest, _is_layout)
        if found is None:
            start = rest.rfind("/") + 1
            directory, colon, tag = rest[start:].partition(":")
            found = rest[:start] + directory, tag if colon else None
        place, name = found
        if name is not None and (not _NAME.match(name) or is_digest(name)):
            raise InvalidReference(text, f"{name!r} is not a tag")
        location = LayoutLocation(place, name)
    if not location.path:
        raise InvalidReference(text, "no directory; write oci:DIR or oci:DIR:TAG")
    if "\0" in location.path:
        raise InvalidReference(text, "a NUL in the path")
    return location


def _parse_archive(text: str, rest: str) -> ArchiveLocation:
    """Parse the part of a reference behind ``oci-archive:``."""
    if rest.startswith("//") and not rest.startswith("///"):
        raise InvalidReference(text, "an archive is a file; write oci-archive:FILE")
    before, at, digest = rest.rpartition("@")
    by_digest = bool(at) and is_digest(digest)
    whole = before if by_digest else rest
    found = _split_place(whole, os.path.isfile)
    if found is None:
        path, colon, tag = whole.partition(":")
        found = path, tag if colon else None
    place, name = found
    if by_digest and name is not None:
        raise InvalidReference(text, "a tag and a digest; give one of them")
    if name is not None and (not _NAME.match(name) or is_digest(name)):
        raise InvalidReference(text, f"{name!r} is not a tag")
    if not place:
        raise InvalidReference(text, "no file; write oci-archive:FILE or oci-archive:FILE:TAG")
    if "\0" in place:
        raise InvalidReference(text, "a NUL in the path")
    return ArchiveLocation(place, name, digest if by_digest else None)


def _split_place(rest: str, is_there: Callable[[str], bool]) -> tuple[str, str | None] | None:
    """Split ``PLACE[:TAG]`` behind the longest place that is there; None if none is."""
    if "\0" in rest or ":" not in rest:
        return None
    if is_there(rest):
        return rest, None
    end = rest.rfind(":")
    while end > 0:
        if is_there(rest[:end]):
            return rest[:end], rest[end + 1 :]
        end = rest.rfind(":", 0, end)
    return None


def _is_layout(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "oci-layout"))


def check_registry(registry: str, shown: str) -> None:
    """Raise InvalidReference unless `registry` is ``host`` or ``host:port``."""
    host, port = split_host(registry)
    if host.startswith("["):
        try:
            import ipaddress  # takes a millisecond, and few hosts are addresses

            ipaddress.IPv6Address(host[1:-1] if host.endswith("]") else "")
        except ValueError:
            raise InvalidReference(shown, f"{host!r} is not an IPv6 address") from None
    elif len(host) > MAX_NAME_CHARS or not _HOST.match(host):
        raise InvalidReference(shown, f"{host!r} is not a host name")
    if port is not None and not (
        port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16
    ):
        raise InvalidReference(shown, f"{port!r} is not a port")


def split_host(registry: str) -> tuple[str, str | None]:
    """Split ``host[:port]``; an IPv6 host keeps its brackets."""
    if registry.startswith("["):
        host, bracket, rest = registry.partition("]")
        return host + bracket, rest[1:] if rest.startswith(":") else (rest or None)
    host, colon, port = registry.partition(":")
    return host, port if colon else None


def is_loopback(host: str) -> bool:
    """Return whether a host is ``localhost`` or a loopback address.

    A name that resolves to a loopback address does not count, because DNS servers decide that.

    Args:
        host: a host without a port.

    Returns:
        Whether the host is this machine.
    """
    if host == "localhost":
        return True
    try:
        import ipaddress  # as in `check_registry`

        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""Parses references: a repository, layout directory or archive, and a tag or digest in it.

Sources: containers-transports(5) for transports and the rules of docker.io; distribution-spec 1.1,
"Pulling manifests", for the grammar of names and tags.
"""

from __future__ import annotations

import ipaddress
import re
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
            raise InvalidReference(shown, f"{self.repository!r} is not a repository name")
        if len(self.registry) + 1 + len(self.repository) > MAX_NAME_CHARS:
            raise InvalidReference(shown, f"longer than {MAX_NAME_CHARS} characters")
        if self.tag is not None and not is_tag(self.tag):
            raise InvalidReference(shown, f"{self.tag!r} is not a tag")
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
        """Parse ``[docker://][host[:port]/]repository[:tag][@digest]``.

        The first component is a host if it holds ``.`` or ``:`` or is ``localhost``; otherwise the
        registry is docker.io, where a name of one component is below ``library/``.

        Args:
            text: the reference.

        Returns:
            The parsed reference.

        Raises:
            InvalidReference: `text` does not follow the grammar.
        """
        rest = text.removeprefix("docker://")
        if "://" in rest:
            raise InvalidReference(text, "a reference is no URL; write host/repository:tag")
        rest, at, digest = rest.partition("@")
        first, slash, path = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, name = first, path
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

    None or ``docker://``, ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]``. A directory whose name
    ends in ``:word`` is taken for a directory and a tag; a colon before a slash belongs to the
    directory. The file of an archive ends at the first colon, so that its tags may hold some
    (``oci-archive:update.tar:app:1.4.2``). ``@sha256:<hex>`` names a manifest by digest.

    Args:
        text: the reference.

    Returns:
        A repository, a layout or an archive.

    Raises:
        InvalidReference: `text` does not follow the grammar, or its transport is not supported.
    """
    transport, colon, rest = text.partition(":")
    if colon and transport == "oci":
        return _parse_layout(text, rest)
    if colon and transport == "oci-archive":
        return _parse_archive(text, rest)
    if colon and transport in _UNSUPPORTED:
        why = f"transport {transport}: is not supported"
        raise InvalidReference(text, f"{why}; use docker://, oci: or oci-archive:")
    return Reference.parse(text)


def _parse_layout(text: str, rest: str) -> LayoutLocation:
    path, at, digest = rest.rpartition("@")
    if at and is_digest(digest):
        location = LayoutLocation(path, None, digest)
    else:
        path, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            location = LayoutLocation(rest)
        elif is_tag(tag):
            location = LayoutLocation(path, tag)
        else:
            raise InvalidReference(text, f"{tag!r} is not a tag")
    if not location.path:
        raise InvalidReference(text, "no directory; write oci:DIR or oci:DIR:TAG")
    if "\0" in location.path:
        raise InvalidReference(text, "a NUL in the path")
    return location


def _parse_archive(text: str, rest: str) -> ArchiveLocation:
    before, at, digest = rest.rpartition("@")
    by_digest = bool(at) and is_digest(digest)
    path, colon, tag = (before if by_digest else rest).partition(":")
    if by_digest and colon:
        raise InvalidReference(text, "a tag and a digest; give one of them")
    if colon and (not _NAME.match(tag) or is_digest(tag)):
        raise InvalidReference(text, f"{tag!r} is not a tag")
    if not path:
        raise InvalidReference(text, "no file; write oci-archive:FILE or oci-archive:FILE:TAG")
    if "\0" in path:
        raise InvalidReference(text, "a NUL in the path")
    return ArchiveLocation(path, tag if colon else None, digest if by_digest else None)


def check_registry(registry: str, shown: str) -> None:
    """Raise InvalidReference unless `registry` is ``host`` or ``host:port``."""
    host, port = split_host(registry)
    if host.startswith("["):
        try:
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
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

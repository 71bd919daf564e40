"""Certificates that an administrator keeps for a registry, where docker and podman look for them.

    /etc/docker/certs.d/registry.example:5000/ca.crt        an authority
    /etc/docker/certs.d/registry.example:5000/client.cert   a client certificate,
    /etc/docker/certs.d/registry.example:5000/client.key    and its key

Sources: containers-certs.d(5); docker/docs "Verify repository client with certificates".
"""

from __future__ import annotations

import os
from dataclasses import dataclass

FOLDERS = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
"""Directories of certificates, the user's first."""
MAX_FILES = 100
"""Files of one registry that are looked at."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates for one registry.

    Args:
        authorities: PEM files of authorities to trust besides the system's.
        client: PEM files of a client certificate and of its key, if there are any.
    """

    authorities: tuple[str, ...] = ()
    client: tuple[str, str] | None = None


def certificates_for(registry: str) -> Certificates:
    """Return the certificates kept for a registry.

    Args:
        registry: ``host[:port]``, as references name it.

    Returns:
        Those of the first directory that has any.
    """
    for parent in FOLDERS:
        folder = os.path.join(os.path.expanduser(parent), registry)
        if not os.path.isabs(folder):  # there is no home
            continue
        try:
            names = sorted(os.listdir(folder))[:MAX_FILES]
        except OSError:
            continue
        paths = [os.path.join(folder, name) for name in names]
        authorities = tuple(path for path in paths if path.endswith(".crt"))
        pairs = [
            (path, path.removesuffix(".cert") + ".key")
            for path in paths
            if path.endswith(".cert") and path.removesuffix(".cert") + ".key" in paths
        ]
        if authorities or pairs:
            return Certificates(authorities, pairs[0] if pairs else None)
    return Certificates()

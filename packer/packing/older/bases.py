"""Choice of the version to pack on: the newest one of the same application.

A tag names its application: ``app:1.4.2`` and ``app:1.4.1`` are of one *family*, as are the
directories ``app-1.4.2`` and ``app-1.4.1``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from packer.errors import IntegrityError, NotFound, UnsupportedVersion
from packer.format.version import Version, load_version
from packer.oci import Descriptor
from packer.stores.protocols import Store, Tags

_LOG = logging.getLogger(__name__)

_LABEL = re.compile(r"(?P<name>.*?)[-_.]?v?\d+([.+_-][0-9A-Za-z.+_-]*)?\Z")
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|zip|airgap|zst|gz)\Z")


def family(tag: str) -> str:
    """Return the part that tags of successive versions of one application have in common.

    Args:
        tag: a tag, or the name of a directory or archive.

    Returns:
        the part before the last colon (``app:1.4.2`` -> ``app``) or, without a colon, the name
        without its version (``app-1.4.2`` -> ``app``).
    """
    name, colon, _ = tag.rpartition(":")
    if colon:
        return name
    match = _LABEL.match(_ARCHIVE.sub("", tag))
    return match["name"] if match and match["name"] else tag


def version_label(tag: str) -> str:
    """Return the part of a tag that says which version it is.

    Args:
        tag: as for `family`.

    Returns:
        the part that `family` leaves out, without the character between them; "" if there is none.
    """
    return _ARCHIVE.sub("", tag)[len(family(tag)) :].lstrip("-_.:")


def newest_first(store: Tags, name: str) -> Iterator[tuple[str, Descriptor]]:
    """Yield the tags of a family, the one written last first.

    Args:
        store: lists its tags in the order they were written.
        name: the family.

    Yields:
        tag, and descriptor of the manifest that it names.
    """
    found = [(tag, descriptor) for tag, descriptor in store.tags() if family(tag) == name]
    yield from reversed(found)


def find_base(store: Store, tag: str) -> Version | None:
    """Return the newest version of a tag's family whose blobs are all in a store.

    Artifacts of other tools and incomplete versions are passed over. So are damaged ones, with a
    warning in the log.

    Args:
        store: where to look.
        tag: of the version that will be packed.

    Returns:
        the base; None if there is none, or the store lists no tags.
    """
    if not isinstance(store, Tags):
        return None
    for name, _ in newest_first(store, family(tag)):
        try:
            version = load_version(store, name)
        except (NotFound, UnsupportedVersion):
            continue
        except IntegrityError as error:
            _LOG.warning(
                "%s in %s is damaged, so nothing is packed on it: %s", name, store.name, error
            )
            continue
        if all(store.exists(layer) for layer in version.manifest.layers):
            return version
    return None

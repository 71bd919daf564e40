"""Writing a version of a storage to a directory, by way of the cache if there is one."""

from __future__ import annotations

from packer.api.tree_writer import TreeWriter
from packer.format.version import Version
from packer.progress import CancelEvent, ProgressCallback
from packer.reading.restore import Restored
from packer.storage.open_versions import trim
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Store
from packer.transfer.copy_graph import copy


def load(
    version: Version,
    writer: TreeWriter,
    store: Store,
    cache: LayoutStore | None,
    tag: str,
    *,
    jobs: int,
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> Restored:
    """Write a version, verified and whole or not at all.

    Args:
        version: of the storage.
        writer: writes it, and holds what it is trusted by.
        store: where it lies.
        cache: gets what it lacks of the version first, and reads of the version go there.
        tag: names the version in the cache.
        jobs: concurrent transfers.
        progress: called now and then.
        cancel: set it to give up.

    Returns:
        Counts of the files and bytes written.
    """
    trusted = writer.admit(version.store, version.descriptor, version.manifest_bytes)
    if cache is not None:
        writer.check_target()
        copy(
            store,
            version.descriptor.digest,
            cache,
            tag,
            jobs=jobs,
            referrers=False,  # they are read where the version lies
            progress=progress,
            cancel=cancel,
        )
        trim(cache, tag)
    with until_cancelled(cancel, (version.store,), "unpacking"):
        return writer.write(version, trusted)

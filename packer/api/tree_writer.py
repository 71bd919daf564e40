"""Writes a version to a directory, as `unpack`, `pull` and the storage's `load` do.

Signatures are checked before anything is written, and the receipt is written at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packer.format.version import Version
from packer.oci import Descriptor, is_digest
from packer.progress import ProgressCallback
from packer.reading.parts import Part
from packer.reading.restore import Restored, check_target, restore
from packer.stores.protocols import Store

if TYPE_CHECKING:
    from packer.api.trust import Trust
    from packer.trust.checking import Trusted


@dataclass(frozen=True, slots=True)
class TreeWriter:
    """How a call writes a version, whichever it turns out to be.

    Args:
        action: the call, for the receipt: "pull", "unpack" or "load".
        source: the version's name as it was given, for messages and the receipt.
        target: the directory to write.
        trust: the signatures that the version needs, and the receipt to write; None for neither.
        update: as for `restore`.
        delete: as for `restore`.
        seeds: as for `restore`.
        part: as for `restore`.
        jobs: as for `restore`.
        durable: as for `restore`.
        progress: called now and then.
    """

    action: str
    source: str
    target: bytes
    trust: Trust | None
    update: bool
    delete: bool
    seeds: Sequence[bytes] = ()
    part: Part | None = None
    jobs: int | None = None
    durable: bool = True
    progress: ProgressCallback | None = None

    def check_target(self) -> bool:
        """Check that a version may be written to the directory, before anything is fetched.

        Returns:
            Whether to write into the existing directory; False to rename a new one into place.

        Raises:
            TargetExists: it is a file, or a directory with content and `update` is not given.
        """
        return check_target(os.path.abspath(self.target), self.update)

    def admit(self, store: Store, descriptor: Descriptor, manifest: bytes) -> Trusted | None:
        """Raise unless the version may be used, as `Trust.admit`.

        Args:
            store: holds the version and its signatures.
            descriptor: of its manifest.
            manifest: its bytes, verified.

        Returns:
            The signatures that were checked; None if none were asked for.

        Raises:
            SignatureError: the version is not signed as asked.
            OlderVersion: it is older than what is there.
            StoreError: the store failed.
        """
        if self.trust is None:
            return None
        return self.trust.admit(store, descriptor, manifest, self.source)

    def write(
        self, version: Version, trusted: Trusted | None, *, tag: str | None = None
    ) -> Restored:
        """Write a version's tree, and the receipt if one is asked for.

        Args:
            version: whose blobs are all in its store.
            trusted: what `admit` returned.
            tag: the version's name in the receipt; None for the one that it was found by.

        Returns:
            The counts of what was written, and `trusted`.

        Raises:
            PackerError, OSError: as `restore`; the directory is as it was.
            SourceChanged: the directory was changed before its files were in the receipt, which is
                not written.
        """
        in_place = self.trust is not None and self.check_target()
        restored = restore(
            version,
            self.target,
            update=self.update,
            delete=self.delete,
            seeds=self.seeds,
            part=self.part,
            jobs=self.jobs,
            durable=self.durable,
            progress=self.progress,
        )
        if self.trust is None:
            return restored
        if self.trust.receipt is not None:
            complete = not self.part and (self.delete or not in_place)
            name = version.reference if tag is None else tag
            self._record(self.trust, version, name, trusted, complete=complete)
        return replace(restored, trusted=trusted)

    def _record(
        self, trust: Trust, version: Version, name: str, trusted: Trusted | None, *, complete: bool
    ) -> None:
        """Write the receipt; `complete` if the directory holds nothing else."""
        from packer.api.trust import Draft  # rare, as are the rest
        from packer.reading.installed_files import installed_files
        from packer.trust.receipt import InstalledFile

        def files() -> Iterable[InstalledFile]:
            for path, kind, mode, size, text in installed_files(version, self.target, self.part):
                digest, target = ("", text) if kind == "symlink" else (text, "")
                yield InstalledFile(path, kind, 0o777 if target else mode, size, digest, target)

        draft = Draft(
            self.action,
            self.source,
            os.fsdecode(os.path.abspath(self.target)),
            version.store,
            version.descriptor,
            version.manifest_bytes,
            "" if is_digest(name) else name,
            trusted,
            complete,
        )
        trust.record(draft, files)

"""Restores a version to a directory: plan, decode each frame once, verify, then rename.

Frames are the unit of work: each frame that is needed is read and decoded once, by one of several
threads. Every chunk taken from it is verified, and its bytes go to all files that hold them.
Nothing appears under the target's name before all of it is written, verified and synced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer.errors import InvalidParameter, TargetExists
from packer.files.durable import sync_directory
from packer.files.name_folding import check_distinct, folds_names
from packer.files.tree import FILE, show
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.index import Index
from packer.format.tree_digest import Check, TreeCheck
from packer.format.version import Version
from packer.progress import ProgressCallback
from packer.reading.old_copies import old_copies
from packer.reading.parts import Part, index_of
from packer.reading.restore_work import RestoreWork
from packer.reading.seeds import Seeds
from packer.reading.staging_directory import check_space, staging_directory, sync_tree
from packer.reading.target import Target
from packer.reading.write_plan import Plan, zero_chunks
from packer.stores.layout import lies_in

if TYPE_CHECKING:
    from packer.trust.checking import Trusted


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of restoring.

    Args:
        digest: of the version's manifest.
        files: number of files in the version, or in the part of it.
        bytes: sum of their sizes.
        written_files: number of files written; the others were in the target already.
        written_bytes: sum of their sizes.
        deleted: number of surplus files, links and directories removed.
        seeded_bytes: content taken from seeds, in bytes.
        read_layers: number of data layers that were read from the store.
        read_bytes: bytes read from them.
        trusted: the policy that let the version pass; None if none was asked.
    """

    digest: str
    files: int
    bytes: int
    written_files: int
    written_bytes: int
    deleted: int = 0
    seeded_bytes: int = 0
    read_layers: int = 0
    read_bytes: int = 0
    trusted: Trusted | None = None


def restore(
    version: Version,
    target: bytes,
    *,
    update: bool = False,
    delete: bool = False,
    seeds: Sequence[bytes] = (),
    part: Part | None = None,
    jobs: int | None = None,
    durable: bool = True,
    progress: ProgressCallback | None = None,
) -> Restored:
    """Write a version's tree, or a part of it, to `target`.

    Args:
        version: whose blobs are all in its store.
        target: a directory that does not exist or is empty, unless `update` is given.
        update: allow a directory with content: files that are equal already stay untouched, others
            are replaced one by one once all new content is written and verified.
        delete: with `update`, remove entries that the version does not hold.
        seeds: directories that may hold older copies: equal files and chunks are taken from there,
            and predecessors, which with `update` the target may hold as well.
        part: the entries to write; None for all. Only the frames that they need are read.
        jobs: number of threads; the number of processors by default.
        durable: sync what is written before it gets its name.
        progress: called now and then from the calling thread.

    Returns:
        The counts of what was written.

    Raises:
        TargetExists: `target` is a file, or a directory with content and `update` is not given.
        InvalidParameter: `delete` would remove the store, or what the part leaves out.
        NotFound: a layer is missing, or the version lacks what the part names.
        IntegrityError: a layer, frame or chunk is damaged; `target` is as it was.
        OSError: the file system refuses, with the path.
    """
    target = os.path.abspath(target)
    in_place = check_target(target, update)
    if delete and lies_in(version.store, target):
        raise InvalidParameter(f"{show(target)}: --delete would remove the store in it")
    if delete and part:
        raise InvalidParameter("--delete needs the whole version: a part says nothing of the rest")
    index = index_of(version, part)
    check = TreeCheck(index) if index is version.index else Check(index)
    sizes = index.entry_sizes()
    with ExitStack() as stack:
        existing = stack.enter_context(closing(Target(target, delete=delete))) if in_place else None
        ranges = stack.enter_context(BlobRanges(version.store, version.manifest.data_layers))
        wanted: Sequence[int] = (
            existing.changed(index, sizes, check) if existing else range(len(index.paths))
        )
        need = sum(sizes[entry] for entry in wanted)
        staging = stack.enter_context(staging_directory(target, inside=in_place))
        reader = stack.enter_context(_frame_reader(version, index, ranges, check, staging))
        if folds_names(staging):
            check_distinct(index.paths)
        fd = stack.enter_context(_opened(staging))
        params = version.config.chunking
        seed = Seeds(seeds, params, reader.frames, sizes, wanted)
        zeros = zero_chunks(index, params)
        for chunk, digest in zeros.items():
            check.record(chunk, digest)
        plan = Plan(
            reader.frames,
            sizes,
            wanted,
            flat=in_place,
            leave_out=seed.whole,
            zeros=zeros,
            durable=durable,
        )
        check_space(staging, need - sum(plan.holes.values()), target)
        plan.prepare(fd)
        # A local store has the bytes of a closed predecessor at hand.
        older = (*seeds, target) if in_place else seeds
        copies = old_copies(index, plan.expanded, older, closed=ranges.remote)
        work = RestoreWork(plan, reader, seed, fd, version.store, copies)
        work.run(need, jobs or os.cpu_count() or 1, progress)
        if isinstance(check, TreeCheck):
            check.finish(version.config.tree)
        plan.finish(fd)
        reader.close()  # else a sync of the file system writes its temporary file to the disk, too
        if durable:
            sync_tree(fd)
        deleted = 0
        if existing:
            deleted = existing.bring_up_to_date(index, wanted, staging)
            if durable:
                sync_tree(fd)
        else:
            _give_name(staging, target)
        if durable:
            sync_directory(os.path.dirname(target))
    return Restored(
        digest=version.descriptor.digest,
        files=index.kinds.count(FILE),
        bytes=sum(sizes),
        written_files=sum(index.kinds[entry] == FILE for entry in wanted),
        written_bytes=need,
        deleted=deleted,
        seeded_bytes=work.seeded_bytes,
        read_layers=len(ranges.read_layers),
        read_bytes=ranges.read_bytes,
    )


def _give_name(staging: bytes, target: bytes) -> None:
    """Rename the finished tree to the target, which another process may have made meanwhile."""
    try:
        os.rename(staging, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        why = "another process has written it meanwhile; say --update to bring it up to date"
        raise TargetExists(show(target), why) from error


def _frame_reader(
    version: Version, index: Index, ranges: BlobRanges, check: Check, staging: bytes
) -> FrameReader:
    """Return a reader of the version's frames, with its temporary files beside the staging."""
    return FrameReader(
        index,
        version.manifest.data_layers,
        ranges.read,
        check=check,
        remote=ranges.remote,
        directory=os.path.dirname(staging),
        store=version.store,
        ahead=ranges.expect,
    )


@contextmanager
def _opened(directory: bytes) -> Iterator[int]:
    """Open a directory."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def check_target(target: bytes, update: bool) -> bool:
    """Check that a version may be restored to a target.

    Args:
        target: an absolute path.
        update: allow a directory with content.

    Returns:
        Whether to write into the existing directory; False to rename a new one into place.

    Raises:
        TargetExists: `target` is a file, or a directory with content and `update` is not given.
    """
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        if os.path.islink(target):
            why = "a link that leads nowhere"
            raise TargetExists(show(target), why, is_directory=False) from None
        return False
    except NotADirectoryError:
        raise TargetExists(show(target), "a file is there", is_directory=False) from None
    if names and not update:
        raise TargetExists(show(target), "say --update to bring it up to date")
    # A rename cannot replace a mount point or a link to a directory, nor anything in a directory
    # that we may not change.
    fixed = os.path.islink(target) or os.path.ismount(target)
    return bool(names) or fixed or not os.access(os.path.dirname(target), os.W_OK)

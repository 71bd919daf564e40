"""A version in a store to a directory: plan, decode each frame once, verify, then rename.

Frames are the unit of work: each one that is needed is read and decoded once, by one of several
threads, every chunk taken from it is verified, and its bytes go to all files that hold it. Nothing
appears under the target's name before all of it is written, verified and synced.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, takewhile

from packer.errors import InvalidParameter, TargetExists
from packer.files.durable import locked_directory
from packer.files.name_folding import check_distinct, folds_names
from packer.files.syscalls import sync_filesystem
from packer.files.tree import FILE, show
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.tree_digest import TreeCheck
from packer.format.version import Version
from packer.progress import Progress, ProgressCallback
from packer.reading.entry_content import frames_of, read_entry
from packer.reading.seeds import Seeds
from packer.reading.target import STAGING_PREFIX, Target
from packer.reading.write_plan import Plan
from packer.stores.cancelling import POLL_SECONDS, interrupted
from packer.stores.layout import lies_in
from packer.stores.protocols import Store

LARGE_BYTES = 8 << 20
"""Archives from this size on are rebuilt by several threads each."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of restoring.

    Args:
        digest: of the version's manifest.
        files: files in the version.
        bytes: their size.
        written_files: files that were written; the others were there already.
        written_bytes: their size.
        deleted: surplus files, links and directories that were removed.
        seeded_bytes: content taken from seeds.
        read_layers, read_bytes: data layers of the store of which anything was read, and how much.
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


def restore(
    version: Version,
    target: bytes,
    *,
    update: bool = False,
    delete: bool = False,
    seeds: Sequence[bytes] = (),
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> Restored:
    """Write a version's tree to `target`.

    Args:
        version: whose blobs are all in its store.
        target: a directory that does not exist or is empty, unless `update` is given.
        update: allow a directory with content: files that are equal already stay untouched, others
            are replaced one by one once all new content is written and verified.
        delete: with `update`, remove what the version does not hold.
        seeds: directories that may hold older copies: equal files and chunks are taken from there.
        jobs: threads; the number of processors by default.
        progress: called now and then from the calling thread.

    Raises:
        TargetExists: `target` is a file, or a directory with content and `update` is not given.
        InvalidParameter: `delete` would remove the store.
        NotFound: a layer is missing.
        IntegrityError: a layer, frame or chunk is damaged; `target` is as it was.
        OSError: the file system refuses, with the path.
    """
    target = os.path.abspath(target)
    index = version.index
    sizes = index.entry_sizes()
    in_place = _check_target(target, update)
    if delete and lies_in(version.store, target):
        raise InvalidParameter(f"{show(target)}: --delete would remove the store in it")
    deleted = 0
    with ExitStack() as stack:
        existing = stack.enter_context(closing(Target(target, delete=delete))) if in_place else None
        layers = version.manifest.data_layers
        ranges = stack.enter_context(BlobRanges(version.store, layers))
        check = TreeCheck(index)
        wanted: Sequence[int] = (
            existing.changed(index, sizes, check) if existing else range(len(index.paths))
        )
        need = sum(sizes[entry] for entry in wanted)
        staging = stack.enter_context(_staging(target, inside=in_place))
        reader = stack.enter_context(
            FrameReader(
                index,
                layers,
                ranges.read,
                check=check,
                remote=ranges.remote,
                directory=os.path.dirname(staging),
                store=version.store,
            )
        )
        _check_space(staging, need)
        if folds_names(staging):
            check_distinct(index.paths)
        fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            seed = Seeds(seeds, version.config.chunking, reader.frames, sizes, wanted)
            plan = Plan(reader.frames, sizes, wanted, flat=in_place, leave_out=seed.whole)
            plan.prepare(fd)
            work = _Work(plan, reader, seed, fd, version.store)
            work.run(need, jobs or os.cpu_count() or 1, progress)
            check.finish(version.config.tree)
            plan.finish(fd)
            _sync(fd)
            if existing:
                existing.apply(index, wanted, staging)
                deleted = existing.remove_surplus(index) if delete else 0
                existing.set_modes(index)
                _sync(fd)
            else:
                os.rename(staging, target)
        finally:
            os.close(fd)
        _sync_directory(os.path.dirname(target))
    files = index.kinds.count(FILE)
    written = sum(index.kinds[entry] == FILE for entry in wanted)
    return Restored(
        version.descriptor.digest,
        files,
        sum(sizes),
        written,
        need,
        deleted,
        work.seeded_bytes,
        len(ranges.read_layers),
        ranges.read_bytes,
    )


def _check_target(target: bytes, update: bool) -> bool:
    """Tell whether to write into the existing directory `target`."""
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        if os.path.islink(target):
            raise TargetExists(show(target), "a link that leads nowhere") from None
        return False
    except NotADirectoryError:
        raise TargetExists(show(target), "it is not a directory") from None
    if names and not update:
        raise TargetExists(show(target), "say --update to bring it up to date")
    # A mount point cannot be renamed over, nor a link to a directory, nor anything in a directory
    # that we may not change.
    fixed = os.path.islink(target) or os.path.ismount(target)
    return bool(names) or fixed or not os.access(os.path.dirname(target), os.W_OK)


@contextmanager
def _staging(target: bytes, *, inside: bool) -> Iterator[bytes]:
    """Make a directory on the target's file system, in a private one that goes in the end.

    That of a target with content lies beside it as well, if names can be moved between the two:
    not from one mount to another, nor into a directory that we may not change.
    """
    above, name = os.path.dirname(target), STAGING_PREFIX + secrets.token_hex(8).encode()
    private = os.path.join(target if inside else above, name)
    try:
        os.makedirs(os.path.dirname(private), exist_ok=True)
        os.mkdir(private, 0o700)
    except OSError as error:  # name what the user asked for
        raise OSError(error.errno, error.strerror, show(target)) from None
    if inside:
        with suppress(OSError):
            os.rename(private, os.path.join(above, name))
            private = os.path.join(above, name)
    try:
        with locked_directory(private):  # waits: who looks whether it is held has it for a moment
            path = os.path.join(private, b"tree")
            os.mkdir(path)  # with the permissions of any new directory: the target will have them
            yield path
    finally:
        _remove_tree(private)


def _remove_tree(path: bytes) -> None:
    """Remove a staging directory, directories without write permission included."""
    for base, names, _ in os.walk(path):
        for name in names:
            full = os.path.join(base, name)
            if not os.path.islink(full):
                os.chmod(full, 0o700)
    shutil.rmtree(path)


def _check_space(path: bytes, need: int) -> None:
    info = os.statvfs(path)
    free = info.f_bavail * info.f_frsize
    if need > free:
        raise OSError(errno.ENOSPC, f"{need} bytes needed, {free} free", show(path))


def _sync(fd: int) -> None:
    """Make everything below the staging directory durable, with one call where there is one."""
    if sync_filesystem(fd):
        return
    for _, _, names, parent in os.fwalk(b".", dir_fd=fd):
        for name in names:
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK, errno.EACCES):
                    continue  # a link, or a file its own mode makes unreadable
                raise
            try:
                os.fsync(file)
            finally:
                os.close(file)
        os.fsync(parent)


def _sync_directory(path: bytes) -> None:
    fd = os.open(path or b".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Work:
    """Writes what a plan says: each frame decoded once, by one of several threads.

    Args:
        plan: of what to write.
        reader: of the version's frames.
        seed: where some of the content lies already.
        fd: the staging directory.
        store: what the reader reads.
    """

    def __init__(self, plan: Plan, reader: FrameReader, seed: Seeds, fd: int, store: Store) -> None:
        self._store = store
        self._plan = plan
        self._reader = reader
        self._seed = seed
        self._fd = fd
        self._done_bytes = 0
        self._stopped = False
        self.seeded_bytes = 0
        frames = list(plan.frames_used())
        seeded = {frame for frame in frames if seed.holds(plan.chunks_of(frame))} if seed else set()
        self._seeded = [frame for frame in frames if frame in seeded]
        self._frames = [frame for frame in frames if frame not in seeded]

    def run(self, total: int, jobs: int, progress: ProgressCallback | None) -> None:
        """Write everything in `jobs` threads."""
        plan, reader = self._plan, self._reader
        opened = (frames_of(reader, entry) for entry in plan.expanded)
        reader.expect(chain(self._frames, *opened))
        with (
            ThreadPoolExecutor(jobs, "rebuild") as helpers,
            ThreadPoolExecutor(jobs, "restore") as executor,
        ):
            tasks = chain(
                (partial(self._copy, entry) for entry in self._seed.whole),
                (partial(self._assemble, frame) for frame in self._seeded),
                (partial(self._decode, frame) for frame in self._frames),
                (partial(self._rebuild, entry, helpers) for entry in plan.expanded),
            )
            try:
                pending = {executor.submit(task) for task in islice(tasks, 2 * jobs)}
                while pending:
                    done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
                    if not done and progress is not None:  # which may raise to stop the work
                        progress(Progress("unpack", self._done_bytes, total))
                    for future in done:
                        count, entry, from_seed = future.result()
                        self._done_bytes += count
                        self.seeded_bytes += count * from_seed
                        if progress is not None:
                            path = show(plan.index.paths[entry])
                            progress(Progress("unpack", self._done_bytes, total, path))
                    for task in islice(tasks, len(done)):
                        pending.add(executor.submit(task))
            except BaseException:
                self._stopped = True
                # Threads that wait for an answer would go on doing so until their time is out.
                with interrupted((self._store,)):
                    executor.shutdown(cancel_futures=True)
                raise

    def _copy(self, entry: int) -> tuple[int, int, bool]:
        """Write a file that a seed holds; from the store if it has changed since."""
        found = self._seed.write_whole(self._plan, self._fd, entry, self._reader.check)
        if not found:
            self._plan.write_all(self._fd, entry, read_entry(self._reader, entry))
        return self._plan.sizes[entry], entry, found

    def _assemble(self, frame: int) -> tuple[int, int, bool]:
        """Write the parts of a frame whose chunks seeds hold."""
        data = self._seed.frame(frame, self._plan.chunks_of(frame), self._reader.check)
        if data is None:
            return self._decode(frame)
        return (*self._plan.write_frame(self._fd, frame, data), True)

    def _decode(self, frame: int) -> tuple[int, int, bool]:
        data = self._reader.decode(frame, keep=True)  # if an archive needs it too
        return (*self._plan.write_frame(self._fd, frame, data), False)

    def _rebuild(self, entry: int, helpers: ThreadPoolExecutor) -> tuple[int, int, bool]:
        large = self._plan.sizes[entry] >= LARGE_BYTES
        pieces = read_entry(self._reader, entry, helpers if large else None)
        self._plan.write_all(self._fd, entry, takewhile(lambda _: not self._stopped, pieces))
        return self._plan.sizes[entry], entry, False

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
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from packer._native import sync_filesystem
from packer.content import frames_of, read_entry
from packer.errors import TargetExists
from packer.folding import check_distinct, folds_names
from packer.index import Index, TreeCheck
from packer.layer import FrameReader
from packer.progress import Progress, ProgressCallback
from packer.ranges import BlobRanges
from packer.target import STAGING_PREFIX, Target
from packer.tree import DIRECTORY, FILE, SYMLINK, show
from packer.version import Version

LARGE_BYTES = 8 << 20
"""Archives from this size on are rebuilt by several threads each."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


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
    """

    digest: str
    files: int
    bytes: int
    written_files: int
    written_bytes: int
    deleted: int = 0


def restore(
    version: Version,
    target: bytes,
    *,
    update: bool = False,
    delete: bool = False,
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
        jobs: threads; the number of processors by default.
        progress: called now and then from the calling thread.

    Raises:
        TargetExists: `target` is a file, or a directory with content and `update` is not given.
        NotFound: a layer is missing.
        IntegrityError: a layer, frame or chunk is damaged; `target` is as it was.
        OSError: the file system refuses, with the path.
    """
    target = os.path.abspath(target)
    index = version.index
    sizes = index.entry_sizes()
    in_place = _check_target(target, update)
    deleted = 0
    with ExitStack() as stack:
        existing = stack.enter_context(closing(Target(target, delete=delete))) if in_place else None
        layers = version.manifest.data_layers
        ranges = stack.enter_context(BlobRanges(version.store, layers))
        check = TreeCheck(index)
        wanted = (
            existing.changed(index, sizes, check) if existing else list(range(len(index.paths)))
        )
        need = sum(sizes[entry] for entry in wanted)
        staging = stack.enter_context(_staging(target, inside=in_place))
        reader = stack.enter_context(
            FrameReader(
                index,
                ranges.read,
                check=check,
                remote=ranges.remote,
                directory=os.path.dirname(staging),
            )
        )
        _check_space(staging, need)
        if folds_names(staging):
            check_distinct(index.paths)
        fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            plan = _Plan(index, sizes, wanted, flat=in_place)
            plan.prepare(fd)
            _write_frames(plan, reader, fd, need, jobs or os.cpu_count() or 1, progress)
            check.finish(version.config.tree)
            plan.finish(fd)
            _sync(fd)
            if existing:
                existing.apply(index, wanted, staging)
                deleted = existing.remove_surplus(index) if delete else 0
                _sync(fd)
            else:
                os.rename(staging, target)
        finally:
            os.close(fd)
        _sync_directory(os.path.dirname(target))
    files = index.kinds.count(FILE)
    written = sum(index.kinds[entry] == FILE for entry in wanted)
    return Restored(version.descriptor.digest, files, sum(sizes), written, need, deleted)


def _check_target(target: bytes, update: bool) -> bool:
    """Tell whether to write into the existing directory `target`."""
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise TargetExists(show(target), "it is not a directory") from None
    if names and not update:
        raise TargetExists(show(target), "say --update to bring it up to date")
    # A mount point cannot be renamed over, nor anything in a directory that we may not change.
    return bool(names) or os.path.ismount(target) or not os.access(os.path.dirname(target), os.W_OK)


@contextmanager
def _staging(target: bytes, *, inside: bool) -> Iterator[bytes]:
    """Make a directory on the target's file system, inside a private one that goes in the end."""
    parent = target if inside else os.path.dirname(target)
    private = os.path.join(parent, STAGING_PREFIX + secrets.token_hex(8).encode())
    try:
        os.makedirs(parent, exist_ok=True)
        os.mkdir(private, 0o700)
    except OSError as error:  # name what the user asked for
        raise OSError(error.errno, error.strerror, show(target)) from None
    try:
        path = os.path.join(private, b"tree")
        os.mkdir(path)  # with the permissions of any new directory, as the target will have them
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


class _Plan:
    """Which bytes of which frame go where in the staging directory.

    Args:
        index: of the version.
        sizes: of its entries.
        entries: ordinals of those to write, in order.
        flat: name files by their ordinal instead of by path, and leave directories out.
    """

    def __init__(self, index: Index, sizes: list[int], entries: list[int], *, flat: bool) -> None:
        self.index = index
        self.sizes = sizes
        self.entries = entries
        self.flat = flat
        self.expanded = [entry for entry in entries if entry in index.expansions]
        self.runs = {
            entry: runs for entry, runs in _runs_of(index, entries) if entry not in index.expansions
        }
        self.in_parts: set[int] = set()
        """Entries whose bytes come from more than one frame or run."""

    def name(self, entry: int) -> bytes:
        """Return the path of an entry in the staging directory."""
        return b"%d" % entry if self.flat else self.index.paths[entry]

    def by_frame(self, reader: FrameReader) -> dict[int, list[tuple[int, int, int, int]]]:
        """Return, for each frame, (entry, offset in the file, first chunk, chunk count)."""
        frames = reader.frames
        out: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for entry, runs in self.runs.items():
            offset, parts = 0, 0
            for run in runs:
                for frame, start, count in frames.parts(*run):
                    out[frame].append((entry, offset, start, count))
                    offset += frames.end[start + count] - frames.end[start]
                    parts += 1
            if parts > 1:
                self.in_parts.add(entry)
        return out

    def prepare(self, fd: int) -> None:
        """Make directories, links and empty files."""
        index, links = self.index, self.index.symlinks()
        for entry in self.entries:
            kind = index.kinds[entry]
            if kind == DIRECTORY and not self.flat:
                os.mkdir(index.paths[entry], 0o700, dir_fd=fd)
            elif kind == SYMLINK:
                os.symlink(links[entry], self.name(entry), dir_fd=fd)
            elif kind == FILE and not self.sizes[entry]:
                file = os.open(self.name(entry), _WRITE | os.O_EXCL, 0o600, dir_fd=fd)
                os.fchmod(file, index.modes[entry])
                os.close(file)

    def write(self, fd: int, entry: int, offset: int, data: memoryview) -> None:
        """Write part of a file, or all of it with its permissions."""
        flags = _WRITE if entry in self.in_parts else _WRITE | os.O_EXCL
        file = os.open(self.name(entry), flags, 0o600, dir_fd=fd)
        try:
            while data:
                count = os.pwrite(file, data, offset)
                data, offset = data[count:], offset + count
            if entry not in self.in_parts:
                os.fchmod(file, self.index.modes[entry])
        finally:
            os.close(file)

    def write_all(self, fd: int, entry: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file in one go."""
        file = os.open(self.name(entry), _WRITE | os.O_EXCL, 0o600, dir_fd=fd)
        with open(file, "wb", buffering=1 << 20) as out:
            for piece in pieces:
                out.write(piece)
            os.fchmod(file, self.index.modes[entry])

    def finish(self, fd: int) -> None:
        """Set the permissions that would have been in the way while writing."""
        for entry in reversed(self.entries):
            directory = self.index.kinds[entry] == DIRECTORY
            if entry in self.in_parts or (directory and not self.flat):
                os.chmod(self.name(entry), self.index.modes[entry], dir_fd=fd)


def _runs_of(index: Index, entries: list[int]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    wanted = iter(entries)
    following = next(wanted, -1)
    for entry, runs in enumerate(index.entry_runs()):
        if entry == following:
            if runs:
                yield entry, runs
            following = next(wanted, -1)


def _write_frames(
    plan: _Plan,
    reader: FrameReader,
    fd: int,
    total: int,
    jobs: int,
    progress: ProgressCallback | None,
) -> None:
    """Decode every frame the plan needs, once, in `jobs` threads, and write its chunks."""
    work = plan.by_frame(reader)
    reader.expect(chain(work, *(frames_of(reader, entry) for entry in plan.expanded)))
    ends = reader.frames.end

    def write_frame(frame: int) -> tuple[int, int]:
        parts = work.pop(frame)
        data = reader.decode(frame)
        view = memoryview(data)
        base = ends[reader.frames.first_chunk[frame]]
        for entry, offset, first, count in parts:
            plan.write(fd, entry, offset, view[ends[first] - base : ends[first + count] - base])
        return sum(ends[first + count] - ends[first] for _, _, first, count in parts), parts[-1][0]

    def write_expanded(entry: int) -> tuple[int, int]:
        large = plan.sizes[entry] >= LARGE_BYTES
        plan.write_all(fd, entry, read_entry(reader, entry, helpers if large else None))
        return plan.sizes[entry], entry

    done_bytes = 0
    tasks = chain(
        (partial(write_frame, frame) for frame in sorted(work)),
        (partial(write_expanded, entry) for entry in plan.expanded),
    )
    with (
        ThreadPoolExecutor(jobs, "rebuild") as helpers,
        ThreadPoolExecutor(jobs, "restore") as executor,
    ):
        pending = {executor.submit(task) for task in islice(tasks, 2 * jobs)}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    count, entry = future.result()
                    done_bytes += count
                    if progress is not None:
                        path = show(plan.index.paths[entry])
                        progress(Progress("unpack", done_bytes, total, path))
                for task in islice(tasks, len(done)):
                    pending.add(executor.submit(task))
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise

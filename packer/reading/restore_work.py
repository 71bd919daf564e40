"""The work of a restore: tasks of a plan in threads, their progress, and their end on an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from itertools import chain, islice, takewhile

from packer.engine.memory import release_free_memory
from packer.files.room import Room
from packer.files.tree import show
from packer.format.frame_reader import FrameReader
from packer.format.rebuilding import OldFiles
from packer.progress import Progress, ProgressCallback
from packer.reading.entry_content import frames_of, read_entry
from packer.reading.seeds import Seeds
from packer.reading.write_plan import Plan
from packer.stores.cancelling import POLL_SECONDS, interrupted
from packer.stores.protocols import Store

LARGE_BYTES = 8 << 20
"""Size in bytes from which an archive is rebuilt by several threads."""
_HEAVY = 2
"""Files with much in old streams that are rebuilt at a time: while one thread inflates old text for
one of them, others rebuild the other. More would take too much memory."""

_LIGHT_BYTES = 48 << 20
"""Memory of other archives that are rebuilt at a time, in bytes, besides `FrameReader.room`: who
holds some of this may wait for some of that, never the other way round. Two archives that are
rebuilt by several threads take all of it."""
_LIGHT_FACTOR = 32
"""Memory that one thread takes to rebuild a small archive, in bytes for each of its own, about; not
more than for a segment of the usual length, a third of _LIGHT_BYTES."""
_MOST_HELPERS = 3
_MOST_THREADS = 4
"""Threads that rebuild parts of archives, and that do all else if there are archives: what each
keeps of codecs and of its allocator came to 10 MiB a thread."""

_Done = tuple[int, int, bool]
"""Bytes written by a task, the entry written last, and whether the bytes came from a seed."""


class RestoreWork:
    """Carries out a plan: each frame is decoded once, by one of several threads.

    Args:
        plan: which bytes of which frame go where.
        reader: of the version's frames.
        seed: directories that hold some of the content.
        fd: the staging directory.
        store: of the reader; interrupted when the work fails.
        copies: of predecessors, as `old_copies` finds them.
    """

    def __init__(
        self,
        plan: Plan,
        reader: FrameReader,
        seed: Seeds,
        fd: int,
        store: Store,
        copies: Mapping[int, bytes],
    ) -> None:
        self._store = store
        self._plan = plan
        self._reader = reader
        self._seed = seed
        self._fd = fd
        self._done_bytes = sum(plan.holes.values())
        self._old = OldFiles(reader, copies)
        self._light = Room(_LIGHT_BYTES)
        self._stopped = False
        self.seeded_bytes = 0
        """Bytes written from seeds."""
        frames = list(plan.frames_used())
        seeded = {frame for frame in frames if seed.holds(plan.chunks_of(frame))} if seed else set()
        self._seeded = [frame for frame in frames if frame in seeded]
        self._frames = [frame for frame in frames if frame not in seeded]

    def run(self, total: int, jobs: int, progress: ProgressCallback | None) -> None:
        """Write everything.

        Args:
            total: bytes to write, for the progress.
            jobs: number of threads.
            progress: called from the calling thread, after each task and while waiting; an
                exception that it raises stops the work.
        """
        plan, reader = self._plan, self._reader
        opened = (frames_of(reader, entry, self._old.copies) for entry in plan.expanded)
        reader.expect(chain(self._frames, *opened))
        at_once = min(_HEAVY, jobs)
        threads = min(jobs, _MOST_THREADS) if plan.expanded else jobs
        with (
            closing(self._old),
            ThreadPoolExecutor(min(jobs, _MOST_HELPERS), "rebuild") as helpers,
            ThreadPoolExecutor(threads, "restore") as executor,
            ThreadPoolExecutor(at_once, "heavy") as heavy_executor,
        ):
            heavy = list(filter(self._old.is_heavy, plan.expanded))
            heavy.sort(key=plan.sizes.__getitem__, reverse=True)
            lanes = (
                _Lane(
                    heavy_executor,
                    (partial(self._rebuild, entry, helpers) for entry in heavy),
                ),
                _Lane(executor, self._light_tasks(set(heavy), helpers)),
            )
            try:
                pending = {
                    future: lane
                    for lane, count in zip(lanes, (at_once, 2 * threads), strict=True)
                    for future in lane.submit(count)
                }
                while pending:
                    done, _ = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
                    if not done and progress is not None:  # it may raise to stop the work
                        progress(Progress("unpack", self._done_bytes, total))
                    for future in done:
                        lane = pending.pop(future)
                        count, entry, from_seed = future.result()
                        self._done_bytes += count
                        self.seeded_bytes += count * from_seed
                        if progress is not None:
                            path = show(plan.index.paths[entry])
                            progress(Progress("unpack", self._done_bytes, total, path))
                        pending.update(dict.fromkeys(lane.submit(1), lane))
            except BaseException:
                self._stopped = True
                # Threads that wait for a registry would go on waiting until their timeout.
                with interrupted((self._store,)):
                    for lane in lanes:
                        lane.executor.shutdown(cancel_futures=True)
                raise

    def _light_tasks(self, heavy: set[int], helpers: Executor) -> Iterator[Callable[[], _Done]]:
        """Yield all tasks but those of some archives."""
        plan = self._plan
        yield from (partial(self._copy, entry) for entry in self._seed.whole)
        yield from (partial(self._assemble, frame) for frame in self._seeded)
        yield from (partial(self._decode, frame) for frame in self._frames)
        for entry in plan.expanded:
            if entry not in heavy:
                is_large = plan.sizes[entry] >= LARGE_BYTES
                yield partial(self._rebuild_light, entry, helpers if is_large else None)
        if heavy:
            release_free_memory()  # what these tasks are done with

    def _copy(self, entry: int) -> _Done:
        """Write a file from a seed, or from the store if the seed has changed since."""
        found = self._seed.write_whole(self._plan, self._fd, entry, self._reader.check)
        if not found:
            pieces = read_entry(self._reader, entry, old=self._old)
            self._plan.write_all(self._fd, entry, pieces)
        return self._plan.sizes[entry], entry, found

    def _assemble(self, frame: int) -> _Done:
        """Write the parts of a frame from seeds, or from the store if they have changed since."""
        data = self._seed.frame(frame, self._plan.chunks_of(frame), self._reader.check)
        if data is None:
            return self._decode(frame)
        return (*self._plan.write_frame(self._fd, frame, data), True)

    def _decode(self, frame: int) -> _Done:
        """Write the parts of a frame from the store."""
        with self._reader.room.take(self._reader.cost(frame)):
            data = self._reader.decode(frame, keep=True)  # an archive may need it too
            return (*self._plan.write_frame(self._fd, frame, data), False)

    def _rebuild(self, entry: int, helpers: Executor | None) -> _Done:
        """Write an archive that was opened."""
        pieces = read_entry(self._reader, entry, helpers, self._old)
        self._plan.write_all(self._fd, entry, takewhile(lambda _: not self._stopped, pieces))
        return self._plan.sizes[entry], entry, False

    def _rebuild_light(self, entry: int, helpers: Executor | None) -> _Done:
        """Write an archive that does not refer to much old text, once there is room for it."""
        if helpers is not None:
            cost = _LIGHT_BYTES // 2
        else:
            cost = min(_LIGHT_FACTOR * self._plan.sizes[entry], _LIGHT_BYTES // 3)
        with self._light.take(cost):
            return self._rebuild(entry, helpers)


class _Lane:
    """Tasks that some threads work off in order.

    Args:
        executor: the threads.
        tasks: made as they are submitted.
    """

    def __init__(self, executor: Executor, tasks: Iterator[Callable[[], _Done]]) -> None:
        self.executor = executor
        self._tasks = tasks

    def submit(self, count: int) -> list[Future[_Done]]:
        """Submit the next tasks, at most `count`."""
        return [self.executor.submit(task) for task in islice(self._tasks, count)]

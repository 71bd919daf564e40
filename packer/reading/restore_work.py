"""The work of a restore: tasks of a plan in threads, their progress, and their end on an error."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from functools import partial
from itertools import chain, islice, takewhile
from threading import Lock

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
        self._heavy = Lock()
        """Held while a file with much in old streams is rebuilt: one at a time, for memory."""
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
        with (
            closing(self._old),
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
                    if not done and progress is not None:  # it may raise to stop the work
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
                # Threads that wait for a registry would go on waiting until their timeout.
                with interrupted((self._store,)):
                    executor.shutdown(cancel_futures=True)
                raise

    def _copy(self, entry: int) -> tuple[int, int, bool]:
        """Write a file from a seed, or from the store if the seed has changed since."""
        found = self._seed.write_whole(self._plan, self._fd, entry, self._reader.check)
        if not found:
            pieces = read_entry(self._reader, entry, old=self._old)
            self._plan.write_all(self._fd, entry, pieces)
        return self._plan.sizes[entry], entry, found

    def _assemble(self, frame: int) -> tuple[int, int, bool]:
        """Write the parts of a frame from seeds, or from the store if they have changed since."""
        data = self._seed.frame(frame, self._plan.chunks_of(frame), self._reader.check)
        if data is None:
            return self._decode(frame)
        return (*self._plan.write_frame(self._fd, frame, data), True)

    def _decode(self, frame: int) -> tuple[int, int, bool]:
        """Write the parts of a frame from the store."""
        data = self._reader.decode(frame, keep=True)  # an archive may need it too
        return (*self._plan.write_frame(self._fd, frame, data), False)

    def _rebuild(self, entry: int, helpers: ThreadPoolExecutor) -> tuple[int, int, bool]:
        """Write an archive that was opened."""
        large, heavy = self._plan.sizes[entry] >= LARGE_BYTES, self._old.is_heavy(entry)
        with self._heavy if heavy else nullcontext():
            pieces = read_entry(self._reader, entry, helpers if large or heavy else None, self._old)
            self._plan.write_all(self._fd, entry, takewhile(lambda _: not self._stopped, pieces))
        return self._plan.sizes[entry], entry, False

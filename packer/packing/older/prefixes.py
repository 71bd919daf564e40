"""For each new chunk, the older chunks that its frame is best compressed against."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from packer.format.frame_reader import FrameReader
from packer.format.layer_writer import LayerWriter
from packer.packing.older.counterparts import Alignment, Counterparts
from packer.packing.older.older_chunks import OlderChunks
from packer.packing.older.similar import (
    MAX_SKETCHES,
    SUPER_FEATURES,
    Similar,
    SketchCache,
    record_base,
    sketch,
)


class PrefixFinder:
    """Finds the base's counterparts of a file, and similar chunks anywhere.

    Args:
        base: reads the base's chunks; of an empty index if there is no base.
        older: the base's chunks and the new ones; takes the sketches of the latter.
        writer: knows how deep a chunk's frame may turn out to be.
        cache: sketches of the base's layers.
    """

    def __init__(
        self, base: FrameReader, older: OlderChunks, writer: LayerWriter, cache: SketchCache
    ) -> None:
        self._base = base
        self._older = older
        self._writer = writer
        self._cache = cache
        self._extendable = older.extendable()
        self.counterparts = Counterparts(base.index) if base.index.paths else None
        """Finds the base's files; None without a base."""
        self._similar = Similar()
        self._base_is_recorded = not base.index.paths
        self._stood_in: set[tuple[int, int]] = set()
        """Frames of dropped layers, and the new frames that their prefixes went to."""

    def counterpart(self, path: bytes) -> Alignment | None:
        """Return the alignment with the base's file that is most like a new one.

        Args:
            path: of the new file.

        Returns:
            the alignment; None if there is no such file.
        """
        return None if self.counterparts is None else self.counterparts.open(path)

    def alignment(self, runs: Sequence[tuple[int, int]]) -> Alignment:
        """Return the alignment with chunks of the base.

        Args:
            runs: of these.
        """
        return Alignment(self._base.index, runs)

    def usable(self, chunks: Iterable[int]) -> list[int]:
        """Return those of some base chunks that new frames may have as prefix.

        The prefix of its frame stands for a chunk of a dropped layer: its older self lies there.

        Args:
            chunks: ordinals.

        Returns:
            the ordinals left, in the same order.
        """
        out: list[int] = []
        for chunk in chunks:
            if self._extendable[chunk]:
                out.append(chunk)
            else:
                self._stand_in(self._base.frames.of_chunk(chunk), out)
        return out

    def _stand_in(self, frame: int, out: list[int]) -> None:
        """Append the usable prefix of a dropped frame, once for each new frame.

        The prefix of a frame with a thousand chunks has a thousand as well, and each chunk of the
        frame asks for all of them.
        """
        todo = [frame]
        while todo:
            frame = todo.pop()
            key = frame, self._writer.frames_begun
            if not self._older.is_dropped(frame) or key in self._stood_in:
                continue
            self._stood_in.add(key)
            frames = self._base.frames
            for start, length in frames.prefix_runs(frame):
                for at, first, count in frames.parts(start, length):
                    if self._older.is_dropped(at):
                        todo.append(at)
                    else:
                        chunks = range(first, first + count)
                        out.extend(chunk for chunk in chunks if self._extendable[chunk])

    def find(
        self, ordinal: int, chunk: memoryview, near: Iterable[int], *, readable: bool
    ) -> tuple[list[int], Sequence[int]]:
        """Return the chunks that a new one may be compressed against, and record it for later ones.

        Args:
            ordinal: of the new chunk; each is looked for once, in order.
            chunk: its bytes.
            near: base chunks where the file's older self should have it.
            readable: whether later chunks may be compressed against it.

        Returns:
            the chunks that may hold much of it; and base chunks beside the similar one, which
            probably hold what follows, if the file is not where its older self has it.
        """
        like = self.usable(near)
        beside: Sequence[int] = ()
        if not self._base_is_recorded:
            self._base_is_recorded = True
            record_base(self._similar, self._base, self._extendable, self._cache)
        features = sketch(chunk)
        self._keep_sketch(ordinal, features)
        similar = self._similar.find(features, self._writer.planned_depth)
        in_step = bool(similar) and similar[0] in like
        best = next((older for older in similar if older not in like), None)
        if best is not None:
            like.append(best)
            if not in_step:
                # The sketch of the next chunk may find nothing, but its older self lies here.
                beside = range(max(best - 1, 0), min(best + 2, self._base.index.chunk_count))
        if readable:
            self._similar.add(ordinal, features)
        return like, beside

    def _keep_sketch(self, ordinal: int, features: array[int]) -> None:
        """Keep a new chunk's sketch for the cache, as long as there is room."""
        if ordinal - self._older.base_chunks < MAX_SKETCHES:
            self._older.new.sketches.extend(features or (0,) * SUPER_FEATURES)

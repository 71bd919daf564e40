"""Which layers of the base a new version gives up, so that versions stay cheap to pull.

Needs no download: the packer has the version's content and stores again what lived in a dropped
layer. Older versions keep listing their layers and are not touched.

The measure is the cost of a fresh pull: all layers that the version lists, against an estimate of
packing it alone. The estimate is made for each frame from what it really took: a frame without a
prefix would take as much again for each byte that is still live, a delta frame what the frames of
its prefix took for a byte, and at least its own. One mean for all would be wrong about every layer
whose content compresses worse than the rest: it would be stored again at each pack, and never get
cheaper.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress

from packer.format.frame_reader import FrameReader
from packer.format.index import Index, sums
from packer.format.layer_writer import LayerWriter
from packer.oci import UPDATE_TYPE

MAX_COST = 1.2
"""Stored bytes of a version, relative to packing it alone, that trigger compaction."""
UPDATE_COST, MOST_COST = 4, 2.0
"""More of them where an update is large: this many times its share above 1, at most MOST_COST. An
update of a third of the version would otherwise trigger it each time, and cost the whole
version."""
KEPT_COST = 1.1
"""Stored bytes, relative to packing alone, that compaction comes down to."""
PAID_COST = 16
"""Bytes that an update may store again for each new byte of its own. What goes beyond has to be
gained by a fresh pull: so a change of one line does not cost a megabyte to save a tenth of it."""
DOUBT = 1.25
"""Divisor of an estimated gain: in frames of mixed content the live part may compress worse than
the rest."""
SMALL_BYTES = 96 << 10
"""Overhead in bytes that is never worth a compaction: less than a request or two costs in time."""
MAX_LAYERS = 94
"""Data layers that trigger compaction; the budget of a manifest is 128, index layers included."""
KEPT_LAYERS = 48
"""Data layers left when the budget is exceeded: the smallest ones are merged into new ones."""


@dataclass(slots=True)
class Liveness:
    """Use of the base's layers by a new version.

    Args:
        stored_bytes: size of each layer.
        live_bytes: plaintext of the chunks that the version's files and predecessors hold, of each
            layer.
        alone_bytes: estimate for each layer of storing that plaintext again, without a prefix.
        needs: for each layer, the other layers that hold prefixes of its delta frames.
        new_needs: the layers that hold prefixes of the version's new frames, or parts of the base's
            index.
        new_bytes: stored bytes of the version's new frames.
        new_alone_bytes: estimate of storing their plaintext without a prefix.
    """

    stored_bytes: list[int]
    live_bytes: list[int]
    alone_bytes: list[float]
    needs: list[set[int]]
    new_needs: set[int]
    new_bytes: int
    new_alone_bytes: float

    def kept(self, dropped: frozenset[int] | set[int] = frozenset()) -> set[int]:
        """Return the layers that must stay: live ones, and all that prefixes need.

        Args:
            dropped: layers that are given up.

        Returns:
            ordinals of layers.
        """
        kept = set(self.new_needs)
        for layer in range(len(self.live_bytes) - 1, -1, -1):  # prefixes point backwards only
            if layer in dropped:
                kept.discard(layer)
            elif layer in kept or self.live_bytes[layer]:
                kept.add(layer)
                kept |= self.needs[layer]
        return kept

    def dependents(self, layer: int) -> set[int]:
        """Return a layer and those that cannot be read without it.

        Args:
            layer: its ordinal.

        Returns:
            ordinals of layers.
        """
        out = {layer}
        for other in range(layer + 1, len(self.needs)):
            if self.needs[other] & out:
                out.add(other)
        return out


def liveness(
    reader: FrameReader, index: Index, new_lengths: Sequence[int], writer: LayerWriter
) -> Liveness:
    """Measure the base's layers against a new version.

    Args:
        reader: reads the base.
        index: entries and runs of the version, in ordinals of all base chunks, then the new ones.
        new_lengths: plaintext bytes of each new chunk.
        writer: wrote the new frames, whose prefixes are in the same ordinals; flushed.

    Returns:
        the use of each layer.
    """
    frames, base = reader.frames, reader.index
    live = _live_chunks(index, base.chunk_count)
    layers = len(base.layer_sizes)
    of_index = {at for at, layer in enumerate(reader.layers) if layer.media_type == UPDATE_TYPE}
    found = Liveness(
        stored_bytes=list(base.layer_sizes),
        live_bytes=[0] * layers,
        alone_bytes=[0.0] * layers,
        needs=[set() for _ in range(layers)],
        new_needs=of_index,
        new_bytes=writer.stored_bytes,
        new_alone_bytes=0.0,
    )
    rates = _Rates(reader, new_lengths, writer)
    for frame, layer in enumerate(frames.layer):
        rate, needs = rates.of_base(frame)
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        held = sum(compress(base.chunk_lengths[first:last], live[first:last]))
        found.live_bytes[layer] += held
        found.alone_bytes[layer] += held * rate
        found.needs[layer] |= needs - {layer}
    for frame in range(len(writer.frame_stored)):
        rate, needs = rates.of_new(frame)
        found.new_alone_bytes += rates.new_plain_bytes(frame) * rate
        found.new_needs |= needs
    return found


class _Rates:
    """Stored bytes for each byte of plaintext, of each frame, if it had no prefix.

    Args:
        reader: reads the base.
        new_lengths: plaintext bytes of each new chunk.
        writer: wrote the new frames.
    """

    def __init__(
        self, reader: FrameReader, new_lengths: Sequence[int], writer: LayerWriter
    ) -> None:
        self._frames = reader.frames
        self._base = reader.index
        self._writer = writer
        self._rates: list[float] = []  # of the base's frames, then of the new ones
        # Of the new chunks as in `Frames`: first chunk of each frame, and bytes before each chunk.
        self._first = sums(writer.frame_chunks)
        self._end = sums(new_lengths)

    def of_base(self, frame: int) -> tuple[float, set[int]]:
        """Return the rate of a frame of the base, and the layers of its prefix. Ask in order."""
        stored, plain = self._base.frame_stored[frame], self._frames.plain_bytes(frame)
        return self._add(stored / plain, self._frames.prefix_runs(frame))

    def of_new(self, frame: int) -> tuple[float, set[int]]:
        """Return the same of a new frame, once all of the base are known. Ask in order."""
        own = self._writer.frame_stored[frame] / self.new_plain_bytes(frame)
        return self._add(own, self._writer.frame_prefixes[frame])

    def new_plain_bytes(self, frame: int) -> int:
        """Return the plaintext bytes of a new frame."""
        return self._end[self._first[frame + 1]] - self._end[self._first[frame]]

    def _add(self, own: float, prefix: Iterable[tuple[int, int]]) -> tuple[float, set[int]]:
        total, weighted = 0, 0.0
        layers: set[int] = set()
        count = self._base.chunk_count
        for start, length in prefix:
            of_base = max(min(start + length, count) - start, 0)
            if of_base:
                for frame, size in self._parts(start, start + of_base):
                    total += size
                    weighted += size * self._rates[frame]
                    layers.add(self._frames.layer[frame])
            if of_base < length:  # chunks of the new version, which mostly are of one frame
                first, last = start + of_base - count, start + length - count
                size = self._end[last] - self._end[first]
                frame = len(self._base.frame_stored) + bisect_right(self._first, first) - 1
                total += size
                weighted += size * self._rates[frame]
        rate = max(own, weighted / total) if total else own
        self._rates.append(rate)
        return rate, layers

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the frames of a run of the base's chunks, and the bytes of the run in each."""
        ends = self._frames.end
        for frame, first, count in self._frames.parts(start, end - start):
            yield frame, ends[first + count] - ends[first]


def _live_chunks(index: Index, base_chunks: int) -> bytearray:
    """Return one byte for each chunk of the base: 1 if the new version needs it.

    Files and predecessors do: without its predecessor, a file would have to be stored closed.
    """
    live = bytearray(base_chunks)
    first = last = 0
    runs = zip(index.run_starts, index.run_lengths, strict=True)
    older = (run for row in index.predecessors for run in row.runs)
    for start, length in chain(runs, older, ((-1, 0),)):
        if start != last:  # runs of successive files mostly adjoin
            end = min(last, base_chunks)
            live[first:end] = b"\1" * (end - first)
            first = min(start, base_chunks)
        last = start + length
    return live


def layers_to_drop(
    found: Liveness, new_layers: int, merged: frozenset[int] = frozenset()
) -> frozenset[int]:
    """Return the base layers whose live content should be stored again.

    Args:
        found: how the version uses the base's layers.
        new_layers: number of its new layers.
        merged: layers given up already; what lived in them is in the new frames.

    Returns:
        layers that nothing kept depends on, without those in `merged`; none if the version is cheap
        enough as it is, or storing them again would cost more than it is worth.
    """
    kept = found.kept(merged)
    alone = sum(found.alone_bytes) + found.new_alone_bytes

    def pull(dropped: set[int] | frozenset[int]) -> float:
        """Return the bytes of a fresh pull, the index left out."""
        stays = sum(found.stored_bytes[at] for at in found.kept(merged | dropped))
        return stays + again(dropped) + found.new_bytes

    def again(dropped: set[int] | frozenset[int]) -> float:
        """Return the bytes to store again."""
        return sum(found.alone_bytes[layer] for layer in dropped)

    before = pull(frozenset())
    paid = PAID_COST * found.new_bytes
    most = max(alone * MAX_COST, min(alone + UPDATE_COST * found.new_bytes, alone * MOST_COST))
    chosen: set[int] = set()
    if before > max(most, alone + SMALL_BYTES):
        dropped: set[int] = set()
        # The layers that hold least of this version for their size go first.
        for layer in sorted(
            kept, key=lambda at: (found.alone_bytes[at] / found.stored_bytes[at], at)
        ):
            if layer in dropped:
                continue
            dropped |= found.dependents(layer) & kept
            now = pull(dropped)
            if now < before and again(dropped) <= (before - now) / DOUBT + paid:
                chosen = set(dropped)
            if now <= alone * KEPT_COST:
                break
    if len(found.kept(merged | chosen)) + new_layers > MAX_LAYERS:
        for layer in sorted(kept - chosen, key=lambda at: (found.live_bytes[at], at)):
            if len(found.kept(merged | chosen)) <= KEPT_LAYERS:
                break
            chosen |= found.dependents(layer) & kept
    return frozenset(chosen)

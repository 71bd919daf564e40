"""Which layers of the base a new version gives up, so that versions stay cheap to pull.

Needs no download: the packer has the version's content and stores again what lived in a dropped
layer. Older versions keep listing their layers and are not touched.

The measure is the cost of a fresh pull: all layers that the version lists, against an estimate of
packing it alone (its live plaintext at the ratio that frames without a prefix reach).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, compress

from packer.format.frame_reader import FrameReader
from packer.format.index import Index
from packer.oci import UPDATE_TYPE

MAX_COST = 1.2
"""Stored bytes of a version, relative to packing it alone, that trigger compaction."""
UPDATE_COST, MOST_COST = 4, 2.0
"""More of them where an update is large: this many times its share above 1, at most MOST_COST. An
update of a third of the version would otherwise trigger it each time, and cost the whole
version."""
KEPT_COST = 1.1
"""Stored bytes, relative to packing alone, that compaction comes down to."""
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
        live_bytes: plaintext of the chunks that the version's files hold, of each layer.
        needs: for each layer, the other layers that hold prefixes of its delta frames.
        new_needs: the layers that hold prefixes of the version's new frames, or parts of the base's
            index.
    """

    stored_bytes: list[int]
    live_bytes: list[int]
    needs: list[set[int]]
    new_needs: set[int]

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
    reader: FrameReader, index: Index, prefixes: Iterable[Iterable[tuple[int, int]]]
) -> Liveness:
    """Measure the base's layers against a new version.

    Args:
        reader: of the base.
        index: entries and runs of the version, in ordinals of all base chunks, then the new ones.
        prefixes: runs of the prefix of each new frame, in the same ordinals.

    Returns:
        the use of each layer.
    """
    frames, base = reader.frames, reader.index
    live = _live_chunks(index, base.chunk_count)

    def layers_of(runs: Iterable[tuple[int, int]]) -> set[int]:
        out: set[int] = set()
        for start, length in runs:
            end = min(start + length, base.chunk_count)
            if start < end:  # the rest are chunks of the new version itself
                first, last = frames.of_chunk(start), frames.of_chunk(end - 1)
                out.update(frames.layer[first : last + 1])
        return out

    layers = len(base.layer_sizes)
    of_index = {at for at, layer in enumerate(reader.layers) if layer.media_type == UPDATE_TYPE}
    found = Liveness(list(base.layer_sizes), [0] * layers, [set() for _ in range(layers)], of_index)
    for frame, layer in enumerate(frames.layer):
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        found.live_bytes[layer] += sum(compress(base.chunk_lengths[first:last], live[first:last]))
        found.needs[layer] |= layers_of(frames.prefix_runs(frame)) - {layer}
    for runs in prefixes:
        found.new_needs |= layers_of(runs)
    return found


def _live_chunks(index: Index, base_chunks: int) -> bytearray:
    """Return one byte for each chunk of the base: 1 if a file of the new version holds it."""
    live = bytearray(base_chunks)
    first = last = 0
    runs = zip(index.run_starts, index.run_lengths, strict=True)
    for start, length in chain(runs, ((-1, 0),)):
        if start != last:  # runs of successive files mostly adjoin
            end = min(last, base_chunks)
            live[first:end] = b"\1" * (end - first)
            first = min(start, base_chunks)
        last = start + length
    return live


def layers_to_drop(
    found: Liveness,
    *,
    new_bytes: int,
    new_layers: int,
    plain_ratio: float,
    new_plain_bytes: int,
) -> frozenset[int]:
    """Return the base layers whose live content should be stored again.

    Args:
        found: how the version uses the base's layers.
        new_bytes: stored bytes of the version's new frames.
        new_layers: number of its new layers.
        plain_ratio: stored by plaintext bytes of frames without a prefix.
        new_plain_bytes: plaintext of its new chunks.

    Returns:
        layers that nothing kept depends on; none if the version is cheap enough as it is.
    """
    kept = found.kept()
    alone = (sum(found.live_bytes) + new_plain_bytes) * plain_ratio
    dropped: set[int] = set()

    def cost() -> float:
        again = sum(found.live_bytes[layer] for layer in dropped) * plain_ratio
        return sum(found.stored_bytes[at] for at in found.kept(dropped)) + again + new_bytes

    allowed = max(alone * MAX_COST, min(alone + UPDATE_COST * new_bytes, alone * MOST_COST))
    if kept and cost() > max(allowed, alone + SMALL_BYTES):
        # The layers that hold least of this version for their size go first.
        for layer in sorted(
            kept,
            key=lambda at: (found.live_bytes[at] * plain_ratio / found.stored_bytes[at], at),
        ):
            if layer not in dropped:
                dropped |= found.dependents(layer) & kept
                if cost() <= alone * KEPT_COST:
                    break
    if len(found.kept(dropped)) + new_layers > MAX_LAYERS:
        for layer in sorted(kept - dropped, key=lambda at: (found.live_bytes[at], at)):
            if len(found.kept(dropped)) <= KEPT_LAYERS:
                break
            dropped |= found.dependents(layer) & kept
    return frozenset(dropped)

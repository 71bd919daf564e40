"""Which layers of the base a new version gives up, so that versions stay cheap to pull.

Needs no download: the packer holds the version's content and stores again what lived in a dropped
layer. Older versions keep listing their layers and are not touched.

The measure is what a fresh pull costs: all layers that the version lists, against an estimate of
packing it alone (its live plaintext at the ratio that frames without a prefix reach).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, compress

from packer.format.index import Frames

MAX_COST = 1.2
"""Stored bytes of a version, relative to packing it alone, that trigger compaction."""
UPDATE_COST, MOST_COST = 4, 2.0
"""More of them where an update is large: so many times its share above 1, in all no more than this.
An update of a third of the version would else trigger it each time, and cost the whole version."""
KEPT_COST = 1.1
"""Where to come down to, so that compaction does not return at every update."""
SMALL_BYTES = 96 << 10
"""Overhead that is never worth a compaction: less than a request or two costs in time."""
MAX_LAYERS = 94
"""Data layers that trigger compaction; the budget of a manifest is 128, index layers included."""
KEPT_LAYERS = 48
"""Data layers left when the budget is exceeded: the smallest ones are merged into new ones."""


@dataclass(slots=True)
class Liveness:
    """How much of each base layer a new version uses.

    Args:
        stored_bytes: size of each layer.
        live_bytes: plaintext of the chunks that the version's files hold, of each layer.
        needs: for each layer, the layers its delta frames have prefixes in (itself left out).
        new_needs: the layers that the version's new frames have prefixes in, or its index.
    """

    stored_bytes: list[int]
    live_bytes: list[int]
    needs: list[set[int]]
    new_needs: set[int]

    def kept(self, dropped: frozenset[int] | set[int] = frozenset()) -> set[int]:
        """Return the layers that must stay: live ones, and all that prefixes need."""
        kept = set(self.new_needs)
        for layer in range(len(self.live_bytes) - 1, -1, -1):  # prefixes point backwards only
            if layer in dropped:
                kept.discard(layer)
            elif layer in kept or self.live_bytes[layer]:
                kept.add(layer)
                kept |= self.needs[layer]
        return kept

    def dependents(self, layer: int) -> set[int]:
        """Return a layer and those that cannot be read without it."""
        out = {layer}
        for other in range(layer + 1, len(self.needs)):
            if self.needs[other] & out:
                out.add(other)
        return out


def liveness(
    frames: Frames,
    run_starts: array[int],
    run_lengths: array[int],
    prefixes: Iterable[Iterable[tuple[int, int]]],
    of_index: Iterable[int] = (),
) -> Liveness:
    """Measure the base's layers against a new version.

    Args:
        frames: of the base.
        run_starts: first chunk of each run; ordinals from the base's chunk count on are new.
        run_lengths: number of chunks of each run.
        prefixes: prefix of each new frame, in ordinals of the base's, then the new chunks.
        of_index: base layers that also hold a part of the base's index.
    """
    base = frames.index
    live = bytearray(base.chunk_count)
    first = last = 0
    for start, length in chain(zip(run_starts, run_lengths, strict=True), ((-1, 0),)):
        if start != last:  # runs of successive files mostly adjoin
            end = min(last, len(live))
            live[first:end] = b"\1" * (end - first)
            first = min(start, len(live))
        last = start + length

    def layers_of(runs: Iterable[tuple[int, int]]) -> set[int]:
        out: set[int] = set()
        for start, length in runs:
            end = min(start + length, base.chunk_count)
            if start >= end:
                continue  # chunks of the new version itself
            first, last = frames.of_chunk(start), frames.of_chunk(end - 1)
            out.update(frames.layer[first : last + 1])
        return out

    layers = len(base.layer_sizes)
    found = Liveness(
        list(base.layer_sizes), [0] * layers, [set() for _ in range(layers)], set(of_index)
    )
    for frame, layer in enumerate(frames.layer):
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        used = compress(base.chunk_lengths[first:last], live[first:last])
        found.live_bytes[layer] += sum(used)
        found.needs[layer] |= layers_of(frames.prefix_runs(frame)) - {layer}
    for runs in prefixes:
        found.new_needs |= layers_of(runs)
    return found


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

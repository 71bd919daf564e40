"""Which layers of the base a new version gives up, so that versions stay cheap to pull.

Needs no download: the packer holds the version's content and stores again what still lived in a
dropped layer. Older versions keep listing their layers and are not touched.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from packer.index import Frames, Index

MAX_DEAD_SHARE = 0.25
"""Dead stored bytes, relative to the live ones, that trigger compaction."""
KEPT_DEAD_SHARE = 0.10
"""Dead share to come down to, so that compaction does not return at every update."""
MAX_BASE_LAYERS = 112
"""Layers kept from a base; leaves room for new ones below the budget of 128 in a manifest."""
MERGED_BASE_LAYERS = 64
"""Layers left when the budget is exceeded: the smallest ones are merged into new layers."""


@dataclass(slots=True)
class Liveness:
    """How much of each base layer a new version uses.

    Args:
        live_bytes: stored bytes of each layer whose chunks are used, apportioned by plaintext.
        dead_bytes: the rest of each layer.
        needs: for each layer, the layers its delta frames have prefixes in (itself left out).
    """

    live_bytes: list[int]
    dead_bytes: list[int]
    needs: list[set[int]]

    def kept(self, dropped: frozenset[int] = frozenset()) -> set[int]:
        """Return the layers that must stay: the live ones, and all that their prefixes need."""
        kept: set[int] = set()
        for layer in range(len(self.live_bytes) - 1, -1, -1):  # prefixes point backwards only
            if layer in kept or (self.live_bytes[layer] and layer not in dropped):
                kept.add(layer)
                kept |= self.needs[layer]
        return kept


def liveness(base: Index, run_starts: array[int], run_lengths: array[int]) -> Liveness:
    """Measure the base's layers against the runs of a new version.

    Args:
        base: the base's index.
        run_starts, run_lengths: runs; ordinals from the base's chunk count on are new chunks.
    """
    frames = Frames(base)
    live = bytearray(base.chunk_count)
    for start, length in zip(run_starts, run_lengths, strict=True):
        end = min(start + length, len(live))
        if start < end:
            live[start:end] = b"\1" * (end - start)
    layers = len(base.layer_sizes)
    out = Liveness([0] * layers, [0] * layers, [set() for _ in range(layers)])
    for frame, layer in enumerate(frames.layer):
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        lengths = base.chunk_lengths[first:last]
        used = sum(length for length, flag in zip(lengths, live[first:last], strict=True) if flag)
        stored = base.frame_stored[frame]
        # Rounded up: a layer with one live byte is live.
        live_bytes = -(-stored * used // sum(lengths))
        out.live_bytes[layer] += live_bytes
        out.dead_bytes[layer] += stored - live_bytes
        for start, length in frames.prefix_runs(frame):
            for other in range(frames.of_chunk(start), frames.of_chunk(start + length - 1) + 1):
                if frames.layer[other] != layer:
                    out.needs[layer].add(frames.layer[other])
    return out


def layers_to_drop(found: Liveness) -> frozenset[int]:
    """Return the layers whose live content should be stored again, together with new chunks.

    The worst ones until the dead share is small again, then the smallest ones until the budget
    holds. A layer that another one's prefixes need goes only together with that one.
    """
    kept = found.kept()
    dropped: set[int] = set()

    def drop(layer: int) -> None:
        dropped.add(layer)
        for other in kept - dropped:
            if layer in found.needs[other]:
                drop(other)

    live = sum(found.live_bytes[layer] for layer in kept)
    dead = sum(found.dead_bytes[layer] for layer in kept)
    if dead > live * MAX_DEAD_SHARE:
        worst = sorted(
            kept,
            key=lambda layer: (
                -found.dead_bytes[layer] / max(found.live_bytes[layer], 1),
                layer,
            ),
        )
        for layer in worst:
            if dead <= live * KEPT_DEAD_SHARE:
                break
            if layer not in dropped:
                drop(layer)
                dead = sum(found.dead_bytes[layer] for layer in kept - dropped)
    if len(kept - dropped) > MAX_BASE_LAYERS:
        smallest = sorted(kept - dropped, key=lambda layer: (found.live_bytes[layer], layer))
        for layer in smallest:
            if len(kept - dropped) <= MERGED_BASE_LAYERS:
                break
            if layer not in dropped:
                drop(layer)
    return frozenset(dropped)

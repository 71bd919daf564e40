"""Which small layers at the end of the base are merged into the new one.

Every manifest lists every layer in about 150 bytes, so after a hundred updates of one line the list
costs a hundred times as much as a line. So the last layers are given up together, and what lived in
them is stored again with the new content. That is decided from the base alone, before any file is
read.

When it pays: a layer that is merged saves its line in each manifest from now on. How many there
will be is not known; as many as the merged layers took is a good guess, as a history of this age
will probably grow as much again. So old, large layers are merged rarely and new, small ones often,
in tiers, and each byte is written again a few times in all.

Source: O'Neil et al., "The log-structured merge-tree (LSM-tree)", Acta Informatica 33, 1996.
"""

from __future__ import annotations

from collections.abc import Sequence

from packer.oci import INDEX_TYPE, Descriptor

LISTED_BYTES = 150
"""Bytes that a layer takes in a manifest: media type, digest and size."""
MERGED_BYTES = 8 << 10
"""Greatest size in bytes of all layers merged, where updates are small: it bounds what an update of
one line may cost. Their content takes about as much again, as each delta adds to the one before."""
MERGED_UPDATES = 16
"""The same as a number of updates, each like the smallest layer merged, where these are larger."""
LEAST_LAYERS = 4
"""Fewest layers that are merged: below that it saves too little to rewrite any."""
PATIENCE = 2
"""Factor of the guess how many manifests will list the layers: a layer also costs a request and a
file in each pull. With 1, updates of a few hundred bytes cost less, updates of a few KB more."""


def layers_to_merge(layers: Sequence[Descriptor]) -> frozenset[int]:
    """Return the last data layers of the base, if it pays to merge them into the new one.

    Args:
        layers: all layers of the base's manifest, in its order.

    Returns:
        ordinals of data layers, up to the last one; empty if it does not pay.
    """
    tail = _small_tail(layers)
    smallest = min((layer.size for layer in tail), default=0)
    merged = ordinal = count = sum(layer.media_type != INDEX_TYPE for layer in layers)
    cost, updates = 0, 1.0
    for listed, layer in enumerate(reversed(tail), 1):
        cost += layer.size
        if cost > max(MERGED_BYTES, MERGED_UPDATES * smallest):
            break
        if layer.media_type == INDEX_TYPE:
            continue
        ordinal -= 1
        if listed >= LEAST_LAYERS and PATIENCE * LISTED_BYTES * listed * updates >= cost:
            merged = ordinal
        updates += layer.size / smallest
    return frozenset(range(merged, count))


def _small_tail(layers: Sequence[Descriptor]) -> list[Descriptor]:
    """Return the last layers, up to the one that would be too large to merge alone."""
    tail: list[Descriptor] = []
    smallest = 0
    for layer in reversed(layers):
        smallest = min(smallest, layer.size) if tail else layer.size
        if layer.size > max(MERGED_BYTES, MERGED_UPDATES * smallest):
            break
        tail.append(layer)
    return tail[::-1]

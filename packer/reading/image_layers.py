"""Which entries of a tree go into which layer of a plain OCI image.

Each directory at the top is a layer, so that an update leaves the layers of the others as they
were. The files at the top are one layer, the last: they change most often, and runtimes unpack
anew whatever stands behind a layer that changed.

Source: OCI image-spec 1.1, layer.md, "Whiteouts".
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from packer.errors import UnsupportedFile
from packer.files.tree import DIRECTORY, show
from packer.format.index import Index

MOST_LAYERS = 100
"""Greatest number of layers of an image: some container runtimes stack no more than 125."""

_WHITEOUT = b".wh."


class LayerPlan(NamedTuple):
    """A layer of an image.

    Args:
        path: of the directory that it holds; "" if it holds others, or files at the top.
        entries: ordinals, in ascending order.
        bytes: size of the files in it.
    """

    path: str
    entries: Sequence[int]
    bytes: int


def plan_layers(index: Index, *, one_layer: bool = False) -> list[LayerPlan]:
    """Return the layers of an image that holds a tree; the tree alone decides.

    Args:
        index: of the tree.
        one_layer: put all into one layer.

    Returns:
        At least one layer and at most MOST_LAYERS. If the tree has more directories at its top, the
        smallest of them share one.

    Raises:
        UnsupportedFile: a name begins with ``.wh.``, by which layers delete files.
    """
    sizes = index.entry_sizes()
    tops: dict[bytes, array[int]] = {}
    loose: list[bytes] = []
    for entry, (path, kind) in enumerate(zip(index.paths, index.kinds, strict=True)):
        if _WHITEOUT in path and any(n.startswith(_WHITEOUT) for n in path.split(b"/")):
            raise UnsupportedFile(show(path), "to images, .wh. before a name deletes a file")
        top = path.partition(b"/")[0]
        if top not in tops:
            tops[top] = array("I")
            if kind != DIRECTORY:
                loose.append(top)
        tops[top].append(entry)
    if one_layer:
        return [LayerPlan("", range(len(index.paths)), sum(sizes))]
    files = [tops.pop(name) for name in loose]
    totals = {name: sum(sizes[entry] for entry in entries) for name, entries in tops.items()}
    room = MOST_LAYERS - bool(files)
    small: list[bytes] = []
    if len(tops) > room:
        small = sorted(tops, key=lambda name: (-totals[name], name))[room - 1 :]
    together = [tops.pop(name) for name in small]
    out = [LayerPlan(show(name), entries, totals[name]) for name, entries in sorted(tops.items())]
    for shared in (together, files):
        if shared:
            entries = sorted(entry for part in shared for entry in part)
            out.append(LayerPlan("", entries, sum(sizes[entry] for entry in entries)))
    return out or [LayerPlan("", (), 0)]

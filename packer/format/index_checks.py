"""Checks of an index that a stranger wrote: lengths, bounds, order, and prefixes before frames.

After `check_index`, no ordinal in the index points outside its columns, and no frame holds, or is
compressed against, more bytes than the bounds here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, compress
from operator import add

from packer.errors import FormatError
from packer.files.tree import DIRECTORY, FILE, SYMLINK, check_paths, show
from packer.format.frames import Frames
from packer.format.index import DIGEST_BYTES, Index, split_runs
from packer.opening import expansion
from packer.opening.expansion import Expansion
from packer.opening.predecessor import Predecessor

MAX_CHUNK_BYTES = 8 << 20
"""Greatest plaintext of a chunk in bytes, so that a reader can hold one."""
MAX_FRAME_BYTES = 8 << 20
"""Greatest plaintext of a frame in bytes: a reader holds one for each thread."""
MAX_PREFIX_BYTES = 16 << 20
"""Greatest prefix of a frame in bytes: a reader holds it beside the frame."""
MAX_DEPTH = 16
"""Longest chain of frames, each compressed against the next: reading the first decodes them all."""
MAX_TARGET_BYTES = 4095
"""Longest target of a symbolic link in bytes; Linux allows no longer one."""


def check_index(index: Index, what: str) -> None:
    """Check a decoded index as a whole.

    A breach of a rule of docs/format.md raises `FormatError`; a path that could leave the target
    directory raises `UnsafePath`.

    Args:
        index: all columns as they were read.
        what: the index's name in errors.
    """
    _check_entries(index, what)
    _check_layers(index, what)
    check_expansions(index, what)


def check_expansions(index: Index, what: str) -> None:
    """Check that each opened file's recipe and content are within the bounds for its size.

    A recipe, or an opened content, that is larger raises `FormatError`, and so does a predecessor
    that is larger, or closed and not of its size.

    Args:
        index: complete.
        what: the index's name in errors.
    """
    ends = [0, *accumulate(index.chunk_lengths)] if index.expansions else []

    def check(runs: Iterable[tuple[int, int]], row: Expansion | Predecessor, name: str) -> None:
        content, recipe = (
            sum(ends[at + length] - ends[at] for at, length in part)
            for part in split_runs(runs, row.recipe_chunks)
        )
        most = expansion.most_recipe(row.size, against=bool(row.predecessors))
        require(recipe <= most, what, f"{name}: too large a recipe")
        require(content <= expansion.most_opened(row.size), what, f"{name} is too large")
        require(row.recipe_chunks > 0 or content == row.size, what, f"{name} has another size")

    for entry, row in index.expansions.items():
        require(
            entry < len(index.paths)
            and 0 < row.size <= expansion.MAX_FILE_BYTES
            and row.recipe_chunks > 0,
            what,
            f"expansion of entry {entry} is out of range",
        )
        name = f"expansion of {show(index.paths[entry])}"
        chunks = sum(length for _, length in index.runs_of(entry))
        require(row.recipe_chunks <= chunks, what, f"{name} has more recipe than chunks")
        check(index.runs_of(entry), row, name)
    for ordinal, old in enumerate(index.predecessors):
        name = f"predecessor {ordinal}"
        require(0 < old.size <= expansion.MAX_FILE_BYTES, what, f"{name} is out of range")
        check(old.runs, old, name)


def require(sound: bool, what: str, why: str) -> None:
    """Raise an error unless a condition holds.

    Args:
        sound: the condition.
        what: the document's name in the error.
        why: what is wrong with the document if the condition does not hold.

    Raises:
        FormatError: the condition does not hold.
    """
    if not sound:
        raise FormatError(what, why)


def _check_entries(index: Index, what: str) -> None:
    """Check the columns of the tree, and that runs lie within the chunks."""
    count = len(index.paths)
    require(
        len(index.kinds) == len(index.modes) == len(index.run_counts) == count,
        what,
        "entry columns differ in length",
    )
    require(max(index.kinds, default=FILE) <= SYMLINK, what, "an entry of unknown kind")
    require(min(index.kinds, default=FILE) >= DIRECTORY, what, "an entry of unknown kind")
    require(max(index.modes, default=0) <= 0o777, what, "mode bits beyond permissions")
    require(index.kinds.count(SYMLINK) == len(index.targets), what, "targets do not match links")
    require(sum(index.run_counts) == len(index.run_starts), what, "runs do not match entries")
    others = compress(index.run_counts, map(FILE.__ne__, index.kinds))
    require(not any(others), what, "an entry with content that is not a file")
    check_paths(index.paths, index.kinds)
    for target in index.targets:
        require(
            0 < len(target) <= MAX_TARGET_BYTES,
            what,
            f"a link target is empty or above {MAX_TARGET_BYTES} bytes",
        )
    require(min(index.run_lengths, default=1) > 0, what, "a run without chunks")
    end = max(map(add, index.run_starts, index.run_lengths), default=0)
    total = index.chunk_count
    require(end <= total, what, f"a run up to chunk {end} is outside the {total} chunks")


def _check_layers(index: Index, what: str) -> None:
    """Check the columns of layers, frames and chunks."""
    frames, chunks = len(index.frame_stored), index.chunk_count
    require(sum(index.layer_frames) == frames, what, "frames do not match layers")
    require(
        len(index.frame_chunks)
        == len(index.frame_depths)
        == len(index.frame_prefix_runs)
        == frames,
        what,
        "frame columns differ in length",
    )
    require(sum(index.frame_chunks) == chunks, what, "chunks do not match frames")
    require(len(index.chunk_digests) == chunks * DIGEST_BYTES, what, "chunk digests")
    require(min(index.frame_chunks, default=1) > 0, what, "a frame without chunks")
    require(min(index.chunk_lengths, default=1) > 0, what, "an empty chunk")
    require(
        max(index.chunk_lengths, default=0) <= MAX_CHUNK_BYTES,
        what,
        f"a chunk above {MAX_CHUNK_BYTES} bytes",
    )
    require(min(index.layer_frames, default=1) > 0, what, "a layer without frames")
    require(
        sum(index.frame_prefix_runs) == len(index.prefix_starts) == len(index.prefix_lengths),
        what,
        "prefix runs do not match frames",
    )
    _check_frames(index, what)


def _check_frames(index: Index, what: str) -> None:
    """Check the size, the prefix and the depth of each frame."""
    frames = Frames(index)
    prefix = 0
    for frame, (runs, depth) in enumerate(
        zip(index.frame_prefix_runs, index.frame_depths, strict=True)
    ):
        require(
            frames.plain_bytes(frame) <= MAX_FRAME_BYTES,
            what,
            f"frame {frame} holds more than {MAX_FRAME_BYTES} bytes",
        )
        if not runs:
            require(depth == 0, what, f"frame {frame} has a depth but no prefix")
            continue
        own, total, deepest = frames.first_chunk[frame], 0, 0
        # Slices, not `prefix_runs`: tuples of a stranger's 16 million runs would take 1.4 GB.
        for start, length in zip(
            index.prefix_starts[prefix : prefix + runs],
            index.prefix_lengths[prefix : prefix + runs],
            strict=True,
        ):
            # Prefixes hold only chunks before the frame's own, so no cycle can be written down.
            require(
                length > 0 and start + length <= own,
                what,
                f"prefix of frame {frame} is not before it",
            )
            total += frames.end[start + length] - frames.end[start]
            first, last = frames.of_chunk(start), frames.of_chunk(start + length - 1)
            deepest = max(deepest, *index.frame_depths[first : last + 1])
        require(
            total <= MAX_PREFIX_BYTES,
            what,
            f"prefix of frame {frame} is above {MAX_PREFIX_BYTES} bytes",
        )
        require(
            deepest + 1 == depth <= MAX_DEPTH,
            what,
            f"frame {frame} has depth {depth} on prefixes of depth {deepest}",
        )
        prefix += runs

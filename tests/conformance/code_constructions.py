"""How encoders make the headers of dynamic blocks, written from docs/deflate.md alone: lengths of
codes from counts, and how they are told; slow and plain.
"""

from __future__ import annotations

from tests.conformance.plain_deflate import (
    DISTANCES,
    EXTRA,
    FIXED,
    LENGTHS,
    ORDER,
    Header,
    Token,
    extra_of_distance,
    extra_of_length,
    symbol_in,
)


def zlib_lengths(counts: list[int], most: int) -> list[int]:
    """Huffman's algorithm on zlib's heap (trees.c, build_tree)."""
    symbols = len(counts)
    weight = [*counts, *([0] * (symbols + 1))]
    depth, parent = [0] * len(weight), [0] * len(weight)
    heap = [0, *(at for at, count in enumerate(counts) if count)]
    greatest = heap[-1] if len(heap) > 1 else -1
    while len(heap) < 3:
        made = greatest = greatest + 1 if greatest < 2 else greatest
        made = made if greatest == made and made not in heap[1:] else 0
        heap.append(made)
        weight[made] = 1

    def before(one: int, other: int) -> bool:
        return (weight[one], depth[one]) <= (weight[other], depth[other])

    def sift(hole: int) -> None:
        node = heap[hole]
        child = 2 * hole
        while child < len(heap):
            if child + 1 < len(heap) and before(heap[child + 1], heap[child]):
                child += 1
            if before(node, heap[child]):
                break
            heap[hole] = heap[child]
            hole, child = child, 2 * child
        heap[hole] = node

    for at in range((len(heap) - 1) // 2, 0, -1):
        sift(at)
    order: list[int] = []
    node = symbols
    while True:
        one = heap[1]
        last = heap.pop()
        if len(heap) > 1:
            heap[1] = last
            sift(1)
        other = heap[1]
        order += [one, other]
        weight[node] = weight[one] + weight[other]
        depth[node] = max(depth[one], depth[other]) + 1
        parent[one] = parent[other] = node
        heap[1] = node
        node += 1
        if len(heap) == 2:
            break
        sift(1)
    bits = {heap[1]: 0}
    lengths, count, over = [0] * symbols, [0] * (most + 1), 0
    for at in reversed(order):
        length = bits[parent[at]] + 1
        if length > most:
            length, over = most, over + 1
        bits[at] = length
        if at < symbols:
            lengths[at] = length
            count[length] += 1
    if not over:
        return lengths
    while over > 0:
        length = most - 1
        while not count[length]:
            length -= 1
        count[length] -= 1
        count[length + 1] += 2
        count[most] -= 1
        over -= 2
    leaves = [at for at in order if at < symbols]
    for length in range(most, 0, -1):
        for _ in range(count[length]):
            lengths[leaves.pop(0)] = length
    return lengths


def queue_lengths(counts: list[int], most: int) -> list[int]:
    leaves = sorted((count, at) for at, count in enumerate(counts) if count)
    lengths = [0] * len(counts)
    if len(leaves) < 2:
        used = leaves[0][1] if leaves else 0
        lengths[0] = lengths[used or 1] = 1
        return lengths
    weights: list[int] = []
    parents: dict[int, int] = {}
    leaf = node = 0
    for made in range(len(leaves) - 1):
        weights.append(0)
        for _ in range(2):
            if leaf < len(leaves) and (node == made or leaves[leaf][0] <= weights[node]):
                weights[made] += leaves[leaf][0]
                leaf += 1
            else:
                weights[made] += weights[node]
                parents[node] = made
                node += 1
    codes = [0, 2] + [0] * most
    depths = {len(weights) - 1: 0}
    for at in range(len(weights) - 2, -1, -1):
        depth = depths[at] = depths[parents[at]] + 1
        if depth >= most:
            depth = max(length for length in range(1, most) if codes[length])
        codes[depth] -= 1
        codes[depth + 1] += 2
    place = 0
    for length in range(most, 0, -1):
        for _ in range(codes[length]):
            lengths[leaves[place][1]] = length
            place += 1
    return lengths


def package_merge(counts: list[int], most: int) -> list[int]:
    """Return optimal lengths of codes, in Go's manner."""
    lengths = [0] * len(counts)
    leaves = sorted((count, at) for at, count in enumerate(counts) if count)
    if len(leaves) <= 2:
        for _, at in leaves:
            lengths[at] = 1
        return lengths
    single = [(count, [at]) for count, at in leaves]
    level = single
    for _ in range(min(most, len(leaves) - 1) - 1):
        pairs = [
            (level[at][0] + level[at + 1][0], level[at][1] + level[at + 1][1])
            for at in range(0, len(level) - 1, 2)
        ]
        level = []
        left = single[::-1]
        for pair in pairs:
            while left and left[-1][0] < pair[0]:
                level.append(left.pop())
            level.append(pair)
        level += left[::-1]
    for _, symbols in level[: 2 * len(leaves) - 2]:
        for at in symbols:
            lengths[at] += 1
    # Of symbols with the same count, those with greater values get the shorter codes.
    order = sorted((lengths[at] for _, at in leaves), reverse=True)
    for (_, at), length in zip(leaves, order, strict=True):
        lengths[at] = length
    return lengths


def told(make: int, first: list[int], second: list[int]) -> Header:
    """Return the header by which a construction tells lengths."""
    joined = make in (1, 2)
    parts = [first + second] if joined else [first, second]
    runs = [run for part in parts for run in run_lengths(part, not joined)]
    used = [0] * 19
    for symbol, _ in runs:
        used[symbol] += 1
    codes = (zlib_lengths, package_merge, queue_lengths)[min(make, 2)](used, 7)
    given = max(4, max(at for at, symbol in enumerate(ORDER) if codes[symbol]) + 1)
    return Header(first, second, runs, codes, given)


def construct(make: int, tokens: list[Token], literals: bytes, plain: int) -> tuple[int, Header]:
    """Return the type a construction chooses, and its header."""
    counts, far, extra, at = [0] * 286, [0] * 30, 0, 0
    for length, distance in tokens:
        if distance:
            one, other = symbol_in(LENGTHS, length), symbol_in(DISTANCES, distance)
            counts[257 + one] += 1
            far[other] += 1
            extra += extra_of_length(one) + extra_of_distance(other)
        else:
            counts[literals[at]] += 1
        at += length
    counts[256] = 1
    if make == 0:
        first, second = zlib_lengths(counts, 15), zlib_lengths(far, 15)
    elif make == 1:
        far[0] += not any(far)
        first, second = package_merge(counts, 15), package_merge(far, 15)
    else:
        most = 14 if make == 2 else make + 6
        first, second = queue_lengths(counts, most), queue_lengths(far, 15 if make == 2 else most)
    shown = max(257, max(at for at, length in enumerate(first) if length) + 1)
    behind = max([at for at, length in enumerate(second) if length] or [0]) + 1
    header = told(make, first[:shown], second[:behind])
    head = 17 + 3 * header.given
    head += sum(header.codes[symbol] + EXTRA.get(symbol, 0) for symbol, _ in header.runs)
    body = sum(a * b for a, b in zip([*counts, *far], [*first, *second], strict=True))
    fixed = 3 + sum(a * b for a, b in zip(counts, FIXED[:286], strict=True)) + 5 * sum(far)
    dynamic, fixed = head + body + extra, fixed + extra
    if make == 0:
        dynamic, fixed = dynamic + 7 >> 3, fixed + 7 >> 3
        if plain + 4 <= min(dynamic, fixed) and plain <= 65535:
            return 0, header
        return (1 if fixed <= dynamic else 2), header
    if make == 1 and plain <= 65535 and 8 * (plain + 5) < min(dynamic, fixed):
        return 0, header
    return (2 if dynamic < fixed else 1), header


def run_lengths(lengths: list[int], zlib: bool) -> list[tuple[int, int]]:
    """Return run-length symbols and the values of their extra bits."""
    out: list[tuple[int, int]] = []
    at = 0
    previous = -1
    while at < len(lengths):
        value, run = lengths[at], 1
        while at + run < len(lengths) and lengths[at + run] == value:
            run += 1
        if not zlib:
            at += run
            if value:
                out.append((value, 0))
                run -= 1
            while run >= (3 if value else 11):
                taken = min(run, 6 if value else 138)
                run -= taken
                out.append((16, taken - 3) if value else (18, taken - 11))
            if not value and run >= 3:
                out.append((17, run - 3))
                run = 0
            out += [(value, 0)] * run
            continue
        run = min(run, 138 if not value else 6 if value == previous else 7)
        at += run
        if run < (4 if value and value != previous else 3):
            out += [(value, 0)] * run
        elif value:
            single = value != previous
            out += [(value, 0)] * single + [(16, run - single - 3)]
        else:
            out.append((17, run - 3) if run <= 10 else (18, run - 11))
        previous = value
    return out

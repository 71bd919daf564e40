"""The entropy coding of zstd blocks (RFC 8878) for the readers of recipes: tables read, written and
made from counts, as docs/format.md says; slow and plain.
"""

from __future__ import annotations

from typing import NamedTuple

LITERALS = 3
SYMBOLS = (36, 32, 53)
LOGS = (9, 8, 9)
BEAT = (0, 473195, 504333, 520860, 550000, 700000, 750000, 830000)
PREDEFINED = (
    [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1]
    + [-1] * 4,
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] + [-1] * 5,
    [1, 4, 3, 2, 2, 2, 2, 2, 2] + [1] * 37 + [-1] * 7,
)
PREDEFINED_LOGS = (6, 5, 6)
LENGTH_CODES = [(value, 0) for value in range(16)] + [
    *((16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6)),
    *((1 << bits, bits) for bits in range(7, 17)),
]
MATCH_CODES = [(value, 0) for value in range(3, 35)] + [
    *((35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4)),
    *((99, 5), *(((1 << bits) + 3, bits) for bits in range(7, 17))),
]


class Refused(Exception):
    """The recipe does not fit."""


def need(sound: bool, what: str) -> None:
    if not sound:
        raise Refused(what)


def hb(value: int) -> int:
    """Return the number of the highest bit."""
    return value.bit_length() - 1


class Sequence(NamedTuple):
    """Literals, then a match."""

    literals: int
    length: int
    value: int


def read_backward(parts: list[tuple[int, int]]) -> bytes:
    """Return a stream of bits that is read from its end, given values and bits in that order."""
    value = 1
    for part, bits in parts:
        value = value << bits | part
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


# FSE, RFC 8878, 4.1


class Cell(NamedTuple):
    """A state: its symbol; the next state is `base` and `bits` bits."""

    symbol: int
    bits: int
    base: int


def cells_of(shares: list[int], log: int) -> list[Cell]:
    """Return the table."""
    size = 1 << log
    symbols, high = [-1] * size, size - 1
    for symbol, share in enumerate(shares):
        if share == -1:
            symbols[high] = symbol
            high -= 1
    at, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol, share in enumerate(shares):
        for _ in range(max(share, 0)):
            symbols[at] = symbol
            at = (at + step) % size
            while at > high:
                at = (at + step) % size
    need(at == 0 and -1 not in symbols, "shares")
    following = [abs(share) for share in shares]
    out = []
    for symbol in symbols:
        state = following[symbol]
        following[symbol] += 1
        bits = log - hb(state)
        out.append(Cell(symbol, bits, (state << bits) - size))
    return out


def states_of(cells: list[Cell], symbols: list[int]) -> list[int]:
    """Return the state of each symbol: of the last one, its first cell."""
    out: list[int] = []
    for symbol in reversed(symbols):
        for state, cell in enumerate(cells):
            behind = out[-1] - cell.base if out else 0
            if cell.symbol == symbol and 0 <= behind < 1 << cell.bits:
                out.append(state)
                break
        else:
            raise Refused("a symbol without a share")
    return out[::-1]


def write_shares(shares: list[int], log: int) -> bytes:
    """Return a description, RFC 8878, 4.1.1."""
    value, bits = log - 5, 4

    def put(part: int, count: int) -> None:
        nonlocal value, bits
        value |= part << bits
        bits += count

    left, threshold, width, at, was_zero = (1 << log) + 1, 1 << log, log + 1, 0, False
    while left > 1:
        if was_zero:
            run = 0
            while shares[at] == 0:
                at, run = at + 1, run + 1
            while run >= 3:
                put(3, 2)
                run -= 3
            put(run, 2)
        share = shares[at]
        at += 1
        most = 2 * threshold - 1 - left
        left -= abs(share)
        was_zero = share == 0
        coded = share + 1
        if coded >= threshold:
            coded += most
        put(coded, width - (coded < most))
        while left < threshold:
            width, threshold = width - 1, threshold >> 1
    return value.to_bytes((bits + 7) // 8, "little")


def read_shares(text: bytes) -> tuple[list[int], int, int]:
    """Return shares, their log, and the bytes of a description."""
    bits, at = int.from_bytes(text, "little"), 4
    log = (bits & 15) + 5
    left, out = (1 << log) + 1, list[int]()
    while left > 1:
        width = hb(left) + 1
        low = (1 << width) - 1 - left
        value = bits >> at & ((1 << width) - 1)
        if value & ((1 << width - 1) - 1) < low:
            value &= (1 << width - 1) - 1
            at += width - 1
        else:
            at += width
            if value >= 1 << width - 1:
                value -= low
        out.append(value - 1)
        left -= abs(value - 1)
        if value == 1:
            while True:
                run = bits >> at & 3
                at += 2
                out += [0] * run
                if run < 3:
                    break
    return out, log, (at + 7) // 8


def shares_of(
    rule: int, counts: list[int], most: int, last: int | None, rare: int | None = None
) -> tuple[list[int], int] | None:
    """Return the shares that a rule makes, and their log."""
    m = max(symbol for symbol, count in enumerate(counts) if count)
    total = sum(counts)
    log = hb(total - 1) - 2
    log = log if 0 <= log < most else most
    log = min(max(log, min(hb(total) + 1, hb(m) + 2 if m else 1), 5), most)
    counts = counts[: m + 1]
    if last is not None and rule != 1 and counts[last] > 1:
        counts[last] -= 1
        total -= 1
    if total in counts:
        return None
    if rare is None:
        rare = 1 if rule != 1 and total < 2048 else -1
    size, low, fine, step = 1 << log, total >> log, 62 - log, (1 << 62) // total
    out, left = [], size
    for count in counts:
        share = 0
        if count and count <= low:
            share = rare
        elif count:
            share = count * step >> fine
            if share < 8:
                share += count * step - (share << fine) > (1 << fine - 20) * BEAT[share]
        out.append(share)
        left -= abs(share)
    best = max(range(len(out)), key=lambda symbol: (out[symbol], -symbol))
    if -left < out[best] >> 1:
        out[best] += left
    else:
        out = second_way(counts, total, log, low, rare)
    if any(count and not share for count, share in zip(counts, out, strict=True)):
        return None
    return (out, log) if sum(map(abs, out)) == size else None


def second_way(counts: list[int], total: int, log: int, low: int, rare: int) -> list[int]:
    """Return the shares of points 7 to 9."""
    one, out = 3 * total >> log + 1, [0] * len(counts)
    cells, left, open_ = 1 << log, total, list[int]()
    for symbol, count in enumerate(counts):
        if count and count <= one:
            out[symbol] = rare if count <= low else 1
            cells, left = cells - 1, left - count
        elif count:
            open_.append(symbol)
    if left // cells > one:
        one = 3 * left // (2 * cells)
        for symbol in [symbol for symbol in open_ if counts[symbol] <= one]:
            out[symbol] = 1
            cells, left = cells - 1, left - counts[symbol]
            open_.remove(symbol)
    fine = 62 - log
    middle = (1 << fine - 1) - 1
    unit = ((cells << fine) + middle) // left
    sum_ = middle
    for symbol in open_:
        end = sum_ + counts[symbol] * unit
        out[symbol] = (end >> fine) - (sum_ >> fine)
        sum_ = end
    return out


# Huffman, RFC 8878, 4.2


def depths_of(counts: list[int], most: int) -> dict[int, int]:
    """Return the depth of each symbol that occurs: points 1 and 2."""
    order = sorted((s for s, count in enumerate(counts) if count), key=lambda s: (-counts[s], s))
    symbols = [(counts[s], [s]) for s in reversed(order)]
    nodes: list[tuple[int, list[int]]] = []
    depth = dict.fromkeys(order, 0)

    def least() -> tuple[int, list[int]]:
        if symbols and (not nodes or symbols[0][0] < nodes[0][0]):
            return symbols.pop(0)
        return nodes.pop(0)

    while len(symbols) + len(nodes) > 1:
        one, other = least(), least()
        for symbol in one[1] + other[1]:
            depth[symbol] += 1
        nodes.append((one[0] + other[0], one[1] + other[1]))
    if max(depth.values()) > most:
        limit(depth, order, counts, most)
    return depth


def limit(depth: dict[int, int], order: list[int], counts: list[int], most: int) -> None:
    """Make no symbol deeper than `most`: point 2."""
    deepest = max(depth.values())
    owed = 0
    for symbol in order:
        if depth[symbol] > most:
            owed += (1 << deepest - most) - (1 << deepest - depth[symbol])
            depth[symbol] = most
    owed >>= deepest - most
    first = next(at for at, symbol in enumerate(order) if depth[symbol] == most)
    while first and depth[order[first - 1]] == most:
        first -= 1
    end: dict[int, int] = {}
    for at in range(first):
        end[most - depth[order[at]]] = at
    while owed > 0:
        k = hb(owed) + 1
        while k > 1:
            if k in end and k - 1 not in end:
                break
            if k in end and counts[order[end[k]]] <= 2 * counts[order[end[k - 1]]]:
                break
            k -= 1
        while k not in end:
            k += 1
        at = end[k]
        depth[order[at]] += 1
        owed -= 1 << k - 1
        end.setdefault(k - 1, at)
        if at and depth[order[at - 1]] == most - k:
            end[k] = at - 1
        else:
            del end[k]
    while owed < 0:
        if 1 not in end:
            end[1] = next(at for at, symbol in enumerate(order) if depth[symbol] == most)
        else:
            end[1] += 1
        depth[order[end[1]]] -= 1
        owed += 1


def describe_depths(depth: dict[int, int], rule: int) -> bytes | None:
    """Return the description of a code: point 3."""
    m, deepest = max(depth), max(depth.values())
    weights = [deepest + 1 - depth[s] if s in depth else 0 for s in range(m)]
    counts = [weights.count(weight) for weight in range(max(weights) + 1)]
    if len(weights) >= 3 and max(counts) < len(weights) and max(counts) > 1:
        made = shares_of(0 if rule == 2 else rule, counts, 6, None, -1 if rule == 1 else 1)
        if made is not None:
            cells = cells_of(*made)
            states = {}
            for parity in (0, 1):
                found = states_of(cells, weights[parity::2])
                states.update({2 * at + parity: state for at, state in enumerate(found)})
            parts = [(states[0], made[1]), (states[1], made[1])]
            for at in range(len(weights) - 2):
                cell = cells[states[at]]
                parts.append((states[at + 2] - cell.base, cell.bits))
            out = write_shares(*made) + read_backward(parts)
            if 1 < len(out) < (m + (rule == 1)) // 2:
                return bytes([len(out)]) + out
    if m > 128:
        return None
    padded = [*weights, 0] if m % 2 else weights
    pairs = zip(padded[::2], padded[1::2], strict=True)
    return bytes([127 + m]) + bytes(high << 4 | low for high, low in pairs)


def describe_literals(rule: int, counts: list[int]) -> bytes:
    """Return the description that a rule makes of a table of literals."""
    m = max(symbol for symbol, count in enumerate(counts) if count)
    total = sum(counts)
    if rule == 2:
        made = strongest(counts)
    else:
        log = hb(total - 1) - 1
        log = log if 0 <= log < 11 else 11
        log = min(max(log, min(hb(total) + 1, hb(m) + 2), 5), 11)
        made = describe_depths(depths_of(counts, log), rule)
    need(made is not None, "a description")
    assert made is not None
    return made


def strongest(counts: list[int]) -> bytes | None:
    """Return the description of rule 2: point 4."""
    best, least = None, 1 << 60
    first = hb(sum(count > 0 for count in counts)) + 1
    for most in range(first, 12):
        depth = depths_of(counts, most)
        if max(depth.values()) < most and most > first:
            break
        made = describe_depths(depth, 2)
        if made is None:
            continue
        size = sum(counts[s] * bits for s, bits in depth.items()) // 8 + len(made)
        if size > least + 1:
            break
        if size < least:
            best, least = made, size
    return best


def codes_of(text: bytes) -> dict[int, tuple[int, int]]:
    """Return the codes of a description, each with its bits."""
    if text[0] >= 128:
        count = text[0] - 127
        weights = [text[1 + at // 2] >> (4 if at % 2 == 0 else 0) & 15 for at in range(count)]
    else:
        weights = read_weights(text[1 : 1 + text[0]])
    left = sum(1 << weight - 1 for weight in weights if weight)
    most = hb(left) + 1
    weights.append(hb((1 << most) - left) + 1)
    out, code = {}, 0
    for weight in range(1, most + 1):
        for symbol, other in enumerate(weights):
            if other == weight:
                out[symbol] = (code >> weight - 1, most + 1 - weight)
                code += 1 << weight - 1
    return out


def read_weights(text: bytes) -> list[int]:
    """Return the weights that FSE holds, RFC 8878, 4.2.1.2."""
    shares, log, used = read_shares(text)
    cells = cells_of(shares, log)
    value = int.from_bytes(text[used:], "little")
    left = hb(value)

    def take(bits: int) -> int:
        nonlocal left
        left -= bits
        at = left
        return (value >> at if at >= 0 else value << -at) & ((1 << bits) - 1)

    states, out = [take(log), take(log)], list[int]()
    while True:
        cell = cells[states[len(out) % 2]]
        out.append(cell.symbol)
        if left < cell.bits:
            out.append(cells[states[len(out) % 2]].symbol)
            return out
        states[(len(out) - 1) % 2] = cell.base + take(cell.bits)

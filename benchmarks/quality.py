"""How well the chunker finds what did not change, and how even its chunks are, beside FastCDC.

    python -m benchmarks.quality CORPUS [CORPUS ...] [--averages 16384,65536] [--json FILE]

For successive versions: bytes in chunks that the version before did not have, in per cent, and the
distribution of chunk sizes; by layer-packer's rule and by pyfastcdc. Two kinds of input: `files`,
each file by itself, as versions are packed, and `stream`, all contents of a version one after
another, where files end nowhere near a cut. Archives are opened first, or nothing would be equal.

Smaller chunks always find more, and the same nominal average gives different means. So FastCDC is
shown twice: with the same nominal average, and at the same mean on these versions, interpolated
between the two averages whose means are next to it (it knows powers of two only).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import blake3

from benchmarks import plots
from benchmarks.measure import BenchmarkError, Record, Row, say, versions_of
from benchmarks.opened import archives_of, open_tree
from packer.engine.chunking import ChunkParams, cut_points

AVERAGES = (16 << 10, 64 << 10)
OURS, NOMINAL, MATCHED = "layer-packer", "FastCDC, same average", "FastCDC, same mean"

Cutter = Callable[[bytes], list[int]]


def our_cutter(average: int) -> Cutter:
    """Return the rule of the package."""
    params = ChunkParams(average)
    return lambda data: cut_points(data, params)


def fastcdc_cutter(average: int) -> Cutter:
    """Return pyfastcdc's rule with its own minimum and maximum for the average.

    Raises:
        BenchmarkError: pyfastcdc is not installed.
    """
    try:
        import pyfastcdc
    except ImportError as error:
        raise BenchmarkError("pyfastcdc is not installed (the extra `bench` has it)") from error
    cutter = pyfastcdc.FastCDC(avg_size=average)

    def cuts(data: bytes) -> list[int]:
        return [chunk.offset + chunk.length for chunk in cutter.cut_buf(data)] if data else []

    return cuts


def inputs(tree: Path, kind: str) -> Iterator[bytes]:
    """Yield what is chunked of a version: its files, or all of them as one."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    if kind == "files":
        for path in files:
            yield path.read_bytes()
    else:
        yield b"".join(path.read_bytes() for path in files)


def sizes_of(contents: list[bytes], cutter: Cutter) -> list[int]:
    """Return the sizes of the chunks that a cut point ends.

    The last chunk of a file ends where the file does; it tells nothing of the rule.
    """
    out = list[int]()
    for data in contents:
        cuts = cutter(data)
        out += [end - start for start, end in zip([0, *cuts], cuts[:-1], strict=False)]
    return out


def digests_of(contents: list[bytes], cutter: Cutter) -> dict[bytes, int]:
    """Return the size of every different chunk, by digest."""
    found = {}
    for data in contents:
        view, start = memoryview(data), 0
        for end in cutter(data):
            found[blake3.blake3(view[start:end]).digest()] = end - start
            start = end
    return found


def quality_row(versions: list[list[bytes]], cutter: Cutter) -> Row:
    """Chunk versions one after another."""
    sizes, shares, before = list[int](), list[float](), dict[bytes, int]()
    for contents in versions:
        sizes += sizes_of(contents, cutter)
        found = digests_of(contents, cutter)
        total = sum(found.values())
        if before and total:
            new = sum(size for digest, size in found.items() if digest not in before)
            shares.append(100 * new / total)
        before = found
    ordered = sorted(sizes)
    mean = statistics.fmean(sizes) if sizes else None
    return {
        "new_percent": statistics.fmean(shares) if shares else None,
        "mean_bytes": mean,
        "deviation": statistics.pstdev(sizes) / mean if mean else None,
        "percentiles": [ordered[at * (len(ordered) - 1) // 100] for at in (1, 25, 50, 75, 99)]
        if ordered
        else [],
        "cuts": len(sizes),
    }


def at_mean(rows: list[Row], mean: float) -> Row:
    """Return what rows of growing means say at `mean`, in proportion between the nearest two."""
    known = sorted((row for row in rows if row["mean_bytes"]), key=lambda row: row["mean_bytes"])
    if not known:
        return {"new_percent": None, "mean_bytes": None, "deviation": None, "percentiles": []}
    below = [row for row in known if row["mean_bytes"] <= mean] or known[:1]
    above = [row for row in known if row["mean_bytes"] >= mean] or known[-1:]
    low, high = below[-1], above[0]
    span = math.log(high["mean_bytes"] / low["mean_bytes"])
    part = math.log(mean / low["mean_bytes"]) / span if span else 0.0
    part = min(max(part, 0.0), 1.0)

    def between(name: str) -> float | None:
        if low[name] is None or high[name] is None:
            return None
        return float(low[name] + part * (high[name] - low[name]))

    return {
        "new_percent": between("new_percent"),
        "mean_bytes": low["mean_bytes"] * math.exp(part * span),
        "deviation": between("deviation"),
        "percentiles": [],
    }


def measure_corpora(record: Record, corpora: list[Path], averages: list[int], limit: int) -> None:
    """Add to a record what it lacks."""
    for corpus in corpora:
        wanted = [(kind, average) for kind in ("files", "stream") for average in averages]
        if all(
            record.find(corpus=corpus.name, input=k, average=a, rule=MATCHED) for k, a in wanted
        ):
            continue
        trees = versions_of(corpus)[:limit]
        with tempfile.TemporaryDirectory(prefix="quality-") as work:
            if archives_of(trees[0]):
                trees = [_opened(tree, Path(work)) for tree in trees]
            for kind, average in wanted:
                key = {"corpus": corpus.name, "input": kind, "average": average}
                if record.find(**key, rule=MATCHED):
                    continue
                record.drop(**key)
                say(f"{corpus.name}: {kind}, average {average}")
                versions = [list(inputs(tree, kind)) for tree in trees]
                ours = quality_row(versions, our_cutter(average))
                others = {
                    other: quality_row(versions, fastcdc_cutter(other))
                    for other in (int(average * 2 ** (step / 4)) for step in range(-6, 5))
                }
                mean = ours["mean_bytes"] or average
                record.add({**key, "rule": OURS, **ours})
                record.add({**key, "rule": NOMINAL, **others[average]})
                record.add({**key, "rule": MATCHED, **at_mean(list(others.values()), mean)})


def _opened(tree: Path, work: Path) -> Path:
    target = work / tree.name
    target.mkdir()
    open_tree(tree, target)
    return target


def table(rows: list[Row]) -> str:
    """Return the results as text."""
    lines = []
    for key in dict.fromkeys((row["corpus"], row["input"], row["average"]) for row in rows):
        lines += [
            f"\n{key[0]}, {key[1]}, average {key[2]:,}",
            f"  {'':24}{'new %':>9}{'mean':>10}{'deviation':>11}  sizes at 1, 25, 50, 75, 99 %",
        ]
        for row in rows:
            if (row["corpus"], row["input"], row["average"]) != key:
                continue
            new = "-" if row["new_percent"] is None else f"{row['new_percent']:.2f}"
            if row["mean_bytes"] is None:
                lines.append(f"  {row['rule']:24}{new:>9}{'no cut: all files too small':>40}")
                continue
            spread = ", ".join(f"{size:,}" for size in row["percentiles"]) or "(interpolated)"
            lines.append(
                f"  {row['rule']:24}{new:>9}{row['mean_bytes']:10,.0f}{row['deviation']:11.3f}"
                f"  {spread}"
            )
    return "\n".join(lines)


def charts(rows: list[Row]) -> list[plots.Chart | plots.Bars]:
    """Return the new bytes by rule, of the largest average measured, in streams."""
    average = max(row["average"] for row in rows)
    groups: dict[str, dict[str, float | None]] = {}
    for row in rows:
        if row["average"] == average and row["input"] == "stream":
            groups.setdefault(row["corpus"], {})[row["rule"]] = row["new_percent"]
    title = f"Bytes in new chunks, average {average >> 10} KiB, contents as one stream"
    return [plots.Bars(title, "per cent of the version", groups)]


def main(arguments: list[str] | None = None) -> int:
    """Compare the rules on each corpus."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--averages", default=",".join(map(str, AVERAGES)), metavar="BYTES,BYTES")
    parser.add_argument("--versions", type=int, default=4, metavar="N", help="of each corpus")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg, png or pdf")
    options = parser.parse_args(arguments)
    averages = [int(average) for average in options.averages.split(",")]
    try:
        record = Record("quality", options.json, versions=options.versions)
        measure_corpora(record, options.corpora, averages, options.versions)
    except BenchmarkError as error:
        say(f"quality: {error}")
        return 2
    print(table(record.rows))
    if options.plot:
        plots.save(charts(record.rows), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

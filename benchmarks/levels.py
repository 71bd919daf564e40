"""Bytes against seconds over the compression levels.

    python -m benchmarks.levels CORPUS [CORPUS ...] [--levels 1,3,6] [--json FILE] [--plot FILE]

Packs the first version of each corpus, then the following ones on it, at every level: bytes and
seconds of the first pack and of the mean update, seconds of restoring the last version. Rounds run
the levels in turn; seconds are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import plots
from benchmarks.measure import (
    BenchmarkError,
    Record,
    Row,
    packer_command,
    packer_json,
    run,
    same_trees,
    say,
    versions_of,
)

LEVELS = (1, 3, 6, 9, 12, 15, 19)
UPDATES = 3


def level_row(corpus: Path, level: int, turn: int, updates: int) -> Row:
    """Pack some versions at one level."""
    trees = versions_of(corpus)[: updates + 1]
    added, seconds, peak = [], [], 0
    with tempfile.TemporaryDirectory(prefix="levels-") as name:
        store, target = Path(name, "store"), Path(name, "target")
        for number, tree in enumerate(trees, 1):
            use, packed = packer_json(
                "pack", tree, "--tag", f"app:v{number}", "--level", str(level), "--store", store
            )
            added.append(packed["new_bytes"])
            seconds.append(use.seconds)
            peak = max(peak, use.peak_bytes)
        unpack = run(*packer_command("unpack", f"app:v{len(trees)}", target, "--store", store))
        same = same_trees(trees[-1], target)
        run("chmod", "-R", "u+rwX", target)
    if not same:
        raise BenchmarkError(f"{trees[-1]}: came back different at level {level}")
    return {
        "corpus": corpus.name,
        "level": level,
        "round": turn,
        "first_bytes": added[0],
        "first_seconds": seconds[0],
        "update_bytes": statistics.fmean(added[1:]) if added[1:] else None,
        "update_seconds": statistics.fmean(seconds[1:]) if seconds[1:] else None,
        "unpack_seconds": unpack.seconds,
        "peak_bytes": peak,
    }


def measure_corpora(
    record: Record, corpora: list[Path], levels: list[int], rounds: int, updates: int
) -> None:
    """Add to a record what it lacks."""
    for corpus in corpora:
        for turn in range(rounds):
            for level in levels:
                if record.find(corpus=corpus.name, level=level, round=turn) is None:
                    say(f"{corpus.name}: level {level}, round {turn + 1} of {rounds}")
                    record.add(level_row(corpus, level, turn, updates))


def medians(rows: list[Row]) -> dict[str, list[Row]]:
    """Return for each corpus one row a level: bytes, median seconds, largest peak."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["corpus"], row["level"]), []).append(row)
    out: dict[str, list[Row]] = {}
    for (corpus, _), found in sorted(groups.items()):
        row = dict(found[0], peak_bytes=max(item["peak_bytes"] for item in found))
        for name in ("first_seconds", "update_seconds", "unpack_seconds"):
            if row[name] is not None:
                row[name] = statistics.median(item[name] for item in found)
        out.setdefault(corpus, []).append(row)
    return out


def table(rows: list[Row]) -> str:
    """Return the results as text."""
    lines = []
    for corpus, found in medians(rows).items():
        lines += [
            f"\n{corpus}",
            f"  {'level':>5}{'first bytes':>13}{'first s':>9}{'mean update':>13}{'update s':>10}"
            f"{'restore s':>11}{'peak MiB':>10}",
        ]
        for row in found:
            update = "-" if row["update_bytes"] is None else f"{row['update_bytes']:,.0f}"
            seconds = "-" if row["update_seconds"] is None else f"{row['update_seconds']:.2f}"
            lines.append(
                f"  {row['level']:5}{row['first_bytes']:13,}{row['first_seconds']:9.2f}"
                f"{update:>13}{seconds:>10}{row['unpack_seconds']:11.2f}"
                f"{row['peak_bytes'] / (1 << 20):10.0f}"
            )
    return "\n".join(lines)


def charts(rows: list[Row]) -> list[plots.Chart | plots.Bars]:
    """Return bytes against seconds, of first packs and of updates; points are levels."""
    found = medians(rows)
    out: list[plots.Chart | plots.Bars] = []
    for kind, title in (("first", "First pack"), ("update", "Mean update")):
        series = {
            corpus: [
                (row[f"{kind}_seconds"], row[f"{kind}_bytes"] / items[0][f"{kind}_bytes"])
                for row in items
                if row[f"{kind}_bytes"]
            ]
            for corpus, items in found.items()
        }
        labels = {corpus: [str(row["level"]) for row in items] for corpus, items in found.items()}
        level = min(row["level"] for items in found.values() for row in items)
        out.append(
            plots.Chart(
                f"{title}: size against time, by level",
                "seconds",
                f"size, level {level} = 1",
                series,
                x_log=True,
                labels=labels,
            )
        )
    return out


def main(arguments: list[str] | None = None) -> int:
    """Measure the levels on each corpus."""
    parser = argparse.ArgumentParser(prog="benchmarks.levels", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--levels", default=",".join(map(str, LEVELS)), metavar="N,N")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--updates", type=int, default=UPDATES, metavar="N", help="of each corpus")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg, png or pdf")
    options = parser.parse_args(arguments)
    levels = [int(level) for level in options.levels.split(",")]
    try:
        record = Record("levels", options.json, updates=options.updates)
        measure_corpora(record, options.corpora, levels, options.rounds, options.updates)
    except BenchmarkError as error:
        say(f"levels: {error}")
        return 2
    print(table(record.rows))
    if options.plot:
        plots.save(charts(record.rows), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

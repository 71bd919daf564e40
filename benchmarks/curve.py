"""What 50 successive versions cost, and what a fresh pull of each costs against one packed alone.

    python -m benchmarks.curve CORPUS [CORPUS ...] [--versions N] [--json FILE] [--plot FILE]

Packs N versions on one another, cycling through those of the corpus, each with the one before as
its base. For every one of them: bytes added, bytes that a fresh pull fetches (all blobs of its
manifest) against the same version packed alone, layers. At some of them the pull itself: from the
image layout into an empty store and directory, beside a pull of the one packed alone, in turn, and
compared with the original byte for byte.
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
    packer_json,
    remove,
    same_trees,
    say,
    stored,
    versions_of,
)

VERSIONS = 50
MAX_COST, MAX_LAYERS, MAX_SECONDS = 1.2, 128, 1.5
ROUNDS = 3


def pull_points(versions: int) -> set[int]:
    """Return the versions that are pulled: more of the early ones, 20 and the last."""
    return {n for n in (1, 2, 3, 5, 8, 12, 20, 30, 40, 50, 75, 100, 150, 200) if n < versions} | {
        versions
    }


def pull_seconds(store: Path, tag: str, work: Path, tree: Path | None) -> tuple[float, int]:
    """Pull a version into an empty store and directory; compare it with `tree` if given."""
    fresh, target = work / "fresh", work / "target"
    reference = f"oci:{store}:{tag}"
    try:
        use, pulled = packer_json("pull", reference, target, "--store", fresh)
        if tree is not None and not same_trees(tree, target):
            raise BenchmarkError(f"{tree}: {tag} came back different")
    finally:
        for path in (fresh, target):
            remove(path)
    return use.seconds, pulled["fetched_bytes"]


def pulls(store: Path, alone: Path, tag: str, own: str, tree: Path, work: Path, rounds: int) -> Row:
    """Pull a version of the chain and the same one packed alone, in turn; seconds are medians."""
    chained, single = [], []
    for turn in range(rounds):
        seconds, fetched = pull_seconds(store, tag, work, None if turn else tree)
        chained.append(seconds)
        single.append(pull_seconds(alone, own, work, None)[0])
    return {
        "fetched_bytes": fetched,
        "pull_seconds": statistics.median(chained),
        "alone_pull_seconds": statistics.median(single),
    }


def measure_corpus(record: Record, corpus: Path, versions: int, rounds: int) -> None:
    """Pack and pull the versions of one corpus."""
    trees = versions_of(corpus)
    points = pull_points(versions)
    alone_bytes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="curve-") as name:
        work = Path(name)
        store, alone = work / "store", work / "alone"
        for n in range(1, versions + 1):
            tree = trees[(n - 1) % len(trees)]
            base = f"n-{n - 1}" if n > 1 else "none"
            use, packed = packer_json(
                "pack", tree, "--tag", f"n-{n}", "--base", base, "--store", store
            )
            own = f"alone-{tree.name}"
            if own not in alone_bytes:
                _, single = packer_json(
                    "pack", tree, "--tag", own, "--base", "none", "--store", alone
                )
                alone_bytes[own] = stored(alone, single["digest"])["bytes"]
            now = stored(store, packed["digest"])
            row: Row = {
                "corpus": corpus.name,
                "n": n,
                "version": tree.name,
                "added_bytes": packed["new_bytes"],
                "pack_seconds": use.seconds,
                "fresh_bytes": now["bytes"],
                "alone_bytes": alone_bytes[own],
                "layers": now["layers"],
                "manifest_bytes": now["manifest_bytes"],
            }
            if n in points:
                say(f"{corpus.name}: pulling version {n} of {versions}")
                row |= pulls(store, alone, f"n-{n}", own, tree, work, rounds)
            record.add(row)


def measure_corpora(
    record: Record, corpora: list[Path], versions: int, rounds: int = ROUNDS
) -> None:
    """Add to a record the corpora that it lacks; one that was cut off starts anew."""
    for corpus in corpora:
        if record.find(corpus=corpus.name, n=versions) is None:
            record.drop(corpus=corpus.name)
            measure_corpus(record, corpus, versions, rounds)


def by_corpus(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each corpus."""
    out: dict[str, list[Row]] = {}
    for row in rows:
        out.setdefault(row["corpus"], []).append(row)
    return out


def table(rows: list[Row]) -> str:
    """Return the pulled versions as text."""
    lines = []
    for corpus, found in by_corpus(rows).items():
        lines += [
            f"\n{corpus}",
            f"  {'n':>4}{'added':>12}{'fresh pull':>13}{'alone':>13}{'ratio':>8}{'layers':>8}"
            f"{'pull s':>9}{'alone s':>9}{'ratio':>8}",
        ]
        for row in found:
            if "pull_seconds" in row:
                lines.append(
                    f"  {row['n']:4}{row['added_bytes']:12,}{row['fresh_bytes']:13,}"
                    f"{row['alone_bytes']:13,}{row['fresh_bytes'] / row['alone_bytes']:8.3f}"
                    f"{row['layers']:8}{row['pull_seconds']:9.2f}{row['alone_pull_seconds']:9.2f}"
                    f"{row['pull_seconds'] / row['alone_pull_seconds']:8.2f}"
                )
        worst = max(row["fresh_bytes"] / row["alone_bytes"] for row in found)
        layers = max(row["layers"] for row in found)
        lines.append(
            f"  worst of all {len(found)}: {worst:.3f} x the bytes (limit {MAX_COST}), "
            f"{layers} layers (limit {MAX_LAYERS})"
        )
    return "\n".join(lines)


def charts(rows: list[Row]) -> list[plots.Chart | plots.Bars]:
    """Return what the rows show."""
    found = by_corpus(rows)

    def series(value: str, over: str = "") -> dict[str, list[tuple[float, float]]]:
        return {
            corpus: [
                (row["n"], row[value] / row[over] if over else row[value])
                for row in items
                if value in row
            ]
            for corpus, items in found.items()
        }

    return [
        plots.Chart(
            "Bytes each version adds", "version number", "bytes", series("added_bytes"), y_log=True
        ),
        plots.Chart(
            "Fresh pull, against packed alone",
            "version number",
            "ratio of bytes",
            series("fresh_bytes", "alone_bytes"),
            lines={f"limit {MAX_COST}": MAX_COST},
        ),
        plots.Chart(
            "Layers of the manifest",
            "version number",
            "layers",
            series("layers"),
            lines={f"limit {MAX_LAYERS}": MAX_LAYERS},
            zero=True,
        ),
        plots.Chart(
            "Seconds of a fresh pull, against packed alone",
            "version number",
            "ratio of seconds",
            series("pull_seconds", "alone_pull_seconds"),
            lines={f"limit {MAX_SECONDS}": MAX_SECONDS},
            zero=True,
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure the curve of each corpus."""
    parser = argparse.ArgumentParser(prog="benchmarks.curve", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--versions", type=int, default=VERSIONS, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg, png or pdf")
    options = parser.parse_args(arguments)
    try:
        record = Record("curve", options.json, versions=options.versions)
        measure_corpora(record, options.corpora, options.versions)
    except BenchmarkError as error:
        say(f"curve: {error}")
        return 2
    print(table(record.rows))
    if options.plot:
        plots.save(charts(record.rows), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

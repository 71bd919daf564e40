"""What 50 successive versions cost, and what a fresh pull of each costs against one packed alone.

    python -m benchmarks.curve CORPUS [CORPUS ...] [--versions N] [--small] [--json FILE]

Packs N versions on one another, cycling through those of the corpus, each with the one before as
its base. For every one of them: bytes added, bytes that a fresh pull fetches (all blobs of its
manifest) against the same version packed alone, layers. At some of them the pull itself: from the
image layout into an empty store and directory, beside a pull of the one packed alone, in turn, and
compared with the original byte for byte. With --small every version is the first one with a line
more changed than the one before: 200 of them show what small updates in a row cost.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
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


def text_files(tree: Path) -> list[Path]:
    """Return the files of a tree that hold lines of UTF-8, by path."""
    found = []
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            with contextlib.suppress(UnicodeDecodeError):
                if data.decode() and b"\0" not in data:
                    found.append(path)
    return found


def change_line(files: Sequence[Path], n: int) -> None:
    """Change a line of one of some files, another one for each `n`."""
    path = files[n * 7919 % len(files)]
    lines = path.read_bytes().splitlines(keepends=True)
    at = n * 104_729 % len(lines)
    end = lines[at][len(lines[at].rstrip()) :]
    lines[at] = lines[at].rstrip() + f" # {n}".encode() + end
    path.write_bytes(b"".join(lines))


def series(corpus: Path, versions: int, work: Path, *, small: bool) -> Iterator[tuple[str, Path]]:
    """Yield the trees to pack, each with a name; equal names stand for about equal sizes."""
    trees = versions_of(corpus)
    if not small:
        for n in range(versions):
            yield trees[n % len(trees)].name, trees[n % len(trees)]
        return
    tree = work / "tree"
    shutil.copytree(trees[0], tree, symlinks=True)
    files = text_files(tree)
    if not files:
        raise BenchmarkError(f"{trees[0]}: no text in it to change a line of")
    for n in range(1, versions + 1):
        if n > 1:
            change_line(files, n)
        yield trees[0].name, tree


def measure_corpus(
    record: Record, corpus: Path, versions: int, rounds: int, *, small: bool = False
) -> None:
    """Pack and pull the versions of one corpus."""
    points = pull_points(versions)
    alone_bytes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="curve-") as name:
        work = Path(name)
        store, alone = work / "store", work / "alone"
        trees = series(corpus, versions, work, small=small)
        for n, (version, tree) in enumerate(trees, 1):
            base = f"n-{n - 1}" if n > 1 else "none"
            use, packed = packer_json(
                "pack", tree, "--tag", f"n-{n}", "--base", base, "--store", store
            )
            own = f"alone-{version}"
            if own not in alone_bytes:
                _, single = packer_json(
                    "pack", tree, "--tag", own, "--base", "none", "--store", alone
                )
                alone_bytes[own] = stored(alone, single["digest"])["bytes"]
            now = stored(store, packed["digest"])
            row: Row = {
                "corpus": name_of(corpus, small),
                "n": n,
                "version": version,
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


def name_of(corpus: Path, small: bool) -> str:
    """Return the name of a series in the record."""
    return f"{corpus.name}, a line each" if small else corpus.name


def measure_corpora(
    record: Record,
    corpora: list[Path],
    versions: int,
    rounds: int = ROUNDS,
    *,
    small: bool = False,
) -> None:
    """Add to a record the corpora that it lacks; one that was cut off starts anew."""
    for corpus in corpora:
        name = name_of(corpus, small)
        if record.find(corpus=name, n=versions) is None:
            record.drop(corpus=name)
            measure_corpus(record, corpus, versions, rounds, small=small)


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
        if added := [row["added_bytes"] for row in found if row["n"] > 1]:
            half = added[len(added) // 2 :]
            lines.append(
                f"  bytes of a mean update: {statistics.fmean(added):,.0f}, of the later half "
                f"{statistics.fmean(half):,.0f}"
            )
    return "\n".join(lines)


def charts(rows: list[Row]) -> list[plots.Chart | plots.Bars]:
    """Return what the rows show."""
    found = by_corpus(rows)

    def lines(value: str, over: str = "") -> dict[str, list[tuple[float, float]]]:
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
            "Bytes each version adds", "version number", "bytes", lines("added_bytes"), y_log=True
        ),
        plots.Chart(
            "Fresh pull, against packed alone",
            "version number",
            "ratio of bytes",
            lines("fresh_bytes", "alone_bytes"),
            lines={f"limit {MAX_COST}": MAX_COST},
        ),
        plots.Chart(
            "Layers of the manifest",
            "version number",
            "layers",
            lines("layers"),
            lines={f"limit {MAX_LAYERS}": MAX_LAYERS},
            zero=True,
        ),
        plots.Chart(
            "Seconds of a fresh pull, against packed alone",
            "version number",
            "ratio of seconds",
            lines("pull_seconds", "alone_pull_seconds"),
            lines={f"limit {MAX_SECONDS}": MAX_SECONDS},
            zero=True,
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure the curve of each corpus."""
    parser = argparse.ArgumentParser(prog="benchmarks.curve", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--versions", type=int, default=VERSIONS, metavar="N")
    parser.add_argument("--small", action="store_true", help="each changes a line of the first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg, png or pdf")
    options = parser.parse_args(arguments)
    try:
        record = Record("curve", options.json, versions=options.versions)
        measure_corpora(record, options.corpora, options.versions, small=options.small)
    except BenchmarkError as error:
        say(f"curve: {error}")
        return 2
    print(table(record.rows))
    if options.plot:
        plots.save(charts(record.rows), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Results by commit, and whether the newest differ from the ones before by more than noise.

    python -m benchmarks.history append  [--corpora DIR] [--rounds N]  # measure and keep
    python -m benchmarks.history compare [OLD NEW]                     # exit 1 if worse
    python -m benchmarks.history stages  [--keep]                      # by pytest-benchmark

A result is a small file in benchmarks/history/: for each corpus the bytes of the first version and
of the mean update, which have no noise, and times as multiples of a ceiling in the same round
(``tar | zstd -T0`` for packing, ``zstd -dc | tar x`` for restoring, Python's start and a walk for
packing what is unchanged, a memory scan for chunking), round by round; and our seconds in each race
of `benchmarks.race` as multiples of the best peer's. A time counts as changed when its median moves
by more than three times its spread, and by more than a tenth. Times are compared on equal
processors only, races only with equal peers, bytes only on equal corpora.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import race
from benchmarks.contenders import LayerPacker, Peer
from benchmarks.measure import (
    ROOT,
    BenchmarkError,
    Record,
    Row,
    about,
    corpora_in,
    natural,
    say,
    tree_of,
    versions_of,
    write_text,
)
from benchmarks.peers import OURS, measure_corpora
from benchmarks.report import STAGES
from benchmarks.samples import make_samples
from packer.engine.chunking import cut_points
from packer.engine.memory import read_sum

FOLDER = Path(__file__).with_name("history")
ROUNDS = 5
SCAN_BYTES = 64 << 20
BYTES_NOISE = 0.001
"""Of bytes: the digits of a time or a digest in a manifest."""
TIME_NOISE = 0.10
SPREADS = 3
ABOUT = ("commit", "date", "cpu", "cores", "python", "layer-packer", "zstandard")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of two results.

    Args:
        what: corpus and figure.
        old, new: the figures; less is better.
        noise: relative change up to which it counts as the same.
    """

    what: str
    old: float
    new: float
    noise: float

    @property
    def verdict(self) -> str:
        """Return "same", "better" or "worse"."""
        change = self.new / self.old - 1 if self.old else 0.0
        if abs(change) <= self.noise:
            return "same"
        return "worse" if change > 0 else "better"


def digest_of(corpus: Path) -> str:
    """Return a digest of all that a corpus holds."""
    digest = hashlib.sha256()
    for tree in versions_of(corpus):
        for name, kind, content, mode in tree_of(tree):
            data = content.encode() if isinstance(content, str) else content
            head = f"{tree.name}\0{name}\0{kind}\0{mode}\0{len(data)}\0"
            digest.update(head.encode("utf-8", "surrogateescape") + data)
    return digest.hexdigest()[:16]


def ratios_of(rows: list[Row], rounds: int) -> dict[str, list[float]]:
    """Return our times on one corpus as multiples of ceilings, round by round."""
    out: dict[str, list[float]] = {"first": [], "update": [], "unchanged": [], "restore": []}
    for turn in range(rounds):
        found = {row["peer"]: row for row in rows if row.get("round") == turn}
        ours = found[OURS]
        if problem := ours.get("failed"):
            raise BenchmarkError(problem)
        packing = next(row for name, row in found.items() if name.endswith("-T0"))["pack_seconds"]
        out["first"].append(ours["pack_seconds"][0] / packing[0])
        if packing[1:]:
            mine, theirs = ours["pack_seconds"][1:], packing[1:]
            out["update"].append(statistics.fmean(mine) / statistics.fmean(theirs))
        start = found["python -c pass"]["pack_seconds"][-1]
        walk = found["walk (scandir, lstat)"]["pack_seconds"][-1]
        out["unchanged"].append(ours["again_seconds"] / (start + walk))
        untar = found["zstd -dc | tar x"]["unpack_seconds"]
        out["restore"].append(ours["unpack_seconds"] / untar)
    return {name: [round(value, 4) for value in values] for name, values in out.items() if values}


def chunking_ratios(rounds: int, size: int) -> list[float]:
    """Return the time of chunking memory as a multiple of reading it."""
    data = random.Random(1).randbytes(size)
    out = []
    for _ in range(rounds):
        start = time.perf_counter()
        read_sum(data)
        middle = time.perf_counter()
        cut_points(data)
        out.append(round((time.perf_counter() - middle) / (middle - start), 4))
    return out


def measure(
    corpora: list[Path],
    rounds: int,
    scan_bytes: int = SCAN_BYTES,
    contestants: Sequence[type[Peer]] = race.CONTESTANTS,
) -> dict[str, Any]:
    """Return the result of the code as it is; without contestants, no races are run."""
    record = Record("history", None)
    measure_corpora(record, corpora, [LayerPacker], rounds)
    raced = Record("race", None)
    race.measure_corpora(raced, corpora, contestants, rounds)
    found = {}
    for corpus in corpora:
        rows = [row for row in record.rows if row["corpus"] == corpus.name]
        ours = next(row for row in rows if row.get("peer") == OURS)
        if ours.get("restored") is False:
            raise BenchmarkError(f"{corpus}: a restore differs")
        times = ratios_of(rows, rounds)
        added = ours["added_bytes"]
        sizes = {"first": added[0]}
        if added[1:]:
            sizes["update"] = round(statistics.fmean(added[1:]))
        found[corpus.name] = {
            "digest": digest_of(corpus),
            "bytes": sizes,
            "times": times,
            "races": race.ratios(raced.rows, corpus.name),
        }
    machine = about()
    peers = {kind.name: machine.get(kind.needs[0], "") for kind in contestants if kind.needs}
    return {
        **{name: machine[name] for name in ABOUT},
        "peers": peers,
        "corpora": found,
        "chunking": chunking_ratios(rounds, scan_bytes),
    }


def results(folder: Path) -> list[Path]:
    """Return the results that are kept, oldest first."""
    return sorted(folder.glob("[0-9]*.json"), key=lambda path: natural(path.name))


def append(result: dict[str, Any], folder: Path) -> Path:
    """Keep a result; a newer one of the same commit takes the place of the older."""
    commit = result["commit"]
    kept = results(folder)
    same = [path for path in kept if path.stem.partition("-")[2] == commit]
    last = int(kept[-1].name.partition("-")[0]) if kept else 0
    path = same[-1] if same else folder / f"{last + 1:04}-{commit}.json"
    write_text(path, json.dumps(result, indent=1) + "\n")
    return path


def spread(values: Sequence[float]) -> float:
    """Return the relative spread of values: the median distance from their median."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values) / middle if middle else 0.0


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return every figure that both results have."""
    out = []
    same_machine = old["cpu"] == new["cpu"] and old["cores"] == new["cores"]

    def times(what: str, before: Sequence[float], after: Sequence[float]) -> None:
        noise = max(TIME_NOISE, SPREADS * (spread(before) + spread(after)))
        out.append(Change(what, statistics.median(before), statistics.median(after), noise))

    for name, now in new["corpora"].items():
        was = old["corpora"].get(name)
        if was is None or was["digest"] != now["digest"]:
            continue
        for figure, size in now["bytes"].items():
            if figure in was["bytes"]:
                what = f"{name}: {figure}, bytes"
                out.append(Change(what, was["bytes"][figure], size, BYTES_NOISE))
        for figure, values in now["times"].items():
            if same_machine and figure in was["times"]:
                times(f"{name}: {figure}, time / ceiling", was["times"][figure], values)
        for figure, values in now.get("races", {}).items():
            same_peers = same_machine and old.get("peers") == new.get("peers")
            if same_peers and figure in was.get("races", {}):
                times(f"{name}: {figure}, time / best", was["races"][figure], values)
    if same_machine:
        times("chunking, time / scan", old["chunking"], new["chunking"])
    return out


def table(old: dict[str, Any], new: dict[str, Any], changes: list[Change]) -> str:
    """Return a comparison as text."""
    lines = [f"{'':44}{old['commit']:>14}{new['commit']:>14}{'change':>9}{'noise':>8}"]
    for change in changes:
        digits = ",.0f" if change.what.endswith("bytes") else ",.3f"
        part = change.new / change.old - 1 if change.old else 0.0
        verdict = "" if change.verdict == "same" else change.verdict
        lines.append(
            f"{change.what:44}{change.old:14{digits}}{change.new:14{digits}}"
            f"{part:+9.1%}{change.noise:8.1%}  {verdict}"
        )
    if not changes:
        lines.append("nothing to compare: other corpora, and another machine")
    return "\n".join(lines)


def stage_changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return every stage that two records of pytest-benchmark have."""
    out = []
    before = {item["name"]: item["stats"] for item in old["benchmarks"]}
    for item in new["benchmarks"]:
        if (was := before.get(item["name"])) is not None:
            # Half of the interquartile range is the median distance from the median.
            spreads = [stats["iqr"] / 2 / stats["median"] for stats in (was, item["stats"])]
            noise = max(TIME_NOISE, SPREADS * sum(spreads))
            what = f"{item['name']}, ms"
            now = item["stats"]["median"]
            out.append(Change(what, 1000 * was["median"], 1000 * now, noise))
    return out


def stages(keep: bool, storage: Path) -> int:
    """Time the stages beside those that pytest-benchmark kept last; 1 if any got worse."""
    kept = sorted(storage.rglob("*.json"))
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "--benchmark-only"]
    command += [str(ROOT / "benchmarks" / name) for name in STAGES]
    command += [f"--benchmark-storage=file://{storage}", "--benchmark-columns=median,iqr,rounds"]
    command += ["-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"]
    if kept:
        command.append("--benchmark-compare")
    if keep:
        command.append(f"--benchmark-save={about()['commit']}")
    with tempfile.TemporaryDirectory(prefix="history-") as work:
        path = Path(work, "stages.json")
        command.append(f"--benchmark-json={path}")
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            return code
        new = json.loads(path.read_text())
    if not kept:
        return 0
    old = json.loads(kept[-1].read_text())
    changes = stage_changes(old, new)
    print(table({"commit": kept[-1].stem[-14:]}, {"commit": "now"}, changes))
    return 1 if any(change.verdict == "worse" for change in changes) else 0


def pick(names: list[str], folder: Path) -> tuple[Path, Path]:
    """Return the two results to compare: those of the commits named, or the newest two."""
    kept = results(folder)
    if not names:
        if len(kept) < 2:
            raise BenchmarkError(f"{len(kept)} results are kept; two are needed")
        return kept[-2], kept[-1]
    found = []
    for name in names:
        matching = [path for path in kept if path.stem.partition("-")[2].startswith(name)]
        if not matching:
            raise BenchmarkError(f"no result of commit {name} is kept")
        found.append(matching[-1])
    return found[0], found[-1] if len(found) > 1 else kept[-1]


def main(arguments: list[str] | None = None) -> int:
    """Append or compare."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    verb = verbs.add_parser("append", help="measure this commit and keep the result")
    verb.add_argument("--corpora", type=Path, metavar="DIR", help="default: two of Python's files")
    verb.add_argument("--rounds", type=int, default=ROUNDS)
    verb.add_argument("--no-race", action="store_true", help="run no races against peers")
    verb = verbs.add_parser("compare", help="compare two results; exit 1 if anything got worse")
    verb.add_argument("commits", nargs="*", metavar="COMMIT", help="default: the newest two")
    verb = verbs.add_parser("stages", help="time the stages beside those kept last")
    verb.add_argument("--keep", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "stages":
            return stages(options.keep, options.folder / "stages")
        if options.verb == "append":
            with tempfile.TemporaryDirectory(prefix="history-") as work:
                given = corpora_in(options.corpora) if options.corpora else make_samples(Path(work))
                contestants = () if options.no_race else race.CONTESTANTS
                result = measure(given, options.rounds, contestants=contestants)
                print(append(result, options.folder))
            return 0
        old, new = (json.loads(path.read_text()) for path in pick(options.commits, options.folder))
    except BenchmarkError as error:
        say(f"history: {error}")
        return 2
    changes = compare(old, new)
    print(table(old, new, changes))
    return 1 if any(change.verdict == "worse" for change in changes) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs the benchmarks and writes one page about them, with plots, that needs nothing else.

    python -m benchmarks.report OUT.html [--corpora DIR] [--quick] [--parts NAME,NAME] [--draw]

The records go to OUT-data/ beside the page, one JSON file for each part. A report that is cut off
goes on where it was when the same command is given again; --draw only makes the page from the
records that are there. Without --corpora those of `benchmarks.corpora` are built first (by pip and
npm); --quick takes two small ones from Python's standard library, or three versions of those
given, and small sizes everywhere: a matter of minutes, to see that all works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import corpora as public
from benchmarks import curve, deflate, levels, measure, opened, page, peers, quality, race, scale
from benchmarks.contenders import PEERS
from benchmarks.measure import ROOT, BenchmarkError, Record, Row, corpora_in, say, versions_of
from benchmarks.samples import make_samples


@dataclass(frozen=True)
class Plan:
    """How large everything is."""

    peer_rounds: int = 3
    peer_versions: int | None = None
    curve_versions: int = curve.VERSIONS
    pull_rounds: int = curve.ROUNDS
    level_numbers: tuple[int, ...] = levels.LEVELS
    level_rounds: int = 1
    updates: int = levels.UPDATES
    files: int = 1_000_000
    bytes: int = 20_000_000_000
    versions: int = 200
    index_bytes: int = 100_000_000_000
    quality_versions: int = 4
    plain_bytes: int = 16_000_000
    encoders: int | None = None
    stage_rounds: bool = True


QUICK = Plan(
    peer_rounds=1,
    peer_versions=3,
    curve_versions=6,
    level_numbers=(1, 6, 12),
    updates=1,
    files=1000,
    bytes=50_000_000,
    versions=10,
    index_bytes=1_000_000_000,
    quality_versions=2,
    plain_bytes=1_000_000,
)
TINY = Plan(
    peer_rounds=1,
    peer_versions=2,
    curve_versions=2,
    pull_rounds=1,
    level_numbers=(1,),
    updates=1,
    files=100,
    bytes=0,
    versions=1,
    index_bytes=10_000_000,
    quality_versions=2,
    plain_bytes=100_000,
    encoders=3,
    stage_rounds=False,
)
LONG_SECONDS = 60.0
"""A part that took longer is shown at once: the page of a long run can be looked at meanwhile."""
STAGES = ("test_stages.py", "test_chunker.py")


def run_peers(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Measure the peers."""
    record = Record("peers", data / "peers.json", versions=plan.peer_versions)
    peers.measure_corpora(record, corpora, PEERS, plan.peer_rounds, plan.peer_versions)


def run_race(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Run the races."""
    versions = min(plan.peer_versions or race.VERSIONS, race.VERSIONS)
    record = Record("race", data / "race.json", versions=versions)
    race.measure_corpora(record, corpora, race.CONTESTANTS, plan.peer_rounds, versions)


def run_curve(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Measure many versions."""
    record = Record("curve", data / "curve.json", versions=plan.curve_versions)
    curve.measure_corpora(record, corpora, plan.curve_versions, plan.pull_rounds)


def run_levels(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Measure the levels."""
    record = Record("levels", data / "levels.json", updates=plan.updates)
    levels.measure_corpora(
        record, corpora, list(plan.level_numbers), plan.level_rounds, plan.updates
    )


def run_scale(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Measure scale."""
    record = Record("scale", data / "scale.json")
    scale.measure_scale(record, plan.files, plan.bytes, plan.versions, plan.index_bytes)


def run_quality(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Measure the chunker beside FastCDC."""
    record = Record("quality", data / "quality.json", versions=plan.quality_versions)
    quality.measure_corpora(record, corpora, list(quality.AVERAGES), plan.quality_versions)


def run_deflate(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Measure recipes, of a tar of the first corpus with its archives opened."""
    with tempfile.TemporaryDirectory(prefix="report-") as work:
        tar = Path(work, "plain.tar")
        opened.write_tar(versions_of(corpora[0])[0], tar)
        with tar.open("rb") as file:
            plain = file.read(plan.plain_bytes)
    options = {"corpus": corpora[0].name, "bytes": len(plain)}
    record = Record("deflate", data / "deflate.json", **options)
    deflate.measure_encoders(record, plain, [], plan.encoders)


def run_stages(data: Path, corpora: list[Path], plan: Plan) -> None:
    """Time the stages with pytest-benchmark, in a process of its own."""
    record = Record("stages", data / "stages.json")
    if record.rows:
        return
    raw = data / "stages-pytest.json"
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += [str(ROOT / "benchmarks" / name) for name in STAGES]
    command += ["--benchmark-only", f"--benchmark-json={raw}", "--benchmark-columns=median"]
    if not plan.stage_rounds:
        command += ["-k", "test_walk"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode:
        raise BenchmarkError(f"stages: {done.stdout[-800:]}{done.stderr[-200:]}")
    for item in json.loads(raw.read_text())["benchmarks"]:
        extra: dict[str, Any] = item["extra_info"]
        gigabytes = extra.get("GB/s")
        rate = gigabytes * 1000 if gigabytes else extra.get("megabytes_per_second")
        stats = {name: item["stats"][name] for name in ("median", "iqr", "rounds")}
        record.rows.append({"name": item["name"], "rate": rate, **stats})
    record.write()


PARTS: dict[str, Callable[[Path, list[Path], Plan], None]] = {
    "peers": run_peers,
    "race": run_race,
    "curve": run_curve,
    "levels": run_levels,
    "scale": run_scale,
    "quality": run_quality,
    "deflate": run_deflate,
    "stages": run_stages,
}


def draw(out: Path, data: Path) -> None:
    """Write the page from the records that are there."""
    records: dict[str, list[Row]] = {}
    about: dict[str, str] = {}
    links = []
    for name in PARTS:
        path = data / f"{name}.json"
        if path.exists():
            document = json.loads(path.read_text())
            if document["rows"]:
                records[name] = document["rows"]
                about = about or document["about"]
                links.append((path.name, os.path.relpath(path, out.parent)))
    if not records:
        raise BenchmarkError(f"{data}: no records")
    measure.write_text(out, page.page(records, about, links))


def find_corpora(given: Path | None, data: Path, *, quick: bool) -> list[Path]:
    """Return the corpora to measure, built if none are given."""
    if given is not None:
        found = corpora_in(given)
        if not found:
            raise BenchmarkError(f"{given}: no corpora in it")
        return found
    if quick:
        return make_samples(data / "corpora")
    target = ROOT / "build" / "corpora"
    if public.main([str(target)]):
        raise BenchmarkError("the corpora could not be built; give --corpora DIR, or --quick")
    return corpora_in(target)


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.html")
    parser.add_argument(
        "--corpora", type=Path, metavar="DIR", help="its subdirectories are corpora"
    )
    parser.add_argument("--only", metavar="NAME,NAME", help="of the corpora")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAME,NAME", help="of the page")
    parser.add_argument("--rounds", type=int, help="of the peers")
    parser.add_argument("--quick", action="store_true", help="everything small")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    wanted = options.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    plan = TINY if options.tiny else QUICK if options.quick else Plan()
    if options.rounds:
        plan = Plan(**{**vars(plan), "peer_rounds": options.rounds})
    data = options.out.with_name(options.out.stem + "-data")
    try:
        if not options.draw:
            data.mkdir(parents=True, exist_ok=True)
            found = find_corpora(options.corpora, data, quick=options.quick or options.tiny)
            if options.only:
                found = [path for path in found if path.name in options.only.split(",")]
            for name in wanted:
                start = time.monotonic()
                PARTS[name](data, found, plan)
                if time.monotonic() - start > LONG_SECONDS:
                    draw(options.out, data)
        draw(options.out, data)
    except BenchmarkError as error:
        say(f"report: {error}")
        return 2
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Races: how long until a version is where it is needed, over links of all speeds.

    python -m benchmarks.race CORPUS [CORPUS ...] [--rounds N] [--also OPTIONS] [--plot FILE.svg]

A *race* is packing a version, sending the bytes that it added, and restoring it at the far side. It
is run for the first version and for its updates, by layer-packer, casync, restic, borg, rustic and
``tar | zstd``, in turn, in fresh processes; of the rounds the median counts. The link is a model:
it carries the bytes at its speed, while nothing else happens. CPU seconds and peak memory stand
beside the seconds. Every version is restored to a new directory, and in the first round compared
with the original byte for byte.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure, plots
from benchmarks.contenders import (
    Borg,
    Casync,
    LayerPacker,
    Peer,
    Restic,
    Rustic,
    TarZstd,
    Unsynced,
)
from benchmarks.measure import BenchmarkError, Record, Row, remove, say, versions_of

CONTESTANTS: tuple[type[Peer], ...] = (
    LayerPacker, Unsynced, Casync, Restic, Borg, Rustic, TarZstd,
)  # fmt: skip
RATES = (10, 100, 1_000, 10_000)
"""Speeds of the links in the table, in 10^6 bits a second."""
VERSIONS = 3
ROUNDS = 3
HEATS = ("first", "update")
TARGETS = {"first": (1.0, 1.0, 1.0, 1.0), "update": (1.0, 1.0, 1.5, 2.5)}
"""Seconds to stay below at each of RATES, as multiples of the best peer's."""


def variant(options: str) -> type[LayerPacker]:
    """Return layer-packer with further options of `pack`, as a contestant of its own."""
    words = tuple(options.split())
    also = {"unpack_options": ("--no-sync",)} if "--no-sync" in words else {}
    name = f"{LayerPacker.name} {options}"
    return type("Variant", (LayerPacker,), {"name": name, "pack_options": words, **also})


def race_row(kind: type[Peer], corpus: Path, turn: int, limit: int) -> Row:
    """Let one contestant pack and restore the versions of a corpus, one after another."""
    row: Row = {"corpus": corpus.name, "peer": kind.name, "round": turn}
    absent = [program for program in kind.needs if shutil.which(program) is None]
    if absent:
        return {**row, "missing": ", ".join(absent) + " not installed"}
    columns: dict[str, list[float]] = {
        name: [] for name in ("bytes", "pack_seconds", "restore_seconds", "cpu_seconds")
    }
    same, peak = True, 0
    with tempfile.TemporaryDirectory(prefix="race-") as name:
        peer, target = kind(Path(name, "work")), Path(name, "restored")
        try:
            peer.prepare()
            size = peer.size()
            for number, tree in enumerate(versions_of(corpus)[:limit], 1):
                packing = peer.pack(tree, number)
                before, size = size, peer.size()
                restoring = peer.unpack(number, target)
                same = same and (bool(turn) or peer.same(tree, target))
                remove(target)
                columns["bytes"].append(size - before)
                columns["pack_seconds"].append(packing.seconds)
                columns["restore_seconds"].append(restoring.seconds)
                columns["cpu_seconds"].append(packing.cpu_seconds + restoring.cpu_seconds)
                peak = max(peak, packing.peak_bytes, restoring.peak_bytes)
        except BenchmarkError as error:
            return {**row, "failed": str(error)}
        finally:
            measure.run("chmod", "-R", "u+rwX", name)
    return {**row, **columns, "peak_bytes": peak, "restored": None if turn else same}


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant in one heat of one corpus.

    Args:
        corpus: its name.
        heat: one of HEATS.
        peer: the contestant.
        bytes: that went over the link; of updates the mean.
        pack_seconds: the median over the rounds, of updates the mean of all.
        restore_seconds: the same.
        cpu_seconds: of both.
        peak_bytes: greatest memory of a process, over both heats.
        problem: why there is no result, or "".
    """

    corpus: str
    heat: str
    peer: str
    bytes: float = 0.0
    pack_seconds: float = 0.0
    restore_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    problem: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is layer-packer, with whatever options."""
        return self.peer.startswith(LayerPacker.name)

    def seconds(self, rate: float) -> float:
        """Return the seconds of the race over a link of `rate` 10^6 bits a second."""
        return self.pack_seconds + 8 * self.bytes / (rate * 1e6) + self.restore_seconds


def _part(values: Sequence[float], heat: str) -> float:
    return values[0] if heat == "first" else statistics.fmean(values[1:])


def results(rows: list[Row], turn: int | None = None) -> list[Result]:
    """Return the results of all heats: medians over the rounds, or those of one round.

    A corpus of one version has no updates, so no heat of them.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if turn is None or row["round"] == turn:
            groups.setdefault((row["corpus"], row["peer"]), []).append(row)
    out = []
    for heat in HEATS:
        for (corpus, peer), found in groups.items():
            problem = next((row[key] for row in found for key in ("missing", "failed")
                            if key in row), "")  # fmt: skip
            if any(row.get("restored") is False for row in found):
                problem = "came back different"
            if problem:
                out.append(Result(corpus, heat, peer, problem=problem))
            elif heat == "first" or len(found[0]["bytes"]) > 1:
                out.append(
                    Result(
                        corpus,
                        heat,
                        peer,
                        _part(found[0]["bytes"], heat),
                        statistics.median(_part(row["pack_seconds"], heat) for row in found),
                        statistics.median(_part(row["restore_seconds"], heat) for row in found),
                        statistics.median(_part(row["cpu_seconds"], heat) for row in found),
                        max(row["peak_bytes"] for row in found),
                    )
                )
    return sorted(out, key=lambda one: one.corpus)  # stable: heats and contestants stay in order


def heats(found: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """Return the results of each corpus and heat."""
    out: dict[tuple[str, str], list[Result]] = {}
    for result in found:
        out.setdefault((result.corpus, result.heat), []).append(result)
    return out


def ratio(found: Sequence[Result], rate: float) -> float | None:
    """Return our seconds as a multiple of the best peer's; None if either is missing."""
    good = [result for result in found if not result.problem]
    ours = [result.seconds(rate) for result in good if result.peer == LayerPacker.name]
    theirs = [result.seconds(rate) for result in good if not result.is_ours]
    return ours[0] / min(theirs) if ours and theirs else None


def ratios(rows: list[Row], corpus: str) -> dict[str, list[float]]:
    """Return our seconds as multiples of the best peer's, for each race and round of a corpus."""
    out: dict[str, list[float]] = {}
    mine = [row for row in rows if row["corpus"] == corpus]
    for turn in sorted({row["round"] for row in mine}):
        for (_, heat), found in heats(results(mine, turn)).items():
            for rate in RATES:
                if (value := ratio(found, rate)) is not None:
                    out.setdefault(f"{heat}, {rate} Mb/s", []).append(round(value, 4))
    return out


def table(rows: list[Row]) -> str:
    """Return the races as text, and how many of them were won."""
    lines, won, met, total, worst = [], 0, 0, 0, 0.0
    head = "".join(f"{f'{rate:,} Mb/s':>13}" for rate in RATES)
    for (corpus, heat), found in heats(results(rows)).items():
        lines += [
            f"\n{corpus}, {heat}",
            f"  {'':36}{'bytes':>13}{'pack s':>8}{'restore s':>10}{'CPU s':>8}{'MiB':>6}{head}",
        ]
        best = {
            rate: min((one.seconds(rate) for one in found if not one.problem), default=0.0)
            for rate in RATES
        }
        for one in found:
            if one.problem:
                lines.append(f"  {one.peer:36}  {one.problem}")
                continue
            seconds = "".join(
                f"{one.seconds(rate):12.2f}{'*' if one.seconds(rate) == best[rate] else ' '}"
                for rate in RATES
            )
            lines.append(
                f"  {one.peer:36}{one.bytes:13,.0f}{one.pack_seconds:8.2f}"
                f"{one.restore_seconds:10.2f}{one.cpu_seconds:8.2f}"
                f"{one.peak_bytes / (1 << 20):6.0f}{seconds}"
            )
        for rate, target in zip(RATES, TARGETS[heat], strict=True):
            if (value := ratio(found, rate)) is not None:
                total += 1
                won += value <= 1
                met += value <= target
                worst = max(worst, value)
    lines.append(
        f"\nlayer-packer won {won} of {total} races and met {met} of {total} targets; at worst "
        f"{worst:.2f} times the best peer's seconds"
    )
    return "\n".join(lines)


def charts(rows: list[Row]) -> list[plots.Chart | plots.Bars]:
    """Return seconds against the speed of the link, one chart a corpus and heat."""
    steps = [10 ** (1 + step / 4) for step in range(13)]
    out: list[plots.Chart | plots.Bars] = []
    for (corpus, heat), found in heats(results(rows)).items():
        series = {
            one.peer: [(rate, one.seconds(rate)) for rate in steps]
            for one in found
            if not one.problem
        }
        title = f"{corpus}, {'first version' if heat == 'first' else 'update'}"
        if series:
            out.append(
                plots.Chart(
                    title, "link, Mb/s", "seconds", series, x_log=True, y_log=True, x_ticks=RATES
                )
            )
    return out


def measure_corpora(
    record: Record,
    corpora: list[Path],
    kinds: Sequence[type[Peer]],
    rounds: int,
    limit: int = VERSIONS,
) -> None:
    """Add to a record what it lacks.

    Args:
        record: of earlier runs, or empty.
        corpora: their directories.
        kinds: the contestants, in their order.
        rounds: of all of them in turn.
        limit: greatest number of versions of each corpus.
    """
    for row in [row for row in record.rows if "failed" in row or "missing" in row]:
        record.drop(corpus=row["corpus"], peer=row["peer"], round=row["round"])  # try again
    for corpus in corpora:
        for turn in range(rounds):
            for kind in kinds:
                if record.find(corpus=corpus.name, peer=kind.name, round=turn) is None:
                    say(f"{corpus.name}: {kind.name}, round {turn + 1} of {rounds}")
                    record.add(race_row(kind, corpus, turn, limit))


def main(arguments: list[str] | None = None) -> int:
    """Run the races; exit 1 if a restore differs or a contestant failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.race", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--peers", default=",".join(peer.name for peer in CONTESTANTS))
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="OPTIONS",
        help='race layer-packer with options of pack too, as "--level 3" (repeatable)',
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--versions", type=int, default=VERSIONS, metavar="N", help="of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg, png or pdf")
    options = parser.parse_args(arguments)
    names = options.peers.split(",")
    kinds = [peer for peer in CONTESTANTS if peer.name in names]
    if len(kinds) != len(names):
        parser.error(f"peers are {', '.join(peer.name for peer in CONTESTANTS)}")
    kinds += [variant(text) for text in options.also]
    try:
        record = Record("race", options.json, versions=options.versions)
        measure_corpora(record, options.corpora, kinds, options.rounds, options.versions)
    except BenchmarkError as error:
        say(f"race: {error}")
        return 2
    print("\n".join(f"{name}: {value}" for name, value in record.document["about"].items()))
    print(table(record.rows))
    if options.plot:
        plots.save(charts(record.rows), options.plot)
    bad = any(row.get("restored") is False or "failed" in row for row in record.rows)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

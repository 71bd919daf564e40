"""Packs successive versions with layer-packer and its peers, side by side, and prints what it cost.

    python -m benchmarks.peers CORPUS [CORPUS ...] [--peers NAME,NAME] [--rounds N] [--json FILE]

CORPUS is a directory whose subdirectories are the versions, in natural order. For every peer: the
bytes that each version adds (the growth of its whole repository, config and index included),
seconds (first pack, mean update, packing the last version again, restoring the last version), peak
memory, and a restore of every version that is compared byte for byte, permissions and links
included. Below them ceilings: what walking, reading, hashing and compressing the same bytes takes
in the same run. Rounds run all of them in turn; seconds are medians. Peers that are not installed
are listed as missing. With --json every measurement is kept at once, and the same command goes on
where it was cut off.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.contenders import (
    CEILINGS,
    PEERS,
    RESTORE_CEILINGS,
    OpenedPatchFrom,
    PatchFrom,
    Peer,
    walk,
)
from benchmarks.measure import BenchmarkError, Record, Row, say, size_of, versions_of
from benchmarks.opened import changed_archive_bytes

OURS = "layer-packer"
ALLOWANCE_BYTES = 4096
"""What an update may cost beyond the smallest patch: manifest, config, index."""
ALLOWANCE_ARCHIVES = 0.001
"""And this share of the archives that changed: what makes them come back bit for bit."""
STORES = ("casync", "desync", "restic", "borg", "kopia", "tar.zst -3")
"""The peers whose first version is what they make of it, not of another tool."""
BETTER = (*STORES, "xdelta3 -9")
"""The peers that an update should always cost less than with."""


def corpus_row(corpus: Path, limit: int | None) -> Row:
    """Return what a corpus is."""
    trees = versions_of(corpus)[:limit]
    return {
        "kind": "corpus",
        "corpus": corpus.name,
        "versions": len(trees),
        "bytes": [size_of(tree) for tree in trees],
        "entries": [walk(tree) for tree in trees],
        "changed_archive_bytes": changed_archive_bytes(trees),
    }


def peer_row(kind: type[Peer], corpus: Path, turn: int, limit: int | None, *, check: bool) -> Row:
    """Pack all versions of a corpus with one peer; restore the last, or all of them to `check`."""
    row: Row = {"kind": "peer", "corpus": corpus.name, "peer": kind.name, "round": turn}
    absent = [program for program in kind.needs if shutil.which(program) is None]
    if absent:
        return {**row, "missing": ", ".join(absent) + " not installed"}
    trees = versions_of(corpus)[:limit]
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        peer = kind(Path(name, "work"))
        try:
            peer.prepare()
            row.update(_packed(peer, trees))
            row.update(_restored(peer, trees, Path(name, "restored"), check))
        except BenchmarkError as error:
            return {**row, "failed": str(error)}
        finally:
            measure.run("chmod", "-R", "u+rwX", name)
    return row


def _packed(peer: Peer, trees: list[Path]) -> Row:
    size, added, uses = peer.size(), [], []
    for number, tree in enumerate(trees, 1):
        uses.append(peer.pack(tree, number))
        before, size = size, peer.size()
        added.append(size - before)
    again = peer.pack(trees[-1], len(trees)).seconds if peer.repacks else None
    return {
        "added_bytes": added,
        "pack_seconds": [use.seconds for use in uses],
        "again_seconds": again,
        "pack_peak_bytes": max(use.peak_bytes for use in uses),
    }


def _restored(peer: Peer, trees: list[Path], target: Path, check: bool) -> Row:
    same, peak = [], 0
    for number, tree in enumerate(trees, 1):
        if check or number == len(trees):
            use = peer.unpack(number, target)
            peak = max(peak, use.peak_bytes)
            same.append(not check or peer.same(tree, target))
            measure.remove(target)
    return {
        "unpack_seconds": use.seconds,
        "unpack_peak_bytes": peak,
        "restored": all(same) if check else None,
    }


def ceiling_row(name: str, corpus: Path, turn: int, limit: int | None) -> Row:
    """Measure a ceiling on every version of a corpus; one of restoring on the last version."""
    trees = versions_of(corpus)[:limit]
    row: Row = {"kind": "ceiling", "corpus": corpus.name, "peer": name, "round": turn}
    with tempfile.TemporaryDirectory(prefix="peers-") as work:
        if name in RESTORE_CEILINGS:
            use, _ = RESTORE_CEILINGS[name](trees[-1], Path(work))
            return {**row, "unpack_seconds": use.seconds}
        found = [CEILINGS[name](tree, Path(work)) for tree in trees]
    if any(size for _, size in found):
        row["added_bytes"] = [size for _, size in found]
    return {**row, "pack_seconds": [use.seconds for use, _ in found]}


@dataclass(frozen=True, slots=True)
class Summary:
    """What one peer, or ceiling, did with one corpus, over all rounds.

    Bytes are of the first round (all rounds give the same, as far as a peer is deterministic),
    seconds are medians, peaks are maxima. None where there is nothing to tell.
    """

    corpus: str
    peer: str
    kind: str
    rounds: int
    problem: str
    first_bytes: int | None
    update_bytes: float | None
    first_seconds: float | None
    update_seconds: float | None
    again_seconds: float | None
    unpack_seconds: float | None
    spread: float
    """Of the first seconds: (largest - smallest) / median."""
    peak_bytes: int
    unpack_peak_bytes: int
    restored: bool | None


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def summarise(rows: list[Row]) -> Summary:
    """Sum up the rounds of one peer on one corpus."""
    first = rows[0]
    problem = next((row[key] for row in rows for key in ("missing", "failed") if key in row), "")
    good = [row for row in rows if "missing" not in row and "failed" not in row]
    added = good[0].get("added_bytes") if good else None
    packs = [row["pack_seconds"] for row in good if "pack_seconds" in row]
    firsts = [seconds[0] for seconds in packs]
    middle = _median(firsts)
    return Summary(
        corpus=first["corpus"],
        peer=first["peer"],
        kind=first["kind"],
        rounds=len(good),
        problem=problem,
        first_bytes=added[0] if added else None,
        update_bytes=statistics.fmean(added[1:]) if added and added[1:] else None,
        first_seconds=middle,
        update_seconds=_median(statistics.fmean(found[1:]) for found in packs if found[1:]),
        again_seconds=_median(row.get("again_seconds") for row in good),
        unpack_seconds=_median(row.get("unpack_seconds") for row in good),
        spread=(max(firsts) - min(firsts)) / middle if middle else 0.0,
        peak_bytes=max((row.get("pack_peak_bytes", 0) for row in good), default=0),
        unpack_peak_bytes=max((row.get("unpack_peak_bytes", 0) for row in good), default=0),
        restored=next((row["restored"] for row in good if row.get("restored") is not None), None),
    )


def summaries(rows: list[Row]) -> dict[str, list[Summary]]:
    """Return for each corpus what every peer and ceiling did, in the order of the first round."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["kind"] != "corpus":
            groups.setdefault((row["corpus"], row["peer"]), []).append(row)
    out: dict[str, list[Summary]] = {}
    for (corpus, _), found in groups.items():
        out.setdefault(corpus, []).append(summarise(found))
    for items in out.values():
        items.sort(key=lambda item: item.kind != "peer")  # one tried again comes last in the rows
    return out


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to reach on one corpus."""

    corpus: str
    what: str
    ours: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.ours <= self.limit


def targets(rows: list[Row]) -> list[Target]:
    """Return the targets that the measurements can tell about."""
    about = {row["corpus"]: row for row in rows if row["kind"] == "corpus"}
    out = []
    for corpus, found in summaries(rows).items():
        by_name = {item.peer: item for item in found if not item.problem}
        ours = by_name.get(OURS)
        if ours is None or ours.first_bytes is None:
            continue
        changed = about[corpus]["changed_archive_bytes"][1:]
        archives = statistics.fmean(changed) if any(changed) else 0.0
        patch = by_name.get(OpenedPatchFrom.name if archives else PatchFrom.name)
        if ours.update_bytes is not None:
            if patch is not None and patch.update_bytes is not None:
                limit = patch.update_bytes + ALLOWANCE_BYTES + ALLOWANCE_ARCHIVES * archives
                what = "update, patch-from + 4 KiB" + (" + 0.1 % of archives" if archives else "")
                out.append(Target(corpus, what, ours.update_bytes, limit, "bytes"))
            for peer in (by_name[name] for name in BETTER if name in by_name):
                if peer.update_bytes is not None:
                    what = f"update, below {peer.peer}"
                    out.append(Target(corpus, what, ours.update_bytes, peer.update_bytes, "bytes"))
        firsts = [by_name[name].first_bytes for name in STORES if name in by_name]
        if known := [size for size in firsts if size is not None]:
            share = 0.95 if archives else 1.0
            what = "first pack, the smallest peer" + (" x 0.95" if archives else "")
            out.append(Target(corpus, what, ours.first_bytes, min(known) * share, "bytes"))
        out += _speed_targets(corpus, ours, by_name)
    return out


def _speed_targets(corpus: str, ours: Summary, by_name: dict[str, Summary]) -> list[Target]:
    out = []
    for what, field in (("first pack", "first_seconds"), ("update", "update_seconds")):
        mine = getattr(ours, field)
        for name in ("casync", "restic", "borg"):
            if name in by_name and mine is not None:
                theirs = getattr(by_name[name], field)
                out.append(Target(corpus, f"{what}, faster than {name}", mine, theirs, "s"))
    pack = [name for name in by_name if name.endswith("-T0") or name.startswith("SHA-256")]
    seconds = [by_name[name].first_seconds or 0.0 for name in pack]
    if seconds and ours.first_seconds is not None:
        what = "first pack, slower of zstd -T0 and SHA-256 / 0.9"
        out.append(Target(corpus, what, ours.first_seconds, max(seconds) / 0.9, "s"))
    again, unpack = ours.again_seconds, ours.unpack_seconds
    start, walking = by_name.get("python -c pass"), by_name.get("walk (scandir, lstat)")
    if again is not None and start is not None and walking is not None:
        limit = 2 * ((start.update_seconds or 0.0) + (walking.update_seconds or 0.0))
        out.append(
            Target(corpus, "unchanged, twice python's start and the walk", again, limit, "s")
        )
    untar = by_name.get("zstd -dc | tar x")
    if unpack is not None and untar is not None and untar.unpack_seconds is not None:
        limit = untar.unpack_seconds / 0.7
        out.append(Target(corpus, "restore, zstd -dc | tar x / 0.7", unpack, limit, "s"))
    return out


def _cell(value: float | None, pattern: str, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}{pattern}}"


def table(rows: list[Row]) -> str:
    """Return the results as text, one block a corpus."""
    lines = []
    about = {row["corpus"]: row for row in rows if row["kind"] == "corpus"}
    for corpus, found in summaries(rows).items():
        row = about[corpus]
        lines += [
            f"\n{corpus}: {row['versions']} versions, the first of {row['bytes'][0]:,} bytes in "
            f"{row['entries'][0]:,} entries",
            f"  {'':26}{'first bytes':>13}{'mean update':>13}{'first s':>9}{'update s':>9}"
            f"{'again s':>9}{'restore s':>10}{'peak MiB':>9}{'restore':>8}  restored",
        ]
        kind = "peer"
        for item in found:
            if item.kind != kind:
                kind = item.kind
                lines.append("  ceilings")
            if item.problem:
                lines.append(f"  {item.peer:26}  {item.problem}")
                continue
            lines.append(
                f"  {item.peer:26}{_cell(item.first_bytes, ',', 13)}"
                f"{_cell(item.update_bytes, ',.0f', 13)}{_cell(item.first_seconds, '.2f', 9)}"
                f"{_cell(item.update_seconds, '.2f', 9)}{_cell(item.again_seconds, '.2f', 9)}"
                f"{_cell(item.unpack_seconds, '.2f', 10)}"
                f"{_cell(item.peak_bytes / (1 << 20) if item.peak_bytes else None, '.0f', 9)}"
                f"{_cell(item.unpack_peak_bytes / (1 << 20) or None, '.0f', 8)}"
                f"  {'' if item.restored is None else 'same' if item.restored else 'DIFFERS'}"
            )
    lines.append("\ntargets")
    for target in targets(rows):
        digits = ",.0f" if target.unit == "bytes" else ",.2f"
        lines.append(
            f"  {'met   ' if target.met else 'MISSED'} {target.corpus}: {target.what}: "
            f"{target.ours:{digits}} of {target.limit:{digits}} {target.unit}"
        )
    return "\n".join(lines)


def measure_corpora(
    record: Record,
    corpora: list[Path],
    kinds: Sequence[type[Peer]],
    rounds: int,
    limit: int | None = None,
) -> None:
    """Add to a record what it lacks.

    Args:
        record: of earlier runs, or empty.
        corpora: their directories.
        kinds: the peers, in their order.
        rounds: of all peers in turn; slow ones have one.
        limit: how many versions of each corpus; None means all.
    """
    for row in [row for row in record.rows if "failed" in row or "missing" in row]:
        record.drop(corpus=row["corpus"], peer=row["peer"], round=row["round"])  # try again
    for corpus in corpora:
        about = record.find(kind="corpus", corpus=corpus.name)
        if about is None:
            about = corpus_row(corpus, limit)
            record.add(about)
        for turn in range(rounds):
            for kind in kinds:
                if turn and kind.slow:
                    continue
                if kind.yardstick and not any(about["changed_archive_bytes"]):
                    continue
                if record.find(corpus=corpus.name, peer=kind.name, round=turn) is None:
                    say(f"{corpus.name}: {kind.name}, round {turn + 1} of {rounds}")
                    record.add(peer_row(kind, corpus, turn, limit, check=not turn))
            for name in (*CEILINGS, *RESTORE_CEILINGS):
                if record.find(corpus=corpus.name, peer=name, round=turn) is None:
                    record.add(ceiling_row(name, corpus, turn, limit))


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; exit 1 if any restore differs or any peer failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--versions", type=int, metavar="N", help="only the first of each corpus")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for each command")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    options = parser.parse_args(arguments)
    names = options.peers.split(",")
    kinds = [peer for peer in PEERS if peer.name in names]
    if len(kinds) != len(names):
        parser.error(f"peers are {', '.join(peer.name for peer in PEERS)}")
    if options.timeout:
        measure.TIMEOUT_SECONDS = options.timeout
    try:
        record = Record("peers", options.json, versions=options.versions)
        measure_corpora(record, options.corpora, kinds, options.rounds, options.versions)
    except BenchmarkError as error:
        say(f"peers: {error}")
        return 2
    print("\n".join(f"{name}: {value}" for name, value in record.document["about"].items()))
    print(table(record.rows))
    bad = any(row.get("restored") is False or "failed" in row for row in record.rows)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Where layer-packer loses: every figure of the records where a peer, or a limit, is better.

Nothing is chosen by hand. What is listed follows from the rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import curve, levels, peers, quality, scale
from benchmarks.measure import Row

Rows = Mapping[str, list[Row]]
METRICS = {
    "update_bytes": ("Mean update", "bytes"),
    "first_bytes": ("First pack", "bytes"),
    "update_seconds": ("Packing an update", "s"),
    "first_seconds": ("Packing the first version", "s"),
    "again_seconds": ("Packing an unchanged version", "s"),
    "unpack_seconds": ("Restoring the last version", "s"),
    "peak_bytes": ("Peak memory of packing", "bytes of memory"),
    "unpack_peak_bytes": ("Peak memory of restoring", "bytes of memory"),
}
"""What peers are compared by: less is better in all of it."""
RECIPE_PERCENT = 0.1
SAME = 0.02
"""Differences of seconds or memory up to this share are noise, and no loss."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing in which something else is better.

    Args:
        topic: what was measured.
        where: the corpus, encoder or size.
        ours: layer-packer's figure.
        better: who has a better one, the best first.
        unit: of all figures.
    """

    topic: str
    where: str
    ours: float
    better: tuple[tuple[str, float], ...]
    unit: str

    @property
    def factor(self) -> float:
        """How many times the best of the others our figure is."""
        best = self.better[0][1]
        return self.ours / best if best else float("inf")


def peer_losses(rows: list[Row]) -> list[Loss]:
    """Return every cell of the comparison in which a peer has the smaller figure."""
    out = []
    for metric, (topic, unit) in METRICS.items():
        tolerance = 0.0 if unit == "bytes" else SAME
        for corpus, found in peers.summaries(rows).items():
            ours = next((item for item in found if item.peer == peers.OURS), None)
            mine = getattr(ours, metric) if ours is not None else None
            if not mine:
                continue
            better = [
                (item.peer, value)
                for item in found
                if item.kind == "peer" and (value := getattr(item, metric))
                if value * (1 + tolerance) < mine
            ]
            if better:
                better.sort(key=lambda pair: pair[1])
                out.append(Loss(topic, corpus, mine, tuple(better), unit))
    return out


def curve_losses(rows: list[Row]) -> list[Loss]:
    """Return the corpora on which old versions cost a fresh pull more than they may."""
    out = []
    for corpus, found in curve.by_corpus(rows).items():
        fresh = max(found, key=lambda row: row["fresh_bytes"] / row["alone_bytes"])
        pulled = [row for row in found if "pull_seconds" in row]
        slow = max(pulled, key=lambda row: row["pull_seconds"] / row["alone_pull_seconds"])
        ratio = slow["pull_seconds"] / slow["alone_pull_seconds"]
        for topic, row, value, limit in (
            ("Bytes of a fresh pull / packed alone", fresh,
             fresh["fresh_bytes"] / fresh["alone_bytes"], curve.MAX_COST),
            ("Seconds of a fresh pull / packed alone", slow, ratio, curve.MAX_SECONDS),
        ):  # fmt: skip
            if value > limit:
                where = f"{corpus}, version {row['n']}"
                out.append(Loss(topic, where, value, (("limit", limit),), "ratio"))
        layers = max(row["layers"] for row in found)
        if layers > curve.MAX_LAYERS:
            limits = (("limit", float(curve.MAX_LAYERS)),)
            out.append(Loss("Layers of a manifest", corpus, layers, limits, "layers"))
    return out


def level_losses(rows: list[Row]) -> list[Loss]:
    """Return the levels that are larger than a lower one which is not slower."""
    out = []
    for corpus, found in levels.medians(rows).items():
        for row in found:
            better = [
                (f"level {other['level']}", other["first_bytes"])
                for other in found
                if other["level"] < row["level"]
                and other["first_bytes"] < row["first_bytes"]
                and other["first_seconds"] <= row["first_seconds"]
            ]
            if better:
                where = f"{corpus}, level {row['level']}"
                best = (min(better, key=lambda pair: pair[1]),)
                topic = "First pack larger than at a lower, faster level"
                out.append(Loss(topic, where, row["first_bytes"], best, "bytes"))
    return out


def scale_losses(rows: list[Row]) -> list[Loss]:
    """Return the sizes at which memory is above its limit."""
    out = []
    for row in rows:
        names = [name for name in row if name.endswith("peak_bytes") and name[:5] != "empty"]
        peak = max((row[name] for name in names), default=0)
        if peak > scale.LIMIT_BYTES:
            where = f"{row['size']:,} {row['part']}" if row["part"] != "index" else (
                f"index of {row['size']:,} bytes"
            )  # fmt: skip
            limit = (("limit", float(scale.LIMIT_BYTES)),)
            out.append(Loss("Memory", where, peak, limit, "bytes of memory"))
    return out


def quality_losses(rows: list[Row]) -> list[Loss]:
    """Return the inputs in which FastCDC finds more that is known, or cuts more evenly."""
    out = []
    for topic, name, unit in (
        ("Bytes in new chunks", "new_percent", "%"),
        ("Deviation of chunk sizes / mean", "deviation", "ratio"),
    ):
        for key in dict.fromkeys((row["corpus"], row["input"], row["average"]) for row in rows):
            found = {
                row["rule"]: row[name]
                for row in rows
                if (row["corpus"], row["input"], row["average"]) == key and row[name] is not None
            }
            ours = found.pop(quality.OURS, None)
            better = sorted(
                ((rule, value) for rule, value in found.items() if ours and value < ours),
                key=lambda pair: pair[1],
            )
            if ours and better:
                where = f"{key[0]}, {key[1]}, {key[2] >> 10} KiB"
                out.append(Loss(topic, where, ours, tuple(better), unit))
    return out


def deflate_losses(rows: list[Row]) -> list[Loss]:
    """Return the encoders whose streams stay closed, or whose recipes are large."""
    out = []
    for row in rows:
        if row["refused"]:
            share = 100.0 * row["refused"] / row["segments"]
            topic, limit = "Deflate segments that stay closed", 0.0
        else:
            share, limit = row["recipe_percent"], RECIPE_PERCENT
            topic = "Recipe, of the stream"
        if share > limit:
            out.append(Loss(topic, row["encoder"], share, (("limit", limit),), "%"))
    return out


def losses(records: Rows) -> list[Loss]:
    """Return everything in which something else is better, by topic, the worst first."""
    out = list[Loss]()
    for name, find in (
        ("peers", peer_losses),
        ("curve", curve_losses),
        ("levels", level_losses),
        ("scale", scale_losses),
        ("quality", quality_losses),
        ("deflate", deflate_losses),
    ):
        if records.get(name):
            out += find(records[name])
    topics = list(dict.fromkeys(loss.topic for loss in out))
    return sorted(out, key=lambda loss: (topics.index(loss.topic), -loss.factor))

"""The page of the report: records to one HTML file that needs nothing else.

Every function takes rows and returns HTML. What is measured, and how, is not decided here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks import curve, levels, peers, plots, quality, race, scale
from benchmarks.contenders import OpenedPatchFrom
from benchmarks.losses import METRICS, Loss, losses
from benchmarks.measure import Row
from benchmarks.plots import human
from benchmarks.texts import SECTIONS, SHORT, STYLE, TEXTS


def figure_of(value: float | None, unit: str) -> str:
    """Return a figure with its unit, for people."""
    if value is None:
        return "–"
    if unit.startswith("bytes"):
        return human(value)
    if unit == "s":
        if value >= 0.1:
            return f"{value:,.0f} s" if value >= 100 else f"{value:.2f} s"
        return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.2f} ms"
    return f"{value:.3g} %" if unit == "%" else f"{value:.3g}"


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: Sequence[int] = (),
    caption: str = "",
) -> str:
    """Return a table; cells are HTML, a cell that starts with ``<td`` is taken as it is."""
    out = ['<div class="wide"><table>']
    if caption:
        out.append(f"<caption>{caption}</caption>")
    cells = "".join(
        name
        if name.startswith("<th")
        else f'<th class="{"text" if at in text else ""}">{name}</th>'
        for at, name in enumerate(head)
    )
    out.append(f"<thead><tr>{cells}</tr></thead><tbody>")
    for row in rows:
        cells = "".join(
            cell
            if cell.startswith("<td")
            else f'<td class="{"text" if at in text else ""}">{cell}</td>'
            for at, cell in enumerate(row)
        )
        out.append(f"<tr>{cells}</tr>")
    out.append("</tbody></table></div>")
    return "".join(out).replace(' class=""', "")


def folded(text: str) -> str:
    """Return a text that is shown on demand."""
    return f"<details><summary>All figures</summary><pre>{escape(text)}</pre></details>"


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean, 0 of nothing."""
    return math.exp(statistics.fmean(math.log(value) for value in values)) if values else 0.0


def ratios(rows: list[Row], metric: str, names: Sequence[str]) -> list[float]:
    """Return for each corpus the best of some peers over ours."""
    out = []
    for found in peers.summaries(rows).values():
        by_name = {item.peer: getattr(item, metric) for item in found if not item.problem}
        ours = by_name.get(peers.OURS)
        others = [value for name in names if (value := by_name.get(name))]
        if ours and others:
            out.append(min(others) / ours)
    return out


def summary(records: Mapping[str, list[Row]]) -> str:
    """Return the tiles at the top."""
    rows = records.get("peers", [])
    tools = ("casync", "desync", "restic", "borg", "kopia")
    tiles = []
    for metric, what in (
        ("update_bytes", "smaller updates than the best of the deduplicating tools"),
        ("first_bytes", "smaller first version than the best of them"),
        ("update_seconds", "the speed of the fastest of them, packing an update"),
    ):
        if found := ratios(rows, metric, tools):
            spread = f"{min(found):.2g} to {max(found):.2g} on {len(found)} corpora"
            tiles.append((f"{geometric_mean(found):.2g} ×", f"{what} (mean; {spread})"))
    goals = peers.targets(rows) if rows else []
    if goals:
        met = sum(goal.met for goal in goals)
        tiles.append((f"{met} of {len(goals)}", 'targets met (<a href="#targets">all of them</a>)'))
    cells = "".join(f'<div class="tile"><b>{a}</b><span>{b}</span></div>' for a, b in tiles)
    restored = [row["restored"] for row in rows if row.get("restored") is not None]
    same = sum(restored)
    note = (
        f"<p>{same} of {len(restored)} restores of all versions came back byte for byte. Means are "
        "geometric, of ratios within one run; above 1 is better than the peer.</p>"
        if restored
        else ""
    )
    return f'<div class="tiles" id="summary">{cells}</div>{note}' if cells else ""


def _better(loss: Loss) -> str:
    return ", ".join(f"{escape(name)} {figure_of(value, loss.unit)}" for name, value in loss.better)


def _factor(loss: Loss) -> str:
    return "" if loss.factor == float("inf") else f"{loss.factor:.3g} ×"


def losses_table(found: list[Loss]) -> str:
    """Return the worst case of each topic, and on demand everything."""
    if not found:
        return "<p>No figure in the records is worse than a peer's or a limit.</p>"
    topics: dict[str, list[Loss]] = {}
    for loss in found:
        topics.setdefault(loss.topic, []).append(loss)
    short = [
        [
            f"<b>{escape(topic)}</b>",
            str(len(items)),
            escape(items[0].where),
            figure_of(items[0].ours, items[0].unit),
            _factor(items[0]),
            _better(items[0]),
        ]
        for topic, items in topics.items()
    ]
    head = ["what", "cases", "the worst of them", "layer-packer", "× the best", "better"]
    whole = [
        [
            escape(loss.topic),
            escape(loss.where),
            figure_of(loss.ours, loss.unit),
            _factor(loss),
            _better(loss),
        ]
        for loss in found
    ]
    return (
        table(head, short, text=(0, 2, 5))
        + f"<details><summary>All {len(found)} cases</summary>"
        + table([head[0], "where", *head[3:]], whole, text=(0, 1, 4))
        + "</details>"
    )


def targets_table(rows: list[Row]) -> str:
    """Return the targets: how many of each kind are met, those missed, and on demand all."""
    goals = peers.targets(rows)
    kinds: dict[str, list[peers.Target]] = {}
    for goal in goals:
        kinds.setdefault(goal.what, []).append(goal)
    short = []
    for what, items in kinds.items():
        met = sum(goal.met for goal in items)
        classes = "met" if met == len(items) else "missed"
        count = f'<span class="{classes}">{met} of {len(items)}</span>'
        missed = ", ".join(
            f"{escape(goal.corpus)} ({figure_of(goal.ours, goal.unit)}, at most "
            f"{figure_of(goal.limit, goal.unit)})"
            for goal in items
            if not goal.met
        )
        short.append([escape(what), count, missed])
    whole = [
        [
            escape(goal.corpus),
            escape(goal.what),
            figure_of(goal.ours, goal.unit),
            figure_of(goal.limit, goal.unit),
            '<span class="met">met</span>' if goal.met else '<span class="missed">missed</span>',
        ]
        for goal in sorted(goals, key=lambda goal: goal.corpus)
    ]
    head = ["corpus", "target", "layer-packer", "at most", ""]
    return (
        table(["target", "met", "missed on"], short, text=(0, 2))
        + f"<details><summary>All {len(goals)} targets</summary>"
        + table(head, whole, text=(0, 1))
        + "</details>"
    )


CEILINGS_OF = {
    "first_bytes": ("tar | zstd -",),
    "first_seconds": ("cat", "SHA-256", "tar | zstd -"),
    "update_seconds": ("cat", "SHA-256", "tar | zstd -"),
    "again_seconds": ("python -c", "walk"),
    "unpack_seconds": ("zstd -dc",),
}
"""The ceilings shown beside each figure, by how their names start."""


def matrix(rows: list[Row], metric: str) -> str:
    """Return one figure for all corpora and peers; the best peer of each corpus stands out."""
    found = peers.summaries(rows)
    _, unit = METRICS[metric]
    starts = CEILINGS_OF.get(metric, ())
    names = dict.fromkeys(
        (item.peer, item.kind)
        for items in found.values()
        for item in items
        if not item.problem and (item.kind == "peer" or item.peer.startswith(starts or ("\0",)))
        if getattr(item, metric) is not None or item.kind == "ceiling"
    )
    head = ["corpus"]
    for name, kind in names:
        label = SHORT.get(name, escape(name)).replace(" | ", "<br>| ")
        classes = "ours" if name == peers.OURS else "aside" if kind == "ceiling" else ""
        head.append(f'<th class="{classes}">{label}</th>')
    lines = []
    for corpus, items in found.items():
        values = {item.peer: _ceiling(item, metric) for item in items if not item.problem}
        others = [
            values[name]
            for name, kind in names
            if kind == "peer" and name != OpenedPatchFrom.name and values.get(name)
        ]
        best = min((value for value in others if value), default=None)
        line = [escape(corpus)]
        for name, kind in names:
            value = values.get(name)
            shown = figure_of(value if value else None, unit)
            classes = "aside" if kind == "ceiling" else ""
            if kind == "peer" and value and value == best and name != OpenedPatchFrom.name:
                classes = "best"
            line.append(f'<td class="{classes}">{shown}</td>')
        lines.append(line)
    return table(head, lines)


def _ceiling(item: peers.Summary, metric: str) -> float | None:
    if item.kind == "ceiling" and metric == "again_seconds":
        metric = "update_seconds"
    value: float | None = getattr(item, metric)
    return value


def update_bars(rows: list[Row]) -> str:
    """Return the plot of update sizes."""
    groups: dict[str, dict[str, float | None]] = {}
    for corpus, found in peers.summaries(rows).items():
        groups[corpus] = {
            item.peer: item.update_bytes
            for item in found
            if item.kind == "peer" and not item.problem and item.update_bytes
        }
    if not any(groups.values()):
        return ""
    return plots.svg(
        [plots.Bars("Mean bytes that an update adds", "bytes, logarithmic", groups, log=True)]
    )


def peers_section(rows: list[Row]) -> str:
    """Return the comparison."""
    missing = {
        row["peer"]: row.get("missing") or row.get("failed")
        for row in rows
        if "missing" in row or "failed" in row
    }
    out = [
        TEXTS["peers"],
        update_bars(rows),
    ]
    for metric, (title, unit) in METRICS.items():
        label = {"s": "seconds, median", "bytes": "bytes"}.get(unit, "bytes")
        out.append(f"<h3>{title} <small>({label})</small></h3>{matrix(rows, metric)}")
    if missing:
        texts = "; ".join(f"{escape(name)}: {escape(str(why))}" for name, why in missing.items())
        out.append(f"<p>Not measured: {texts}.</p>")
    out.append(folded(peers.table(rows)))
    return "".join(out)


def curve_section(rows: list[Row]) -> str:
    """Return the curve over many versions."""
    lines = []
    for corpus, found in curve.by_corpus(rows).items():
        for row in found:
            if row["n"] in (1, 20, found[-1]["n"]):
                pulled = row.get("pull_seconds")
                ratio = f"{pulled / row['alone_pull_seconds']:.2f}" if pulled else "–"
                lines.append(
                    [
                        escape(corpus),
                        str(row["n"]),
                        human(row["added_bytes"]),
                        human(row["fresh_bytes"]),
                        f"{row['fresh_bytes'] / row['alone_bytes']:.3f}",
                        str(row["layers"]),
                        figure_of(pulled, "s"),
                        ratio,
                    ]
                )
    head = [
        "corpus",
        "version",
        "added",
        "fresh pull",
        "× packed alone",
        "layers",
        "pull",
        "× alone",
    ]
    return TEXTS["curve"] + plots.svg(curve.charts(rows)) + table(head, lines)


def levels_section(rows: list[Row]) -> str:
    """Return bytes against seconds."""
    return TEXTS["levels"] + plots.svg(levels.charts(rows)) + folded(levels.table(rows))


def scale_section(rows: list[Row]) -> str:
    """Return time and memory by size."""
    return TEXTS["scale"] + plots.svg(scale.charts(rows)) + folded(scale.table(rows))


def quality_section(rows: list[Row]) -> str:
    """Return the chunker beside FastCDC."""
    lines = []
    for row in rows:
        name = f"{row['corpus']}, {row['input']}, {row['average'] >> 10} KiB"
        lines.append(
            [
                escape(name) if row["rule"] == quality.OURS else "",
                escape(row["rule"]),
                figure_of(row["new_percent"], "%"),
                human(row["mean_bytes"]) if row["mean_bytes"] else "–",
                f"{row['deviation']:.3f}" if row["deviation"] is not None else "–",
            ]
        )
    head = ["input", "rule", "in new chunks", "mean size", "deviation / mean"]
    return (
        TEXTS["quality"]
        + plots.svg(quality.charts(rows))
        + "<details><summary>All figures</summary>" + table(head, lines, text=(0, 1)) + "</details>"
    )  # fmt: skip


def deflate_section(rows: list[Row]) -> str:
    """Return what recipes cost, by encoder."""
    lines = []
    for row in rows:
        closed = f"{row['refused']} of {row['segments']} segments closed" if row["refused"] else ""
        lines.append(
            [
                escape(row["encoder"]),
                human(row["stream_bytes"]),
                f"{row['tokens']:,}",
                f"{row['wrong']:,}",
                closed or human(row["recipe_bytes"]),
                "–" if closed else f"{row['recipe_percent']:.3f} %",
                f"{row['open_rate'] / 1e6:.0f}",
                f"{row['rebuild_rate'] / 1e6:.0f}" if row["rebuild_rate"] else "–",
                f"{row['zlib_ratio']:.1f}",
            ]
        )
    head = ["encoder", "stream", "tokens", "mispredicted", "recipe", "of the stream",
            "opening MB/s", "rebuilding MB/s", "× gzip -dc | gzip -6"]  # fmt: skip
    return TEXTS["deflate"] + table(head, lines)


def stages_section(rows: list[Row]) -> str:
    """Return the stages as pytest-benchmark timed them."""
    lines = []
    for row in rows:
        rate = row.get("rate")
        lines.append(
            [
                escape(row["name"]),
                figure_of(row["median"], "s"),
                figure_of(row["iqr"], "s"),
                str(row["rounds"]),
                f"{rate:,.0f}" if rate else "–",
            ]
        )
    return table(["stage", "median", "interquartile range", "rounds", "MB/s"], lines)


def race_section(rows: list[Row]) -> str:
    """Return the races: seconds against the speed of the link, and their table."""
    drawn = plots.svg(race.charts(rows))
    return f"{TEXTS['race']}{drawn}<pre>{escape(race.table(rows).strip())}</pre>"


def setup_section(
    about: Mapping[str, str], rows: list[Row], data: Sequence[tuple[str, str]]
) -> str:
    """Return the machine, the versions, the corpora and the raw files."""
    facts = [[escape(name), escape(value)] for name, value in about.items()]
    corpora = []
    for row in rows:
        if row["kind"] == "corpus":
            updates = statistics.fmean(row["bytes"])
            changed = row["changed_archive_bytes"][1:]
            corpora.append(
                [
                    escape(row["corpus"]),
                    str(row["versions"]),
                    f"{row['entries'][0]:,}",
                    human(updates),
                    human(statistics.fmean(changed)) if any(changed) else "–",
                ]
            )
    head = ["corpus", "versions", "entries", "bytes, mean", "changed archives, mean"]
    links = ", ".join(f'<a href="{escape(path)}">{escape(name)}</a>' for name, path in data)
    return (
        TEXTS["setup"]
        + (table(head, corpora) if corpora else "")
        + table(["machine and versions", ""], facts, text=(0, 1))
        + f"<p>Raw records: {links}.</p>"
    )  # fmt: skip


def page(
    records: Mapping[str, list[Row]], about: Mapping[str, str], data: Sequence[tuple[str, str]]
) -> str:
    """Return the whole page.

    Args:
        records: rows of each benchmark that was run.
        about: machine and versions.
        data: names and relative paths of the raw records.
    """
    made = {
        "summary": lambda: summary(records),
        "losses": lambda: (
            "<p>Derived from the records: every figure that a peer, or a limit, beats. Seconds and "
            f"memory count beyond 2 %.</p>{losses_table(losses(records))}"
        ),
        "targets": lambda: targets_table(records["peers"]) if records.get("peers") else "",
        "setup": lambda: setup_section(about, records.get("peers", []), data),
    }
    parts = {
        "peers": peers_section,
        "race": race_section,
        "curve": curve_section,
        "levels": levels_section,
        "scale": scale_section,
        "quality": quality_section,
        "deflate": deflate_section,
        "stages": stages_section,
    }
    body, links = [], []
    for name, title in SECTIONS.items():
        if name in parts:
            html = parts[name](records[name]) if records.get(name) else ""
        else:
            html = made[name]()
        if html:
            links.append(f'<a href="#{name}">{title}</a>')
            heading = f'<h2 id="{name}">{title}</h2>' if name != "summary" else ""
            body.append(heading + html)
    line = f"Commit {about['commit']}, {about['date']} · {about['cpu']}, {about['cores']} cores"
    line += f", {about['memory']}, {about['system']}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>layer-packer benchmarks, {escape(about['commit'])}</title>"
        f"<style>{STYLE}</style></head><body><h1>layer-packer benchmarks</h1>"
        f'<p class="quiet">{escape(line)}</p>'
        f"<nav>{''.join(links)}</nav>{''.join(body)}</body></html>\n"
    )

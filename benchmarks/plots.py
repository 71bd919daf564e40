"""Plots of the benchmarks: SVG that looks the same beside any text, drawn by matplotlib.

A `Chart` says what is shown; how it looks is decided here alone.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLOURS = (
    "#0b6e4f", "#c8553d", "#3d5a98", "#b8860b", "#7b4b94", "#5c6770", "#2a9d8f", "#a23b72",
    "#8c6d46", "#6a994e", "#e07a5f", "#1d3557", "#9c89b8", "#bc4749",
)  # fmt: skip
"""Of series in their order; the first is layer-packer's wherever it is compared."""
GREY = "#8a8f98"
TEXT = "#24292f"
WIDTH, HEIGHT = 4.9, 3.1
MANY = 6
"""Series beyond which a legend stands below all charts, not within each."""


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes.

    Args:
        title: what is shown.
        x, y: labels of the axes, units included.
        series: name and points of each.
        x_log, y_log: logarithmic axes.
        labels: name of a series and texts for its points.
        lines: horizontal limits and their names.
        x_ticks: where the x axis is labelled; None leaves it to matplotlib.
        zero: the y axis starts at 0.
    """

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]]
    x_log: bool = False
    y_log: bool = False
    labels: dict[str, list[str]] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)
    x_ticks: tuple[float, ...] | None = None
    zero: bool = False


@dataclass(frozen=True)
class Bars:
    """Groups of horizontal bars.

    Args:
        title: what is shown.
        x: label of the axis, unit included.
        groups: for each group the values by name; None or missing where there is none.
        log: a logarithmic axis.
    """

    title: str
    x: str
    groups: dict[str, dict[str, float | None]]
    log: bool = False


def human(value: float, unit: str = "B") -> str:
    """Return a number of bytes, or of anything, with three digits and a decimal prefix."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip() if value % 1 else f"{value:.0f} {unit}".rstrip()


def _pyplot() -> Any:
    import matplotlib  # only who draws waits for it

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none",  # text stays text: small, selectable, in the page's own font
            "svg.hashsalt": "layer-packer",  # equal plots have equal bytes
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.labelcolor": TEXT,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e4e6ea",
            "grid.linewidth": 0.7,
            "text.color": TEXT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.6,
            "lines.markersize": 4,
        }
    )
    from matplotlib import pyplot

    return pyplot


def _ticks(axis: Any, log: bool, label: str) -> None:
    from matplotlib import ticker

    unit = "B" if label.startswith("bytes") else ""
    low, high = axis.get_view_interval()
    if unit or log or high >= 10_000:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: human(value, unit)))
    else:
        axis.set_major_formatter(ticker.ScalarFormatter(useOffset=False))
        if label.startswith("version"):
            axis.set_major_locator(ticker.MaxNLocator(integer=True))
    if log:
        few = low > 0 and high / low < 30
        inner = (2.0, 5.0) if few else ()
        axis.set_minor_locator(ticker.LogLocator(subs=inner))
        axis.set_minor_formatter(ticker.FuncFormatter(lambda value, _: human(value, unit)))


def _draw(axes: Any, chart: Chart) -> None:
    for at, (name, points) in enumerate(chart.series.items()):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        colour = COLOURS[at % len(COLOURS)]
        marker = "o" if len(points) <= 25 else None
        axes.plot(xs, ys, marker=marker, color=colour, label=name)
        for (x, y), text in zip(points, chart.labels.get(name, ()), strict=False):
            axes.annotate(
                text, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7, color=colour
            )
    for name, value in chart.lines.items():
        axes.axhline(value, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=name)
    if chart.x_log:
        axes.set_xscale("log")
    if chart.y_log:
        axes.set_yscale("log")
    elif chart.zero:
        axes.set_ylim(bottom=0)
    else:
        low, high = axes.get_ylim()
        if high - low < 0.05 * abs(high):  # a difference of nothing should look like nothing
            axes.set_ylim(low - 0.05 * abs(high), high + 0.05 * abs(high))
    if chart.x_ticks:
        axes.set_xticks(chart.x_ticks, [human(x, "") for x in chart.x_ticks])
        axes.minorticks_off()
    else:
        _ticks(axes.xaxis, chart.x_log, chart.x)
    _ticks(axes.yaxis, chart.y_log, chart.y)
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.lines or 1 < len(chart.series) <= MANY:
        handles, names = axes.get_legend_handles_labels()
        shown = [
            (handle, name)
            for handle, name in zip(handles, names, strict=True)
            if len(chart.series) <= MANY or name in chart.lines
        ]
        axes.legend(*zip(*shown, strict=True))


def _draw_bars(axes: Any, bars: Bars) -> None:
    names = list(dict.fromkeys(name for group in bars.groups.values() for name in group))
    height = 0.82 / len(names)
    values = [v for group in bars.groups.values() for v in group.values() if v]
    low = 10 ** math.floor(math.log10(min(values))) if bars.log and values else 0.0
    for at, name in enumerate(names):
        colour = COLOURS[at % len(COLOURS)]
        places, widths = [], []
        for row, group in enumerate(bars.groups.values()):
            if value := group.get(name):
                places.append(row + (at - (len(names) - 1) / 2) * height)
                widths.append(value)
        axes.barh(places, widths, height * 0.92, color=colour, label=name)
        for place, width in zip(places, widths, strict=True):
            text = human(width, "B" if bars.x.startswith("bytes") else "")
            axes.annotate(
                text, (width, place), textcoords="offset points", xytext=(3, 0), va="center",
                fontsize=6.5, color=TEXT,
            )  # fmt: skip
    if bars.log:
        axes.set_xscale("log")
    high = max(values, default=1.0) * (1.8 if bars.log else 1.1)  # room for the figures
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(bars.groups)), list(bars.groups))
    axes.set_ylim(len(bars.groups) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    _ticks(axes.xaxis, bars.log, bars.x)
    axes.set_title(bars.title)
    axes.set_xlabel(bars.x)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def figure(charts: Sequence[Chart | Bars]) -> Any:
    """Return a matplotlib figure with charts side by side, two in a row."""
    pyplot = _pyplot()
    if len(charts) == 1 and isinstance(charts[0], Bars):
        names = {name for group in charts[0].groups.values() for name in group}
        rows = len(charts[0].groups) * (0.3 + 0.14 * len(names))
        drawn, axes = pyplot.subplots(figsize=(2 * WIDTH, rows + 0.9), layout="constrained")
        _draw_bars(axes, charts[0])
        return drawn
    columns = min(2, len(charts))
    rows = math.ceil(len(charts) / columns)
    drawn, grid = pyplot.subplots(
        rows, columns, figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained", squeeze=False
    )
    cells = list(grid.flat)
    for axes, chart in zip(cells, charts, strict=False):
        _draw_bars(axes, chart) if isinstance(chart, Bars) else _draw(axes, chart)
    for axes in cells[len(charts) :]:
        axes.set_axis_off()
    many = [
        (cells[at], chart)
        for at, chart in enumerate(charts)
        if isinstance(chart, Chart) and len(chart.series) > MANY
    ]
    handles = {
        name: handle
        for axes, chart in many
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        if name in chart.series
    }
    if handles:
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return drawn


def svg(charts: Sequence[Chart | Bars]) -> str:
    """Return charts as one SVG element to put into a page."""
    drawn = figure(charts)
    out = io.StringIO()
    drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    _pyplot().close(drawn)
    text = out.getvalue()
    head, _, rest = text[text.index("<svg") :].partition(">")
    # The page decides the size, the view box keeps the proportions; names nobody refers to go,
    # since a page holds several of these.
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    rest = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", rest)
    return f"{head}>{rest}"


def save(charts: Sequence[Chart | Bars], path: Path) -> None:
    """Write charts to a file; its suffix (svg, png, pdf) is the format."""
    pyplot = _pyplot()
    drawn = figure(charts)
    drawn.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(drawn)

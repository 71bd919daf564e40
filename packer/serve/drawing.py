"""Plots and treemaps as numbers: templates turn them into SVG, which needs no script and no style.

Source of the treemap: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

TREEMAP_WIDTH, TREEMAP_HEIGHT = 1000, 420
PLOT_WIDTH, PLOT_HEIGHT = 1000, 250
_LEFT, _RIGHT, _TOP = 78, 10, 14
_PANEL, _GAP = 88, 34
_CHAR_WIDTH = 8.4
"""Width of a character of the labels, in units of the drawing."""


class Rect(NamedTuple):
    """A rectangle, in units of the drawing."""

    x: float
    y: float
    width: float
    height: float


def treemap(weights: Sequence[float]) -> list[Rect]:
    """Return rectangles that fill the area of a treemap, each as large as its weight.

    Args:
        weights: 0 or more, the greatest first.

    Returns:
        A rectangle for each weight, in order.
    """
    total = sum(weights)
    if total <= 0:
        return [Rect(0, 0, 0, 0) for _ in weights]
    areas = [weight * TREEMAP_WIDTH * TREEMAP_HEIGHT / total for weight in weights]
    out: list[Rect] = []
    left, top, right, bottom = 0.0, 0.0, float(TREEMAP_WIDTH), float(TREEMAP_HEIGHT)
    at = 0
    while at < len(areas):
        wide, high = right - left, bottom - top
        side = min(wide, high)
        end = at + 1
        while end < len(areas) and _worst(areas[at : end + 1], side) <= _worst(areas[at:end], side):
            end += 1
        row = areas[at:end]
        thick = sum(row) / side if side > 0 else 0.0
        place = top if wide >= high else left
        for area in row:
            long = area / thick if thick > 0 else 0.0
            if wide >= high:
                out.append(Rect(left, place, thick, long))
            else:
                out.append(Rect(place, top, long, thick))
            place += long
        if wide >= high:
            left += thick
        else:
            top += thick
        at = end
    return [Rect(*(round(value, 1) for value in rect)) for rect in out]


def _worst(row: Sequence[float], side: float) -> float:
    """Return the greatest ratio of the sides of the rectangles in a row."""
    total, least, most = sum(row), min(row), max(row)
    if least <= 0 or side <= 0:
        return float("inf")
    return max(side * side * most / (total * total), total * total / (side * side * least))


def cells(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of a treemap, each with its rectangle and as much of its name as fits.

    Args:
        parts: as `Views.space` returns them, the largest first.

    Returns:
        The parts that take anything, with `x`, `y`, `width`, `height` and `label`.
    """
    some = [part for part in parts if part["stored_bytes"] > 0]
    out = []
    for part, rect in zip(some, treemap([part["stored_bytes"] for part in some]), strict=True):
        fits = int((rect.width - 12) / _CHAR_WIDTH)
        name = part["name"].removeprefix("sha256:")
        if part["kind"] == "layer":
            name = name[:12]
        label = name if len(name) <= fits else name[: max(fits - 1, 0)] + "…"
        if fits < 3 or rect.height < 20:
            label = ""
        out.append(
            {**part, **rect._asdict(), "label": label, "with_size": rect.height >= 42 and fits >= 7}
        )
    return out


def plot(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a plot of versions: what each takes as a line, what it added as a bar below.

    Args:
        rows: as `Views.history` returns them, the newest first.

    Returns:
        Points, bars, and the two scales.
    """
    shown = [row for row in reversed(rows) if row["stored_bytes"] is not None]
    most = max((row["stored_bytes"] for row in shown), default=0)
    # The oldest one that is shown may be the first of all, beside which no update could be seen.
    later = shown[1:] if len(shown) > 1 else shown
    most_added = max((row["added_bytes"] or 0 for row in later), default=0)
    step = (PLOT_WIDTH - _LEFT - _RIGHT) / max(len(shown), 1)
    low = _TOP + _PANEL
    bottom = low + _GAP + _PANEL
    points, bars = [], []
    for at, row in enumerate(shown):
        x = _LEFT + step * (at + 0.5)
        y = low - _PANEL * row["stored_bytes"] / max(most, 1)
        points.append({"x": round(x, 1), "y": round(y, 1), "row": row})
        cut = (row["added_bytes"] or 0) > most_added
        high = _PANEL if cut else _PANEL * (row["added_bytes"] or 0) / max(most_added, 1)
        high = max(high, 1.5) if row["added_bytes"] else high
        width = max(min(step * 0.7, 46), 1)
        bars.append(
            {
                "x": round(x - width / 2, 1),
                "y": round(bottom - high, 1),
                "width": round(width, 1),
                "height": round(high, 1),
                "cut": cut,
                "row": row,
            }
        )
    return {
        "points": points,
        "bars": bars,
        "line": " ".join(f"{point['x']},{point['y']}" for point in points),
        "most": most,
        "most_added": most_added,
        "low": low,
        "bottom": bottom,
        "top": _TOP,
        "left": _LEFT,
        "width": PLOT_WIDTH,
        "height": PLOT_HEIGHT,
        "first": shown[0]["created"][:10] if shown else "",
        "last": shown[-1]["created"][:10] if shown else "",
    }

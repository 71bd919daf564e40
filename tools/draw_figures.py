#!/usr/bin/env python3
"""Draws the figures of docs/architecture.md: run it, and it writes docs/figure-*.svg anew."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

INK, PALE, LINE = "#1f2933", "#f5f7fa", "#7b8794"
BLUE, GREEN, AMBER, ROSE = "#dcebfb", "#dff3e4", "#fdf0d2", "#fbe1e4"


class Figure:
    """Boxes, arrows and words on a white ground.

    Args:
        width, height: of the drawing, in pixels.
        title: read out where the drawing is not shown.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif" '
            f'font-size="14" fill="{INK}" role="img">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            f'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/>'
            "</marker></defs>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def text(self, x: float, y: float, words: str, *, at: str = "middle", look: str = "") -> None:
        """Write words whose baseline is at `y`; `look` is "bold", "small" or ""."""
        style = {"bold": ' font-weight="bold"', "small": ' font-size="12"'}.get(look, "")
        self._parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{at}"{style}>{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, *lines: str) -> None:
        """Draw a box, its first line in bold, all of them in its middle."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" '
            f'stroke="{LINE}"/>'
        )
        top = y + height / 2 + 5 - 8.5 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + 17 * number, line, look="small" if number else "bold")

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """Draw a line through points, with a tip at its end."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.5"{dashes} '
            'marker-end="url(#tip)"/>'
        )

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def rooms() -> Figure:
    """Draw the rooms of packer/, each row above what it may import."""
    figure = Figure(760, 618, "The rooms of packer; imports point downwards")
    rows: list[tuple[str, list[tuple[str, str]]]] = [
        (BLUE, [("cli", "the command")]),
        (BLUE, [("serve", "the page: views, service, reports")]),
        (BLUE, [("storage", "history, deployments, bundles, migration")]),
        (BLUE, [("api", "the public calls")]),
        (
            GREEN,
            [
                ("packing", "a tree to layers"),
                ("reading", "layers to files, listings"),
                ("transfer", "store to store"),
            ],
        ),
        (
            AMBER,
            [
                ("format", "index, frames, layers, versions"),
                ("trust", "signatures, policies, receipts"),
            ],
        ),
        (
            AMBER,
            [
                ("stores", "layout, archive, registry, memory"),
                ("opening", "archives to content and recipe"),
            ],
        ),
        (ROSE, [("files", "walking, safe paths, durable files")]),
        (ROSE, [("engine", "chunking, zstd, deltas, deflate: C")]),
        (PALE, [("reference · oci · progress · errors", "the vocabulary")]),
    ]
    for number, (fill, names) in enumerate(rows):
        y = 16 + 58 * number
        width = (640 - 16 * (len(names) - 1)) / len(names)
        for column, (name, work) in enumerate(names):
            figure.box(16 + (width + 16) * column, y, width, 46, fill, name, work)
    figure.arrow((690, 30), (690, 578))
    figure.text(700, 300, "imports", at="start")
    return figure


def version() -> Figure:
    """Draw a version from its manifest down to chunks, beside its base."""
    figure = Figure(860, 470, "A version: manifest, layers, frames, chunks")
    figure.box(60, 16, 250, 46, BLUE, "manifest 1.4.1", "the base")
    figure.box(480, 16, 250, 46, BLUE, "manifest 1.4.2", "lists all that it needs")
    figure.box(20, 120, 130, 52, GREEN, "data layer", "frames")
    figure.box(180, 120, 130, 52, AMBER, "index layer", "in full")
    figure.box(440, 120, 210, 52, GREEN, "update layer", "new frames, patch on the index")
    figure.box(690, 120, 160, 52, PALE, "config", "digests of index, tree")
    for x in (85, 245):
        figure.arrow((140 if x == 85 else 230, 62), (x, 118))
    figure.arrow((540, 62), (110, 118))
    figure.arrow((570, 62), (272, 118))
    figure.arrow((610, 62), (560, 118))
    figure.arrow((680, 62), (765, 118))
    figure.text(430, 200, "a layer is frames, one after another", look="small")
    for number, x in enumerate((20, 160, 300)):
        figure.box(x, 220, 126, 46, GREEN, f"frame {number}", "about 2 MiB")
    figure.box(560, 220, 150, 46, GREEN, "delta frame", "4 to 8 MiB")
    figure.arrow((85, 172), (85, 218))
    figure.arrow((545, 172), (620, 218))
    figure.arrow((558, 243), (430, 243), dashed=True)
    figure.text(494, 236, "prefix", look="small")
    figure.text(430, 292, "a frame is whole chunks, compressed together", look="small")
    for x in (20, 76, 132, 188, 244, 300):
        figure.box(x, 312, 50, 36, PALE, "chunk")
    for x in (560, 616, 672):
        figure.box(x, 312, 50, 36, PALE, "chunk")
    figure.arrow((83, 266), (83, 310))
    figure.arrow((635, 266), (640, 310))
    figure.box(20, 400, 250, 50, BLUE, "values.yaml of 1.4.2", "runs of chunks, by the index")
    figure.arrow((120, 398), (45, 350))
    figure.arrow((140, 398), (101, 350))
    figure.arrow((200, 398), (585, 350))
    figure.text(
        300, 430, "unchanged chunks are references to the base's layer; others are new", at="start",
        look="small",
    )  # fmt: skip
    return figure


def recipe() -> Figure:
    """Draw how a file with archives in it becomes content and a recipe."""
    figure = Figure(860, 330, "A file is content and recipe")
    figure.box(16, 100, 180, 130, BLUE, "chart-1.4.2.tgz", "a gzip stream", "of a tar archive",
               "of files")  # fmt: skip
    figure.box(300, 40, 240, 90, GREEN, "content", "the files in the archive,", "one after another",
               "(inner archives opened too)")  # fmt: skip
    figure.box(300, 200, 240, 90, AMBER, "recipe", "operations, tar headers, names,",
               "what the model of the encoder", "predicted wrong")  # fmt: skip
    figure.arrow((196, 140), (298, 90))
    figure.arrow((196, 190), (298, 240))
    figure.text(240, 108, "open", look="small")
    figure.box(640, 40, 200, 90, PALE, "chunks", "shared with older versions,",
               "whatever the archive", "around them")  # fmt: skip
    figure.box(640, 200, 200, 90, PALE, "chunks", "the last ones", "of the file's runs")
    figure.arrow((540, 85), (638, 85))
    figure.arrow((540, 245), (638, 245))
    figure.text(589, 76, "cut", look="small")
    figure.text(589, 236, "cut", look="small")
    figure.arrow((420, 132), (420, 165), (200, 165), dashed=True)
    figure.arrow((420, 198), (420, 165), (200, 165), dashed=True)
    figure.text(430, 169, "rebuild: the same bytes, checked by digest", at="start", look="small")
    return figure


FIGURES = {"rooms": rooms, "version": version, "recipe": recipe}


def main() -> None:
    """Write the figures into the directory named, docs/ by default."""
    top = Path(__file__).resolve().parents[1]
    folder = Path(sys.argv[1]) if sys.argv[1:] else top / "docs"
    for name, draw in FIGURES.items():
        (folder / f"figure-{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Words and style of the report's page."""

from __future__ import annotations

from benchmarks.contenders import OpenedPatchFrom, PatchFrom

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #24292f;
  max-width: 1120px; margin: 0 auto; padding: 24px 28px 80px; }
h1 { font-size: 28px; margin: 8px 0 0; } h2 { font-size: 21px; margin: 48px 0 6px;
  padding-top: 14px; border-top: 2px solid #24292f; } h3 { font-size: 15px; margin: 26px 0 4px; }
p { max-width: 76ch; margin: 6px 0 12px; } .quiet, caption, small { color: #5c6770; }
nav { margin: 14px 0; } nav a { margin-right: 14px; } a { color: #0b6e4f; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
  margin: 6px 0 10px; } .wide { overflow-x: auto; }
th { text-align: right; font-weight: 600; white-space: nowrap; vertical-align: bottom;
  padding: 4px 9px;
  border-bottom: 1px solid #24292f; } td { text-align: right; padding: 3px 9px;
  border-bottom: 1px solid #e4e6ea; white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; } td.best { background: #d9efe4; font-weight: 600; }
.ours { color: #0b6e4f; } .aside { color: #6b7280; } th.aside { font-weight: 400; }
.met { color: #0b6e4f; } .missed { color: #b3261e; font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin: 22px 0 8px; }
.tile { background: #f4f6f8; border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; } .tile span { font-size: 13px; }
svg { width: 100%; height: auto; max-width: 1064px; } .half svg { max-width: 560px; }
details { margin: 10px 0; } summary { cursor: pointer; color: #0b6e4f; }
pre { font-size: 12px; overflow-x: auto; background: #f4f6f8; padding: 12px; }
@media print { nav { display: none; } h2 { break-after: avoid; } }
"""
SHORT = {
    PatchFrom.name: "zstd -19<br>patch-from",
    OpenedPatchFrom.name: "patch-from,<br>opened",
    "walk (scandir, lstat)": "walk",
    "python -c pass": "python<br>start",
    "cat > /dev/null": "cat",
    "SHA-256, one core": "SHA-256",
}
SECTIONS = {
    "summary": "Summary",
    "losses": "Where we lose",
    "targets": "Targets",
    "peers": "Side by side",
    "race": "Races",
    "curve": "Many versions",
    "levels": "Levels",
    "scale": "Scale",
    "quality": "Chunks",
    "deflate": "Inside archives",
    "stages": "Stages",
    "setup": "How it was measured",
}

TEXTS = {
    "peers": (
        "<p>All peers pack the same bytes in turn, in fresh processes, and keep all versions. "
        "Bytes are the growth of the whole repository, index and configuration included. The "
        "best peer of each row is marked; grey columns on the right are ceilings: one thing "
        "that every packer has to do. <i>patch-from, opened</i> is a yardstick that cannot "
        "give archives back.</p>"
    ),
    "race": (
        "<p>Packing, sending and restoring: the seconds until a version is where it is needed, by "
        "the speed of the link. The link carries the bytes that were added, while nothing else "
        "happens. An asterisk marks the first of each race.</p>"
    ),
    "curve": (
        "<p>Versions packed on one another, cycling through those of the corpus. A fresh pull "
        "fetches every layer of the manifest, older ones included.</p>"
    ),
    "levels": "<p>Each point is a level. Left and below is better.</p>",
    "scale": (
        "<p>Fresh processes; memory is their peak. The index is a model: that of a version of "
        "this size, with random digests, decoded alone and with the table in which packing "
        "looks chunks up.</p>"
    ),
    "quality": (
        "<p>Bytes of a version in chunks that the one before did not have, and how much sizes "
        "vary. <i>Same mean</i> is interpolated between FastCDC's averages.</p>"
    ),
    "deflate": (
        "<p>What brings a deflate stream back bit for bit, by the encoder that wrote it. "
        "Rates are of plaintext on one core; the last column is the time of opening over that "
        "of inflating and deflating with zlib at level 6 in the same run.</p>"
    ),
    "setup": (
        "<p>One machine, one run; compare ratios, not seconds, with other runs. Seconds are "
        "medians of rounds in which all peers take turns; peaks of memory are those of the "
        "largest process. Slow yardsticks (patches, xdelta3) run once.</p>"
    ),
}

"""Time and memory as functions of files, bytes, versions, and of the chunks of an index.

    python -m benchmarks.scale [--max-files N] [--max-bytes N] [--max-versions N]
                               [--max-index-bytes N] [--json FILE] [--plot FILE]

files      trees of N tiny files: pack, pack again, pack after touching one file, unpack
bytes      trees of N bytes, a sixteenth new, the rest repeated or holes: pack, again, unpack
versions   N versions of a small tree, one file in fifty changed each time: what the last ones cost
index      the index of N bytes of content, filled with random digests: encode, decode, memory

Every measurement is a fresh process; memory is its peak. Walking the tree stands beside it. Sizes
grow tenfold from a small one to the maximum (0 leaves a part out); the defaults take some minutes,
and 1,000,000 files, 20 GB and 200 versions have to be asked for:

    --max-files 1000000 --max-bytes 20e9 --max-versions 200 --max-index-bytes 100e9
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from benchmarks import plots
from benchmarks.contenders import walk
from benchmarks.measure import (
    ROOT,
    BenchmarkError,
    Record,
    Row,
    packer_command,
    packer_json,
    run,
    same_trees,
    say,
    size_of,
    stored,
)
from packer.engine.chunking import DEFAULT_PARAMS
from packer.engine.ordinals import Ordinals
from packer.files.tree import FILE
from packer.format.index import DIGEST_BYTES, Index
from packer.format.index_codec import decode_index, encode_index
from packer.format.layer_writer import layer_bytes_for

FILES, BYTES, VERSIONS, INDEX_BYTES = 10_000, 1_000_000_000, 50, 10_000_000_000
LIMIT_BYTES = 256 << 20
"""Of memory, whatever is packed."""
FILE_BYTES = 128 << 20
FRAME_CHUNKS = 32
MODEL_FILE_BYTES = 1_000_000


def steps(largest: int, smallest: int) -> list[int]:
    """Return sizes that grow tenfold to the largest one."""
    found: list[int] = []
    size = largest
    while size >= smallest:
        found.insert(0, size)
        size //= 10
    return found or ([largest] if largest else [])


def make_files(root: Path, number: int) -> None:
    """Write tiny files, no two alike, a thousand in each directory."""
    for at in range(number):
        folder = root / f"{at // 1000:04}"
        if at % 1000 == 0:
            folder.mkdir(parents=True)
        seed = hashlib.sha256(b"%d" % at).hexdigest()
        (folder / f"{at % 1000:03}.yaml").write_text(f"name: item-{at}\nchecksum: {seed}\n")


def make_bytes(root: Path, number: int) -> None:
    """Write files of FILE_BYTES: a sixteenth new, seven the same in each file, the rest a hole."""
    root.mkdir(parents=True)
    shared = random.Random(0).randbytes(FILE_BYTES * 7 // 16)
    for at in range(-(-number // FILE_BYTES)):
        size = min(FILE_BYTES, number - at * FILE_BYTES)
        with (root / f"{at:04}.img").open("wb") as file:
            file.write(random.Random(at + 1).randbytes(size // 16))
            file.write(shared[: size * 7 // 16])
            file.truncate(size)


def trials(tree: Path, work: Path, *, touch: bool) -> Row:
    """Pack, pack again, pack with one file changed, unpack; compare what comes back."""
    store, target = work / "store", work / "target"
    tag = ("--tag", "app:v", "--store", store)
    start = time.perf_counter()
    entries = walk(tree)
    row: Row = {"entries": entries, "walk_seconds": time.perf_counter() - start}
    first, packed = packer_json("pack", tree, *tag)
    row["new_bytes"] = packed["new_bytes"]
    again = run(*packer_command("pack", tree, *tag))
    uses = {"first": first, "again": again}
    if touch:
        path = next(path for path in sorted(tree.rglob("*")) if path.is_file())
        path.write_text(path.read_text() + "changed: true\n")
        uses["touched"], packed = packer_json("pack", tree, *tag)
        row["touched_bytes"] = packed["new_bytes"]
    uses["unpack"] = run(*packer_command("unpack", "app:v", target, "--store", store))
    for name, use in uses.items():
        row[f"{name}_seconds"], row[f"{name}_peak_bytes"] = use.seconds, use.peak_bytes
    if not same_trees(tree, target):
        raise BenchmarkError(f"a tree of {entries} entries came back different")
    return row


def files_row(number: int) -> Row:
    """Measure a tree of tiny files."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        tree = Path(name, "tree")
        make_files(tree, number)
        return {"part": "files", "size": number, **trials(tree, Path(name), touch=True)}


def bytes_row(number: int) -> Row:
    """Measure a tree of large files."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        tree = Path(name, "tree")
        make_bytes(tree, number)
        return {"part": "bytes", "size": number, **trials(tree, Path(name), touch=False)}


def versions_rows(number: int) -> Iterator[Row]:
    """Measure packing versions on versions; one row each."""
    draw = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        tree, store = Path(name, "tree"), Path(name, "store")
        make_files(tree, 500)
        files = sorted(path for path in tree.rglob("*") if path.is_file())
        for at in range(1, number + 1):
            for path in draw.sample(files, 10):
                path.write_text(f"{path.read_text()}revision: {at}\n")
            use, packed = packer_json("pack", tree, "--tag", f"app:v{at}", "--store", store)
            now = stored(store, packed["digest"])
            unpack: Row = {}
            if at in steps(number, 1):
                target = Path(name, "target")
                use_of = run(*packer_command("unpack", f"app:v{at}", target, "--store", store))
                if not same_trees(tree, target):
                    raise BenchmarkError(f"version {at} came back different")
                run("rm", "-rf", target)
                unpack = {
                    "unpack_seconds": use_of.seconds,
                    "unpack_peak_bytes": use_of.peak_bytes,
                }
            yield {
                "part": "versions",
                "size": at,
                "first_seconds": use.seconds,
                "first_peak_bytes": use.peak_bytes,
                "new_bytes": packed["new_bytes"],
                "fresh_bytes": now["bytes"],
                "layers": now["layers"],
                "store_bytes": size_of(store / "blobs"),
                **unpack,
            }


def model_index(content_bytes: int) -> Index:
    """Make the index of a version of this size, whose digests are random."""
    average = DEFAULT_PARAMS.average_bytes
    chunks = max(1, content_bytes // average)
    draw = random.Random(1)
    frames = -(-chunks // FRAME_CHUNKS)
    layer_frames = max(1, layer_bytes_for(content_bytes) // (FRAME_CHUNKS * average // 2))
    files = max(1, min(chunks, content_bytes // MODEL_FILE_BYTES))
    ends = [at * chunks // files for at in range(files + 1)]
    index = Index(
        paths=[b"%08d.bin" % at for at in range(files)],
        kinds=bytearray([FILE]) * files,
        modes=array("H", [0o644]) * files,
        run_counts=array("I", [1]) * files,
        run_starts=array("I", ends[:-1]),
        run_lengths=array("I", (ends[at + 1] - ends[at] for at in range(files))),
        chunk_lengths=array("I", (draw.randrange(32 << 10, 96 << 10) for _ in range(chunks))),
        chunk_digests=bytearray(draw.randbytes(chunks * DIGEST_BYTES)),
        frame_chunks=array("I", [FRAME_CHUNKS]) * frames,
        frame_stored=array("I", (draw.randrange(500_000, 1_500_000) for _ in range(frames))),
        frame_depths=bytearray(frames),
        frame_prefix_runs=array("I", bytes(4 * frames)),
    )
    index.frame_chunks[-1] = chunks - FRAME_CHUNKS * (frames - 1)
    for at in range(0, frames, layer_frames):
        index.layer_frames.append(min(layer_frames, frames - at))
    return index


def write_model(content_bytes: int, path: Path) -> Row:
    """Write a model of an index; return how long encoding it takes."""
    index = model_index(content_bytes)
    start = time.perf_counter()
    data = encode_index(index)
    row: Row = {
        "chunks": index.chunk_count,
        "files": len(index.paths),
        "layers": len(index.layer_sizes),
        "index_bytes": len(data),
        "encode_seconds": time.perf_counter() - start,
    }
    path.write_bytes(data)
    return row


def read_model(path: Path) -> Row:
    """Decode an index and make the table in which packing on it looks chunks up."""
    before = _peak()
    start = time.perf_counter()
    index = decode_index(path.read_bytes())
    decoded, decode_peak = time.perf_counter(), _peak()
    known = Ordinals(DIGEST_BYTES, index.chunk_digests)
    known.put_lent(0, index.chunk_count)
    end = time.perf_counter()
    last = index.chunk_count - 1
    assert known.get(index.chunk_digest(last)) == last
    return {
        "decode_seconds": decoded - start,
        "table_seconds": end - decoded,
        "empty_peak_bytes": before,
        "decode_peak_bytes": decode_peak,
        "table_peak_bytes": _peak(),
    }


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def index_row(content_bytes: int) -> Row:
    """Measure a model of an index: written by one process, read by another for its own peak."""
    row: Row = {"part": "index", "size": content_bytes}
    with tempfile.TemporaryDirectory(prefix="scale-") as work:
        out, path = Path(work, "out"), Path(work, "index")
        for what in (("write", str(content_bytes)), ("read", "0")):
            command = [sys.executable, "-m", "benchmarks.scale", "--model", *what]
            run(*command, path, out=out, cwd=ROOT)
            row |= json.loads(out.read_text())
    return row


def measure_scale(
    record: Record, files: int, content_bytes: int, versions: int, index_bytes: int
) -> None:
    """Add to a record what it lacks."""
    for part, sizes, measure in (
        ("files", steps(files, 100), files_row),
        ("bytes", steps(content_bytes, 1_000_000), bytes_row),
        ("index", steps(index_bytes, 10_000_000), index_row),
    ):
        for size in sizes:
            if record.find(part=part, size=size) is None:
                say(f"scale: {part}, {size:,}")
                record.add(measure(size))
    if versions and record.find(part="versions", size=versions) is None:
        record.drop(part="versions")
        say(f"scale: {versions} versions")
        for row in versions_rows(versions):
            record.add(row)


def table(rows: list[Row]) -> str:
    """Return the results as text."""
    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        found = [row for row in rows if row["part"] == part]
        if part == "versions":
            found = [row for row in found if row["size"] in steps(found[-1]["size"], 1)]
        names = [name for name in found[-1] if name not in ("part", "size")]
        lines.append(f"\n{part}\n  {'size':>15}" + "".join(f"{name:>19}" for name in names))
        for row in found:
            cells = []
            for name in names:
                value = row.get(name)
                if value is None:
                    cells.append(f"{'-':>19}")
                elif name.endswith("seconds"):
                    cells.append(f"{value:19,.3f}")
                else:
                    cells.append(f"{value:19,}")
            lines.append(f"  {row['size']:15,}" + "".join(cells))
    return "\n".join(lines)


TITLES = {"files": "number of files", "bytes": "size", "index": "size of the index's version"}
LABELS = {"files": "files", "bytes": "bytes of content", "index": "bytes of content, in an index"}


def charts(rows: list[Row]) -> list[plots.Chart | plots.Bars]:
    """Return time and memory over each kind of size."""
    out: list[plots.Chart | plots.Bars] = []

    def series(part: str, names: dict[str, str]) -> dict[str, list[tuple[float, float]]]:
        found = [row for row in rows if row["part"] == part]
        return {
            label: points
            for label, name in names.items()
            if (points := [(row["size"], row[name]) for row in found if name in row])
        }

    trial = {"first pack": "first", "unchanged": "again", "one file touched": "touched"}
    trial["unpack"] = "unpack"
    seconds = {label: f"{name}_seconds" for label, name in trial.items()}
    for part, names in (
        ("files", {**seconds, "walk": "walk_seconds"}),
        ("bytes", {**seconds, "walk": "walk_seconds"}),
        (
            "index",
            {"encode": "encode_seconds", "decode": "decode_seconds", "table": "table_seconds"},
        ),
    ):
        found = series(part, names)
        if not found:
            continue
        out.append(
            plots.Chart(
                f"Time by {TITLES[part]}", LABELS[part], "seconds", found, x_log=True, y_log=True
            )
        )
        peaks = series(part, {label: f"{name}_peak_bytes" for label, name in trial.items()})
        limit = {"256 MiB": float(LIMIT_BYTES)}
        if part == "index":
            names = {"the index": "index_bytes", "decoded": "decode_peak_bytes"}
            peaks = series(part, {**names, "with the table": "table_peak_bytes"})
        out.append(
            plots.Chart(
                f"Memory by {TITLES[part]}",
                LABELS[part],
                "bytes",
                peaks,
                x_log=True,
                y_log=True,
                lines=limit,
            )
        )
    if found := series("versions", {"pack": "first_seconds", "unpack": "unpack_seconds"}):
        out.append(
            plots.Chart("Time by number of versions", "version", "seconds", found, zero=True)
        )
        sizes = {"fresh pull": "fresh_bytes", "added": "new_bytes", "the store": "store_bytes"}
        found = series("versions", sizes)
        out.append(plots.Chart("Size by number of versions", "version", "bytes", found, y_log=True))
    return out


def count(text: str) -> int:
    """Return a number given as 1000000 or 1e6."""
    return int(float(text))


def main(arguments: list[str] | None = None) -> int:
    """Measure scale."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in (
        ("files", FILES), ("bytes", BYTES), ("versions", VERSIONS), ("index-bytes", INDEX_BYTES),
    ):  # fmt: skip
        parser.add_argument(f"--max-{name}", type=count, default=default, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="made, or continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg, png or pdf")
    parser.add_argument("--model", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.model:
        what, size, path = options.model
        row = write_model(int(size), Path(path)) if what == "write" else read_model(Path(path))
        json.dump(row, sys.stdout)
        return 0
    try:
        record = Record("scale", options.json)
        measure_scale(
            record,
            options.max_files,
            options.max_bytes,
            options.max_versions,
            options.max_index_bytes,
        )
    except BenchmarkError as error:
        say(f"scale: {error}")
        return 2
    print(table(record.rows))
    if options.plot:
        plots.save(charts(record.rows), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

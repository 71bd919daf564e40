"""How far opening reaches: artifacts as published, each packed on the release before it.

    python -m benchmarks.reach [--only ECOSYSTEM ...] [--cache DIR] [--json FILE] [--pin]

reach.json pins pairs of successive releases by size and SHA-256. Each is fetched with the ordinary
client of its ecosystem, checked, and kept in a cache. A pair is packed as published, one file a
version, and restored and compared. The table says how much of the newer artifact stayed closed, and
sets the update's bytes beside a patch between the contents: `zstd -19 --patch-from` of tars with
all archives opened (`benchmarks.opened`), from which no archive can be given back.

``--pin`` fetches what has no pin yet and writes its size and digest to reach.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import packer
from benchmarks import opened
from benchmarks.corpora import CorpusError, check, sha256_of

PINS = Path(__file__).with_name("reach.json")
CLOSED_SHARE = 0.05
"""Share of an artifact that may stay closed while it counts as opened: small members, say."""


@dataclass(frozen=True)
class Row:
    """A pair of releases, packed.

    Args:
        ecosystem: the name of the group in reach.json.
        name: of the package.
        versions: the older and the newer one.
        bytes: of the newer artifact.
        closed_bytes: of it that stayed closed.
        reasons: why, with kinds.
        first_bytes: that the older one added to an empty store.
        update_bytes: that the newer one added to it.
        patch_bytes: of the patch between the opened contents.
    """

    ecosystem: str
    name: str
    versions: str
    bytes: int
    closed_bytes: int
    reasons: str
    first_bytes: int
    update_bytes: int
    patch_bytes: int

    @property
    def is_opened(self) -> bool:
        """Whether all of the artifact that matters was opened."""
        return self.closed_bytes <= CLOSED_SHARE * self.bytes


# fetching ------------------------------------------------------------------------------------


def _run(command: list[str], work: Path) -> str:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CorpusError(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-200:]!r}")
    return done.stdout


def _only_file(work: Path) -> Path:
    (found,) = [path for path in work.iterdir() if path.is_file()]
    return found


def fetch_npm(name: str, version: str, work: Path) -> Path:
    """Fetch a package with npm."""
    _run(["npm", "pack", "--silent", f"{name}@{version}"], work)
    return _only_file(work)


def _fetch_pip(name: str, version: str, work: Path, *options: str) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download"]
    _run([*pip, "--no-deps", *options, f"{name}=={version}"], work)
    return _only_file(work)


def fetch_wheel(name: str, version: str, work: Path) -> Path:
    """Fetch a wheel with pip: the same one on every machine."""
    platform = ("--python-version", "3.11", "--platform", "manylinux_2_17_x86_64")
    return _fetch_pip(name, version, work, "--only-binary", ":all:", *platform)


def fetch_sdist(name: str, version: str, work: Path) -> Path:
    """Fetch a source distribution with pip."""
    return _fetch_pip(name, version, work, "--no-binary", ":all:")


def fetch_crate(name: str, version: str, work: Path) -> Path:
    """Fetch a crate with cargo, out of its cache of downloads."""
    manifest = '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
    dependency = (
        f'[dependencies]\n{name} = {{ version = "={version}", default-features = false }}\n'
    )
    (work / "Cargo.toml").write_text(f"{manifest}{dependency}")
    (work / "src").mkdir()
    (work / "src" / "lib.rs").touch()
    _run(["cargo", "fetch", "-q"], work)
    home = Path(os.environ.get("CARGO_HOME", "~/.cargo")).expanduser()
    found = sorted(home.glob(f"registry/cache/*/{name}-{version}.crate"))
    if not found:
        raise CorpusError(f"cargo has no {name}-{version}.crate")
    return found[0]


def fetch_jar(name: str, version: str, work: Path) -> Path:
    """Fetch a jar with maven; the name is group:artifact."""
    group, _, artifact = name.partition(":")
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"
    command = ["mvn", "-q", "-B", plugin, f"-Dartifact={name}:{version}", "-Dtransitive=false"]
    local = Path("~/.m2/repository").expanduser()
    _run(command, work)
    return local.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def fetch_module(name: str, version: str, work: Path) -> Path:
    """Fetch the zip of a Go module with go."""
    answer = json.loads(_run(["go", "mod", "download", "-json", f"{name}@{version}"], work))
    return Path(answer["Zip"])


CLIENTS: dict[str, Callable[[str, str, Path], Path]] = {
    "npm": fetch_npm,
    "wheel": fetch_wheel,
    "sdist": fetch_sdist,
    "crate": fetch_crate,
    "jar": fetch_jar,
    "go": fetch_module,
}


def file_name(client: str, name: str, version: str) -> str:
    """Return what an artifact is called here: like its published name, without folders."""
    plain = name.replace("@", "").replace("/", "-").replace(":", "-")
    suffix = {"npm": "tgz", "sdist": "tar.gz", "wheel": "whl", "go": "zip"}.get(client, client)
    return f"{plain}-{version}.{suffix}"


def fetch(pair: dict[str, Any], at: int, cache: Path, *, pin: bool) -> Path:
    """Return one artifact of a pair, fetched at need.

    Args:
        pair: of reach.json; gets a pin if `pin` allows it.
        at: 0 the older one, 1 the newer.
        cache: directory of artifacts.
        pin: whether one without a pin is accepted, and pinned.

    Raises:
        CorpusError: it cannot be had, or is not the pinned one.
    """
    version = pair["versions"][at]
    path = cache / file_name(pair["client"], pair["name"], version)
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            got = CLIENTS[pair["client"]](pair["name"], version, Path(work))
            copy = Path(work) / "artifact"
            shutil.copyfile(got, copy)
            copy.replace(path)
    pins = pair.setdefault("pins", {})
    if version not in pins:
        if not pin:
            raise CorpusError(f"{path.name} has no pin")
        pins[version] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    check(path, pins[version])
    return path


# measuring -----------------------------------------------------------------------------------


def patch_bytes(old: Path, new: Path, work: Path) -> int:
    """Return the length of the patch between the contents of two artifacts."""
    tars = []
    for number, path in enumerate((old, new)):
        tree = work / f"tree{number}"
        tree.mkdir()
        shutil.copyfile(path, tree / "artifact")  # the same name, so that paths in it are equal
        tars.append(work / f"{number}.tar")
        opened.write_tar(tree, tars[-1])
    patch = work / "patch"
    options = ["-q", "-19", "--long=31", f"--patch-from={tars[0]}"]
    subprocess.run(
        ["zstd", *options, "-f", tars[1], "-o", patch], check=True, stderr=subprocess.PIPE
    )
    return patch.stat().st_size


def measure(ecosystem: str, name: str, versions: tuple[str, str], old: Path, new: Path) -> Row:
    """Pack a pair of artifacts, restore the newer one, and compare.

    Raises:
        CorpusError: what was restored is not what was packed.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        packed = []
        for number, path in enumerate((old, new)):
            tree = work / f"v{number}"
            tree.mkdir()
            shutil.copyfile(path, tree / path.name)
            packed.append(packer.pack(tree, store=work / "store", tag=f"app:{number}"))
        packer.unpack("app:1", work / "out", store=work / "store")
        if (work / "out" / new.name).read_bytes() != new.read_bytes():
            raise CorpusError(f"{new.name} did not come back")
        update = packed[1]
        return Row(
            ecosystem,
            name,
            " to ".join(versions),
            new.stat().st_size,
            update.closed_bytes,
            ", ".join(sorted({f"{row.kind} {row.reason}" for row in update.closed})),
            packed[0].new_bytes,
            update.new_bytes,
            patch_bytes(old, new, work),
        )


def measure_all(groups: dict[str, Any], cache: Path, *, pin: bool) -> Iterator[Row]:
    """Yield a row for each pair; say on standard error which ones cannot be had."""
    for ecosystem, pairs in groups.items():
        for pair in pairs:
            try:
                old, new = (fetch(pair, at, cache, pin=pin) for at in range(2))
                row = measure(ecosystem, pair["name"], tuple(pair["versions"]), old, new)
            except (CorpusError, OSError) as error:
                print(f"left out: {pair['name']}: {error}", file=sys.stderr)
                continue
            yield row


def table(rows: list[Row]) -> str:
    """Return the table: a line for each pair, and sums by ecosystem."""
    line = "| {} | {} | {} | {} | {} | {} | {} |"
    out = [
        line.format("package", "KB", "closed", "why", "update KB", "patch KB", "ratio"),
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]

    def add(name: str, size: int, closed: str, why: str, update: int, patch: int) -> None:
        ratio = f"{update / patch:.1f}" if patch else "-"
        cells = (f"{number / 1000:.1f}" for number in (size, update, patch))
        size_cell, update_cell, patch_cell = cells
        out.append(line.format(name, size_cell, closed, why, update_cell, patch_cell, ratio))

    for ecosystem in dict.fromkeys(row.ecosystem for row in rows):
        group = [row for row in rows if row.ecosystem == ecosystem]
        for row in group:
            share = f"{100 * row.closed_bytes / row.bytes:.0f} %"
            name = f"{row.name} {row.versions}"
            add(name, row.bytes, share, row.reasons, row.update_bytes, row.patch_bytes)
        count = sum(row.is_opened for row in group)
        add(
            f"**{ecosystem}: {count} of {len(group)} opened**",
            sum(row.bytes for row in group),
            "",
            "",
            sum(row.update_bytes for row in group),
            sum(row.patch_bytes for row in group),
        )
    return "\n".join(out)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser("benchmarks.reach", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="ECOSYSTEM")
    parser.add_argument("--cache", type=Path, default=Path("build/reach"), help="of the artifacts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--pin", action="store_true", help="pin what has no pin yet")
    args = parser.parse_args(arguments)
    groups: dict[str, Any] = json.loads(PINS.read_text(encoding="utf-8"))
    unknown = set(args.only) - groups.keys()
    if unknown:
        parser.error(f"no such ecosystem: {', '.join(sorted(unknown))}; there are {list(groups)}")
    chosen = {name: pairs for name, pairs in groups.items() if not args.only or name in args.only}
    rows = list(measure_all(chosen, args.cache, pin=args.pin))
    if args.pin:
        PINS.write_text(json_of(groups), encoding="utf-8")
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


def json_of(groups: dict[str, Any]) -> str:
    """Return reach.json: a line for each pair."""
    parts = []
    for name, pairs in groups.items():
        lines = ",\n  ".join(json.dumps(pair) for pair in pairs)
        parts.append(f" {json.dumps(name)}: [\n  {lines}\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())

"""Builds corpora, successive versions of real things, from pinned public packages.

    python -m benchmarks.corpora DEST [--only NAME ...] [--cache DIR] [--list]

corpora.json pins every package by version, size and SHA-256. Each is fetched with the ordinary
client of its ecosystem (``pip download``, ``npm pack``), checked, and kept in a cache; from then on
nothing is fetched. DEST/NAME/v1, v2, ... are the same bytes on every machine. Recipes:

    files    the packages as published
    unpack   their contents
    tar      their contents as one plain tar, with the time of the version's build in every header
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

PINS = Path(__file__).with_name("corpora.json")
BUILD_TIME = 1_700_000_000
"""Time in the headers of the first version; each later one is built a day later."""


class CorpusError(Exception):
    """A package that cannot be had, is not the pinned one, or holds an unsafe name."""


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def check(path: Path, pin: Mapping[str, Any]) -> None:
    """Raise CorpusError unless a file is the pinned one."""
    size = path.stat().st_size
    if size != pin["bytes"]:
        raise CorpusError(f"{path.name}: {size} bytes, pinned {pin['bytes']}")
    if (actual := sha256_of(path)) != pin["sha256"]:
        raise CorpusError(f"{path.name}: sha256 {actual}, pinned {pin['sha256']}")


def command_for(name: str, pin: Mapping[str, Any]) -> list[str]:
    """Return the command that fetches a package into the current directory."""
    if pin["client"] == "npm":
        return ["npm", "pack", "--silent", pin["requirement"]]
    kind = "--only-binary" if name.endswith(".whl") else "--no-binary"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    return [*pip, "download", "--no-deps", kind, ":all:", pin["requirement"]]


def fetch(name: str, pin: Mapping[str, Any], cache: Path) -> Path:
    """Return the path of a package in the cache, fetched at need and checked."""
    path = cache / name
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            command = command_for(name, pin)
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
            found = list(Path(work).iterdir())
            if done.returncode or len(found) != 1:
                raise CorpusError(f"{name}: {' '.join(command)} failed: {done.stderr[-500:]}")
            check(found[0], pin)
            os.replace(found[0], path)
    check(path, pin)
    return path


def members(package: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file in a wheel, sdist or npm package, in order of name.

    Raises:
        CorpusError: a name would leave the directory it is unpacked to.
    """
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            names = sorted(item for item in archive.namelist() if not item.endswith("/"))
            found = [(name, archive.read(name)) for name in names]
    else:
        with tarfile.open(package) as tar:
            # The first component is the package's name and version: in every version the same file
            # should have the same path.
            found = sorted(
                (item.name.partition("/")[2], file.read())
                for item in tar
                if item.isreg() and (file := tar.extractfile(item))
            )
    for name, data in found:
        if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise CorpusError(f"{package.name}: unsafe name {name!r}")
        yield name, data


def write_tar(target: Path, contents: Iterator[tuple[str, bytes]], time: int) -> None:
    """Write files as a plain tar."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents:
            info = tarfile.TarInfo(f"usr/lib/python3/site-packages/{name}")
            info.size, info.mtime, info.mode = len(data), time, 0o644
            tar.addfile(info, io.BytesIO(data))


def build_version(recipe: str, packages: list[Path], target: Path, number: int) -> None:
    """Make one version in the new directory `target`."""
    target.mkdir(parents=True)
    if recipe == "files":
        for package in packages:
            shutil.copyfile(package, target / package.name)
    elif recipe == "unpack":
        for package in packages:
            for name, data in members(package):
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    elif recipe == "tar":
        contents = (item for package in packages for item in members(package))
        write_tar(target / "layer.tar", contents, BUILD_TIME + 86400 * number)
    else:
        raise CorpusError(f"unknown recipe {recipe!r}")


def build(name: str, pins: Mapping[str, Any], destination: Path, cache: Path) -> Path:
    """Make one corpus, or leave it if it is there already; return its directory."""
    corpus = pins["corpora"][name]
    target = destination / name
    if target.exists():
        return target
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination) as work:
        made = Path(work, name)
        for number, files in enumerate(corpus["versions"], 1):
            packages = [fetch(file, pins["packages"][file], cache) for file in files]
            build_version(corpus["recipe"], packages, made / f"v{number}", number)
        os.replace(made, target)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Build the corpora that are asked for."""
    pins = json.loads(PINS.read_text())
    parser = argparse.ArgumentParser(prog="benchmarks.corpora", description=__doc__)
    parser.add_argument("destination", type=Path, metavar="DEST", nargs="?")
    parser.add_argument("--only", nargs="+", choices=sorted(pins["corpora"]), metavar="NAME")
    parser.add_argument("--cache", type=Path, help="default: DEST/.cache")
    parser.add_argument("--list", action="store_true", help="name the corpora and stop")
    options = parser.parse_args(arguments)
    if options.list or options.destination is None:
        for name, corpus in pins["corpora"].items():
            print(f"{name:20} {len(corpus['versions'])} versions  {corpus['about']}")
        return 0
    cache = options.cache or options.destination / ".cache"
    for name in options.only or pins["corpora"]:
        try:
            print(build(name, pins, options.destination, cache))
        except CorpusError as error:
            print(f"corpora: {name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds what runs without an installation: ``layer-packer.pyz`` and a frozen program.

    python tools/build_standalone.py [--dist dist] [--only pyz|frozen]

It takes the wheels of `make wheels`, and the dependencies from the package index. Both hold what
the extras of `EXTRAS` need.
`layer-packer.pyz` runs on each CPython of `PYTHONS` on Linux with glibc, on both machines.
`layer-packer-linux-MACHINE` brings its own Python, and needs zlib and the glibc of the machine that
built it, or a newer one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "tools" / "standalone"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
"""Those for which every dependency has wheels."""
MACHINES = {"x86_64": "strip", "aarch64": "aarch64-linux-gnu-strip"}
"""The machines of the .pyz, and the program that strips the debugging information of wheels."""
EXTRAS = "verify"
"""Installers check signatures; the other extras are for machines that have pip."""
GLIBCS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
LEFT_OUT = (
    *("bin", "*.dist-info/RECORD", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED"),
    *("pygments", "pygments-*"),  # rich colours source code by it, of which we show none
)
"""What the .pyz leaves out of what pip installs."""
CFFI_BACKEND = "zstandard/_cffi.*"
"""zstandard has two backends, and takes the other one on CPython."""
NEVER_USED = (
    *("zstandard._cffi", "asyncio", "ctypes", "doctest", "pdb", "pygments", "readline", "unittest"),
    # PyInstaller imports these two at each start, if anything in the program could.
    *("multiprocessing", "pkg_resources"),
)
"""What the frozen program leaves out: it unpacks its libraries at each start."""
RUST = "cryptography.hazmat.bindings._rust"
"""A third of all that would be unpacked; frozen_main.py unpacks it where a signature needs it."""


def run(*command: str | Path, folder: Path | None = None) -> None:
    """Run a program; end with its output if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def install(dist: Path, folder: Path, python: str, machine: str) -> None:
    """Install the package and its dependencies for a Python and a machine into a folder."""
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-compile", "--only-binary=:all:", "--python-version", python, "--target", folder),
        *(f"--platform={glibc}_{machine}" for glibc in GLIBCS),
        *("--find-links", dist, f"layer-packer[{EXTRAS}]"),
    )
    for pattern in (*LEFT_OUT, CFFI_BACKEND):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if shutil.which(MACHINES[machine]):
        for module in folder.rglob("*.so*"):
            run(MACHINES[machine], "--strip-unneeded", module)


def build_pyz(dist: Path, work: Path, epoch: int) -> Path:
    """Build layer-packer.pyz, and return its path."""
    parts: dict[str, dict[str, bytes]] = {}
    for python in PYTHONS:
        for machine in MACHINES:
            part = f"cp{python.replace('.', '')}-{machine}"
            install(dist, work / part, python, machine)
            parts[part] = {
                path.relative_to(work / part).as_posix(): path.read_bytes()
                for path in sorted((work / part).rglob("*"))
                if path.is_file()
            }
    owners: dict[tuple[str, bytes], list[str]] = {}
    oldest: dict[tuple[str, str], bytes] = {}
    for part, files in parts.items():
        for name, data in files.items():
            if name.endswith(".abi3.so"):  # serves every later Python, so the first one's does
                data = oldest.setdefault((part.partition("-")[2], name), data)
            owners.setdefault((name, data), []).append(part)
    # A file that some Pythons share is stored once, below the names of all of them.
    members = {
        f"{'common' if len(found) == len(parts) else '+'.join(found)}/{name}": data
        for (name, data), found in sorted(owners.items(), key=lambda item: item[0][0])
    }
    digest = hashlib.sha256()
    for name, data in members.items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    main = (HERE / "pyz_main.py").read_text(encoding="utf-8")
    members["__main__.py"] = main.replace("@STAMP@", digest.hexdigest()[:16]).encode()
    path = dist / "layer-packer.pyz"
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in members.items():
                info = zipfile.ZipInfo(name, time.gmtime(epoch)[:6])
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(info, data)
    path.chmod(0o755)
    return path


def loaded_by_name() -> list[str]:
    """Return the modules of `cryptography` that packer/trust loads by their names."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "packer/trust").glob("*.py"))
    found = {
        name for text in texts for name in re.findall(r'library\("(cryptography\.\S+)"\)', text)
    }
    if not found:
        sys.exit("packer/trust loads no modules of cryptography by name")
    return sorted(found)


COMPRESS = """
import importlib.util, pathlib, subprocess, sys, zstandard
module = importlib.util.find_spec(sys.argv[1]).origin
subprocess.run(["strip", "--strip-unneeded", module], check=True)
packed = zstandard.ZstdCompressor(level=19).compress(pathlib.Path(module).read_bytes())
pathlib.Path(sys.argv[2]).write_bytes(packed)
"""
"""Writes a module of an environment as frozen_main.py reads it."""


def build_frozen(dist: Path, work: Path) -> Path:
    """Build the program that brings its Python, by PyInstaller, and return its path."""
    (wheel,) = dist.glob(f"*manylinux*{platform.machine()}.whl")
    run(sys.executable, "-m", "venv", work / "env")
    python = work / "env" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, f"{wheel}[{EXTRAS}]", "pyinstaller>=6.22")
    rust = work / "_rust.zst"
    run(python, "-c", COMPRESS, RUST, rust)
    name = f"layer-packer-linux-{platform.machine()}"
    run(
        *(python, "-m", "PyInstaller", "--onefile", "--strip", "--name", name),
        *("--collect-data", "packer", "--collect-submodules", "packer"),
        # With the metadata come the licences of all that is in the program.
        *("--recursive-copy-metadata", "layer-packer", "--recursive-copy-metadata", "cryptography"),
        *("--add-data", f"{sysconfig.get_path('stdlib')}/LICENSE.txt:licences/python"),
        *("--hidden-import", "oras.auth.base"),
        *(f"--hidden-import={name}" for name in loaded_by_name()),
        *(f"--exclude-module={name}" for name in (*NEVER_USED, RUST)),
        *("--add-data", f"{rust}:."),
        *("--hidden-import", "_cffi_backend"),  # our compiled module imports it, unseen
        *("--distpath", dist, "--workpath", work / "build", "--specpath", work),
        HERE / "frozen_main.py",
        folder=work,  # not in the checkout, whose packer would be taken, without the C core
    )
    return dist / name


def main() -> None:
    """Build what the arguments say, and print a line for each file."""
    parser = argparse.ArgumentParser(description="Build the .pyz and the frozen program.")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="wheels in, files out")
    parser.add_argument("--only", choices=("pyz", "frozen"), help="one of the two")
    arguments = parser.parse_args()
    dist = arguments.dist.resolve()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))  # 1980: where zip's time begins
    with tempfile.TemporaryDirectory() as folder:
        built = []
        if arguments.only != "frozen":
            built.append(build_pyz(dist, Path(folder), epoch))
        if arguments.only != "pyz":
            built.append(build_frozen(dist, Path(folder)))
    for path in built:
        data = path.read_bytes()
        print(f"{hashlib.sha256(data).hexdigest()}  {len(data):>9}  {path.name}")


if __name__ == "__main__":
    main()

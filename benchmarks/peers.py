"""Packs successive versions with layer-packer and its peers, side by side, and prints what it cost.

    python -m benchmarks.peers CORPUS [CORPUS ...] [--peers NAME,NAME] [--rounds N] [--json FILE]

CORPUS is a directory with v1/, v2/, ... in it, as `benchmarks.corpora` makes them. For every peer:
bytes added by each version (the growth of its whole repository, config and index included), seconds
(first pack, mean update, packing the last version again), peak memory of its process, and a restore
of every version that is compared byte for byte, permissions and links included. Rounds run the
peers in turn; seconds are medians. Peers that are not installed are listed as missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ENVIRONMENT = {
    **os.environ,
    "RESTIC_PASSWORD": "benchmark",
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    "LC_ALL": "C",
}
TAR = ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]


@dataclass
class Use:
    """Seconds and peak memory of one command."""

    seconds: float
    peak_bytes: int


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> Use:
    """Run a command, measured from start to exit; its output goes nowhere unless it fails."""
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**ENVIRONMENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            text = log.read().decode(errors="replace")[-800:]
            raise RuntimeError(f"{command[0]}: exit {process.returncode}: {text}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Use(seconds, usage.ru_maxrss * unit)


def shell(script: str, *arguments: Path) -> Use:
    """Run a pipeline; its arguments are "$1", "$2", ..."""
    return run("bash", "-o", "pipefail", "-c", script, "bash", *arguments)


def size_of(path: Path) -> int:
    """Return the bytes of all files below a directory."""
    items = [path] if path.is_file() else path.rglob("*")
    return sum(item.lstat().st_size for item in items if not item.is_dir())


class Peer:
    """One way to keep successive versions in a directory.

    Args:
        work: its own, empty.
    """

    name = ""
    needs: tuple[str, ...] = ()

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


class LayerPacker(Peer):
    name = "layer-packer"

    def size(self) -> int:
        # What a registry would hold, and the tags; not the sketch cache, which can be deleted.
        return size_of(self.repository / "blobs") + size_of(self.repository / "index.json")

    def pack(self, tree: Path, number: int) -> Use:
        tag = f"corpus:v{number}"
        command = [sys.executable, "-m", "packer", "pack", str(tree), "--tag", tag, "--quiet"]
        return run(*command, "--store", self.repository)

    def unpack(self, number: int, target: Path) -> Use:
        command = [sys.executable, "-m", "packer", "unpack", f"corpus:v{number}", str(target)]
        return run(*command, "--quiet", "--store", self.repository)


class Casync(Peer):
    name = "casync"
    needs = ("casync",)

    def pack(self, tree: Path, number: int) -> Use:
        store = f"--store={self.repository / 'store.castr'}"
        return run(
            "casync", "make", store, "--with=unix",
            self.repository / f"v{number}.caidx", tree,
        )  # fmt: skip

    def unpack(self, number: int, target: Path) -> Use:
        store = f"--store={self.repository / 'store.castr'}"
        return run("casync", "extract", store, self.repository / f"v{number}.caidx", target)


class Restic(Peer):
    name = "restic"
    needs = ("restic",)

    def _restic(self, *command: str | Path, cwd: Path | None = None) -> Use:
        return run(
            "restic", "--no-cache", "-q", "-r", self.repository, *command, cwd=cwd
        )  # fmt: skip

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


class TarZstd(Peer):
    name = "tar.zst -3"
    needs = ("zstd", "tar")

    def pack(self, tree: Path, number: int) -> Use:
        script = " ".join(TAR) + ' -cf - -C "$1" . | zstd -q -3 -T0 -f -o "$2"'
        return shell(script, tree, self.repository / f"v{number}.tar.zst")

    def unpack(self, number: int, target: Path) -> Use:
        target.mkdir()
        script = 'zstd -dcq "$1" | tar -xpf - -C "$2"'
        return shell(script, self.repository / f"v{number}.tar.zst", target)


class Patches(Peer):
    """A full archive, then patches between consecutive tars; keeps the last tar to diff against."""

    full = ""
    patch = ""
    apply = ""

    def pack(self, tree: Path, number: int) -> Use:
        new, old = self.work / f"v{number}.tar", self.work / f"v{number - 1}.tar"
        making = shell(" ".join(TAR) + ' -cf "$2" -C "$1" .', tree, new)
        out = self.repository / f"v{number}"
        use = shell(self.patch, old, new, out) if old.exists() else shell(self.full, new, out)
        return Use(making.seconds + use.seconds, max(making.peak_bytes, use.peak_bytes))

    def unpack(self, number: int, target: Path) -> Use:
        target.mkdir()
        old = self.work / "old.tar"
        for at in range(1, number + 1):
            new = self.work / "new.tar"
            if at == 1:
                use = shell('zstd -dcq --long=31 "$1" > "$2"', self.repository / "v1", new)
            else:
                use = shell(self.apply, old, self.repository / f"v{at}", new)
            os.replace(new, old)
        shell('tar -xpf "$1" -C "$2"', old, target)
        return use


class PatchFrom(Patches):
    name = "zstd -19 --patch-from"
    needs = ("zstd", "tar")
    full = 'zstd -q -19 -T0 --long=27 -f "$1" -o "$2"'
    patch = 'zstd -q -19 --long=31 --patch-from="$1" -f "$2" -o "$3"'
    apply = 'zstd -dq --long=31 --patch-from="$1" -f "$2" -o "$3"'


class Xdelta(Patches):
    name = "xdelta3 -9"
    needs = ("xdelta3", "tar", "zstd")
    full = 'zstd -q -19 -T0 --long=27 -f "$1" -o "$2"'
    patch = 'xdelta3 -q -9 -f -B 1073741824 -e -s "$1" "$2" "$3"'
    apply = 'xdelta3 -q -f -B 1073741824 -d -s "$1" "$2" "$3"'


PEERS: tuple[type[Peer], ...] = (
    LayerPacker, Casync, Restic, Borg, TarZstd, PatchFrom, Xdelta,
)  # fmt: skip


@dataclass
class Result:
    """What one peer did with one corpus."""

    corpus: str
    peer: str
    versions: int = 0
    added_bytes: list[int] = field(default_factory=list)
    first_seconds: float = 0.0
    update_seconds: float = 0.0
    again_seconds: float = 0.0
    unpack_seconds: float = 0.0
    peak_bytes: int = 0
    restored: bool = False
    missing: str = ""

    @property
    def mean_update(self) -> float:
        """Mean of the bytes that versions after the first added."""
        return statistics.fmean(self.added_bytes[1:]) if len(self.added_bytes) > 1 else 0.0


def versions_of(corpus: Path) -> list[Path]:
    """Return v1, v2, ... of a corpus, in order."""
    found = [path for path in corpus.iterdir() if path.name[:1] == "v" and path.name[1:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[1:]))


def tree_of(root: Path) -> Iterator[tuple[str, str, bytes | str, int]]:
    """Yield path, kind, content or target, and permissions of everything below a directory."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield name, "link", os.readlink(path), 0
        elif path.is_dir():
            yield name, "directory", "", path.stat().st_mode & 0o777
        else:
            yield name, "file", path.read_bytes(), path.stat().st_mode & 0o777


def same_trees(one: Path, other: Path) -> bool:
    """Compare two directories byte for byte."""
    left, right = tree_of(one), tree_of(other)
    missing = ("", "", "", -1)
    while True:
        a, b = next(left, missing), next(right, missing)
        if a != b:
            return False
        if a == missing:
            return True


def measure(kind: type[Peer], corpus: Path, *, check: bool) -> Result:
    """Pack all versions of a corpus with one peer, and restore them."""
    result = Result(corpus.name, kind.name)
    absent = [program for program in kind.needs if shutil.which(program) is None]
    if absent:
        result.missing = ", ".join(absent) + " not installed"
        return result
    trees = versions_of(corpus)
    result.versions = len(trees)
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        peer = kind(Path(name, "work"))
        peer.prepare()
        size = peer.size()
        seconds = []
        for number, tree in enumerate(trees, 1):
            use = peer.pack(tree, number)
            seconds.append(use.seconds)
            result.peak_bytes = max(result.peak_bytes, use.peak_bytes)
            size, before = peer.size(), size
            result.added_bytes.append(size - before)
        result.first_seconds = seconds[0]
        result.update_seconds = statistics.fmean(seconds[1:]) if seconds[1:] else 0.0
        if check:
            results = []
            for number, tree in enumerate(trees, 1):
                target = Path(name, "restored")
                use = peer.unpack(number, target)
                result.peak_bytes = max(result.peak_bytes, use.peak_bytes)
                results.append(same_trees(tree, target))
                run("chmod", "-R", "u+rwX", target)
                shutil.rmtree(target)
            result.unpack_seconds = use.seconds
            result.restored = all(results)
        if not isinstance(peer, Patches | TarZstd):
            result.again_seconds = peer.pack(trees[-1], len(trees)).seconds
    return result


def versions() -> dict[str, str]:
    """Return the versions of everything that was measured."""
    commands = {
        "casync": ["casync", "--version"],
        "restic": ["restic", "version"],
        "borg": ["borg", "--version"],
        "zstd": ["zstd", "--version"],
        "xdelta3": ["xdelta3", "-V"],
        "tar": ["tar", "--version"],
        "layer-packer": [sys.executable, "-m", "packer", "--version"],
        "commit": ["git", "rev-parse", "--short", "HEAD"],
    }
    out = {"python": platform.python_version(), "system": platform.platform()}
    out["cpu"], out["cores"] = platform.processor() or platform.machine(), str(os.cpu_count())
    with open("/proc/cpuinfo") if os.path.exists("/proc/cpuinfo") else open(os.devnull) as info:
        for line in info:
            if line.startswith("model name"):
                out["cpu"] = line.split(":", 1)[1].strip()
    for name, command in commands.items():
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            out[name] = (done.stdout or done.stderr).strip().splitlines()[:1][0]
    return out


def table(results: list[Result]) -> str:
    """Return the results as text, one block a corpus."""
    lines = []
    for corpus in dict.fromkeys(result.corpus for result in results):
        lines += [
            f"\n{corpus}",
            f"  {'':24}{'first':>12}{'mean update':>13}{'first s':>9}{'update s':>9}"
            f"{'again s':>9}{'unpack s':>9}{'peak MiB':>9}  restored",
        ]
        for result in (item for item in results if item.corpus == corpus):
            if result.missing:
                lines.append(f"  {result.peer:24}{result.missing}")
                continue
            lines.append(
                f"  {result.peer:24}{result.added_bytes[0]:12,}{result.mean_update:13,.0f}"
                f"{result.first_seconds:9.2f}{result.update_seconds:9.2f}"
                f"{result.again_seconds:9.2f}{result.unpack_seconds:9.2f}"
                f"{result.peak_bytes / (1 << 20):9.0f}  {'same' if result.restored else 'DIFFERS'}"
            )
    return "\n".join(lines)


def merged(rounds: list[Result]) -> Result:
    """Return the first round with the median seconds of all."""
    out = rounds[0]
    for name in ("first_seconds", "update_seconds", "again_seconds"):
        setattr(out, name, statistics.median(getattr(result, name) for result in rounds))
    return out


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; exit 1 if any restore differs."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    names = options.peers.split(",")
    chosen = [peer for peer in PEERS if peer.name in names]
    if len(chosen) != len(names):
        parser.error(f"peers are {', '.join(peer.name for peer in PEERS)}")
    results = []
    notify: Callable[[str], object] = lambda text: print(text, file=sys.stderr)  # noqa: E731
    for corpus in options.corpora:
        rounds: dict[str, list[Result]] = {peer.name: [] for peer in chosen}
        for turn in range(options.rounds):
            for peer in chosen:
                notify(f"{corpus.name}: {peer.name}, round {turn + 1}")
                rounds[peer.name].append(measure(peer, corpus, check=turn == 0))
        results += [merged(found) for found in rounds.values()]
    about = versions()
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(table(results))
    if options.json:
        rows = [{**asdict(item), "mean_update": item.mean_update} for item in results]
        options.json.write_text(json.dumps({"about": about, "results": rows}, indent=1) + "\n")
    return 0 if all(result.restored or result.missing for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What every benchmark here uses: measured commands, trees that are compared, records that resume.

A *record* is the JSON file of one benchmark: what it ran on, its options, and rows. A row is
written as soon as it is measured, and a benchmark that is started again with the same record goes
on where it was cut off, as long as the code that is measured is still the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "RESTIC_PASSWORD": "benchmark",
    "KOPIA_PASSWORD": "benchmark",
    "KOPIA_CHECK_FOR_UPDATES": "false",
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    "LC_ALL": "C",
}
TIMEOUT_SECONDS = 3 * 3600.0
TOOLS = {
    "casync": ["casync", "--version"],
    "restic": ["restic", "version"],
    "borg": ["borg", "--version"],
    "desync": ["desync", "version"],
    "kopia": ["kopia", "--version"],
    "zstd": ["zstd", "--version"],
    "xdelta3": ["xdelta3", "-V"],
    "tar": ["tar", "--version"],
    "gzip": ["gzip", "--version"],
    "compiler": ["cc", "--version"],
}
LIBRARIES = ("zstandard", "blake3", "pyfastcdc", "matplotlib", "pytest-benchmark")

# The peak that the system tells of a process includes what its parent held when it was started.
# So commands are started by a process that holds next to nothing, and that also takes the time.
_LAUNCHER = """
import os, sys, time
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - start
status = os.waitstatus_to_exitcode(status)
cpu = usage.ru_utime + usage.ru_stime
os.write(int(sys.argv[1]), b"%f %f %d %d" % (seconds, cpu, usage.ru_maxrss, status))
"""

Row = dict[str, Any]


class BenchmarkError(Exception):
    """A benchmark that cannot go on; the message says why."""


class CommandFailed(BenchmarkError):
    """A measured command that failed or took too long."""


@dataclass(frozen=True, slots=True)
class Use:
    """Seconds and peak memory of one command.

    Args:
        seconds: from start to exit.
        peak_bytes: of its largest process.
        cpu_seconds: that it and its children kept processors busy, in user and system mode.
    """

    seconds: float
    peak_bytes: int
    cpu_seconds: float = 0.0


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    out: Path | None = None,
) -> Use:
    """Run a command, measured from start to exit; its output goes nowhere unless it fails.

    Args:
        command: program and arguments.
        cwd: where to run it.
        env: added to the environment.
        timeout: seconds until it and its children are killed; TIMEOUT_SECONDS if None.
        out: file for its standard output.

    Raises:
        CommandFailed: it is not there, exits with an error, or takes too long.
    """
    with tempfile.TemporaryFile() as log, open(out or os.devnull, "wb") as output:
        inward, outward = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-ISc", _LAUNCHER, str(outward), *(str(part) for part in command)],
            cwd=cwd,
            env={**ENVIRONMENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output if out else log,
            stderr=log,
            start_new_session=True,
            pass_fds=(outward,),
        )
        os.close(outward)
        late = threading.Event()

        def kill() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(timeout or TIMEOUT_SECONDS, kill)
        timer.start()
        try:
            with open(inward) as answer:
                text = answer.read()
            process.wait()
        except BaseException:
            _kill(process)
            process.wait()
            raise
        finally:
            timer.cancel()
        seconds, cpu, peak, status = text.split() if text else ("0", "0", "0", "-1")
        if status != "0":
            log.seek(0)
            said = log.read().decode(errors="replace")[-800:]
            why = "took too long" if late.is_set() else f"exit {status}: {said}"
            raise CommandFailed(f"{command[0]}: {why}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Use(float(seconds), int(peak) * unit, float(cpu))


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def shell(script: str, *arguments: str | Path) -> Use:
    """Run a pipeline; its arguments are "$1", "$2", ..."""
    return run("bash", "-o", "pipefail", "-c", script, "bash", *arguments)


def packer_command(verb: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command of a fresh layer-packer process."""
    return [sys.executable, "-m", "packer", verb, *arguments, "--quiet"]


def stored(store: Path, digest: str) -> dict[str, int]:
    """Return what a version in an image layout is made of, read from its manifest alone.

    `bytes` are those of all blobs that a fresh pull fetches, manifest and config included.
    """
    data = (store / "blobs" / digest.replace(":", "/")).read_bytes()
    manifest = json.loads(data)
    layers = manifest["layers"]
    return {
        "bytes": len(data) + manifest["config"]["size"] + sum(layer["size"] for layer in layers),
        "layers": len(layers),
        "data_layers": sum("index" not in layer["mediaType"] for layer in layers),
        "manifest_bytes": len(data),
    }


def packer_json(verb: str, *arguments: str | Path) -> tuple[Use, dict[str, Any]]:
    """Run layer-packer with --json in a fresh process; return its use and its answer."""
    with tempfile.NamedTemporaryFile() as out:
        command = [*packer_command(verb, *arguments), "--json"]
        use = run(*command, out=Path(out.name))
        found: dict[str, Any] = json.loads(out.read())
    return use, found


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts v2 before v10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def versions_of(corpus: Path) -> list[Path]:
    """Return the versions of a corpus: its subdirectories, in natural order.

    Raises:
        BenchmarkError: there is none.
    """
    if not corpus.is_dir():
        raise BenchmarkError(f"{corpus}: not a directory")
    found = [path for path in corpus.iterdir() if path.is_dir() and path.name[:1] != "."]
    if not found:
        raise BenchmarkError(f"{corpus}: no versions (subdirectories) in it")
    return sorted(found, key=lambda path: natural(path.name))


def corpora_in(directory: Path) -> list[Path]:
    """Return the corpora in a directory, by name: subdirectories that hold subdirectories."""
    return sorted(
        (path for path in directory.iterdir() if path.is_dir() and any(_folders(path))),
        key=lambda path: natural(path.name),
    )


def _folders(path: Path) -> Iterator[Path]:
    return (item for item in path.iterdir() if item.is_dir() and item.name[:1] != ".")


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    total = 0
    with os.scandir(path) as items:
        for item in items:
            if item.is_dir(follow_symlinks=False):
                total += size_of(Path(item.path))
            else:
                total += item.stat(follow_symlinks=False).st_size
    return total


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
    """Compare two directories byte for byte, permissions and links included."""
    left, right = tree_of(one), tree_of(other)
    missing = ("", "", "", -1)
    while True:
        a, b = next(left, missing), next(right, missing)
        if a != b:
            return False
        if a == missing:
            return True


def remove(path: Path) -> None:
    """Remove a directory, read-only parts included."""
    if path.exists():
        run("chmod", "-R", "u+rwX", path)
        shutil.rmtree(path)


def engine() -> str:
    """Return a digest of the code that is measured: the package and its compiled core."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "packer").rglob("*")):
        if path.suffix in (".py", ".so"):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str:
    """Return the short name of the commit, with -dirty if the measured code differs from it."""
    if shutil.which("git") is None:
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    name = _first_line([*git, "rev-parse", "--short", "HEAD"])
    changed = _first_line([*git, "status", "--porcelain", "--", "packer", "csrc"])
    return (name or "unknown") + ("-dirty" if changed else "")


def about() -> dict[str, str]:
    """Return the machine and the versions of everything that may be measured."""
    out = {"commit": commit(), "engine": engine(), "system": platform.platform()}
    out["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    out["cpu"] = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*: (.*)$", info.read_text(), re.M)):
        out["cpu"] = found[1].strip()
    out["cores"] = str(os.cpu_count())
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    out["memory"] = f"{pages * page / (1 << 30):.1f} GiB"
    out["python"] = platform.python_version()
    return {**out, **_versions()}


@functools.cache
def _versions() -> dict[str, str]:
    out = {"layer-packer": _first_line([sys.executable, "-m", "packer", "--version"])}
    for name in LIBRARIES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = "not installed"
    for name, command in TOOLS.items():
        out[name] = _first_line(command) if shutil.which(command[0]) else "not installed"
    return out


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return next(iter((done.stdout or done.stderr).strip().splitlines()), "")


class Record:
    """The rows of one benchmark, in a file if there is one.

    Args:
        benchmark: its name.
        path: of the JSON file; None keeps the rows in memory. An existing file is continued.
        options: what changes the meaning of rows.

    Raises:
        BenchmarkError: the file is of other code, options, or another machine.
    """

    def __init__(self, benchmark: str, path: Path | None, **options: Any) -> None:
        self.path = path
        self.document: dict[str, Any] = {
            "benchmark": benchmark,
            "about": about(),
            "options": json.loads(json.dumps(options, default=str)),
            "rows": [],
        }
        if path is not None and path.exists():
            self._continue(path)

    def _continue(self, path: Path) -> None:
        found = json.loads(path.read_text())
        for where, key in (
            ("", "benchmark"), ("", "options"), ("about", "engine"), ("about", "cpu"),
        ):  # fmt: skip
            old = found[where].get(key) if where else found.get(key)
            new = self.document[where][key] if where else self.document[key]
            if old != new:
                raise BenchmarkError(
                    f"{path}: measured with another {key} ({old}, now {new}); "
                    "remove the file to measure anew"
                )
        self.document["rows"] = found["rows"]

    @property
    def rows(self) -> list[Row]:
        """All rows, those of earlier runs included."""
        rows: list[Row] = self.document["rows"]
        return rows

    def find(self, **key: Any) -> Row | None:
        """Return the row with these values, if it has been measured."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        return None

    def add(self, row: Row) -> None:
        """Keep a row, in the file too."""
        self.rows.append(row)
        self.write()

    def drop(self, **key: Any) -> None:
        """Forget the rows with these values: what was cut off and cannot be continued."""
        self.document["rows"] = [
            row for row in self.rows if any(row.get(name) != value for name, value in key.items())
        ]
        self.write()

    def write(self) -> None:
        """Replace the file."""
        if self.path is not None:
            write_text(self.path, json.dumps(self.document, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file at once, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def say(text: str) -> None:
    """Tell people how far a benchmark is, on standard error."""
    print(text, file=sys.stderr, flush=True)

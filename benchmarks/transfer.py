"""Pushes and pulls the same blobs with layer-packer and other clients, side by side.

    python -m benchmarks.transfer [--megabytes N] [--rounds N] [--latency-ms N] [--json FILE]

Over loopback: a first push of a layout of 16 MB layers to a fresh docker-registry, and a fresh pull
into a new layout, against `skopeo copy` and `oras copy` if they are installed. Then, with latency
added to each request, a push of many small blobs against oras-py's own. Rounds run the clients in
turn; every run gets a registry, a repository and a home directory of its own, so that nothing is
remembered but Python's bytecode, which an installed package has too; what arrived is checked.
Seconds are medians of the whole command, start-up included. Ours has synced what it pulled when it
ends and the others have not: "pull, on disk" adds that.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from packer.oci import CONFIG_TYPE, DATA_TYPE, INDEX_TYPE, MANIFEST_TYPE, Descriptor, Manifest
from packer.stores.layout import LayoutStore
from tests.registry_server import counting_proxy, run_registry

LAYER_BYTES = 16_000_000
SMALL_BYTES = 64_000
ORAS_PY = """
import sys
import oras.provider
registry = oras.provider.Registry(hostname=sys.argv[1].partition("/")[0], insecure=True)
registry.push(target=sys.argv[1], files=sys.argv[2:], disable_path_validation=True, quiet=True)
"""


@dataclass
class Row:
    """One client at one task."""

    task: str
    client: str
    seconds: float
    megabytes_per_second: float
    requests: int | None


def make_layout(folder: Path, count: int, size: int) -> list[Path]:
    """Make a layout with a version of incompressible layers; return the files of its blobs."""
    store = LayoutStore(str(folder))

    def put(data: bytes, media_type: str) -> Descriptor:
        blob = Descriptor(media_type, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))
        store.push(blob, io.BytesIO(data))
        return blob

    layers = [
        put(hashlib.shake_128(b"%d" % number).digest(size), DATA_TYPE) for number in range(count)
    ]
    layers.append(put(b"index", INDEX_TYPE))
    manifest = Manifest(put(b"{}", CONFIG_TYPE), tuple(layers))
    store.put_manifest(manifest.encode(), MANIFEST_TYPE, "v1")
    return [folder / "blobs" / blob.digest.replace(":", "/") for blob in layers]


def compile_bytecode(folder: Path) -> None:
    """Give our commands bytecode, as an installed package has; the checkout gets none."""
    modules = "packer.cli.main, packer.cli.verbs, packer.cli.airgap, packer.stores.registry.store"
    run([sys.executable, "-c", f"import {modules}"], folder / "first" / "home")


def run(words: Sequence[str | Path], home: Path) -> float:
    """Return how many seconds a command takes.

    Args:
        words: the command.
        home: a new directory, two below the one of the benchmark, which gets the bytecode.
    """
    home.mkdir(parents=True)
    environment = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home)}
    environment["PYTHONPYCACHEPREFIX"] = str(home.parents[1] / "bytecode")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr.decode(errors='replace')[-2000:]}")
    return seconds


def ours(source: str, destination: str, store: Path) -> list[str | Path]:
    """Return our command for a copy."""
    return [sys.executable, "-m", "packer", "copy", source, destination, "--store", store, "-q"]


def skopeo(verb: str, layout: Path, reference: str) -> list[str | Path]:
    """Return skopeo's command."""
    copy = ["skopeo", "--insecure-policy", "copy", "-q"]
    if verb == "push":
        return [*copy, "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{reference}"]
    return [*copy, "--src-tls-verify=false", f"docker://{reference}", f"oci:{layout}:v1"]


def oras(verb: str, layout: Path, reference: str) -> list[str | Path]:
    """Return the oras command's."""
    program = shutil.which("oras", path=search_path()) or "oras"
    if verb == "push":
        options = ["--from-oci-layout", "--to-plain-http", f"{layout}:v1", reference]
    else:
        options = ["--from-plain-http", "--to-oci-layout", reference, f"{layout}:v1"]
    return [program, "copy", "--no-tty", *options]


def search_path() -> str:
    """Return where programs are looked for: also where tools/install-servers builds them."""
    own = os.environ.get("LAYER_PACKER_SERVERS") or os.path.expanduser(
        "~/.cache/layer-packer-servers"
    )
    return os.pathsep.join([os.environ.get("PATH", ""), own])


def loopback(folder: Path, megabytes: int, rounds: int) -> list[Row]:
    """Time first pushes and fresh pulls of large layers."""
    count = max(1, megabytes * 1_000_000 // LAYER_BYTES)
    size = min(LAYER_BYTES, megabytes * 1_000_000)
    source = folder / "source"
    make_layout(source, count, size)
    clients: dict[str, Callable[[str, Path, str], list[str | Path]]] = {
        "layer-packer": lambda verb, layout, reference: (
            ours(f"oci:{layout}:v1", reference, folder / "store")
            if verb == "push"
            else ours(reference, f"oci:{layout}:v1", folder / "store")
        )
    }
    for name, command in (("skopeo", skopeo), ("oras", oras)):
        if shutil.which(name, path=search_path()):
            clients[name] = command
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for name, make in clients.items():
            with tempfile.TemporaryDirectory(dir=folder) as text, ExitStack() as stack:
                own = Path(text)
                (own / "registry").mkdir()
                server = stack.enter_context(run_registry(own / "registry"))
                reference = f"{server.host}/bench/app:v1"
                took = run(make("push", source, reference), own / "home1")
                seconds.setdefault(("push", name), []).append(took)
                target = own / "target"
                took = run(make("pull", target, reference), own / "home2")
                seconds.setdefault(("pull", name), []).append(took)
                if name != "layer-packer":
                    took += run(["sync", "-f", target], own / "home3")
                seconds.setdefault(("pull, on disk", name), []).append(took)
                check(source, target)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    total = count * size / 1e6
    return [
        Row(task, name, statistics.median(times), total / statistics.median(times), None)
        for (task, name), times in sorted(seconds.items())
    ]


def check(source: Path, target: Path) -> None:
    """Compare the blobs of two layouts."""
    for path in (source / "blobs" / "sha256").iterdir():
        other = target / "blobs" / "sha256" / path.name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            raise RuntimeError(f"{other} is not what was pushed")


def latency(folder: Path, milliseconds: int, blobs: int, rounds: int) -> list[Row]:
    """Time pushes of many small blobs where each request takes longer."""
    source = folder / "small"
    files = make_layout(source, blobs, SMALL_BYTES)
    seconds: dict[str, list[float]] = {}
    requests: dict[str, int] = {}
    for _ in range(rounds):
        for name in ("layer-packer", "oras-py"):
            with tempfile.TemporaryDirectory(dir=folder) as text, ExitStack() as stack:
                own = Path(text)
                (own / "registry").mkdir()
                server = stack.enter_context(run_registry(own / "registry"))
                proxy = stack.enter_context(
                    counting_proxy(server.port, latency_seconds=milliseconds / 1000)
                )
                reference = f"{proxy.host}/bench/app:v1"
                words: list[str | Path]
                if name == "oras-py":
                    words = [sys.executable, "-c", ORAS_PY, reference, *files]
                else:
                    words = ours(f"oci:{source}:v1", reference, folder / "store")
                seconds.setdefault(name, []).append(run(words, own / "home"))
                requests[name] = proxy.count()
    total = blobs * SMALL_BYTES / 1e6
    task = f"push {blobs} blobs, {milliseconds} ms"
    return [
        Row(task, name, statistics.median(times), total / statistics.median(times), requests[name])
        for name, times in seconds.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="to push and pull")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=int, default=20, help="added to each request")
    parser.add_argument("--blobs", type=int, default=100, help="small ones, with latency")
    parser.add_argument("--directory", help="for everything (default: the system's)")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.directory) as text:
        compile_bytecode(Path(text))
        rows = loopback(Path(text), args.megabytes, args.rounds)
        rows += latency(Path(text), args.latency_ms, args.blobs, args.rounds)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(f"load {os.getloadavg()[0]:.1f}; rounds: {args.rounds}, medians")
    print(f"{'task':<28} {'client':<14} {'seconds':>8} {'MB/s':>8} {'requests':>8}")
    for row in rows:
        print(
            f"{row.task:<28} {row.client:<14} {row.seconds:>8.2f} {row.megabytes_per_second:>8.1f}"
            f" {'' if row.requests is None else row.requests:>8}"
        )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

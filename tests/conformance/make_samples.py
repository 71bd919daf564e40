"""Writes the format samples of this release: ``python -m tests.conformance.make_samples VERSION``.

Run once per release; what is committed is never written again. `tree-N` is what the sample's
version N must decode to: expected.json holds it, so that the generator may change later.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import packer

SAMPLES = Path(__file__).with_name("samples")
CREATED = "1700000000"

Tree = dict[bytes, tuple[int, int, bytes]]
"""Path to (kind, mode, content or target); kinds as in docs/format.md."""

TINY: Tree = {
    b"a.txt": (1, 0o644, b"hello\n"),
    b"docs": (0, 0o755, b""),
    b"docs/b.yaml": (1, 0o644, b"kind: Service\n"),
    b"docs/link": (2, 0o777, b"../a.txt"),
}
"""The worked example of docs/format.md."""


def write_tree(root: Path, tree: Tree) -> None:
    """Make `root` hold a tree and nothing else."""
    if root.exists():
        for folder, names, _ in os.walk(root):
            for name in names:
                if not os.path.islink(os.path.join(folder, name)):
                    os.chmod(os.path.join(folder, name), 0o700)
        shutil.rmtree(root)
    root.mkdir()
    modes = []
    for path, (kind, mode, data) in sorted(tree.items()):
        full = os.path.join(os.fsencode(root), path)
        if kind == 2:
            os.symlink(data, full)
            continue
        if kind == 0:
            os.mkdir(full)
        else:
            Path(os.fsdecode(full)).write_bytes(data)
        modes.append((full, mode))
    for full, mode in reversed(modes):
        os.chmod(full, mode)


def read_tree(root: Path) -> Tree:
    """Return what is below a directory."""
    tree: Tree = {}
    top = os.fsencode(root)
    for folder, names, files in os.walk(top):
        for name in names + files:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, top)
            mode = os.lstat(full).st_mode & 0o777
            if os.path.islink(full):
                tree[path] = (2, 0o777, os.readlink(full))
            elif os.path.isdir(full):
                tree[path] = (0, mode, b"")
            else:
                tree[path] = (1, mode, Path(os.fsdecode(full)).read_bytes())
    return tree


def manifests(seed: int, count: int) -> bytes:
    """Return text that looks like Kubernetes manifests, the same for the same seed."""
    draw = random.Random(seed)
    words = ["app", "api", "web", "store", "cache", "queue"]
    words += ["metrics", "admin", "ingress", "worker", "backup", "license"]
    lines = []
    for number in range(count):
        name = "-".join(draw.choices(words, k=3))
        lines.append(
            f"---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}-{number}\n"
            f"  labels: {{app.kubernetes.io/version: 1.0.0, checksum: {draw.getrandbits(96):x}}}\n"
            f"spec:\n  ports: [{{port: {draw.randrange(1024, 65536)}}}]\n"
        )
    return "".join(lines).encode()


def history() -> list[Tree]:
    """Return successive versions of a tree with everything the format has a rule for."""
    text = manifests(1, 900)
    noise = random.Random(2).randbytes(6000)
    tree: Tree = {
        b"README": (1, 0o644, b"first\n"),
        b"copy.yaml": (1, 0o600, text),
        b"empty": (1, 0o444, b""),
        b"empty-dir": (0, 0o700, b""),
        b"k8s": (0, 0o755, b""),
        b"k8s/app.yaml": (1, 0o644, text),
        b"k8s/dangling": (2, 0o777, b"/nowhere/\xff\n"),
        b"k8s/\xc3\xa9\xff \n\\": (1, 0o755, b"a name of odd bytes\n"),
        b"k8s.d": (1, 0o640, b"sorts between k8s and what is in it\n"),
        # A raw-content prefix that begins with the magic number of a zstd dictionary.
        b"magic.bin": (1, 0o644, b"\x37\xa4\x30\xec" + noise),
        b"zero": (1, 0o644, bytes(20000)),
    }
    out = [tree]
    for number in range(1, 7):
        tree = dict(out[-1])
        tree[b"README"] = (1, 0o644, b"version %d\n" % number)
        text = text.replace(b"version: 1.0.%d" % (number - 1), b"version: 1.0.%d" % number)
        tree[b"k8s/app.yaml"] = (1, 0o644, text)
        tree[b"magic.bin"] = (1, 0o644, b"\x37\xa4\x30\xec" + noise[: 1000 * number] + noise[20:])
        out.append(tree)
    out[3][b"renamed-2.yaml"] = out[3].pop(b"copy.yaml")
    for tree in out[4:]:
        del tree[b"copy.yaml"]
    out[5][b"k8s.d"] = (0, 0o755, b"")  # a file becomes a directory, a directory a link
    out[5][b"k8s.d/new"] = (1, 0o400, manifests(3, 100))
    out[5][b"empty-dir"] = (2, 0o777, b"k8s")
    return out


def expectation(tree: Tree) -> dict[str, Any]:
    """Return a tree as JSON: path in hexadecimal to kind, mode, size and SHA-256."""
    return {
        path.hex(): [kind, f"{mode:03o}", len(data), hashlib.sha256(data).hexdigest()]
        for path, (kind, mode, data) in sorted(tree.items())
    }


def write_sample(layout: Path, trees: list[Tree], params: packer.ChunkParams) -> None:
    """Pack trees as successive versions app:1, app:2 and so on."""
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, tree in enumerate(trees, 1):
            root = Path(folder) / "app"
            write_tree(root, tree)
            packer.pack(root, store=layout, tag=f"app:{number}", params=params)
            expected[f"app:{number}"] = expectation(tree)
    for ours in ("ingest", "cache"):
        shutil.rmtree(layout / ours, ignore_errors=True)
    text = json.dumps(expected, indent=0, sort_keys=True)
    (layout / "expected.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Write the samples of one release; refuse to touch one that is there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("version", help="name of the release")
    folder = SAMPLES / parser.parse_args().version
    folder.mkdir()
    os.environ["SOURCE_DATE_EPOCH"] = CREATED
    write_sample(folder / "tiny", [TINY], packer.ChunkParams())
    write_sample(folder / "history", history(), packer.ChunkParams(2048))


if __name__ == "__main__":
    main()

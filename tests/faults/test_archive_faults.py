"""Processes killed at every step of writing an archive, whole and in parts.

As in test_layout_faults.py: a child does the work, the Nth call to the operating system ends it on
the spot, before the call or after it, and N goes up until the work finishes. For parts, every
second N is taken: the states before these calls and after them are all that there are.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import packer.errors
from packer.errors import NotFound
from packer.stores.archive.parts import PartList
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make

SERVER = """
import fcntl, json, os, sys
sys.path.insert(0, sys.argv[1])
from packer.transfer.copy_graph import copy
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore

def wrap(module, name, left, when):
    real = getattr(module, name)
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0]:
            return real(*args, **kwargs)
        if when == "before":
            os._exit(137)
        if name == "pwrite":  # torn in the middle
            real(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
            os._exit(137)
        try:
            real(*args, **kwargs)
        finally:
            os._exit(137)
    setattr(module, name, call)

for line in sys.stdin:
    step, when, source, tag, path, part_bytes = json.loads(line)
    pid = os.fork()
    if pid == 0:
        left = [step]
        store = LayoutStore(source)
        for name in "open write pwrite fsync replace unlink close".split():
            wrap(os, name, left, when)
        wrap(fcntl, "flock", left, when)
        try:
            copy(store, tag, ArchiveStore(path, part_bytes=part_bytes), tag, jobs=1)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

Run = Callable[[int, str, str, Path, "int | None"], int]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "layout"
    source = MemoryStore()
    make(source, [5, 700, 3000], "v1")
    make(source, [700, 3000, 2222], "v2")
    for tag in ("v1", "v2"):
        copy(source, tag, LayoutStore(path), tag)
    return path


@pytest.fixture(scope="module")
def run(layout: Path) -> Iterator[Run]:
    root = str(Path(packer.errors.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, root],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdin
        assert server.stdout
        to, answers = server.stdin, server.stdout

        def request(step: int, when: str, tag: str, path: Path, part_bytes: int | None) -> int:
            words = [step, when, str(layout), tag, str(path), part_bytes]
            to.write(json.dumps(words).encode() + b"\n")
            to.flush()
            return int(answers.readline())

        yield request
        to.close()


def read(path: Path, tag: str, layout: Path) -> None:
    found = MemoryStore()
    copy(ArchiveStore(path, create=False), tag, found, tag)
    assert found.get_manifest(tag) == LayoutStore(layout).get_manifest(tag)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_writing_a_file(run: Run, layout: Path, tmp_path: Path, when: str) -> None:
    # Version 2 is added to version 1: whoever looks finds the old archive or the new one.
    copy(LayoutStore(layout), "v1", ArchiveStore(tmp_path / "old.tar"), "v1")
    old = (tmp_path / "old.tar").read_bytes()
    (tmp_path / "good.tar").write_bytes(old)
    copy(LayoutStore(layout), "v2", ArchiveStore(tmp_path / "good.tar"), "v2")
    new = (tmp_path / "good.tar").read_bytes()
    step = deaths = 0
    while True:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        path = folder / "a.tar"
        path.write_bytes(old)
        code = run(step, when, "v2", path, None)
        assert path.read_bytes() in (old, new)
        if code == 0:
            break
        assert code == 137
        deaths += 1
        assert run(0, when, "v2", path, None) == 0
        assert path.read_bytes() == new
        if step % 5 == 1:
            read(path, "v2", layout)
        # One that was complete before its writer died asks for no writing, so no sweeping either.
        assert os.listdir(folder) == ["a.tar"]
    assert deaths > 10


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_writing_parts(run: Run, layout: Path, tmp_path: Path, when: str) -> None:
    copy(LayoutStore(layout), "v1", ArchiveStore(tmp_path / "good.tar"), "v1")
    whole = (tmp_path / "good.tar").read_bytes()
    step, deaths = -1, 0
    counts = set()
    while True:
        step += 2
        folder = tmp_path / str(step)
        folder.mkdir()
        path = folder / "a.tar"
        code = run(step, when, "v1", path, 4000)
        found = PartList.read(str(path))
        complete = sorted(found.sums) if found is not None else []
        for number in complete:  # a line is as good as the part itself
            part = Path(f"{path}.{number:03}")
            assert part.read_bytes() == whole[number * 4000 : number * 4000 + 4000]
        if code == 0:
            break
        assert code == 137
        deaths += 1
        counts.add(len(complete))
        count = -(-len(whole) // 4000)
        if len(complete) < count:
            with pytest.raises(NotFound):
                ArchiveStore(path, create=False)
        before = {n: Path(f"{path}.{n:03}").stat().st_ino for n in complete}
        assert run(0, when, "v1", path, 4000) == 0
        assert {n: Path(f"{path}.{n:03}").stat().st_ino for n in complete} == before
        parts = sorted(folder.glob("a.tar.[0-9]*"))
        assert b"".join(part.read_bytes() for part in parts) == whole
        assert len(os.listdir(folder)) == len(parts) + 1
        if deaths % 10 == 1:
            read(path, "v1", layout)
    assert deaths > 20
    assert len(counts) > 2  # it died with none, some and nearly all complete


@pytest.mark.parametrize("call", ["os.pwrite", "packer.files.durable.sync"])
def test_a_full_disk_is_told_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # "No space left on device" alone does not tell which one.
    memory = MemoryStore()
    make(memory, [1000, 2000])

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as caught:
        patch.setattr(call, fail)
        copy(memory, "v1", ArchiveStore(tmp_path / "out.tar"), "v1")
    assert caught.value.errno == errno.ENOSPC
    assert os.path.dirname(str(caught.value.filename)) == str(tmp_path)
    assert os.listdir(tmp_path) == []

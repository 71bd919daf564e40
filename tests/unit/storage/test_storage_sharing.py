"""Threads, tasks and processes that share a storage, and cancelling."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import packer
from packer import (
    Cancelled,
    Progress,
    Storage,
)
from tests.builders import write_release


def test_cancelling(storage: Storage, tmp_path: Path) -> None:
    stop = threading.Event()
    root = write_release(tmp_path / "v", 1)

    def report(event: Progress) -> None:
        if event.done_bytes:
            stop.set()

    with pytest.raises(Cancelled):
        storage.save("app", root, progress=report, cancel=stop)
    assert storage.history("app") == []
    stop.clear()
    storage.save("app", root)
    with pytest.raises(Cancelled):
        storage.load("app", 0, tmp_path / "out", progress=report, cancel=stop)
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) in (["base", "v"], ["v"])


def test_threads_share_a_storage(storage: Storage, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def work(number: int) -> None:
        root = write_release(tmp_path / f"v{number}", number)
        saved = storage.save("app", root)
        with storage.open("app", saved.sequence, "app.yaml") as file:
            assert file.read() == (root / "app.yaml").read_bytes()
        done.append((saved.sequence, number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sequence for sequence, _ in done) == list(range(8))
    assert [one.sequence for one in storage.history("app")] == list(range(8))


def test_async_callers_use_threads(storage: Storage, tmp_path: Path) -> None:
    async def save(number: int) -> int:
        root = write_release(tmp_path / f"v{number}", number)
        return (await asyncio.to_thread(storage.save, "app", root)).sequence

    async def main() -> list[int]:
        stop = threading.Event()
        numbers = await asyncio.gather(*(save(number) for number in range(3)))
        # A task that is cancelled sets the event: the thread ends at its next report.
        task = asyncio.create_task(
            asyncio.to_thread(storage.save, "app", tmp_path / "v0", cancel=stop)
        )
        stop.set()
        with pytest.raises(Cancelled):
            await task
        return numbers

    assert sorted(asyncio.run(main())) == [0, 1, 2]


@pytest.mark.slow
def test_processes_share_a_layout(tmp_path: Path) -> None:
    program = (
        "import sys, packer\n"
        "storage = packer.open_storage('oci:' + sys.argv[1])\n"
        "for _ in range(3):\n"
        "    print(storage.save('app', sys.argv[2], labels={'by': sys.argv[3]}).sequence)\n"
    )
    running = []
    for number in range(4):
        root = write_release(tmp_path / f"v{number}", number)
        arguments = [sys.executable, "-c", program, str(tmp_path / "base"), str(root), str(number)]
        running.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
    printed = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(int(word) for words in printed for word in words) == list(range(12))
    history = packer.open_storage(f"oci:{tmp_path / 'base'}").history("app")
    by = {one.sequence: one.labels["by"] for one in history}
    assert by == {int(word): str(number) for number, words in enumerate(printed) for word in words}

"""A profiler within the process holds frames, and with them all that they refer to."""

from __future__ import annotations

import random
import sys
import tarfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import packer


@contextmanager
def profiler() -> Iterator[None]:
    """Hold the last thousands of frames of all threads, whether they have ended or not."""
    held: deque[FrameType] = deque(maxlen=20_000)

    def hold(frame: FrameType, event: str, argument: Any) -> None:
        held.append(frame)

    before = sys.getprofile()
    threading.setprofile(hold)
    sys.setprofile(hold)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def archive(path: Path, version: int) -> None:
    """An archive of text files with new times, and a file beside it."""
    path.mkdir()
    with tarfile.open(path / "app.tgz", "w:gz") as tar:
        for number in range(40):
            data = random.Random(number).randbytes(5_000).hex().encode()
            data += b"version %d" % (version * (number % 7 == 0))
            info = tarfile.TarInfo(f"file-{number}")
            info.size, info.mtime = len(data), 1_700_000_000 + version
            tar.addfile(info, BytesIO(data))
    (path / "plain").write_bytes(b"%d" % version * 300_000)


def test_frames_that_somebody_holds_stop_neither_packing_nor_restoring(tmp_path: Path) -> None:
    with profiler():
        for version in (1, 2, 3):
            name = f"app:{version}"
            archive(tmp_path / name, version)
            for opening in ("changed", "all"):
                store = tmp_path / opening
                packer.pack(tmp_path / name, store=store, tag=name, cache=False, opening=opening)
                packer.unpack(name, tmp_path / f"{opening}-{version}", store=store)
    for version in (1, 2, 3):
        for opening in ("changed", "all"):
            for file in ("app.tgz", "plain"):
                made = (tmp_path / f"{opening}-{version}" / file).read_bytes()
                assert made == (tmp_path / f"app:{version}" / file).read_bytes()

"""Temporary directories, and what becomes of those of processes that were killed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from packer.files.temporary import temporary_directory, write_at
from packer.storage import kots_archives, migration, save
from tests.hostile import hostile_registry

NAME = "layer-packer-" + "0" * 16
HOUR = 3600.0


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let temporary files be below a directory of the test."""
    path = tmp_path / "tmp"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return path


def use(base: Path) -> list[str]:
    """Make a directory, and return what else is there meanwhile."""
    with temporary_directory() as folder:
        others = sorted(set(os.listdir(base)) - {os.path.basename(folder)})
    assert not os.path.exists(folder)
    return others


def make(path: Path) -> Path:
    (path / "store").mkdir(parents=True)
    (path / "store" / "blob").write_bytes(b"x" * 1000)
    return path


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, timeout=60, capture_output=True
    )


def test_it_is_private_and_goes_at_the_end(base: Path) -> None:
    with temporary_directory() as folder:
        assert os.path.dirname(folder) == str(base)
        assert os.stat(folder).st_mode & 0o777 == 0o700
        make(Path(folder) / "below")
    assert os.listdir(base) == []
    with pytest.raises(ZeroDivisionError), temporary_directory() as folder:
        _ = 1 // 0
    assert os.listdir(base) == []


def test_what_a_killed_process_left_is_swept(base: Path) -> None:
    code = (
        "import os, signal; from packer.files.temporary import temporary_directory as made\n"
        "with made() as folder:\n"
        "    open(os.path.join(folder, 'blob'), 'w').close()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert run(code).returncode == -signal.SIGKILL
    assert [len(os.listdir(path)) for path in base.iterdir()] == [1]
    assert use(base) == []


def test_those_in_use_stay(base: Path) -> None:
    with temporary_directory() as first, temporary_directory() as second:
        # Another process, and other threads of this one.
        code = "from packer.files.temporary import temporary_directory as made\nwith made(): pass"
        assert run(code).returncode == 0
        threads = [threading.Thread(target=use, args=(base,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.path.isdir(first)
        assert os.path.isdir(second)


def test_what_is_not_ours_stays(base: Path, tmp_path: Path) -> None:
    # Links in /tmp are other users' traps; other names are other programs', or of a user.
    target = make(tmp_path / "precious")
    (base / NAME).symlink_to(target)
    (base / ("layer-packer-" + "1" * 16)).write_text("a file")
    inside = make(base / ("layer-packer-" + "2" * 16))
    (inside / "link").symlink_to(target)
    for name in ("layer-packer-notes", NAME + ".bak", "layer-packer-" + "3" * 16 + ".unlocked"):
        make(base / name)
    stay = set(os.listdir(base)) - {inside.name}
    assert set(use(base)) == stay
    assert (target / "store" / "blob").exists()


def test_those_of_another_user_stay(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(base / NAME)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert use(base) == [NAME]


def test_one_that_is_being_made_stays(base: Path) -> None:
    new = make(base / f"{NAME}.new")
    assert use(base) == [new.name]
    age(new, HOUR)
    held = os.open(new, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert use(base) == [new.name]
    os.close(held)
    assert use(base) == []


def test_where_directories_cannot_be_locked(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        leftover = make(base / NAME)
        with temporary_directory() as folder:
            patch.undo()
            assert use(base) == [os.path.basename(folder)]  # and the leftover is swept
            assert not leftover.exists()
    assert os.listdir(base) == []


_SAVE = """
import os, signal, sys, packer
def progress(at):
    if at.phase == "copy":
        os.kill(os.getpid(), signal.SIGKILL)
storage = packer.open_storage(sys.argv[1])
storage.save("app", sys.argv[2], progress=progress)
"""


def test_a_save_that_was_killed(base: Path, tmp_path: Path) -> None:
    # All new blobs of a version were left in /tmp, each time.
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "file").write_bytes(os.urandom(100_000))
    with hostile_registry() as server:
        done = run(_SAVE, f"docker://{server.host}/org/base", str(tmp_path / "app"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = base.iterdir()
    assert sum(path.stat().st_size for path in left.rglob("*") if path.is_file()) > 100_000
    assert use(base) == []


@pytest.mark.parametrize("module", [save, migration, kots_archives])
def test_all_that_may_be_large_is_swept(module: object) -> None:
    assert getattr(module, "temporary_directory") is temporary_directory  # noqa: B009
    assert not hasattr(module, "tempfile")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not tell")
def test_a_full_disk_is_named_by_its_directory() -> None:
    with (
        open("/dev/full", "r+b", buffering=0) as file,
        pytest.raises(OSError, match="space") as raised,
    ):
        write_at(file, b"text", 0)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/dev")

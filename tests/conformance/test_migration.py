"""Migration from S3 and directories and back, against real servers of S3."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer import archives
from packer.cli import main
from packer.errors import Conflict, DigestMismatch, InvalidParameter, StoreError
from tests.registry_server import run_registry
from tests.s3_server import S3Server, faulty_proxy, run_rclone

APP = "2CMzTAcN8ZuGqlP1"
VERSIONS = 4


def archive(number: int, size: int = 60_000) -> bytes:
    """Return a tar.gz like those of KOTS, of which most is in the one before."""
    shared = hashlib.shake_256(b"shared").digest(size)
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=number) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, data in (("base/a.bin", shared), ("version", str(number).encode())):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), number
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layout() -> dict[str, bytes]:
    """Return keys and archives as KOTS lays them out, and a key that is neither."""
    found = {f"{APP}/{number}.tar.gz": archive(number) for number in (*range(VERSIONS), 10)}
    found["supportbundles/b-1/supportbundle.tar.gz"] = archive(100)
    return found | {"notes.txt": b"else"}


def write(folder: Path, found: dict[str, bytes]) -> None:
    for key, data in found.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)


def read(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with run_rclone(tmp_path) as server:
        yield server


def test_there_and_back_through_directories(tmp_path: Path) -> None:
    found = layout()
    write(tmp_path / "from", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    planned = packer.migrate(str(tmp_path / "from"), base, journal=notes, dry_run=True)
    assert (planned.moved, planned.others) == (6, 1)
    assert not (tmp_path / "base").exists() and not Path(notes).exists()
    done = packer.migrate(str(tmp_path / "from"), base, journal=notes)
    assert (done.archives, done.moved, done.present) == (6, 6, 0)
    assert done.new_bytes < done.bytes / 2, "versions share"
    assert read(tmp_path / "from") == found
    with packer.open_storage(base) as storage:
        assert [version.sequence for version in storage.history(APP)] == [0, 1, 2, 3, 10]
    again = packer.migrate(str(tmp_path / "from"), base, journal=notes)
    assert (again.moved, again.present, again.new_bytes) == (0, 6, 0)
    # Without the journal, what is there is verified, and nothing is moved twice.
    fresh = packer.migrate(str(tmp_path / "from"), base, journal=notes + "2")
    assert (fresh.moved, fresh.new_bytes) == (0, 0)
    (tmp_path / "to").mkdir()
    back = packer.migrate(base, str(tmp_path / "to"), journal=notes + "3")
    assert back.moved == 6
    assert read(tmp_path / "to") == {key: found[key] for key in found if key != "notes.txt"}


def test_other_content_under_a_number_is_a_conflict(tmp_path: Path) -> None:
    write(tmp_path / "from", layout())
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    packer.migrate(str(tmp_path / "from"), base, journal=notes)
    (tmp_path / "from" / APP / "2.tar.gz").write_bytes(archive(77))
    with pytest.raises(Conflict, match=r"2\.tar\.gz"):
        packer.migrate(str(tmp_path / "from"), base, journal=notes)


def test_what_does_not_come_back_is_not_marked_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "from", layout())
    base, notes = f"oci:{tmp_path / 'base'}", tmp_path / "journal"
    honest = packer.Storage.open

    def damaged(self: packer.Storage, app: str, sequence: int, path: str) -> io.BufferedReader:
        with honest(self, app, sequence, path) as file:
            data = file.read()
        return io.BufferedReader(io.BytesIO(data[:-1] + b"x"))

    monkeypatch.setattr(packer.Storage, "open", damaged)
    with pytest.raises(DigestMismatch):
        packer.migrate(str(tmp_path / "from"), base, journal=str(notes))
    assert not notes.exists()


def test_places_of_one_kind_are_refused(tmp_path: Path) -> None:
    for pair in (("oci:a", "oci:b"), (str(tmp_path), "s3://b/p")):
        with pytest.raises(InvalidParameter):
            packer.migrate(*pair)


@pytest.mark.registry
def test_from_s3_to_a_registry_and_back(tmp_path: Path, s3: S3Server) -> None:
    found = layout()
    write(tmp_path / "s3" / s3.bucket / "old", found)
    notes = str(tmp_path / "journal")
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as registry:
        base = f"docker://{registry.host}/acme/base"
        source = f"s3://{s3.bucket}/old"
        done = packer.migrate(source, base, journal=notes, s3_options=s3.options())
        assert (done.moved, done.others) == (6, 1)
        assert done.new_bytes < done.bytes / 2
        again = packer.migrate(source, base, journal=notes, s3_options=s3.options())
        assert (again.moved, again.present) == (0, 6)
        target = f"s3://{s3.bucket}/new"
        back = packer.migrate(base, target, journal=notes + "2", s3_options=s3.options())
    assert back.moved == 6
    assert read(tmp_path / "s3" / s3.bucket / "old") == found
    del found["notes.txt"]
    assert read(tmp_path / "s3" / s3.bucket / "new") == found


def test_wrong_credentials_are_refused(tmp_path: Path, s3: S3Server) -> None:
    options = s3.options() | {"secret": "another-secret-key"}
    with pytest.raises(StoreError) as refused:
        packer.migrate(f"s3://{s3.bucket}/old", f"oci:{tmp_path / 'base'}", s3_options=options)
    assert "another-secret-key" not in str(refused.value)


def test_pages_of_listings(tmp_path: Path, s3: S3Server) -> None:
    # More keys than one page of a listing holds.
    found = {f"{APP}/{number}.tar.gz": b"x" * (number % 7) for number in range(1200)}
    write(tmp_path / "s3" / s3.bucket / "old", found)
    listed, others = archives.Archives(f"s3://{s3.bucket}/old", s3.options()).list()
    assert [int(each.name) for each in listed] == list(range(1200))
    assert (sum(each.size for each in listed), others) == (sum(map(len, found.values())), 0)


def test_requests_that_fail_are_made_again(tmp_path: Path, s3: S3Server) -> None:
    found = layout()
    write(tmp_path / "s3" / s3.bucket / "old", found)
    with faulty_proxy(s3) as faults:
        faults.queue += ["503", "cut", "503", "", "cut", "503", "cut"]
        done = packer.migrate(
            f"s3://{s3.bucket}/old",
            f"oci:{tmp_path / 'base'}",
            journal=str(tmp_path / "journal"),
            s3_options=s3.options() | {"endpoint_url": faults.endpoint},
        )
        assert not faults.queue, "all faults were met"
    assert done.moved == 6


def test_killed_and_continued(tmp_path: Path) -> None:
    write(tmp_path / "from", layout())
    base, notes = f"oci:{tmp_path / 'base'}", tmp_path / "journal"
    words = ["migrate", str(tmp_path / "from"), base, "--journal", str(notes)]
    program = (
        "import os, signal, sys\n"
        "from packer import migration\n"
        "from packer.cli import main\n"
        "add, count = migration.Journal.add, []\n"
        "def kill(self, archive):\n"
        "    count.append(archive)\n"
        "    if len(count) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    add(self, archive)\n"
        "migration.Journal.add = kill\n"
        "main(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, *words], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    with notes.open("a") as file:
        file.write('["cut off')
    assert main([*words, "-q"]) == 0
    done = packer.migrate(str(tmp_path / "from"), base, journal=str(notes))
    assert (done.moved, done.present) == (0, 6)


def test_cancelled(tmp_path: Path) -> None:
    write(tmp_path / "from", layout())
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(packer.Cancelled):
        packer.migrate(
            str(tmp_path / "from"),
            f"oci:{tmp_path / 'base'}",
            journal=os.devnull,
            cancel=cancel,
        )


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "data" / "store"))
    write(Path("kots-archives"), found := layout())
    exec(code, {})
    del found["notes.txt"]
    assert read(Path("restored")) == found


@pytest.mark.parametrize("app", ["..", "a/../../b", "supportbundles"])
def test_ids_that_lead_elsewhere_are_not_written(tmp_path: Path, app: str) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive(1))
    base = f"oci:{tmp_path / 'base'}"
    with packer.open_storage(base) as storage:
        storage.save(app, path)
    before = read(tmp_path)
    with pytest.raises(packer.UnsafePath):
        packer.migrate(base, str(tmp_path / "deep" / "to"), journal=str(tmp_path / "journal"))
    assert read(tmp_path) == before

"""Migration from S3 and directories and back, against real servers of S3."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

import packer
from packer import archives
from packer.cli import main
from packer.errors import (
    Conflict,
    DigestMismatch,
    InvalidParameter,
    NotFound,
    PackerError,
    StoreError,
    UnsafePath,
)
from packer.store.http import RetryPolicy
from tests.fault_proxy import Fault as WireFault
from tests.fault_proxy import fault_proxy
from tests.registry_server import run_registry
from tests.rule_proxy import Fault, rule_proxy
from tests.s3_server import S3Server, faulty_proxy, run_rclone
from tests.swift_server import run_swift

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


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(params=["rclone", "swift"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Return each server; a test has to keep to a prefix of its own."""
    found = request.getfixturevalue("s3" if request.param == "rclone" else "swift")
    assert isinstance(found, S3Server)
    return found


def upload(server: S3Server, prefix: str, found: dict[str, bytes]) -> None:
    client = server.client()
    for key, data in found.items():
        client.put_object(Bucket=server.bucket, Key=f"{prefix}/{key}", Body=data)


def download(server: S3Server, prefix: str) -> dict[str, bytes]:
    client, start = server.client(), prefix + "/"
    return {
        key.removeprefix(start): client.get_object(Bucket=server.bucket, Key=key)["Body"].read()
        for key in server.sizes()
        if key.startswith(start)
    }


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


def test_a_copy_that_was_wrong_once_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As memory that flips a bit would have it: what was packed is not what was read.
    found = layout()
    write(tmp_path / "from", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    honest = packer.Storage.save

    def wrong(self: packer.Storage, app: str, source: str, **options: Any) -> packer.SavedVersion:
        if options["sequence"] == 2:
            Path(source).write_bytes(archive(99))
        return honest(self, app, source, **options)

    with monkeypatch.context() as patch:
        patch.setattr(packer.Storage, "save", wrong)
        with pytest.raises(DigestMismatch):
            packer.migrate(str(tmp_path / "from"), base, journal=notes)
        with packer.open_storage(base) as storage:
            assert [version.sequence for version in storage.history(APP)] == [0, 1]
        # Killed, or without a right to delete, it stays; its label says whose it is.
        patch.setattr(packer.Storage, "withdraw", lambda *_: None)
        with pytest.raises(DigestMismatch):
            packer.migrate(str(tmp_path / "from"), base, journal=notes)
    with packer.open_storage(base) as storage:
        assert [version.sequence for version in storage.history(APP)] == [0, 1, 2]
    done = packer.migrate(str(tmp_path / "from"), base, journal=notes)
    assert (done.moved, done.present) == (4, 2)
    packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    del found["notes.txt"]
    assert read(tmp_path / "to") == found


def test_a_bundle_that_was_wrong_once_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {key: data for key, data in layout().items() if key.startswith("support")}
    write(tmp_path / "from", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    honest = packer.Storage.save_support_bundle

    def wrong(self: packer.Storage, name: str, source: str, **options: Any) -> Any:
        Path(source).write_bytes(archive(99))
        return honest(self, name, source, **options)

    with monkeypatch.context() as patch:
        patch.setattr(packer.Storage, "save_support_bundle", wrong)
        with pytest.raises(DigestMismatch):
            packer.migrate(str(tmp_path / "from"), base, journal=notes)
    assert packer.migrate(str(tmp_path / "from"), base, journal=notes).moved == 1
    packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    assert read(tmp_path / "to") == found


@pytest.mark.registry
@pytest.mark.parametrize(
    "fault",
    [
        WireFault("PUT", "/blobs/uploads/", "request", "corrupt", "body-middle"),
        WireFault("PUT", r"/manifests/1\Z", "request", "corrupt", "body-middle"),
        WireFault("GET", "/blobs/", "response", "corrupt", "body-middle"),
        WireFault("GET", r"/manifests/0\Z", "response", "corrupt", "body-middle"),
        WireFault("GET", "/tags/list", "response", "corrupt", "body-middle"),
    ],
    ids=["blob sent", "manifest sent", "blob read", "manifest read", "tags read"],
)
def test_bytes_that_change_on_their_way_to_or_from_the_registry(
    tmp_path: Path, fault: WireFault
) -> None:
    found = layout()
    write(tmp_path / "from", found)
    notes = str(tmp_path / "journal")
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as registry, fault_proxy(registry.host) as proxy:
        base = f"docker://{proxy.host}/acme/base"
        proxy.fault = fault
        with contextlib.suppress(PackerError):  # a run may fail, the next has to go on
            packer.migrate(str(tmp_path / "from"), base, journal=notes)
        assert proxy.fault is None, "the fault was met"
        done = packer.migrate(str(tmp_path / "from"), base, journal=notes)
        assert done.moved + done.present == 6
        packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    del found["notes.txt"]
    assert read(tmp_path / "to") == found


def test_damaged_archives_are_moved_as_they_are(tmp_path: Path) -> None:
    whole = archive(1)
    found = {
        f"{APP}/0.tar.gz": whole,
        f"{APP}/1.tar.gz": whole[: len(whole) // 2],
        f"{APP}/2.tar.gz": whole[:-6] + b"xxxxxx",  # the checksum of gzip does not hold
        f"{APP}/3.tar.gz": b"",
        f"{APP}/4.tar.gz": whole[:900] + b"\0" + whole[901:],
    }
    write(tmp_path / "from", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    assert packer.migrate(str(tmp_path / "from"), base, journal=notes).moved == 5
    packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    assert read(tmp_path / "to") == found


def test_places_of_one_kind_are_refused(tmp_path: Path) -> None:
    for pair in (("oci:a", "oci:b"), (str(tmp_path), "s3://b/p")):
        with pytest.raises(InvalidParameter):
            packer.migrate(*pair)


@pytest.mark.registry
def test_from_s3_to_a_registry_and_back(tmp_path: Path, server: S3Server) -> None:
    found = layout()
    upload(server, "old", found)
    notes = str(tmp_path / "journal")
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as registry:
        base = f"docker://{registry.host}/acme/base"
        source = f"s3://{server.bucket}/old"
        done = packer.migrate(source, base, journal=notes, s3_options=server.options())
        assert (done.moved, done.others) == (6, 1)
        assert done.new_bytes < done.bytes / 2
        again = packer.migrate(source, base, journal=notes, s3_options=server.options())
        assert (again.moved, again.present) == (0, 6)
        target = f"s3://{server.bucket}/new"
        back = packer.migrate(base, target, journal=notes + "2", s3_options=server.options())
    assert back.moved == 6
    assert download(server, "old") == found
    del found["notes.txt"]
    assert download(server, "new") == found


def test_wrong_credentials_are_refused(tmp_path: Path, server: S3Server) -> None:
    options = server.options() | {"secret": "another-secret-key"}
    with pytest.raises(StoreError) as refused:
        packer.migrate(f"s3://{server.bucket}/old", f"oci:{tmp_path / 'base'}", s3_options=options)
    assert "another-secret-key" not in str(refused.value)


def test_pages_of_listings(server: S3Server) -> None:
    # More keys than one page of a listing holds.
    found = {f"{APP}/{number}.tar.gz": b"x" * (number % 7) for number in range(1200)}
    client = server.client()  # threads may share it

    def put(key: str) -> None:
        client.put_object(Bucket=server.bucket, Key=f"pages/{key}", Body=found[key])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, found))
    listed, others = archives.Archives(f"s3://{server.bucket}/pages", server.options()).list()
    assert [int(each.name) for each in listed] == list(range(1200))
    assert (sum(each.size for each in listed), others) == (sum(map(len, found.values())), 0)


def test_requests_that_fail_are_made_again(tmp_path: Path, server: S3Server) -> None:
    found = layout()
    upload(server, "failing", found)
    with faulty_proxy(server) as faults:
        options = server.options() | {"endpoint_url": faults.endpoint}
        faults.queue += ["503", "cut", "503", "", "cut", "500", "cut"]
        base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
        place = f"s3://{server.bucket}"
        done = packer.migrate(f"{place}/failing", base, journal=notes, s3_options=options)
        assert not faults.queue, "all faults were met"
        assert done.moved == 6
        faults.writes += ["503", "cut", "", "500"]
        faults.queue += ["", "cut", "503"]
        back = packer.migrate(base, f"{place}/failed", journal=notes + "2", s3_options=options)
        assert not faults.queue and not faults.writes
        assert back.moved == 6
    del found["notes.txt"]
    assert download(server, "failed") == found


def parts_of(server: S3Server, key: str, data: bytes) -> None:
    """Upload in parts: the ETag is then no MD5 of the content."""
    client, where = server.client(), {"Bucket": server.bucket, "Key": key}
    begun = client.create_multipart_upload(**where)["UploadId"]
    cuts = [data[: 5 << 20], data[5 << 20 :]]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**where, PartNumber=number, UploadId=begun, Body=part)[
                "ETag"
            ],
        }
        for number, part in enumerate(cuts, 1)
    ]
    client.complete_multipart_upload(**where, UploadId=begun, MultipartUpload={"Parts": parts})


def test_bytes_that_change_on_their_way_from_s3(tmp_path: Path, server: S3Server) -> None:
    # TCP's checksums let one in some thousand damaged segments pass, and a proxy may be at fault.
    # Such an archive would have been saved, read back, and called verified.
    found = {f"{APP}/{number}.tar.gz": archive(number) for number in range(3)}
    upload(server, "flipped", found)
    found[f"{APP}/3.tar.gz"] = archive(3, 6 << 20)
    parts_of(server, f"flipped/{APP}/3.tar.gz", found[f"{APP}/3.tar.gz"])
    with faulty_proxy(server) as faults:
        options = server.options() | {"endpoint_url": faults.endpoint}
        faults.queue += ["flip"]  # of the first; the others each begin with a whole answer
        done = packer.migrate(
            f"s3://{server.bucket}/flipped",
            f"oci:{tmp_path / 'base'}",
            journal=str(tmp_path / "journal"),
            s3_options=options,
        )
        assert not faults.queue
    assert done.moved == 4
    packer.migrate(f"oci:{tmp_path / 'base'}", str(tmp_path / "to"), journal=str(tmp_path / "j2"))
    assert read(tmp_path / "to") == found


def test_bytes_of_parts_that_change_on_their_way(tmp_path: Path, server: S3Server) -> None:
    found = {f"{APP}/0.tar.gz": archive(0, 6 << 20)}
    parts_of(server, f"parts/{APP}/0.tar.gz", found[f"{APP}/0.tar.gz"])
    with faulty_proxy(server) as faults:
        options = server.options() | {"endpoint_url": faults.endpoint}
        faults.queue += ["flip"]
        base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
        packer.migrate(f"s3://{server.bucket}/parts", base, journal=notes, s3_options=options)
        assert not faults.queue
    packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    assert read(tmp_path / "to") == found


def test_bytes_that_change_on_their_way_back_to_s3(tmp_path: Path, server: S3Server) -> None:
    found = layout()
    del found["notes.txt"]
    write(tmp_path / "from", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    packer.migrate(str(tmp_path / "from"), base, journal=notes)
    with faulty_proxy(server) as faults:
        options = server.options() | {"endpoint_url": faults.endpoint}
        faults.writes += ["", "flip", "", "flip"]
        faults.queue += ["flip"]
        target = f"s3://{server.bucket}/turned"
        done = packer.migrate(base, target, journal=notes + "2", s3_options=options)
        assert not faults.writes and not faults.queue
    assert done.moved == 6
    assert download(server, "turned") == found


def test_archives_larger_than_what_is_read_at_once(tmp_path: Path, server: S3Server) -> None:
    # rclone sends the checksum of the whole with each range, so reading in ranges fails.
    found = {"supportbundles/b/supportbundle.tar.gz": archive(0, 20 << 20)}
    upload(server, "large", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    place, options = f"s3://{server.bucket}", server.options()
    packer.migrate(f"{place}/large", base, journal=notes, s3_options=options)
    packer.migrate(base, f"{place}/larger", journal=notes + "2", s3_options=options)
    assert download(server, "larger") == found


def test_s3_that_goes_away_and_comes_back(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3FileSystem, "retries", 1)  # it and botocore are patient by themselves
    found = layout()
    upload(server, "outage", found)
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    with faulty_proxy(server) as faults:
        impatient = {"retries": {"max_attempts": 0}}
        options = server.options() | {"endpoint_url": faults.endpoint, "config_kwargs": impatient}

        def run() -> packer.Migrated:
            source = f"s3://{server.bucket}/outage"
            return packer.migrate(source, base, journal=notes, s3_options=options)

        faults.outage_after = 3
        with pytest.raises(StoreError) as failed:
            run()
        assert failed.value.retryable
        faults.outage_after = None
        done = run()
        assert 0 < done.present < 6 and done.moved + done.present == 6
        assert run().moved == 0
    with packer.open_storage(base) as storage:
        assert [version.sequence for version in storage.history(APP)] == [0, 1, 2, 3, 10]


@pytest.mark.registry
@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.ERROR_AFTER])
def test_a_registry_that_goes_away_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    write(tmp_path / "from", layout())
    notes = str(tmp_path / "journal")
    (tmp_path / "registry").mkdir()
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.01)
    with run_registry(tmp_path / "registry") as registry, rule_proxy(registry.port) as proxy:
        base = f"docker://{proxy.host}/acme/base"

        def outage(method: str, path: str) -> Fault:
            # From its second version on it answers nothing any more, also not to later tries.
            gone = any(each.endswith("/manifests/2") for _, each in proxy.seen)
            return fault if gone else Fault.NONE

        proxy.rule = outage
        with pytest.raises(StoreError):
            packer.migrate(str(tmp_path / "from"), base, journal=notes)
        proxy.rule = None
        done = packer.migrate(str(tmp_path / "from"), base, journal=notes)
        assert (done.moved + done.present, done.present) == (6, 2)
        with packer.open_storage(base) as storage:
            assert [version.sequence for version in storage.history(APP)] == [0, 1, 2, 3, 10]
        again = packer.migrate(str(tmp_path / "from"), base, journal=notes + "2")
        assert again.moved == 0
        packer.migrate(base, str(tmp_path / "to"), journal=notes + "3")
    found = layout()
    del found["notes.txt"]
    assert read(tmp_path / "to") == found


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


def test_a_place_that_holds_nothing_is_an_error(tmp_path: Path, s3: S3Server) -> None:
    # A misspelled prefix would else be reported as migrated.
    upload(s3, "old", {f"{APP}/0.tar.gz": archive(0)})
    base = f"oci:{tmp_path / 'base'}"
    with pytest.raises(NotFound, match="odl"):
        packer.migrate(f"s3://{s3.bucket}/odl", base, s3_options=s3.options())
    with pytest.raises(NotFound, match="base"):
        packer.migrate(base, str(tmp_path))


def test_progress_is_one_phase_and_versions_of_directories_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "from", layout())
    base, notes = f"oci:{tmp_path / 'base'}", str(tmp_path / "journal")
    told: list[packer.Progress] = []
    done = packer.migrate(str(tmp_path / "from"), base, journal=notes, progress=told.append)
    assert {each.phase for each in told} == {"migrate"}
    assert (told[-1].done_bytes, told[-1].total_bytes) == (done.bytes, done.bytes)
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    with packer.open_storage(base) as storage:
        storage.save("directory", tmp_path / "from" / APP)
    back = packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    assert (back.moved, back.others) == (6, 1)


@pytest.mark.parametrize("app", ["..", "a/../../b", "supportbundles"])
def test_ids_that_lead_elsewhere_stay_behind(tmp_path: Path, app: str) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive(1))
    base, to = f"oci:{tmp_path / 'base'}", tmp_path / "deep" / "to"
    with packer.open_storage(base) as storage:
        storage.save(app, path)
        storage.save("sound", path)
    before = set(read(tmp_path))
    back = packer.migrate(base, str(to), journal=str(tmp_path / "journal"))
    assert (back.moved, back.others) == (1, 1)
    assert set(read(tmp_path)) - before == {"deep/to/sound/0.tar.gz", "journal"}
    with pytest.raises(UnsafePath):
        archives.Archives(str(to)).write(archives.Archive(app, "0"), str(path))


def test_what_is_no_archive_stays_behind(tmp_path: Path) -> None:
    tree, base = tmp_path / "tree", f"oci:{tmp_path / 'base'}"
    write(tree, {"values.yaml": b"a: 1\n"})
    write(tmp_path, {"supportbundle.tar.gz": archive(3)})
    with packer.open_storage(base) as storage:
        storage.save("app", tree / "values.yaml")
        storage.save("app", tree)
        storage.save("app", tmp_path / "supportbundle.tar.gz")
        storage.save_support_bundle("directory", tree)
        storage.save_support_bundle("archive", tmp_path / "supportbundle.tar.gz")
    back = packer.migrate(base, str(tmp_path / "to"), journal=str(tmp_path / "journal"))
    assert (back.archives, back.moved, back.others) == (2, 2, 3)
    assert set(read(tmp_path / "to")) == {
        "app/2.tar.gz",
        "supportbundles/archive/supportbundle.tar.gz",
    }


def test_links_that_lead_nowhere_and_pipes_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "from", {f"{APP}/0.tar.gz": archive(0)})
    (tmp_path / "from" / APP / "1.tar.gz").symlink_to("gone")
    os.mkfifo(tmp_path / "from" / APP / "2.tar.gz")
    notes = str(tmp_path / "journal")
    done = packer.migrate(str(tmp_path / "from"), f"oci:{tmp_path / 'base'}", journal=notes)
    assert (done.archives, done.moved, done.others) == (1, 1, 2)


@pytest.mark.parametrize("part", ["all", "version", "bundle"])
def test_what_is_gone_from_the_destination_is_moved_again(tmp_path: Path, part: str) -> None:
    source, base = tmp_path / "from", f"oci:{tmp_path / 'base'}"
    write(source, layout())

    def migrate(start: str, end: str) -> packer.Migrated:
        return packer.migrate(start, end, journal=str(tmp_path / "journal"))

    assert migrate(str(source), base).moved == 6
    again = migrate(str(source), base)
    assert (again.moved, again.present, again.noted) == (0, 6, 6)
    if part == "all":
        shutil.rmtree(tmp_path / "base")
    else:
        with packer.open_storage(base) as storage:
            if part == "version":
                storage.withdraw(APP, 2)
            else:
                storage.bundles.delete("b-1")
    lost = 6 if part == "all" else 1
    again = migrate(str(source), base)
    assert (again.moved, again.present, again.noted) == (lost, 6 - lost, 6 - lost)
    migrate(base, str(tmp_path / "to"))
    assert {**read(tmp_path / "to"), "notes.txt": b"else"} == layout()
    if part == "all":
        shutil.rmtree(tmp_path / "to")
    else:
        key = f"{APP}/2.tar.gz" if part == "version" else "supportbundles/b-1/supportbundle.tar.gz"
        (tmp_path / "to" / key).write_bytes(b"cut off")
        with pytest.raises(Conflict, match=key):
            migrate(base, str(tmp_path / "to"))
        (tmp_path / "to" / key).unlink()
    again = migrate(base, str(tmp_path / "to"))
    assert (again.moved, again.noted) == (lost, 6 - lost)
    assert {**read(tmp_path / "to"), "notes.txt": b"else"} == layout()


def test_the_journal_is_that_of_the_places_not_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths mean other places in other directories."""
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "data" / "store"))
    for name in "ab":
        write(tmp_path / name / "from", {f"{APP}/0.tar.gz": archive(0)})
        monkeypatch.chdir(tmp_path / name)
        assert packer.migrate("from", "oci:base").moved == 1
        assert packer.migrate(f"../{name}/from", f"oci:{tmp_path / name}/base/").noted == 1

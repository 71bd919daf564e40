"""Migration between directories and layouts; what S3 and registries add: tests/conformance."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.cli.main import main
from packer.errors import (
    Conflict,
    DigestMismatch,
    InvalidParameter,
    UnsafePath,
)
from packer.opening.kept_texts import KeptTexts
from packer.opening.rebuilt_stream import RebuiltStream
from packer.reading.entry_content import FileReader
from packer.storage import kots_archives
from tests.builders import read_files
from tests.kots import APP, archive, layout, write


@pytest.mark.slow
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
    assert read_files(tmp_path / "from") == found
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
    assert read_files(tmp_path / "to") == {key: found[key] for key in found if key != "notes.txt"}


def test_text_of_old_archives_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the save that builds on an archive; not when the next copy is read, nor for the save."""
    write(tmp_path / "from", layout())
    made: list[int] = []
    real = RebuiltStream._go_on

    def count(self: RebuiltStream) -> None:
        made.append(self.size)
        real(self)

    monkeypatch.setattr(RebuiltStream, "_go_on", count)
    kept = packer.migrate(str(tmp_path / "from"), f"oci:{tmp_path / 'kept'}")
    once = len(made)
    monkeypatch.setattr(KeptTexts, "put", lambda *_: None)
    anew = packer.migrate(str(tmp_path / "from"), f"oci:{tmp_path / 'anew'}")
    assert 0 < 2 * once <= len(made) - once
    assert kept.moved == anew.moved == 6
    packer.migrate(f"oci:{tmp_path / 'kept'}", str(tmp_path / "to"))
    back = {name: data for name, data in layout().items() if name != "notes.txt"}
    assert read_files(tmp_path / "to") == back


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
    honest = FileReader.read

    def damaged(self: FileReader, entry: int, *, alone: bool = False) -> Iterator[bytes]:
        data = b"".join(honest(self, entry, alone=alone))
        yield data[:-1] + b"x"

    monkeypatch.setattr(FileReader, "read", damaged)
    with pytest.raises(DigestMismatch):
        packer.migrate(str(tmp_path / "from"), base, journal=str(notes))
    assert not notes.exists()


@pytest.mark.slow
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
            # The next one was saved meanwhile; the next run reads it back.
            assert [version.sequence for version in storage.history(APP)] == [0, 1, 3]
        # Killed, or without a right to delete, it stays; its label says whose it is.
        patch.setattr(packer.Storage, "withdraw", lambda *_: None)
        with pytest.raises(DigestMismatch):
            packer.migrate(str(tmp_path / "from"), base, journal=notes)
    with packer.open_storage(base) as storage:
        assert [version.sequence for version in storage.history(APP)] == [0, 1, 2, 3]
    done = packer.migrate(str(tmp_path / "from"), base, journal=notes)
    assert (done.moved, done.present) == (3, 3)
    packer.migrate(base, str(tmp_path / "to"), journal=notes + "2")
    del found["notes.txt"]
    assert read_files(tmp_path / "to") == found


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
    assert read_files(tmp_path / "to") == found


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
    assert read_files(tmp_path / "to") == found


def test_places_of_one_kind_are_refused(tmp_path: Path) -> None:
    for pair in (("oci:a", "oci:b"), (str(tmp_path), "s3://b/p")):
        with pytest.raises(InvalidParameter):
            packer.migrate(*pair)


@pytest.mark.slow
def test_killed_and_continued(tmp_path: Path) -> None:
    write(tmp_path / "from", layout())
    base, notes = f"oci:{tmp_path / 'base'}", tmp_path / "journal"
    words = ["migrate", str(tmp_path / "from"), base, "--journal", str(notes)]
    program = (
        "import os, signal, sys\n"
        "from packer.storage import migration\n"
        "from packer.cli.main import main\n"
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
    text = (Path(__file__).parents[3] / "docs" / "migration.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "data" / "store"))
    write(Path("kots-archives"), found := layout())
    exec(code, {})
    del found["notes.txt"]
    assert read_files(Path("restored")) == found


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


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_directory_without_archives_is_an_error(tmp_path: Path, dry_run: bool) -> None:
    write(tmp_path / "from", {"values.yaml": b"a: 1\n", "app/values.tgz": archive(1)})
    with pytest.raises(packer.NotFound, match="none of its 2 files"):
        packer.migrate(
            str(tmp_path / "from"),
            f"oci:{tmp_path / 'base'}",
            journal=str(tmp_path / "journal"),
            dry_run=dry_run,
        )


@pytest.mark.parametrize("app", ["..", "a/../../b", "supportbundles"])
def test_ids_that_lead_elsewhere_stay_behind(tmp_path: Path, app: str) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive(1))
    base, to = f"oci:{tmp_path / 'base'}", tmp_path / "deep" / "to"
    with packer.open_storage(base) as storage:
        storage.save(app, path)
        storage.save("sound", path)
    before = set(read_files(tmp_path))
    back = packer.migrate(base, str(to), journal=str(tmp_path / "journal"))
    assert (back.moved, back.others) == (1, 1)
    assert set(read_files(tmp_path)) - before == {"deep/to/sound/0.tar.gz", "journal"}
    with pytest.raises(UnsafePath):
        kots_archives.Archives(str(to)).write(kots_archives.Archive(app, "0"), str(path))


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
    assert set(read_files(tmp_path / "to")) == {
        "app/2.tar.gz",
        "supportbundles/archive/supportbundle.tar.gz",
    }


def test_links_that_lead_nowhere_and_pipes_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "from", {f"{APP}/0.tar.gz": archive(0)})
    for number, target in enumerate(("gone", "2.tar.gz", "0.tar.gz/below"), start=1):
        (tmp_path / "from" / APP / f"{number}.tar.gz").symlink_to(target)
    os.mkfifo(tmp_path / "from" / APP / "4.tar.gz")
    notes = str(tmp_path / "journal")
    done = packer.migrate(str(tmp_path / "from"), f"oci:{tmp_path / 'base'}", journal=notes)
    assert (done.archives, done.moved, done.others) == (1, 1, 4)


@pytest.mark.slow
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
    assert {**read_files(tmp_path / "to"), "notes.txt": b"else"} == layout()
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
    assert {**read_files(tmp_path / "to"), "notes.txt": b"else"} == layout()


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

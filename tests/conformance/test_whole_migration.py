"""A whole migration from S3 to a registry and back, with everything that goes wrong on the way.

As many archives as a page of a listing and more, or those of a directory, by hand:

    LAYER_PACKER_MIGRATION=1200 pytest -s -o timeout=0 tests/conformance/test_whole_migration.py
    LAYER_PACKER_MIGRATION=DIR  …
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

import packer
from packer.errors import StoreError
from packer.stores.registry.transport.retries import RetryPolicy
from tests.kots import archive
from tests.registry_server import need_program, run_registry
from tests.rule_proxy import Fault, rule_proxy
from tests.s3_server import S3Server, faulty_proxy, run_rclone

FEW = 40
APPS = ("2CMzTAcN8ZuGqlP1", "2gKSUIDofAnother0App", "plain-app")
OTHERS = {"notes.txt": b"else", f"{APPS[0]}/latest.tar.gz": b"x", "supportbundles/x.tar.gz": b""}
"""Keys that look like archives, or do not, and are none."""


def sources(folder: Path) -> dict[str, Path]:
    """Return keys and files in KOTS' layout."""
    wanted = os.environ.get("LAYER_PACKER_MIGRATION", str(FEW))
    if not wanted.isdecimal():
        folder = Path(wanted)
    else:
        for number in range(int(wanted)):
            app = APPS[number % 3]
            key = f"{app}/{number // 3}.tar.gz"
            if number % 20 == 19:
                key = f"supportbundles/b{number}/supportbundle.tar.gz"
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive(number, 20_000))
    return {str(path.relative_to(folder)): path for path in folder.rglob("*.tar.gz")}


def digests(server: S3Server, prefix: str) -> dict[str, str]:
    """Return the SHA-256 of all that is below a prefix, read by another client than s3fs."""
    client = server.client()

    def read(key: str) -> tuple[str, str]:
        data = client.get_object(Bucket=server.bucket, Key=key)["Body"].read()
        return key.removeprefix(prefix), hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(read, [key for key in server.sizes() if key.startswith(prefix)]))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def tell(what: str, begun: float | None = None) -> None:
    seconds = "" if begun is None else f", {time.monotonic() - begun:.1f} s"
    print(f"{what}{seconds}", flush=True)


@pytest.mark.slow
@pytest.mark.registry
def test_a_whole_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sources(tmp_path / "files")
    count = len(files)
    expected = {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in files.items()}
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.01)
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    notes = tmp_path / "journal"
    registry_folder = tmp_path / "registry"
    registry_folder.mkdir()
    with (
        run_rclone(tmp_path) as s3,
        run_registry(registry_folder) as registry,
        faulty_proxy(s3) as s3_faults,
        rule_proxy(registry.port) as proxy,
    ):
        client = s3.client()

        def put(key: str) -> None:
            data = files[key].read_bytes() if key in files else OTHERS[key]
            client.put_object(Bucket=s3.bucket, Key=f"old/{key}", Body=data)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, [*files, *OTHERS]))
        before = digests(s3, "old/")
        base, source = f"docker://{proxy.host}/acme/base", f"s3://{s3.bucket}/old"
        s3_bytes = sum(path.stat().st_size for path in files.values())
        tell(f"{count} archives, {s3_bytes} bytes in S3")

        def migrate(**more: Any) -> packer.Migrated:
            options = s3.options() | {
                "endpoint_url": s3_faults.endpoint,
                "config_kwargs": {"retries": {"max_attempts": 0}},
            }
            return packer.migrate(source, base, journal=str(notes), s3_options=options, **more)

        def done() -> int:
            return len(notes.read_text().split("\n\n")) if notes.exists() else 0

        planned = migrate(dry_run=True)
        assert (planned.moved, planned.others, planned.bytes) == (count, len(OTHERS), s3_bytes)
        assert not notes.exists() and not proxy.writes()

        begun = time.monotonic()
        s3_faults.outage_after = count // 5
        with pytest.raises(StoreError):
            migrate()
        s3_faults.outage_after = None
        tell(f"{done()} done when S3 went away", begun)

        begun = time.monotonic()
        rng, reached = random.Random(7), done()

        def overload(method: str, path: str) -> Fault:
            # Now and then a request fails; once much is done, all of them do.
            if done() > reached + count // 5:
                return Fault.CUT_AFTER
            return rng.choice([*Fault][:5]) if rng.random() < 0.01 else Fault.NONE

        proxy.rule = overload
        with pytest.raises(StoreError):
            migrate()
        proxy.rule = None
        tell(f"{done()} done when the registry went away", begun)

        begun, reached = time.monotonic(), done()
        words = ["migrate", source, base, "--journal", str(notes), "-q"]
        process = subprocess.Popen(
            [sys.executable, "-m", "packer", *words], env=os.environ | s3.environment()
        )
        while done() < reached + count // 5 and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        with notes.open("a") as file:
            file.write('["cut off')
        tell(f"{done()} done when the process was killed", begun)

        begun = time.monotonic()
        s3_faults.queue += ["", *(["flip", "", "503", "", "cut", "", "", ""] * (count // 20))]
        last = migrate()
        assert not s3_faults.queue
        assert (last.archives, last.moved + last.present) == (count, count)
        tell(f"{last.moved} more, the rest", begun)

        begun = time.monotonic()
        proxy.seen.clear()
        again = migrate()
        assert (again.moved, again.present, again.new_bytes) == (0, count, 0)
        assert (again.noted, proxy.writes()) == (count, 0)
        assert len(proxy.seen) < count, "a run that has nothing to do only lists what is there"
        tell("again, without anything to do", begun)

        with packer.open_storage(base) as storage:
            apps = sorted({key.partition("/")[0] for key in files} - {"supportbundles"})
            assert storage.apps() == apps
            for app in apps:
                numbers = [version.sequence for version in storage.history(app)]
                assert sorted(f"{app}/{number}.tar.gz" for number in numbers) == sorted(
                    key for key in files if key.startswith(app + "/")
                )

        begun = time.monotonic()
        target, s3_faults.writes = f"s3://{s3.bucket}/new", ["", "500", "cut"]
        back = packer.migrate(
            base,
            target,
            journal=str(notes) + "2",
            s3_options=s3.options() | {"endpoint_url": s3_faults.endpoint},
        )
        assert back.moved == count and not s3_faults.writes
        tell("back in S3", begun)
        assert digests(s3, "new/") == expected
        assert digests(s3, "old/") == before, "the source is only read"
        full = size_of(registry.data)
    subprocess.run(
        [need_program("docker-registry"), "garbage-collect", str(registry_folder / "config.yml")],
        check=True,
        capture_output=True,
    )
    blobs = size_of(registry.data / "docker/registry/v2/blobs")
    tell(f"registry: {full} bytes; {size_of(registry.data)} after collection, {blobs} of blobs")
    assert blobs < s3_bytes

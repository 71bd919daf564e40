"""OpenStack Swift with its S3 API, as Debian has it: one disk, one replica, free loopback ports."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry_server import free_port
from tests.s3_server import BUCKET, S3Server, answers

ACCOUNT = "test:tester"
SECRET = "swift-secret"  # not that of the other servers: whoever mixes them up is refused
RINGS = ("account", "container", "object")
_PROGRAMS = (
    "swift-ring-builder",
    "memcached",
    "swift-proxy-server",
    *(f"swift-{ring}-server" for ring in RINGS),
)
_COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = WARNING
"""
_STORAGE = """\
[pipeline:main]
pipeline = {ring}-server
[app:{ring}-server]
use = egg:swift#{ring}
"""
_PROXY = f"""\
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{{memcached}}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_{ACCOUNT.replace(":", "_")} = {SECRET} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
"""


@contextlib.contextmanager
def run_swift(folder: Path) -> Iterator[S3Server]:
    """Run Swift, whose S3 API checks signatures, with its files in `folder`."""
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} is not installed (tools/install-servers)")
    if not os.access("/etc/swift/swift.conf", os.R_OK):
        pytest.skip("/etc/swift/swift.conf, which all of Swift's programs read, is not readable")
    for attempt in range(3):  # a port may be taken between its choice and its use
        home = folder / f"swift{attempt}"
        (home / "devices" / "d1").mkdir(parents=True)
        with contextlib.ExitStack() as running:
            endpoint = _start(home, running)
            if endpoint is not None:
                server = S3Server(endpoint, BUCKET, ACCOUNT, SECRET)
                server.client().create_bucket(Bucket=BUCKET)
                yield server
                return
        assert attempt < 2, (home / "log").read_text(errors="replace")


def _start(folder: Path, running: contextlib.ExitStack) -> str | None:
    """Start all servers; None if one did not come up."""
    ports = {name: free_port() for name in (*RINGS, "memcached", "proxy")}
    log = running.enter_context((folder / "log").open("wb"))

    def start(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
        running.callback(process.wait)
        running.callback(process.kill)
        return process

    words = ["-l", "127.0.0.1", "-p", str(ports["memcached"]), "-U", "0", "-u", getpass.getuser()]
    started = {"memcached": start("memcached", *words)}
    for name in (*RINGS, "proxy"):
        text = _COMMON.format(port=ports[name], folder=folder, user=getpass.getuser())
        if name == "proxy":
            text += _PROXY.format(memcached=ports["memcached"])
        else:
            text += _STORAGE.format(ring=name)
            _make_ring(folder, name, ports[name])
        (folder / f"{name}.conf").write_text(text)
        started[name] = start(f"swift-{name}-server", str(folder / f"{name}.conf"))
    up = all(answers(process, ports[name]) for name, process in started.items())
    time.sleep(0.2)  # one that found its port taken ends about now
    alive = up and all(process.poll() is None for process in started.values())
    return f"http://127.0.0.1:{ports['proxy']}" if alive else None


def _make_ring(folder: Path, name: str, port: int) -> None:
    builder = str(folder / f"{name}.builder")
    for words in (
        ["create", "4", "1", "0"],
        ["add", f"r1z1-127.0.0.1:{port}/d1", "1"],
        ["rebalance"],
    ):
        # 1 is a warning: rings of one device are not balanced.
        done = subprocess.run(
            ["swift-ring-builder", builder, *words], capture_output=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr

"""Servers of S3 on free loopback ports: rclone, which checks credentials, and moto.

Swift is in `tests.swift_server`.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.registry_server import free_port

KEY, SECRET = "test-key", "test-secret-key"
BUCKET = "kots"


@dataclass
class S3Server:
    """A running server of S3.

    Args:
        endpoint: its URL.
        bucket: that is there, and empty.
        key, secret: credentials.
    """

    endpoint: str
    bucket: str = BUCKET
    key: str = KEY
    secret: str = SECRET

    def options(self) -> dict[str, Any]:
        """Return the options of s3fs."""
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def environment(self) -> dict[str, str]:
        """Return what tells the AWS clients in another process the same."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Return a boto3 client, a program that is not s3fs."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )

    def sizes(self) -> dict[str, int]:
        """Return all keys and their sizes."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def total_bytes(self) -> int:
        """Return how much is there."""
        return sum(self.sizes().values())


@contextlib.contextmanager
def run_rclone(folder: Path) -> Iterator[S3Server]:
    """Run ``rclone serve s3``, which refuses wrong credentials, over a directory in `folder`."""
    program = Path(sys.executable).with_name("rclone")
    found = str(program) if program.exists() else shutil.which("rclone")
    if found is None:
        pytest.skip("the program rclone is not installed")
    data = folder / "s3"
    (data / BUCKET).mkdir(parents=True)

    def words(port: int) -> list[str]:
        return [
            found, "serve", "s3", str(data), "--addr", f"127.0.0.1:{port}",
            "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull, "--dir-cache-time", "1s",
        ]  # fmt: skip

    with _run(folder, words) as port:
        yield S3Server(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def run_moto(folder: Path) -> Iterator[S3Server]:
    """Run moto's server, which takes any credentials."""
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        pytest.skip("the program moto_server is not installed")
    with _run(folder, lambda port: [str(program), "-H", "127.0.0.1", "-p", str(port)]) as port:
        server = S3Server(f"http://127.0.0.1:{port}")
        server.client().create_bucket(Bucket=server.bucket)
        yield server


@contextlib.contextmanager
def _run(folder: Path, words: Any) -> Iterator[int]:
    """Run a server until the end; another port if its own was taken."""
    log_path = folder / "s3.log"
    for attempt in range(5):
        port = free_port()
        with log_path.open("ab") as log:
            process = subprocess.Popen(words(port), stdout=log, stderr=log, cwd=folder)
        try:
            if answers(process, port):
                yield port
                return
        finally:
            process.kill()
            process.wait()
        assert attempt < 4, log_path.read_text(errors="replace")


def answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server takes connections; False if it ended instead."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return True
        time.sleep(0.05)
    return False


@dataclass
class Faults:
    """What a proxy in front of a server of S3 does to answers, one after the other.

    Args:
        endpoint: of the proxy.
        queue: for GETs: "503", "500"; "cut": half of the body, then the connection ends; "flip": a
            bit of the body is another; "": nothing. All but "flip" meet listings, too.
        writes: the same for PUTs; "flip" is of the body that is sent.
        outage_after: objects read or written after which no request is answered any more, until
            it is set to None.
    """

    endpoint: str
    queue: list[str]
    writes: list[str] = field(default_factory=list)
    outage_after: int | None = None


@contextlib.contextmanager
def faulty_proxy(server: S3Server) -> Iterator[Faults]:
    """Forward a free loopback port to a server, with faults; the Host header stays as it was."""
    address = server.endpoint.removeprefix("http://")
    faults = Faults("", [])
    lock = threading.Lock()

    def flip(body: bytes) -> bytes:
        middle = len(body) // 2
        return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def fault(self) -> str | None:
            """Return what to do to this request, None if it is not answered."""
            of_object = self.command in ("GET", "PUT") and ".tar.gz" in self.path
            with lock:
                if faults.outage_after is not None:
                    if faults.outage_after <= 0:
                        return None
                    faults.outage_after -= of_object
                queue = {"GET": faults.queue, "PUT": faults.writes}.get(self.command, [])
                if not queue or (queue[0] == "flip" and not of_object):
                    return ""
                return queue.pop(0)

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = self.fault()
            if fault is None:
                self.close_connection = True
                return
            is_get = self.command == "GET"
            status, body = int(fault) if fault.isdigit() else 0, b""
            headers: list[tuple[str, str]] = []
            if not status:
                upstream = http.client.HTTPConnection(address, timeout=60)
                with contextlib.closing(upstream):
                    data = flip(sent) if fault == "flip" and not is_get else sent
                    upstream.request(self.command, self.path, data, dict(self.headers))
                    answer = upstream.getresponse()
                    status, body, headers = answer.status, answer.read(), answer.getheaders()
            if fault == "flip" and is_get and body:
                body = flip(body)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            lengths = [value for name, value in headers if name.lower() == "content-length"]
            length = (lengths or ["0"])[0] if self.command == "HEAD" else str(len(body))
            if status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
            if fault == "cut":
                self.close_connection = True

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    faults.endpoint = f"http://127.0.0.1:{proxy.server_address[1]}"
    try:
        yield faults
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()

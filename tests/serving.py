"""Real versions to show, the service on a port, and a plain client of it."""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import http.client
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packer
from packer.cli import builtin_registry
from packer.cli.builtin_registry import RegistryConfig
from packer.serve.finding import open_place
from packer.serve.places import Place
from packer.serve.running import Listening, serve

END_SECONDS = 60
"""Time in which a service has to end; it takes 5 seconds where a client holds it up."""
HOSTILE = "<img src=x onerror=alert(1)>.html"
ODD = b"odd-\xff\xe2\x80\xae.txt"
"""A name with a byte that is no UTF-8, and a character that turns the direction of text."""

CONFIGS = (
    RegistryConfig(),
    RegistryConfig(host="registry.example", size="50Gi"),
    RegistryConfig(storage="s3", bucket="acme", host="registry.example", replicas=3),
    RegistryConfig(storage="s3", bucket="acme", host="registry.example", replicas=5),
)
"""The manifests that this package ships, in versions as a site would keep them."""


def chart(files: dict[str, str], number: int) -> bytes:
    """Return a chart's archive, as helm packs one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        listed = {"registry/Chart.yaml": f"apiVersion: v2\nname: registry\nversion: 0.{number}.0\n"}
        listed |= {f"registry/templates/{name}": text for name, text in files.items()}
        for name, text in sorted(listed.items()):
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0)


def make_tree(root: Path, number: int) -> Path:
    """Write version `number`, from 0, of an application: manifests, a chart, and odd names."""
    files = builtin_registry.files(CONFIGS[number], "kubernetes")
    for name, text in files.items():
        path = root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    flat = {name.replace("/", "-"): text for name, text in files.items()}
    (root / "registry-chart.tgz").write_bytes(chart(flat, number))
    (root / HOSTILE).write_text("<h1>shown as text</h1>\n")
    with open(bytes(root) + b"/" + ODD, "w") as file:
        file.write("odd\n")
    (root / "picture.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>')
    (root / "data.bin").write_bytes(bytes(range(256)) * 40)
    (root / "README.txt").write_text(f"Version {number}\n" + "line\n" * 40)
    return root


def make_store(folder: Path) -> Path:
    """Pack all versions of the application, and one of another."""
    store = folder / "store"
    for number in range(len(CONFIGS)):
        tree = make_tree(folder / f"v{number}", number)
        packer.pack(tree, tag=f"registry:1.{number}", store=store)
    packer.pack(folder / "v0" / "manifests", tag="acme/manifests:1", store=store)
    return store


@dataclass
class Answer:
    """An answer of the service.

    Args:
        status: of HTTP.
        headers: by their names in lower case.
        body: all of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Client:
    """Asks a service.

    Args:
        port: where it listens on loopback.
    """

    port: int

    @property
    def url(self) -> str:
        """Its address, with a slash at the end."""
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path with its query; an underscore in a header's name is a dash."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, "/" + path, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())


@contextlib.contextmanager
def run_service(
    what: Place | Path | str, listening: Listening | None = None, **options: Any
) -> Iterator[Client]:
    """Serve a place, or what `open_place` makes of a text, on a free port of loopback."""
    text = str(what) if isinstance(what, Path) else what
    place = open_place(text, **options) if isinstance(text, str) else text
    ready = threading.Event()
    urls: list[str] = []
    ends: list[Callable[[], None]] = []

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(
        target=serve,
        args=(place, listening or Listening()),
        kwargs={"on_ready": on_ready, "stops": (ends.append,)},
        daemon=True,  # a service that does not end fails its test, and holds up no process
    )
    thread.start()
    try:
        assert ready.wait(30)
        yield Client(int(urls[0].rstrip("/").rpartition(":")[2]))
    finally:
        for end in ends:
            end()
        thread.join(END_SECONDS)
        if thread.is_alive():
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError("the service did not end")

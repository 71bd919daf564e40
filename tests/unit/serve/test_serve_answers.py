"""What the service answers: pages, JSON, files, and what it refuses."""

from __future__ import annotations

import base64
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest

import packer
from packer.errors import InvalidParameter
from packer.serve.guard import POLICY
from packer.serve.running import Listening
from tests.serving import HOSTILE, ODD, Client, run_service

APP = "app=registry"
NEW = f"{APP}&version=registry:1.3"
PAIR = f"{APP}&old=registry:1.1&new=registry:1.2"


class Links(HTMLParser):
    """Gathers links and addresses of a page, and what a policy would stop."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src"):
                self.found.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
        if tag == "style" or (tag == "script" and not dict(attrs).get("src")):
            self.inline.append(tag)


def links(html: str) -> Links:
    parser = Links()
    parser.feed(html)
    return parser


def test_every_page_that_is_linked_is_there(client: Client) -> None:
    # Walks from the first page; hostile names and odd bytes are in the tree.
    todo = ["apps"]
    seen: set[str] = set()
    while todo:
        path = todo.pop()
        answer = client.get(path)
        assert answer.status in (200, 302), path
        assert answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        if path.startswith("raw?"):
            continue
        found = links(answer.text)
        assert not found.inline, path
        for link in found.found:
            assert "://" not in link, f"{path} asks another host"
            parts = urlsplit(urljoin("/" + path, link))
            target = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
            if target not in seen and len(seen) < 400:
                seen.add(target)
                todo.append(target)
    kinds = {target.partition("?")[0] for target in seen}
    assert kinds >= {"apps", "history", "version", "tree", "file", "diff", "layers", "raw"}
    assert any("!/" in target for target in seen), "the inside of an archive is linked"


def test_names_are_shown_and_never_run(client: Client) -> None:
    html = client.get(f"tree?{NEW}").text
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.html" in html
    assert "odd-\\xff\\u202e.txt" in html, "bytes and turning characters are escaped"
    file = client.get(f"file?{NEW}&path={quote(HOSTILE)}")
    assert "&lt;h1&gt;shown as text&lt;/h1&gt;" in file.text


def test_odd_names_lead_to_their_files(client: Client) -> None:
    answer = client.get(f"raw?{NEW}&path={quote(ODD)}")
    assert (answer.status, answer.body) == (200, b"odd\n")
    (row,) = [row for row in client.get(f"api/tree?{NEW}").json["entries"] if "odd" in row["name"]]
    assert base64.b64decode(row["name_base64"]) == ODD


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        (HOSTILE, "text/html; charset=utf-8", "attachment"),
        ("picture.svg", "image/svg+xml", "attachment"),
        ("README.txt", "text/plain; charset=utf-8", "inline"),
        ("registry-chart.tgz", "application/gzip", "attachment"),
        ("data.bin", "application/octet-stream", "attachment"),
        ("manifests/base/service.yaml", "application/yaml", "attachment"),
    ],
)
def test_files_have_their_types_and_are_not_run(
    client: Client, shown: Path, name: str, kind: str, how: str
) -> None:
    answer = client.get(f"raw?{NEW}&path={quote(name)}")
    assert answer.body == (shown / "v3" / name).read_bytes()
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"].startswith(how + ";")
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    saved = client.get(f"raw?{NEW}&path={quote(name)}&download=1")
    assert saved.headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-9", 206, 0, 9),
        ("bytes=100-", 206, 100, 10239),
        ("bytes=-5", 206, 10235, 10239),
        ("bytes=10000-99999", 206, 10000, 10239),
        ("bytes=10240-", 416, 0, -1),
        ("bytes=-0", 416, 0, -1),
        ("bytes=5-2", 200, 0, 10239),
        ("bytes=0-1,5-6", 200, 0, 10239),
        ("lines=1-2", 200, 0, 10239),
    ],
)
def test_ranges(client: Client, asked: str, status: int, first: int, last: int) -> None:
    path = f"raw?{NEW}&path=data.bin"
    whole = bytes(range(256)) * 40
    answer = client.get(path, range=asked)
    assert answer.status == status
    assert answer.body == whole[first : last + 1]
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert client.get(path, range=asked, if_range='"other"').body == whole
    tag = client.get(path).headers["etag"]
    assert client.get(path, if_none_match=tag).status == 304
    head = client.get(path, "HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(whole)))


def test_files_in_archives(client: Client, shown: Path) -> None:
    inside = quote("registry-chart.tgz!/registry/templates/base-service.yaml")
    answer = client.get(f"raw?{NEW}&path={inside}")
    assert answer.body == (shown / "v3/manifests/base/service.yaml").read_bytes()
    assert client.get(f"raw?{NEW}&path=registry-chart.tgz!/registry/none").status == 404
    listed = client.get(f"api/tree?{NEW}&path=registry-chart.tgz!/registry").json["entries"]
    assert [(row["name"], row["kind"]) for row in listed] == [
        ("templates", "directory"),
        ("Chart.yaml", "file"),
    ]


def test_what_changed_is_what_the_library_says(client: Client, shown: Path) -> None:
    store = shown / "store"
    names = "registry:1.1", "registry:1.2"
    told = client.get(f"api/changes?{PAIR}").json
    found = packer.diff(*names, store=store)
    assert [(it["path"], it["change"]) for it in told["changes"]] == [
        (change.path, change.change) for change in found
    ]
    assert told["totals"]["new_bytes"] == sum(change.new_chunk_bytes for change in found)
    patches = client.get(f"api/patches?{PAIR}&limit=50").json
    expected = [patch.path for patch in packer.patches(*names, store=store)]
    assert [patch["path"] for patch in patches["patches"]] == expected
    chart = [it for it in patches["patches"] if "!/registry/Chart.yaml" in it["path"]]
    lines = [line["mark"] + line["text"] for line in chart[0]["hunks"][0]["lines"]]
    assert "-version: 0.1.0\n" in lines
    assert "+version: 0.2.0\n" in lines
    for layout in ("unified", "split"):
        html = client.get(f"diff?{PAIR}&layout={layout}&limit=50").text
        assert "version: 0.1.0" in html
        assert "version: 0.2.0" in html


def test_history_and_layers(client: Client, shown: Path) -> None:
    rows = client.get(f"api/history?{APP}").json["versions"]
    listed = packer.versions(store=shown / "store")
    assert [row["version"] for row in rows] == [f"registry:1.{n}" for n in (3, 2, 1, 0)]
    stored = {it.tag: it.stored_bytes for it in listed}
    assert all(row["stored_bytes"] == stored[row["version"]] for row in rows)
    # Of a page, too, each version is held against the one before it, which is not on the page.
    page = client.get(f"api/history?{APP}&offset=1&limit=2").json["versions"]
    assert page == rows[1:3]
    assert 0 < page[0]["added_bytes"] < page[0]["stored_bytes"]
    layers = client.get(f"api/layers?{APP}").json
    assert layers["versions"] == [f"registry:1.{n}" for n in range(4)]
    details = packer.inspect("registry:1.2", store=shown / "store")
    assert [it["digest"] for it in layers["layers"] if 2 in it["versions"]] == [
        layer.digest for layer in details.layers
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("api/history", 400),
        ("api/history?app=", 400),
        ("api/history?app=nothing", 404),
        (f"api/history?{APP}&limit=0", 400),
        (f"api/history?{APP}&limit=201", 400),
        (f"api/history?{APP}&offset=-1", 400),
        (f"api/version?{APP}&version=registry:9", 404),
        (f"api/version?{APP}&version=registry.example/acme/app:1", 404),
        (f"api/version?{APP}&version=acme/manifests:1", 404),
        (f"api/tree?{NEW}&path=none", 404),
        (f"api/tree?{NEW}&path=../../etc", 404),
        (f"api/tree?{NEW}&path=data.bin!/", 400),
        (f"api/text?{NEW}&path=manifests", 400),
        (f"api/space?{NEW}&by=none", 400),
        (f"raw?{NEW}&path=manifests", 400),
        (f"raw?{NEW}&path=%00", 400),
        ("api/none", 404),
        ("static/../application.py", 404),
        ("api/apps?" + "x" * 20_000, 400),
    ],
)
def test_what_is_wrong_is_refused(client: Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status == status
    if path.startswith("api/") and status != 404:
        assert answer.json["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_is_written(client: Client, method: str) -> None:
    answer = client.get("apps", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:80", 302),
        ("localhost", 302),
        ("LOCALHOST:8321", 302),
        ("[::1]:1", 302),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("evil@localhost", 421),
        ("localhost/x", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_names_bound_anew_are_refused(tmp_path: Path, host: str, status: int) -> None:
    packer.pack(Path(__file__), tag="one:1", store=tmp_path)
    with run_service(tmp_path) as client:
        assert client.get("", host=host).status == status
        assert client.get("healthz", host="10.0.0.7:8321").text == "ok\n"


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    token = "correct horse battery staple"
    packer.pack(Path(__file__), tag="one:1", store=tmp_path)
    listening = Listening(token=token, allowed_hosts=("page.example",))
    with run_service(tmp_path, listening) as client:
        refused = client.get("apps")
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert refused.headers["content-security-policy"] == POLICY
        for path in ("metrics", "openapi.json", "api/apps", "static/app.css", "nothing"):
            assert client.get(path).status == 401
        assert client.get("healthz").status == 200
        basic = base64.b64encode(f"anybody:{token}".encode()).decode()
        for given in (f"Bearer {token}", f"bearer  {token}", f"Basic {basic}"):
            assert client.get("apps", authorization=given, host="page.example").status == 200
        for given in (
            "Bearer x",
            "Bearer",
            "Basic x",
            "Basic !",
            f"Digest {token}",
            f"Basic {token}",
        ):
            assert client.get("apps", authorization=given).status == 401


def test_strangers_need_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "page.example"):
        with pytest.raises(InvalidParameter, match="token"):
            Listening(host=host)
    with pytest.raises(InvalidParameter, match="16"):
        Listening(token="short")
    assert Listening(host="::1").hosts >= {"localhost", "::1"}
    assert not Listening(host="0.0.0.0", token="x" * 16).hosts
    named = Listening(host="0.0.0.0", token="x" * 16, allowed_hosts=("page.example",))
    assert "page.example" in named.hosts


def test_metrics_count_what_was_answered(tmp_path: Path) -> None:
    packer.pack(Path(__file__), tag="one:1", store=tmp_path)
    with run_service(tmp_path) as client:
        size = Path(__file__).stat().st_size
        name = quote(os.path.basename(__file__))
        assert client.get(f"raw?app=one&version=one:1&path={name}").status == 200
        client.get("api/version?app=one&version=one:2")
        for _ in range(500):  # an answer ends a moment after its last byte was sent
            text = client.get("metrics").text
            values = dict(re.findall(r"^(layer_packer_\S+) (\S+)$", text, re.M))
            if values["layer_packer_serve_requests_running"] == "0.0":
                break
            time.sleep(0.01)
    assert float(values["layer_packer_serve_sent_bytes_total"]) == size
    assert values['layer_packer_serve_requests_total{page="raw",status="200"}'] == "1.0"
    assert values['layer_packer_serve_requests_total{page="api-version",status="404"}'] == "1.0"
    assert values["layer_packer_serve_versions_opened_total"] == "1.0"
    assert values["layer_packer_serve_requests_running"] == "0.0"

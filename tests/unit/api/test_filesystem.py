"""Versions through fsspec."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest

import packer
from packer.api.filesystem import LayerPackerFileSystem, split_path
from packer.errors import InvalidReference
from tests.registry_server import counting_proxy, run_registry


@pytest.fixture
def base(tmp_path: Path) -> str:
    root = tmp_path / "v"
    (root / "charts/app").mkdir(parents=True)
    (root / "charts/app/values.yaml").write_text("replicas: 3\n" * 1000)
    (root / "charts/app/Chart.yaml").write_text("name: app\n")
    (root / "top.yaml").write_text("top: true\n")
    (root / "link").symlink_to("top.yaml")
    (root / "empty").mkdir()
    base = f"oci:{tmp_path / 'base'}"
    packer.open_storage(base).save("app", root)
    return f"{base}/app:0"


def test_walking_and_reading(base: str) -> None:
    fs = fsspec.filesystem("layerpacker", skip_instance_cache=True)
    assert isinstance(fs, LayerPackerFileSystem)
    root = f"layerpacker://{base}"
    assert sorted(fs.ls(root, detail=False)) == [
        f"{base}/{name}" for name in ("charts", "empty", "link", "top.yaml")
    ]
    assert fs.ls(f"{root}/empty") == []
    assert fs.ls(f"{root}/top.yaml")[0]["size"] == 10
    assert fs.info(f"{root}/charts")["type"] == "directory"
    assert fs.info(root)["type"] == "directory"
    link = fs.info(f"{root}/link")
    assert (link["type"], link["destination"]) == ("link", "top.yaml")
    assert fs.glob(f"{root}/**/*.yaml") == [
        f"{base}/charts/app/Chart.yaml", f"{base}/charts/app/values.yaml", f"{base}/top.yaml",
    ]  # fmt: skip
    walked = [(where, sorted(folders), sorted(files)) for where, folders, files in fs.walk(root)]
    assert (f"{base}/charts/app", [], ["Chart.yaml", "values.yaml"]) in walked
    assert fs.cat_file(f"{root}/charts/app/values.yaml", 9, 24) == b" 3\nreplicas: 3\n"[:15]
    with fs.open(f"{root}/top.yaml") as file:
        assert file.cost.read_bytes == 0
        assert file.read() == b"top: true\n"
        assert file.cost.read_bytes > 0
    assert fs.exists(f"{root}/top.yaml")
    assert not fs.exists(f"{root}/nothing")
    assert fs.du(root) == 12_020


def test_open_in_text(base: str, tmp_path: Path) -> None:
    with fsspec.open(f"layerpacker://{base}/charts/app/Chart.yaml", "rt") as file:
        assert file.read() == "name: app\n"
    fs = fsspec.filesystem("layerpacker")
    fs.get(f"layerpacker://{base}/charts/", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got/app/Chart.yaml").read_text() == "name: app\n"


def test_what_cannot_be_opened(base: str) -> None:
    fs = fsspec.filesystem("layerpacker", skip_instance_cache=True)
    for path in (f"{base}/nothing", f"{base}/top.yaml/x", base.replace(":0", ":7") + "/x"):
        with pytest.raises(FileNotFoundError):
            fs.open(path)
        with pytest.raises(FileNotFoundError):
            fs.ls(path)
    with pytest.raises(IsADirectoryError):
        fs.open(f"{base}/charts")
    with pytest.raises(OSError, match="not followed"):
        fs.open(f"{base}/link")
    with pytest.raises(OSError) as refused:
        fs.open(f"{base}/new", "wb")
    assert refused.value.errno == errno.EROFS


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("localhost:5000/org/app:7/a/b.yaml", ("localhost:5000/org/app:7", "a/b.yaml")),
        ("h.example/app:7", ("h.example/app:7", "")),
        ("h.example/app:7/a:b/c@d", ("h.example/app:7", "a:b/c@d")),
        ("h.example/app@sha256:ab/x", ("h.example/app@sha256:ab", "x")),
        ("oci:/var/app:7/x", ("oci:/var/app:7", "x")),
        ("oci:app:7/x/y", ("oci:app:7", "x/y")),
    ],
)
def test_paths_are_split_at_the_version(path: str, parts: tuple[str, str]) -> None:
    assert split_path(path) == parts


@pytest.mark.parametrize("path", ["", "h.example/app/x", "localhost:5000/app", "oci:/var/app"])
def test_paths_without_a_version_are_refused(path: str) -> None:
    with pytest.raises(InvalidReference):
        split_path(path)


def test_the_package_does_not_import_fsspec() -> None:
    program = "import sys, packer, packer.cli; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.registry
def test_few_requests_and_many_threads(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    root = tmp_path / "v"
    root.mkdir()
    for number in range(100):
        (root / f"{number}.yaml").write_text(f"number: {number}\n" * 50)
    with run_registry(folder) as server, counting_proxy(server.port) as proxy:
        packer.open_storage(f"docker://{proxy.host}/org/base").save("app", root)
        fs = fsspec.filesystem("layerpacker", plain_http=True, skip_instance_cache=True)
        where = f"layerpacker://{proxy.host}/org/base/app:0"
        proxy.clear()
        assert len(fs.find(where)) == 100
        assert proxy.count() == 3  # manifest, config, index
        assert fs.cat_file(f"{where}/42.yaml") == b"number: 42\n" * 50
        assert proxy.count() == 4  # and one frame
        wrong: list[int] = []

        def read(first: int) -> None:
            for number in range(first, 100, 4):
                if fs.cat_file(f"{where}/{number}.yaml") != f"number: {number}\n".encode() * 50:
                    wrong.append(number)

        threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

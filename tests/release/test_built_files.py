"""The built files do the main job where there is no compiler, no Python, or another processor."""

from __future__ import annotations

import filecmp
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry_server import run_registry

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def pythons() -> dict[str, str]:
    """Return the interpreters at hand by version: those of the path, and those of pyenv."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for version in PYTHONS:
        built = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"))
        for path in (shutil.which(f"python{version}"), *map(str, built)):
            if path and version not in found and works(path, version):
                found[version] = path
    return dict(sorted(found.items()))


def works(path: str, version: str) -> bool:
    """Return whether a program is a Python of this version: pyenv's shims may be none."""
    asked = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    return said.stdout.strip() == version


def make_trees(folder: Path) -> tuple[Path, Path]:
    """Make two versions of a tree."""
    old, new = folder / "app-1", folder / "app-2"
    shutil.copytree(ROOT / "docs", old)
    shutil.copytree(old, new)
    (new / "index.md").write_text("changed\n")
    return old, new


def do_the_job(command: list[str], folder: Path, environment: dict[str, str], seen: str) -> None:
    """Pack two versions, push and pull them, and compare.

    Args:
        command: how layer-packer is called.
        folder: an empty directory for everything.
        environment: of the command.
        seen: the folder as the command sees it.
    """

    def call(*words: str) -> None:
        # Not in the checkout, whose packer would hide the installed one.
        done = subprocess.run(
            [*command, *words],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    for number, tree in enumerate(make_trees(folder), 1):
        call("pack", f"{seen}/{tree.name}", "--tag", f"app:{number}", "--store", f"{seen}/store")
        where = f"oci:{seen}/registry:{number}"
        call("push", where, "--from", f"app:{number}", "--store", f"{seen}/store")
        call("pull", where, f"{seen}/out-{number}", "--store", f"{seen}/elsewhere")
        compared = filecmp.dircmp(tree, folder / f"out-{number}")
        assert compared.left_list == compared.right_list
        assert not compared.diff_files
        assert compared.same_files
    shutil.rmtree(folder / "store")


PRIVATE_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgiPJExCaN4t9rMDG8
SCfjQskwmawcoJvDl2IVkJCHOuShRANCAAQlzzDfYIO1BeTATMJuqXjpS2rv0RTZ
XFRY+Ae5R3D2VC42gI/2RCdyXiMJF0/xBPSjfYv6NXR67Rz70lWqclS/
-----END PRIVATE KEY-----
"""
PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJc8w32CDtQXkwEzCbql46Utq79EU
2VxUWPgHuUdw9lQuNoCP9kQncl4jCRdP8QT0o32L+jV0eu0c+9JVqnJUvw==
-----END PUBLIC KEY-----
"""
NOT_SIGNED = 12
"""Exit code: the version is not signed as asked."""


def check_signatures(
    command: list[str], folder: Path, environment: dict[str, str], seen: str
) -> None:
    """Sign a version and restore it; arguments as for `do_the_job`."""
    app = folder / "signed"
    app.mkdir()
    (app / "file").write_text("content\n")
    (folder / "key.pem").write_text(PRIVATE_KEY)
    (folder / "key.pub").write_text(PUBLIC_KEY)

    def call(*words: str) -> int:
        done = subprocess.run(
            [*command, *words, "--store", f"{seen}/signatures"],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, done.stderr)
        return done.returncode

    assert call("pack", f"{seen}/signed", "--tag", "signed:1") == 0
    unpack = ("unpack", "signed:1", f"{seen}/restored", "--verify-key", f"{seen}/key.pub")
    assert call(*unpack) == NOT_SIGNED
    assert call("sign", "signed:1", "--key", f"{seen}/key.pem") == 0
    assert call(*unpack) == 0
    assert (folder / "restored" / "file").read_text() == "content\n"


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the least CPU time of five runs, after one that may unpack."""
    found = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found[1:])


def find_chroot() -> str:
    """Return the path of chroot, which is not in everybody's path."""
    chroot = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin")
    assert chroot is not None
    return chroot


def machine_tag() -> str:
    """Return the end of a wheel's name for this machine, without its version of the system."""
    return f"linux*_{platform.machine()}" if sys.platform == "linux" else f"*_{platform.machine()}"


@pytest.mark.slow
@pytest.mark.parametrize("version", pythons())
def test_install_without_a_compiler(version: str, dist: Path, tmp_path: Path) -> None:
    # Every dependency has a wheel too: a source distribution among them would need a compiler.
    (wheel,) = dist.glob(f"*-many{machine_tag()}.whl" if sys.platform == "linux" else "*macosx*")
    began = time.monotonic()
    subprocess.run([pythons()[version], "-m", "venv", tmp_path / "env"], check=True)
    binaries = tmp_path / "env" / "bin"
    # An empty path: no compiler can be found, whatever the machine has.
    environment = {**os.environ, "PATH": str(binaries), "CC": "/nonexistent", "PYTHONPATH": ""}
    pip = [f"{binaries}/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], env=environment, check=True, timeout=250)
    size = sum(path.stat().st_size for path in (tmp_path / "env").rglob("*") if path.is_file())
    print(f"Python {version}: {time.monotonic() - began:.1f} s, {size / 1e6:.0f} MB installed")
    folder = tmp_path / "job"
    folder.mkdir()
    do_the_job([str(binaries / "layer-packer")], folder, environment, str(folder))


@pytest.mark.slow
def test_extras_need_no_compiler(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob(f"*-many{machine_tag()}.whl" if sys.platform == "linux" else "*macosx*")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    binaries = tmp_path / "env" / "bin"
    environment = {**os.environ, "PATH": str(binaries), "CC": "/nonexistent", "PYTHONPATH": ""}
    pip = [f"{binaries}/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    extras = f"{wheel}[fsspec,s3,serve,sigstore,verify]"
    subprocess.run([*pip, "--only-binary=:all:", extras], env=environment, check=True, timeout=250)
    command, folder = [str(binaries / "layer-packer")], tmp_path / "job"
    folder.mkdir()
    check_signatures(command, folder, environment, str(folder))
    # The page is made from files of the package.
    report = ["report", "signed:1", "--output", "page.html", "--store", "signatures"]
    subprocess.run([*command, *report], env=environment, cwd=folder, check=True)
    assert "</html>" in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("version", pythons())
def test_the_one_file_runs(version: str, dist: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the .pyz is for Linux")
    command = [pythons()[version], str(dist / "layer-packer.pyz")]
    environment = {"HOME": str(tmp_path / "home"), "PATH": ""}
    folder = tmp_path / "job"
    folder.mkdir()
    do_the_job(command, folder, environment, str(folder))
    check_signatures(command, folder, environment, str(folder))
    print(f"Python {version}: starts in {cpu_seconds([*command, '--version'], environment):.2f} s")
    (unpacked,) = (tmp_path / "home" / ".cache" / "layer-packer-pyz").iterdir()
    assert unpacked.name.endswith(f"-cp{version.replace('.', '')}-{platform.machine()}")


@pytest.mark.slow
def test_the_one_file_where_nothing_can_be_kept(dist: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the .pyz is for Linux")
    # The home is a file: no cache can be made. The modules are unpacked for this run alone.
    (tmp_path / "home").touch()
    (tmp_path / "tmp").mkdir()
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PATH": ""}
    command = [sys.executable, str(dist / "layer-packer.pyz"), "--version"]
    subprocess.run(command, env=environment, check=True)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.fixture
def bare_root(dist: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a root with the frozen program and the C library alone: no Python, no shell."""
    program = dist / f"layer-packer-linux-{platform.machine()}"
    if not program.exists() or os.geteuid() != 0:
        pytest.skip("chroot needs root, and the frozen program")
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    root = tmp_path / "root"
    (root / "tmp").mkdir(parents=True)
    (root / "data").mkdir()
    for word in said.split():
        if word.startswith("/"):
            (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, root / word[1:])
    libraries = next(root.rglob("libc.so.6")).parent
    shutil.copy(f"/{libraries.relative_to(root)}/libm.so.6", libraries)
    shutil.copy(program, root / "layer-packer")
    yield root
    assert not list((root / "tmp").iterdir()), "what the program unpacked is left behind"


@pytest.mark.slow
def test_the_frozen_program_needs_no_python(bare_root: Path) -> None:
    files = [path for path in bare_root.rglob("*") if path.is_file()]
    assert len(files) < 10
    command = [find_chroot(), str(bare_root), "/layer-packer"]
    environment = {"HOME": "/data", "TMPDIR": "/tmp"}
    print(f"starts in {cpu_seconds([*command, '--version'], environment):.2f} s")
    do_the_job(command, bare_root / "data", environment, "/data")
    check_signatures(command, bare_root / "data", environment, "/data")
    # What is not in it is named.
    report = [*command, "report", "app:1", "--output", "/data/page.html"]
    said = subprocess.run(report, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "pip install 'layer-packer[serve]'" in said.stderr


@pytest.mark.slow
def test_frozen_helpers_get_no_libraries_of_ours(dist: Path, tmp_path: Path) -> None:
    # PyInstaller points LD_LIBRARY_PATH to its own libssl, on which a helper may fail.
    program = dist / f"layer-packer-linux-{platform.machine()}"
    if not program.exists():
        pytest.skip("there is no frozen program for this machine")
    helper = tmp_path / "docker-credential-probe"
    helper.write_text(f'#!/bin/sh\nenv > {tmp_path}/seen\necho "credentials not found"\nexit 1\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "probe"}')
    environment = {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}
    environment["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry", htpasswd=True) as server:
        call = [str(program), "ls", f"{server.host}/a/b:1"]
        subprocess.run(call, env=environment, capture_output=True, check=False)
    assert "LD_LIBRARY_PATH" not in (tmp_path / "seen").read_text()


IN_THE_IMAGE = """\
root=$1 data=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount --bind "$data" "$root/mnt"
cd / && exec "$0" --userspec=1000:1000 "$root" "$@"
"""
"""Runs a program in a root as Kubernetes would: read-only, not as root, with a volume."""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first run makes a root of Debian
def test_the_image(dist: Path, tmp_path: Path) -> None:
    bootstrap, buildah = shutil.which("mmdebstrap"), shutil.which("buildah")
    if not bootstrap or not buildah or os.geteuid() != 0:
        pytest.skip("needs buildah, mmdebstrap and root")
    # Debian's Python in place of the image that the Containerfile names, which a registry has.
    base = Path("~/.cache/layer-packer-image-base.tar").expanduser()
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        made = [bootstrap, "--mode=root", "--variant=minbase", "--quiet"]
        made += ["--include=python3,python3-venv,python3-pip", "bookworm", f"{base}.part.tar"]
        subprocess.run(made, check=True)
        Path(f"{base}.part.tar").rename(base)
    context = tmp_path / "context"
    shutil.copytree(ROOT / "examples" / "ci", context / "examples" / "ci")
    (context / "dist").mkdir()
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    download += ["--only-binary=:all:", "--python-version=3.11", f"--find-links={dist}"]
    download += [f"--dest={context / 'dist'}", "layer-packer[serve,verify]"]
    subprocess.run(download, check=True)
    store = [f"--root={tmp_path / 'images'}", f"--runroot={tmp_path / 'running'}"]

    def call(verb: str, *words: str | Path) -> str:
        command = [buildah, *store, verb, *map(str, words)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    empty = call("from", "scratch")
    call("add", "--quiet", empty, base, "/")
    call("commit", "--quiet", empty, "base")
    arguments = ("--build-arg=BASE=localhost/base", "--build-arg=PIP_NO_INDEX=1")
    build = ("--isolation=chroot", *arguments, "--tag=image", f"--file={ROOT / 'Containerfile'}")
    call("build", "--quiet", *build, context)
    running = call("from", "localhost/image")
    root = call("mount", running)
    try:
        config = json.loads(call("inspect", running))["OCIv1"]["config"]
        assert config["User"] == "1000:1000"
        folder = tmp_path / "job"
        folder.mkdir()
        os.chown(folder, 1000, 1000)
        entered = [
            "unshare",
            "--mount",
            "sh",
            "-ec",
            IN_THE_IMAGE,
            find_chroot(),
            root,
            str(folder),
        ]
        given = dict(word.split("=", 1) for word in config["Env"])
        do_the_job([*entered, *config["Entrypoint"]], folder, given, "/mnt")
        # CI calls this one.
        said = subprocess.check_output([*entered, "layer-packer-publish", "--help"], env=given)
        assert b"publish SOURCE REFERENCE" in said
        size = sum(path.lstat().st_size for path in Path(root, "opt").rglob("*"))
        print(f"the image adds {size / 1e6:.0f} MB to its base")
    finally:
        call("umount", "--all")
        call("rm", "--all")
        call("rmi", "--all")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first run makes a root of Debian
def test_aarch64_under_emulation(dist: Path, tmp_path: Path) -> None:
    # The wheel for aarch64 packs and unpacks on Debian's Python for arm64, with the vector kernel.
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    bootstrap = shutil.which("mmdebstrap")
    if not qemu or not bootstrap or os.geteuid() != 0:
        pytest.skip("needs qemu-aarch64, mmdebstrap and root")
    root = Path("~/.cache/layer-packer-arm64").expanduser()
    if not (root / "usr" / "bin" / "python3").exists():
        shutil.rmtree(root, ignore_errors=True)
        made = [bootstrap, "--mode=root", "--arch=arm64", "--variant=extract", "--quiet"]
        subprocess.run([*made, "--include=python3", "bookworm", root], check=True)
    (wheel,) = dist.glob("*-manylinux*_aarch64.whl")
    venv.create(tmp_path / "env", with_pip=True)
    subprocess.run(
        [
            *(tmp_path / "env" / "bin" / "python", "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--target", tmp_path / "site"),
            *("--python-version", "3.11", "--only-binary=:all:"),
            *(f"--platform={name}_aarch64" for name in ("manylinux_2_17", "manylinux_2_28")),
            *("--platform=manylinux2014_aarch64", wheel),
        ],
        check=True,
    )
    command = [qemu, "-L", str(root), str(root / "usr" / "bin" / "python3.11")]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)}
    folder = tmp_path / "job"
    folder.mkdir()
    do_the_job([*command, "-m", "packer"], folder, environment, str(folder))
    asked = "from packer.engine.native import ffi, lib; import platform; print("
    asked += "platform.machine(), ffi.string(lib.pk_kernel_name(lib.pk_kernel_default())).decode())"
    said = subprocess.check_output([*command, "-c", asked], env=environment, cwd=folder, text=True)
    assert said.split() == ["aarch64", "neon"]

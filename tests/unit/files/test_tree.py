"""Walking a directory, and the check of a stranger's paths."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from packer.errors import UnsafePath, UnsupportedFile
from packer.files.tree import DIRECTORY, FILE, SYMLINK, Found, check_paths, identity_of, walk


def expected(root: bytes) -> list[Found]:
    """What `walk` must find, by os.walk and a sort."""
    out = []
    for base, names, files in os.walk(root):
        for name in names + files:
            full = os.path.join(base, name)
            path, info = os.path.relpath(full, root), os.lstat(full)
            nothing = (0, 0, 0, 0, 0)
            if os.path.islink(full):
                out.append(Found(path, SYMLINK, 0o777, 0, nothing, os.readlink(full)))
            elif os.path.isdir(full):
                out.append(Found(path, DIRECTORY, info.st_mode & 0o777, 0, nothing))
            else:
                mode = info.st_mode & 0o777
                out.append(Found(path, FILE, mode, info.st_size, identity_of(info)))
    return sorted(out)


def test_any_tree_in_byte_order(tmp_path: Path) -> None:
    # Names around "/" in the order of bytes, bytes that are no UTF-8, long names.
    rng = random.Random(7)
    root = os.fsencode(tmp_path)
    directories = [b""]
    for number in range(600):
        name = bytes(rng.choices(b"a-./0\xffA \n".replace(b"/", b""), k=rng.randint(1, 5)))
        path = os.path.join(root, rng.choice(directories), name)
        if name in (b".", b"..") or os.path.lexists(path):
            continue
        if number % 4 == 0:
            os.mkdir(path, 0o700 + rng.randrange(64))
            directories.append(os.path.relpath(path, root))
        elif number % 4 == 1:
            os.symlink(b"t" * rng.randint(1, 600), path)
        else:
            with open(path, "wb") as file:
                file.write(bytes(rng.randrange(3000)))
            os.utime(path, ns=(0, rng.randrange(-(10**12), 10**18)))
    os.mkdir(os.path.join(root, b"n" * 255))
    found = walk(root)
    assert len(found) > 300
    assert list(found) == expected(root)
    assert found.paths == sorted(found.paths)
    assert found.bytes_of(0, len(found)) == sum(item.size for item in found)
    assert found[-1] == found[len(found) - 1]
    assert found[3:5] == [found[3], found[4]]


@pytest.mark.slow
def test_deep_and_wide(tmp_path: Path) -> None:
    # More entries than a batch, and more levels than the walker begins with.
    deep = os.fsencode(tmp_path) + b"/deep" + b"/d" * 200
    os.makedirs(deep)
    for number in range(9000):
        os.close(os.open(b"%s/w%d" % (os.fsencode(tmp_path), number), os.O_CREAT))
    found = walk(os.fsencode(tmp_path))
    assert len(found) == 9201
    assert list(found) == expected(os.fsencode(tmp_path))


def test_a_link_to_the_root_is_followed_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "loop").symlink_to("..")
    assert walk(os.fsencode(tmp_path / "link")).paths == [b"loop", b"sub"]
    assert walk(os.fsencode(f"{tmp_path}/link/")).paths == [b"loop", b"sub"]


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "sub" / "pipe")
    with pytest.raises(UnsupportedFile, match=r"sub/pipe.*fifo"):
        walk(os.fsencode(tmp_path))
    with pytest.raises(UnsupportedFile, match=r"pipe.*fifo"):
        walk(os.fsencode(tmp_path / "sub" / "pipe"))
    (tmp_path / "sub" / "pipe").unlink()
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # names of sockets are short
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        with pytest.raises(UnsupportedFile, match="socket"):
            walk(os.fsencode(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir(mode=0)
    with pytest.raises(PermissionError) as caught:
        walk(os.fsencode(tmp_path))
    assert caught.value.filename == str(tmp_path / "sub")


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        walk(os.fsencode(tmp_path / "none"))
    assert os.fsdecode(caught.value.filename) == str(tmp_path / "none")


def test_an_empty_directory(tmp_path: Path) -> None:
    found = walk(os.fsencode(tmp_path))
    assert list(found) == []
    assert found.paths == []


GOOD = [(b"%03d" % number, FILE) for number in range(500)]


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        ([b"/a"], "absolute"),
        ([b""], "component"),
        ([b"."], "component"),
        ([b".."], "component"),
        ([b"d", b"d/.."], "component"),
        ([b"d", b"d/"], "component"),
        ([b"a\0b"], "NUL"),
        ([b"x/y"], "parent"),
        ([b"f", b"f/x"], "parent"),
        ([b"n" * 256], "longer"),
        ([b"b", b"a"], "order"),
        ([b"b", b"b"], "order"),
        ([b"d", *[b"d" + b"/d" * n for n in range(1, 2100)]], "longer"),
    ],
)
@pytest.mark.parametrize("before", [0, 500])
def test_unsafe_paths(paths: Sequence[bytes], why: str, before: int) -> None:
    # Behind good ones too, since paths are checked many at a time.
    rows = [*GOOD[:before], *((p, DIRECTORY if p[:1] == b"d" else FILE) for p in paths)]
    with pytest.raises(UnsafePath, match=why):
        check_paths([path for path, _ in rows], [kind for _, kind in rows])


def test_batches_of_paths_follow_one_another() -> None:
    many = sorted(b"d/%05d" % number for number in range(9000))
    check_paths([b"d", *many], [DIRECTORY, *[FILE] * 9000])
    for at in (4095, 4096, 4097, 8192):
        swapped = list(many)
        swapped[at], swapped[at - 1] = swapped[at - 1], swapped[at]
        with pytest.raises(UnsafePath, match="order"):
            check_paths([b"d", *swapped], [DIRECTORY, *[FILE] * 9000])
    check_paths([], [])

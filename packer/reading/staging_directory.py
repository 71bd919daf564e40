"""The private directory in which a restore writes, and its durability.

It lies beside the target, on the same file system, so that its content gets the target's name by
renames. Its writer holds a lock on it: a process that lists the target skips a directory that is
being written, and sees one that a killed process left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from packer.files.durable import locked_directory, sync, sync_names
from packer.files.syscalls import sync_filesystem
from packer.files.tree import show

PREFIX = b".layer-packer-"
"""Begins the names of staging directories, beside the target or, if they cannot be there, in it."""


ABANDONED_SECONDS = 60
"""Age in seconds from which a directory that nobody locks counts as left by a killed process: far
above the moment between making one and locking it."""

_NAME = re.compile(re.escape(PREFIX) + rb"[0-9a-f]{16}\Z")


@contextmanager
def staging_directory(target: bytes, *, inside: bool) -> Iterator[bytes]:
    """Make a directory on the target's file system, and remove it in the end.

    Directories that killed processes of this user left there are removed first.

    Args:
        target: absolute path of the target.
        inside: whether the target exists and stays. The directory is made in it, and moved beside
            it if names can be moved between the two: not from one mount to another, nor into a
            directory that we may not change.

    Yields:
        The path of a directory with the permissions of any new directory, in a private one.

    Raises:
        OSError: it cannot be made; with the path of the target.
    """
    above, name = os.path.dirname(target), PREFIX + os.urandom(8).hex().encode()
    for folder in (above, target) if inside else (above,):
        _sweep(folder)
    private = os.path.join(target if inside else above, name)
    try:
        os.makedirs(os.path.dirname(private), exist_ok=True)
        os.mkdir(private, 0o700)
    except OSError as error:  # name the path that the user gave
        raise OSError(error.errno, error.strerror, show(target)) from None
    if inside:
        with suppress(OSError):
            os.rename(private, os.path.join(above, name))
            private = os.path.join(above, name)
    try:
        # Blocks briefly: another process tests by this lock whether the directory is being written.
        with locked_directory(private):
            path = os.path.join(private, b"tree")
            os.mkdir(path)  # not 0o700: the target will have its permissions
            yield path
    finally:
        _remove_tree(private)


def _sweep(folder: bytes) -> None:
    """Remove the staging directories in a folder that killed processes of this user left."""
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [entry.path for entry in entries if _NAME.match(entry.name)]:
            with suppress(OSError):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: bytes) -> None:
    """Remove a staging directory unless it is young, another user's, or locked by its writer."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if info.st_uid != os.geteuid() or time.time() - info.st_mtime < ABANDONED_SECONDS:
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_tree(path)
    finally:
        os.close(fd)


def _remove_tree(path: bytes) -> None:
    """Remove a directory, and directories in it that deny writing."""
    with suppress(OSError):  # a tree that got its name leaves an empty one
        os.rmdir(path)
        return
    import shutil  # 2 ms, for a restore that failed or brought a directory up to date

    for base, names, _ in os.walk(path):
        for name in names:
            full = os.path.join(base, name)
            if not os.path.islink(full):
                with suppress(OSError):  # some file systems have no permissions to set
                    os.chmod(full, 0o700)
    shutil.rmtree(path)


def check_space(path: bytes, need: int, target: bytes) -> None:
    """Check that a file system has room.

    Args:
        path: a directory on it.
        need: bytes to write.
        target: the path that the error names: the one that the user gave.

    Raises:
        OSError: fewer bytes are free.
    """
    info = os.statvfs(path)
    free = info.f_bavail * info.f_frsize
    if need > free:
        raise OSError(errno.ENOSPC, f"{need} bytes needed, {free} free", show(target))


def sync_tree(fd: int) -> None:
    """Make everything below an open directory durable, in one system call where there is one.

    Args:
        fd: of the directory.

    Raises:
        OSError: the disk failed, or a file cannot be opened.
    """
    if sync_filesystem(fd):
        return
    for _, _, names, parent in os.fwalk(b".", dir_fd=fd):
        for name in names:
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK, errno.EACCES):
                    continue  # a link, or a file that its own mode makes unreadable
                raise
            try:
                sync(file)
            finally:
                os.close(file)
        sync_names(parent)

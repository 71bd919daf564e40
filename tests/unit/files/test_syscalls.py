"""System calls that the C core makes: results and errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from packer.files.syscalls import sync_filesystem


def test_sync_filesystem(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert sync_filesystem(fd) is sys.platform.startswith("linux")
    finally:
        os.close(fd)
    if sys.platform.startswith("linux"):
        with pytest.raises(OSError, match="Bad file descriptor"):
            sync_filesystem(fd)

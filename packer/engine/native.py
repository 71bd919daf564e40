"""The compiled module: its functions (`lib`), its memory (`ffi`), and a check of its version.

Each room wraps the C functions that it needs: cut points and kernels in `engine.chunking`, system
calls in `files.syscalls`, archives in `opening`, sketches in `packing.similar`.
"""

from __future__ import annotations

from packer._version import VERSION
from packer.engine._native import ffi as ffi
from packer.engine._native import lib as lib

uncleared = ffi.new_allocator(should_clear_after_alloc=False)
"""As `ffi.new`, for memory that is written before it is read."""

_COMPILED: str = ffi.string(lib.pk_version()).decode()

if _COMPILED != VERSION:
    raise ImportError(
        f"the compiled module is of version {_COMPILED}, "
        f"the Python files are of {VERSION}: install the package again"
    )

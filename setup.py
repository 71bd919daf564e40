"""Builds the C extension and names its wheel; everything else is in pyproject.toml."""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

NO_COMPILER = """\
layer-packer is built from source here, which needs a C compiler, and none works.
Install one (Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora, RHEL: dnf install gcc;
Alpine: apk add gcc musl-dev; macOS: xcode-select --install), or name yours in the variable CC."""
NO_HEADERS = """\
layer-packer is built from source here, which needs the header files of Python, and there are none.
Install them (Debian, Ubuntu: apt-get install python3-dev; Fedora, RHEL: dnf install python3-devel;
Alpine: apk add python3-dev)."""
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Whether the extension uses the stable ABI, so that one wheel serves Python 3.10 and later.
Without the GIL there is no such ABI below 3.15: each Python needs a wheel of its own."""


class BuildExtension(build_ext):
    """Says what to install if the compiler or the header files of Python are missing."""

    def build_extensions(self) -> None:
        """Build as setuptools does; look for the reason only when that fails."""
        try:
            super().build_extensions()
        except (CCompilerError, CompileError, ExecError, PlatformError):
            if not self._compiles("int answer(void) { return 42; }\n"):
                raise PlatformError(NO_COMPILER) from None
            if not self._compiles("#include <Python.h>\n"):
                raise PlatformError(NO_HEADERS) from None
            raise

    def _compiles(self, code: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("#include <stddef.h>\n" + code, encoding="ascii")
            try:
                self.compiler.compile([str(source)], folder, include_dirs=self.include_dirs)
            except (CCompilerError, CompileError, ExecError, PlatformError):
                return False
        return True


setup(
    cffi_modules=["csrc/ffi_build.py:ffi"],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if HAS_GIL else {},
)

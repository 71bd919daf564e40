"""The one place that holds the package's version; pyproject.toml and csrc/ffi_build.py read it."""

VERSION = "0.1.0"

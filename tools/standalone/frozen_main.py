"""Where the frozen program starts; PyInstaller follows the imports from here."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

# The bootloader names its unpacked libraries here. Programs that we start (credential helpers) must
# not be given them.
_before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
os.environ.pop("LD_LIBRARY_PATH", None)
if _before is not None:
    os.environ["LD_LIBRARY_PATH"] = _before

from packer.cli.main import command  # noqa: E402 - behind the restored environment

RUST = "cryptography.hazmat.bindings._rust"


class RustFinder:
    """Finds the large library of `cryptography`, which is unpacked where it is first imported.

    It goes where the bootloader unpacked everything else, and is removed with it.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        """Return how to load the library; nothing for every other module."""
        if name != RUST:
            return None
        from importlib.util import spec_from_file_location
        from pathlib import Path

        import zstandard

        folder = Path(sys._MEIPASS)  # type: ignore[attr-defined]
        library = folder / "_rust.abi3.so"
        library.write_bytes(zstandard.decompress((folder / "_rust.zst").read_bytes()))
        return spec_from_file_location(name, library)


if __name__ == "__main__":
    sys.meta_path.insert(0, RustFinder)
    sys.exit(command())

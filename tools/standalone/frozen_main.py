"""Where the frozen program starts; PyInstaller follows the imports from here."""

import os
import sys

# The bootloader names its unpacked libraries here. Programs that we start (credential helpers) must
# not be given them.
_before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
os.environ.pop("LD_LIBRARY_PATH", None)
if _before is not None:
    os.environ["LD_LIBRARY_PATH"] = _before

from packer.cli.main import command  # noqa: E402 - behind the restored environment

if __name__ == "__main__":
    sys.exit(command())

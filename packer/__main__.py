"""``python -m packer``: the same as the command ``layer-packer``."""

import sys

from packer.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m packer``: the same as the command ``layer-packer``."""

from packer.cli.main import command

if __name__ == "__main__":
    command()

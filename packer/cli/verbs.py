"""The table of verbs: each is a function of a module that is loaded when the verb is used."""

from __future__ import annotations

import argparse
import importlib

from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.progress import ProgressCallback

_MODULES = {
    "transfers": ("pack", "push", "pull", "unpack"),
    "keeping": ("versions", "tag", "forget", "gc", "usage"),
    "reading": ("ls", "cat", "diff", "inspect", "verify"),
    "storage": ("storage",),
    "migration": ("migrate",),
    "builtin": ("registry",),
    "airgap": ("copy", "inventory"),
    "registries": ("login", "logout", "doctor"),
}
"""Module of `packer.cli` and the verbs in it, which are its functions of these names."""


def run(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Carry out the verb that the arguments name.

    Args:
        args: as the command line's parser makes them.
        out: for verbs that write their output piece by piece.
        progress: called now and then.

    Returns:
        The report to show.

    Raises:
        PackerError, OSError: as the calls of `packer.api`.
    """
    module = next(name for name, verbs in _MODULES.items() if args.verb in verbs)
    carry_out = getattr(importlib.import_module(f"packer.cli.{module}"), args.verb)
    done: Report = carry_out(args, out, progress)
    return done

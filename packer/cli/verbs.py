"""The table of verbs: each is a function of a module that is loaded when the verb is used."""

from __future__ import annotations

import argparse
import importlib

from packer.api.locations import SIGNS_OF_RANGES
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.progress import ProgressCallback

_MODULES = {
    "transfers": ("pack", "push", "pull", "unpack"),
    "keeping": ("versions", "tag", "forget", "gc", "usage"),
    "reading": ("ls", "cat", "diff"),
    "integrity": ("verify", "repair"),
    "inspection": ("inspect",),
    "storage": ("storage",),
    "migration": ("migrate",),
    "builtin": ("registry",),
    "completion": ("completion",),
    "manual": ("manual",),
    "airgap": ("copy", "inventory"),
    "trust": ("sign", "receipt"),
    "registries": ("login", "logout", "doctor"),
    "serving": ("serve", "report"),
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
    if args.verb == "versions" and _is_remote(args):
        module = "remote"
    carry_out = getattr(importlib.import_module(f"packer.cli.{module}"), args.verb)
    chosen = _pin_ranges(args)
    done: Report = carry_out(args, out, progress)
    return done._replace(notes=(*chosen, *done.notes)) if chosen else done


def _is_remote(args: argparse.Namespace) -> bool:
    """Return whether ``versions`` has a repository, or an option of one."""
    given = (args.reference, args.limit, args.after)
    return args.by_date or any(value is not None for value in given)


_READ = {
    **dict.fromkeys(("unpack", "ls", "cat", "inspect", "verify", "sign"), ("name",)),
    "pull": ("reference",),
    "report": ("name",),
    "serve": ("place",),
    "copy": ("source",),
    "diff": ("old", "new"),
}
"""Arguments of verbs that may hold a range of versions."""


def _pin_ranges(args: argparse.Namespace) -> list[str]:
    """Replace ranges of versions by the versions that they mean; return what to tell of it."""
    notes = []
    for name in _READ.get(args.verb, ()):
        given = getattr(args, name)
        if given is None or SIGNS_OF_RANGES.isdisjoint(given):
            continue
        from packer.api.ranges import pin
        from packer.cli.call_options import registry_options

        pinned = pin(given, registry=registry_options(args))
        if pinned != given:
            setattr(args, name, pinned)
            notes.append(f"{given} is {pinned}")
    return [] if args.quiet or args.json else notes

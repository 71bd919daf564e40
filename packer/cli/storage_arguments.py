"""The verbs below ``layer-packer storage``, each with its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from packer.cli.parser import Add, add_level, add_opening, add_trust, verb_epilog

_ARGUMENTS = {
    "app": "the application's ID",
    "sequence": "number of the version; latest for the newest",
    "old": "number of the older version; latest for the newest",
    "new": "number of the newer version; latest for the newest",
    "path": "of the file, in the version",
    "id": "ID of the support bundle",
}
"""Help of the positional arguments."""

NUMBERS = ("sequence", "old", "new")
"""Positional arguments that are numbers of versions."""
LATEST = "latest"
"""Stands for the number of the newest version."""

_EXAMPLE_BASE = "--storage-base-uri URI"
_EXAMPLES = {
    "save": "save APP app-1.4.2 --label version=1.4.2",
    "load": "load APP 7 out",
    "apps": "apps",
    "history": "history APP",
    "current": "current APP",
    "deploy": "deploy APP 7",
    "rollback": "rollback APP",
    "diff": "diff APP 6 7",
    "open": "open APP 7 values.yaml",
    "delete": "delete APP 3",
    "retain": "retain APP --keep 10",
    "verify": "verify APP",
    "save-bundle": "save-bundle ID supportbundle.tar.gz",
    "bundles": "bundles",
    "open-bundle": "open-bundle ID",
    "load-bundle": "load-bundle ID out",
}
"""Words after ``layer-packer storage`` in the example of each verb."""


def add_storage_verbs(
    parser: argparse.ArgumentParser, add_common: Add, add_registry: Add, add_target: Add
) -> None:
    """Add the verbs below ``storage``.

    Args:
        parser: of ``storage``.
        add_common: adds the options of every verb.
        add_registry: adds the options of verbs that reach a registry.
        add_target: adds a directory to restore into, and its options.
    """
    verbs = parser.add_subparsers(dest="storage_verb", metavar="VERB", required=True)

    def verb(name: str, text: str, *arguments: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=verb_epilog(f"layer-packer storage {_EXAMPLES[name]} {_EXAMPLE_BASE}"),
            allow_abbrev=False,
        )
        for argument in arguments:
            kind: Callable[[str], int | str] = str
            if argument in NUMBERS:
                kind = int if name == "delete" else _sequence
            made.add_argument(
                argument,
                metavar=argument.upper(),
                type=kind,
                help=_ARGUMENTS[argument],
            )
        made.add_argument(
            "--storage-base-uri",
            metavar="URI",
            help="docker://host/repository or oci:DIR, below which each application has its place"
            " (default: $LAYER_PACKER_STORAGE)",
        )
        made.add_argument("--cache", metavar="DIR", help="keeps layers from one call to the next")
        add_common(made)
        add_registry(made)
        return made

    at = verb("save", "save a directory or archive as an application's next version", "app")
    at.add_argument("path", metavar="DIR|FILE", help="directory or archive to save")
    at.add_argument("--sequence", type=int, metavar="N", help="its number (default: the next one)")
    add_level(at)
    add_opening(at)
    _add_label(at)

    at = verb("load", "write a version to a directory", "app", "sequence")
    add_target(at)
    add_trust(at)
    verb("apps", "list the applications")
    verb("history", "list an application's versions", "app")
    verb("current", "show which version is deployed", "app")
    add_trust(verb("deploy", "mark a version as deployed", "app", "sequence"), receipt=False)
    verb("rollback", "mark the version as deployed that was before", "app")

    at = verb("diff", "show what differs between two versions", "app", "old", "new")
    at.add_argument("--exit-code", action="store_true", help="exit with 10 if they differ")
    at.add_argument("--inside", action="store_true", help="also what changed in archives")

    verb("open", "write one file of a version to standard output", "app", "sequence", "path")
    verb("delete", "delete a version", "app", "sequence")

    at = verb("retain", "delete all versions but the newest and those that are needed", "app")
    at.add_argument("--keep", type=int, metavar="N", required=True, help="how many of the newest")
    at.add_argument(
        "--protect", type=int, metavar="N", action="append", default=[], help="a version to keep"
    )
    at.add_argument("-n", "--dry-run", action="store_true", help="only say what would be deleted")

    verb("verify", "read every version and bundle, and tell which are damaged").add_argument(
        "app", metavar="APP", nargs="?", help="the application's ID (default: all, and bundles)"
    )

    at = verb("save-bundle", "save a support bundle, an archive or a directory", "id")
    at.add_argument("path", metavar="FILE|DIR", help="archive or directory to save")
    _add_label(at)
    verb("bundles", "list the support bundles")
    verb("open-bundle", "write a support bundle's archive to standard output", "id")
    at = verb("load-bundle", "write a support bundle's archive, or files, to a directory", "id")
    at.add_argument("directory", metavar="DIR", help="new or empty directory to write to")


def _sequence(text: str) -> int | str:
    """Parse the number of a version, or ``latest``."""
    if text == LATEST:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no number of a version, nor {LATEST}"
        ) from None


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="for the history; may be given several times",
    )

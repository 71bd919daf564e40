"""What the family of verbs ``layer-packer storage`` takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Add = Callable[[argparse.ArgumentParser], None]


def add_storage_verbs(
    parser: argparse.ArgumentParser, add_common: Add, add_registry: Add, add_target: Add
) -> None:
    """Add the verbs below ``storage``.

    Args:
        parser: of ``storage``.
        add_common: adds the options of every verb.
        add_registry: adds those of verbs that reach a registry.
        add_target: adds a directory to restore into, and its options.
    """
    verbs = parser.add_subparsers(dest="storage_verb", metavar="VERB", required=True)

    def verb(name: str, text: str, *arguments: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
        )
        add_common(made)
        add_registry(made)
        made.add_argument(
            "--storage-base-uri",
            metavar="URI",
            required=True,
            help="docker://host/repository or oci:DIR, below which each application has its place",
        )
        made.add_argument("--cache", metavar="DIR", help="keeps layers from one call to the next")
        for argument in arguments:
            kind = int if argument in ("sequence", "old", "new") else str
            made.add_argument(argument, metavar=argument.upper(), type=kind)
        return made

    at = verb("save", "save a directory or archive as an application's next version", "app")
    at.add_argument("path", metavar="DIR|FILE")
    at.add_argument("--sequence", type=int, metavar="N", help="its number (default: the next one)")
    at.add_argument("--level", type=int, metavar="N", help="zstd level, 1 to 22 (default: 9)")
    at.add_argument("--no-expand", action="store_true", help="do not open archives")
    _add_label(at)

    add_target(verb("load", "write a version to a directory", "app", "sequence"))
    verb("apps", "list the applications")
    verb("history", "list an application's versions", "app")
    verb("current", "show which version is deployed", "app")
    verb("deploy", "mark a version as deployed", "app", "sequence")
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

    at = verb("save-bundle", "save a support bundle, an archive or a directory", "id")
    at.add_argument("path", metavar="FILE|DIR")
    _add_label(at)
    verb("bundles", "list the support bundles")
    verb("open-bundle", "write a support bundle's archive to standard output", "id")
    at = verb("load-bundle", "write a support bundle's archive, or files, to a directory", "id")
    at.add_argument("directory", metavar="DIR")


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="for the history; may be given several times",
    )

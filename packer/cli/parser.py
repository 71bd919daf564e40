"""The parser of the command line: how verbs are declared, the options they share, and help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn

from packer._version import VERSION
from packer.cli.display import AUTO, PROGRESS, did_you_mean
from packer.opening.choice import ALL, DEFAULT_OPENING, OPENINGS

Add = Callable[[argparse.ArgumentParser], None]
"""Adds arguments to a parser."""

_EPILOG = """\
NAME is a tag or digest of the local store, or a reference such as
registry.example/acme/app:1.4.2, oci:DIR:TAG or oci-archive:FILE:TAG.
"layer-packer help VERB" explains a verb, "layer-packer help options" the options
that verbs share.

exit codes:
  0   done                              6   credentials missing, wrong or not allowed
  1   any other failure                 7   a file cannot be packed or changed meanwhile
  2   wrong usage, value or reference   8   the target directory is not empty
  3   no such tag, version or path      9   the file system said no (missing, full, ...)
  4   stored data is damaged or not     10  diff --exit-code, receipt verify: they differ
      a version of layer-packer         11  a listing had to stop before its end
  5   registry unreachable or failing   12  not signed as asked, or an older version
                                        130 Ctrl-C; 143, 129 terminated, hung up
                                        141 nobody reads standard output any more
"""


_VERB_EPILOG = """\
example:
  {example}

"layer-packer help options" lists the options that all verbs share, and "layer-packer
help" the exit codes.
"""

OPTIONS = "options"
"""Topic of ``help`` for the options that verbs share."""

_Help = argparse.RawDescriptionHelpFormatter


class UsageError(Exception):
    """Arguments that do not parse."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of exiting, so that all errors look alike.

    A verb's parser is made when it is first used: making all of them takes as long as packing a
    small directory.
    """

    def __init__(self, *, complete: Add | None = None, **options: Any) -> None:
        # argparse formats each argument that is added, to check it. Given a width, it loads no
        # modules to find the terminal's.
        options["formatter_class"] = partial(_Help, width=80)
        self._complete, self._options = complete, options
        self.takes_words = False
        """Whether a list of words is taken, which options may stand between."""
        self._is_within = False  # parsing intermixed words, which calls `parse_known_args`
        if complete is None:
            super().__init__(**options)

    def fill(self) -> None:
        """Add the arguments of a verb, unless that is done."""
        complete, self._complete = self._complete, None
        if complete:
            super().__init__(**self._options)
            complete(self)

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        """Parse as argparse does; an unknown argument is an error of the verb it follows."""
        self.fill()
        if self._is_within:
            return super().parse_known_args(*args, **options)
        if self.takes_words:
            self._is_within = True
            found, rest = self.parse_known_intermixed_args(*args, **options)
            self._is_within = False
        else:
            found, rest = super().parse_known_args(*args, **options)
        if rest:
            hint = did_you_mean(rest[0].partition("=")[0], self._option_string_actions)
            self.error(f"unknown argument {rest[0]}{hint}")
        return found, rest

    def _check_help(self, action: argparse.Action) -> None:
        """Check a line of help as argparse of Python 3.14 does, when the parser is complete."""
        if self._complete is None:
            super()._check_help(action)  # type: ignore[misc]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise if a word is none of those allowed; name one that is spelled alike."""
        if action.choices is None or value in action.choices:
            return
        hint = did_you_mean(str(value), action.choices)
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown verb {value}{hint}")
        raise argparse.ArgumentError(
            action, f"{value} is none of {', '.join(map(str, action.choices))}{hint}"
        )

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self.formatter_class = _Help
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help)")


class Verb(NamedTuple):
    """A verb.

    Args:
        name: the word.
        text: what it does, without a full stop.
        example: a command.
        add: adds its own arguments.
        reaches: whether it takes the options of registries.
        jobs: whether it takes ``--jobs``.
    """

    name: str
    text: str
    example: str
    add: Add
    reaches: bool
    jobs: bool

    def complete(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's arguments to its parser."""
        self.add(parser)
        if self.jobs:
            parser.add_argument(
                "--jobs", type=int, default=4, metavar="N", help="concurrent transfers (default: 4)"
            )
        _hide(_add_common(parser))
        if self.reaches:
            add_registry(parser)


VERBS: list[Verb] = []


def verb(
    name: str, text: str, example: str, *, reaches: bool = True, jobs: bool = False
) -> Callable[[Add], Add]:
    """Return a decorator that makes a verb of the function that adds its arguments."""

    def note(add: Add) -> Add:
        VERBS.append(Verb(name, text, example, add, reaches, jobs))
        return add

    return note


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="layer-packer",
        description="Ship application versions through any OCI registry; successive versions "
        "share their bytes.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"layer-packer {VERSION}")
    parser.set_defaults(json=False, quiet=False, debug=False, store=None, progress=AUTO)
    _add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verbs.add_parser(
            verb.name,
            help=verb.text,
            description=verb.text[0].upper() + verb.text[1:] + ".",
            epilog=verb_epilog(verb.example),
            allow_abbrev=False,
            complete=verb.complete,
        )
    return parser


def verb_epilog(example: str) -> str:
    """Return the end of a verb's help: an example, and where the shared options are explained."""
    return _VERB_EPILOG.format(example=example)


def show_help(topic: list[str]) -> NoReturn:
    """Print the help of a verb, of the options that verbs share, or of the whole command.

    Args:
        topic: words that name a verb, or OPTIONS, or none.

    Raises:
        UsageError: there is no such verb.
        SystemExit: the help was printed.
    """
    if topic != [OPTIONS]:
        make_parser().parse_args([*topic, "--help"])
    shared_parser().print_help()
    raise SystemExit(0)


def shared_parser() -> Parser:
    """Return a parser of the options that verbs share, for their help."""
    parser = Parser(
        prog="layer-packer",
        usage="layer-packer VERB [options]",
        description="Options that verbs share. A verb that reaches no registry takes the common "
        "ones only.",
        add_help=False,
        allow_abbrev=False,
    )
    _add_common(parser)
    _add_registry(parser)
    return parser


def _hide(*groups: argparse._ArgumentGroup) -> None:
    """Leave options out of a verb's help, which begins with its own: ``help options`` has them."""
    for group in groups:
        for action in group._group_actions:
            action.help = argparse.SUPPRESS


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every verb, left out of its help."""
    _hide(_add_common(parser))


def add_registry(parser: argparse.ArgumentParser) -> None:
    """Add the options of verbs that reach a registry, left out of the verb's help."""
    _hide(_add_registry(parser))


def _add_common(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of every verb. They may also precede it, so they have no default here."""
    group = parser.add_argument_group("common options")
    unset = argparse.SUPPRESS
    group.add_argument(
        "--store",
        metavar="DIR",
        default=unset,
        help="local store, an OCI image layout (default: $LAYER_PACKER_STORE, "
        "else in the user's data directory)",
    )
    group.add_argument("--json", action="store_true", default=unset, help="print one JSON document")
    group.add_argument(
        "-q", "--quiet", action="store_true", default=unset, help="no progress and no summary"
    )
    group.add_argument(
        "--progress",
        choices=PROGRESS,
        default=unset,
        help="bars on a terminal and lines elsewhere (auto), lines, JSON lines, or nothing",
    )
    group.add_argument(
        "-v", "--debug", action="store_true", default=unset, help="show tracebacks and the log"
    )
    return group


def _add_registry(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = add_connection(parser)
    group.add_argument(
        "--auth-file",
        metavar="FILE",
        help="docker configuration or Kubernetes pull secret, instead of the docker config",
    )
    add_login(group)
    group.add_argument(
        "--limit-rate",
        metavar="RATE",
        help="bytes per second of all transfers together, such as 500K, 5M or 2MiB",
    )
    group.add_argument(
        "--registry",
        action="append",
        metavar="HOST,OPTION,...",
        help="options for one host only, without dashes: plain-http, ca-file=PEM, ... (repeatable)",
    )
    return group


def add_connection(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of the connection to a registry; return their group."""
    group = parser.add_argument_group("registry options")
    group.add_argument(
        "--plain-http",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="use http, or insist on https (default: http for localhost only)",
    )
    group.add_argument(
        "--insecure-skip-tls-verify", action="store_true", help="accept any certificate"
    )
    group.add_argument("--ca-file", metavar="PEM", help="certificate authorities to trust")
    group.add_argument("--cert-file", metavar="PEM", help="client certificate")
    group.add_argument("--key-file", metavar="PEM", help="its key, if not in the same file")
    group.add_argument(
        "--outage-seconds",
        type=float,
        metavar="N",
        help="wait so long for a registry that is away (default: 60, or 15 if it never answered)",
    )
    return group


def add_login(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add user name and password."""
    parser.add_argument("--username", help="user to log in as, instead of the docker config's")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )


def add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add a directory to restore into, and its options."""
    parser.add_argument("directory", metavar="DIR", nargs=nargs, help="directory to write to")
    parser.add_argument(
        "-u",
        "--update",
        action="store_true",
        help="DIR may have content: equal files stay untouched, others are replaced",
    )
    parser.add_argument(
        "--delete",
        action="store_true",
        help="with --update: remove what the version does not hold",
    )
    parser.add_argument(
        "--seed",
        action="append",
        default=[],
        metavar="OLD",
        help="directory with an older copy: what is equal there is not fetched (repeatable)",
    )
    add_expect(parser)


def add_level(parser: argparse.ArgumentParser) -> None:
    """Add the level of compression."""
    parser.add_argument(
        "--level",
        type=int,
        metavar="N",
        help="zstd level, 1 to 22 (default: 9; 3 above 32 MiB without --small)",
    )


def add_no_sync(parser: argparse.ArgumentParser) -> None:
    """Add the choice not to wait for the disk."""
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait for the disk: faster, but a crash of the system may damage the result",
    )


def add_paths(parser: argparse.ArgumentParser, text: str) -> None:
    """Add paths within a version; options may stand between them."""
    if isinstance(parser, Parser):
        parser.takes_words = True
    parser.add_argument("paths", nargs="*", metavar="PATH", help=text)


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add the paths and patterns that choose a part of a version."""
    add_paths(parser, "files and directories of the version to write (default: all)")
    for option, text in (("include", "take only"), ("exclude", "leave out")):
        parser.add_argument(
            f"--{option}",
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"{text} what it matches, as in a gitignore file (repeatable)",
        )


def add_expect(parser: argparse.ArgumentParser) -> None:
    """Add the digest that a version must have."""
    parser.add_argument(
        "--expect", metavar="DIGEST", help="fail unless the version has this digest"
    )


def add_trust(parser: argparse.ArgumentParser, *, receipt: bool = True) -> None:
    """Add whose signatures a version needs, and the receipt of what is done."""
    group = parser.add_argument_group("signatures")
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument(
        "--verify-key",
        action="append",
        default=[],
        metavar="PEM",
        help="fail unless this key, or the holder of a certificate, signed it (repeatable: any)",
    )
    chosen.add_argument(
        "--policy", metavar="FILE", help="fail unless it is signed as the policy in FILE asks"
    )
    group.add_argument(
        "--repository",
        metavar="NAME",
        help="apply the policy's rule of this repository (default: that of the version)",
    )
    if not receipt:
        return
    group.add_argument(
        "--after",
        metavar="RECEIPT",
        help="fail if it was packed before the version of this receipt",
    )
    group.add_argument("--receipt", metavar="FILE", help="write to FILE what was done")
    group.add_argument("--receipt-key", metavar="PEM", help="sign the receipt with this key")


def add_allow_older(parser: argparse.ArgumentParser) -> None:
    """Add the choice to let an archive take a name back to an older version."""
    parser.add_argument(
        "--allow-older",
        action="store_true",
        help="of an oci-archive: take a version that is older than the one of this name",
    )


def add_opening(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which archives are opened."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--opening",
        choices=OPENINGS,
        default=DEFAULT_OPENING,
        help="archives to open: changed ones against their older selves, all, or none "
        f"(default: {DEFAULT_OPENING})",
    )
    chosen.add_argument(
        "--small",
        action="store_const",
        const=ALL,
        dest="opening",
        help="open all archives: the first version is smaller, packing takes longer",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add the option to count what a transfer would move."""
    parser.add_argument(
        "-n",
        "--dry-run",
        action="store_true",
        help="only say what it would cost in bytes and requests",
    )


def add_referrers(parser: argparse.ArgumentParser) -> None:
    """Add the option to leave what refers to a version."""
    parser.add_argument(
        "--no-referrers",
        action="store_true",
        help="move the version alone, without its signatures, attestations and SBOMs",
    )


def add_repair(parser: argparse.ArgumentParser) -> None:
    """Add the options that distrust what the destination says it has."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--verify",
        action="store_true",
        help="read every blob that the registry says it has; send again what is lost or damaged",
    )
    group.add_argument(
        "--force", action="store_true", help="send everything, whatever the registry says it has"
    )

"""The parser of the command line: verbs and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, NoReturn

from packer._version import VERSION
from packer.cli.display import did_you_mean

Add = Callable[[argparse.ArgumentParser], None]

EXIT_DIFFERENT = 10
EXIT_INCOMPLETE = 11
"""Exit code of ``diff --exit-code`` if the versions differ."""

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
  4   stored data is damaged or not     10  diff --exit-code: the versions differ
      a version of layer-packer         130 Ctrl-C; 143, 129 terminated, hung up
  5   registry unreachable or failing   141 nobody reads standard output any more
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


class _Parser(argparse.ArgumentParser):
    """Raises UsageError instead of exiting, so that all errors look alike.

    A verb's parser is made when it is first used: making all of them takes as long as packing a
    small directory.
    """

    def __init__(self, *, complete: Add | None = None, **options: Any) -> None:
        # argparse formats each argument that is added, to check it. Given a width, it loads no
        # modules to find the terminal's.
        options["formatter_class"] = partial(_Help, width=80)
        self._complete, self._options = complete, options
        if complete is None:
            super().__init__(**options)

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        complete, self._complete = self._complete, None
        if complete:
            super().__init__(**self._options)
            complete(self)
        found, rest = super().parse_known_args(*args, **options)
        if rest:
            hint = did_you_mean(rest[0].partition("=")[0], self._option_string_actions)
            self.error(f"unknown argument {rest[0]}{hint}")
        return found, rest

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
        self.formatter_class = _Help
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Verb(NamedTuple):
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


_VERBS: list[_Verb] = []


def _verb(
    name: str, text: str, example: str, *, reaches: bool = True, jobs: bool = False
) -> Callable[[Add], Add]:
    """Return a decorator that makes a verb of the function that adds its arguments."""

    def note(add: Add) -> Add:
        _VERBS.append(_Verb(name, text, example, add, reaches, jobs))
        return add

    return note


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="layer-packer",
        description="Ship application versions through any OCI registry; successive versions "
        "share their bytes.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"layer-packer {VERSION}")
    parser.set_defaults(json=False, quiet=False, debug=False, store=None)
    _add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in _VERBS:
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
    parser = _Parser(
        prog="layer-packer",
        usage="layer-packer VERB [options]",
        description="Options that verbs share. A verb that reaches no registry takes the common "
        "ones only.",
        add_help=False,
        allow_abbrev=False,
    )
    _add_common(parser)
    _add_registry(parser)
    parser.print_help()
    raise SystemExit(0)


@_verb(
    "pack",
    "pack a directory or file as a version",
    "layer-packer pack app-1.4.2 --tag app:1.4.2",
)
def _pack(at: argparse.ArgumentParser) -> None:
    at.add_argument("path", metavar="DIR|FILE", help="directory or file to pack")
    at.add_argument("--tag", metavar="NAME", help="its name (default: the directory's name)")
    at.add_argument(
        "--base", metavar="REF|none", help="version to build on (default: the newest like it)"
    )
    at.add_argument("--level", type=int, metavar="N", help="zstd level, 1 to 22 (default: 9)")
    at.add_argument("--no-expand", action="store_true", help="do not open archives")
    at.add_argument(
        "--no-cache",
        action="store_true",
        help="read every file, also those that look unchanged, anew",
    )


@_verb(
    "push",
    "push a version to a registry, oci: layout or oci-archive:",
    "layer-packer push registry.example/acme/app:1.4.2",
    jobs=True,
)
def _push(at: argparse.ArgumentParser) -> None:
    at.add_argument("reference", metavar="REF", help="where to push, and under which tag")
    at.add_argument(
        "--from",
        dest="name",
        metavar="NAME|DIR",
        help="local version, or a directory to pack first (default: the version named like REF)",
    )
    _add_repair(at)
    _add_dry_run(at)


@_verb(
    "pull",
    "pull a version and write its tree to a directory",
    "layer-packer pull registry.example/acme/app:1.4.2 out",
    jobs=True,
)
def _pull(at: argparse.ArgumentParser) -> None:
    at.add_argument("reference", metavar="REF", help="the version to pull")
    _add_target(at)
    _add_dry_run(at)


@_verb(
    "unpack",
    "write a version's tree to a directory",
    "layer-packer unpack app:1.4.2 out",
)
def _unpack(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version to write")
    _add_target(at)


@_verb(
    "ls",
    "list what a version holds",
    "layer-packer ls -l app:1.4.2",
)
def _ls(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")
    at.add_argument("-l", "--long", action="store_true", help="with permissions, size, link target")
    at.add_argument("--inside", action="store_true", help="also list the files in archives")


@_verb(
    "cat",
    "write one file of a version to standard output",
    "layer-packer cat app:1.4.2 values.yaml",
)
def _cat(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")
    at.add_argument("path", metavar="PATH", help="of the file, in the version")
    at.add_argument(
        "--inside", action="store_true", help="PATH may lead into an archive: app.tgz!/app/x.yaml"
    )


@_verb(
    "diff",
    "show what differs between two versions, from their indexes alone",
    "layer-packer diff app:1.4.1 app:1.4.2",
)
def _diff(at: argparse.ArgumentParser) -> None:
    at.add_argument("old", metavar="OLD", help="the older version")
    at.add_argument("new", metavar="NEW", help="the newer version")
    at.add_argument(
        "--exit-code", action="store_true", help=f"exit with {EXIT_DIFFERENT} if they differ"
    )
    at.add_argument("--inside", action="store_true", help="also what changed in archives")


@_verb(
    "inspect",
    "show what a version says of itself",
    "layer-packer inspect app:1.4.2",
)
def _inspect(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")


@_verb(
    "verify",
    "read every blob of a version and check it",
    "layer-packer verify registry.example/acme/app:1.4.2",
)
def _verify(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")


@_verb(
    "copy",
    "copy a version between registries, layouts, archives and the store",
    "layer-packer copy app:1.4.2 oci-archive:app.tar:1.4.2 --have app:1.4.1",
    jobs=True,
)
def _copy(at: argparse.ArgumentParser) -> None:
    at.add_argument("source", metavar="SRC", help="the version to copy")
    at.add_argument("destination", metavar="DST", help="where to copy it, and under which tag")
    _add_repair(at)
    _add_expect(at)
    _add_dry_run(at)
    at.add_argument(
        "--have",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME|FILE",
        help="versions, an inventory or a list of digests that an oci-archive: may leave out",
    )
    at.add_argument(
        "--split", metavar="SIZE", help="write an oci-archive: in parts of SIZE, such as 4GB"
    )


@_verb(
    "inventory",
    "write down what a store holds, for copy --have elsewhere",
    "layer-packer inventory registry.example/acme/app > inventory.json",
)
def _inventory(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME|REF|DIR", nargs="?", help="default: the local store")


@_verb(
    "versions",
    "list the tags of the local store",
    "layer-packer versions",
    reaches=False,
)
def _versions(at: argparse.ArgumentParser) -> None:
    pass


@_verb(
    "login",
    "log in to a registry, as docker login does",
    "layer-packer login registry.example",
    reaches=False,
)
def _login(at: argparse.ArgumentParser) -> None:
    at.add_argument("host", metavar="HOST", help="the registry, such as registry.example:5000")
    _add_login(at)
    _add_connection(at)


@_verb(
    "doctor",
    "find out what a registry can do",
    "layer-packer doctor registry.example/acme/app --write",
)
def _doctor(at: argparse.ArgumentParser) -> None:
    at.add_argument("reference", metavar="REF", help="a repository of the registry")
    at.add_argument(
        "--write", action="store_true", help="also upload two bytes, and try large manifests"
    )


@_verb(
    "logout",
    "forget the login of a registry",
    "layer-packer logout registry.example",
    reaches=False,
)
def _logout(at: argparse.ArgumentParser) -> None:
    at.add_argument("host", metavar="HOST", help="the registry, such as registry.example:5000")


@_verb(
    "storage",
    "keep every version of applications in a registry",
    "layer-packer storage save APP DIR --storage-base-uri docker://registry.example/base",
    reaches=False,
)
def _storage(at: argparse.ArgumentParser) -> None:
    # A late import: only this verb needs the storage.
    from packer.cli.storage import add_storage_verbs

    add_storage_verbs(at, add_common, add_registry, _add_target)


@_verb(
    "migrate",
    "copy what KOTS kept in S3 or a directory to a storage, or back",
    "layer-packer migrate s3://bucket/prefix docker://registry.example/base --dry-run",
)
def _migrate(at: argparse.ArgumentParser) -> None:
    at.add_argument("source", metavar="SRC", help="s3://bucket/prefix or a directory; or a storage")
    at.add_argument("destination", metavar="DST", help="docker://host/repository or oci:DIR")
    at.add_argument("--dry-run", action="store_true", help="only say what would be done")
    at.add_argument("--journal", metavar="FILE", help="notes what is done")


@_verb(
    "registry",
    "print the configuration of a registry to run oneself",
    "layer-packer registry config --host registry.example | kubectl apply -f -",
    reaches=False,
)
def _registry(at: argparse.ArgumentParser) -> None:
    # A late import: only this verb needs the registry's settings.
    from packer.cli.builtin_registry import FORMATS, STORAGES, RegistryConfig

    at.add_argument("action", metavar="config", choices=["config"], help="what to do")
    at.add_argument(
        "--for",
        dest="form",
        choices=FORMATS,
        default=FORMATS[0],
        help="for whom: Kubernetes (the default), docker compose, or the server's config.yml alone",
    )
    at.add_argument(
        "--output",
        metavar="DIR",
        help="write files there instead of printing; for Kubernetes, kustomize's",
    )
    at.add_argument("--storage", choices=STORAGES, help="one server and a volume, or a bucket")
    for name, metavar, text in (
        ("host", "NAME", "that clients outside the cluster use"),
        ("namespace", "NAME", "of Kubernetes"),
        ("tls-secret", "NAME", "secret with tls.crt and tls.key"),
        ("auth-secret", "NAME", "secret with htpasswd and http-secret"),
        ("s3-secret", "NAME", "secret with access-key and secret-key"),
        ("size", "SIZE", "of the volume"),
        ("storage-class", "NAME", "of the volume"),
        ("bucket", "NAME", "of S3"),
        ("region", "NAME", "of S3"),
        ("endpoint", "URL", "of an S3 that is not Amazon's"),
        ("schedule", "CRON", "of garbage collection"),
        ("image", "IMAGE", "of the registry"),
        ("kubectl-image", "IMAGE", "of kubectl, for garbage collection"),
    ):
        at.add_argument(f"--{name}", metavar=metavar, help=text)
    at.add_argument("--replicas", type=int, metavar="N", help="servers over one bucket")
    at.add_argument("--port", type=int, metavar="N", help="that docker compose publishes")
    at.add_argument(
        "--delete-untagged", action="store_true", help="also collect manifests without a tag"
    )
    defaults = RegistryConfig()
    at.set_defaults(
        **{field.name: getattr(defaults, field.name) for field in fields(RegistryConfig)}
    )


@_verb("help", "show the help of a verb", "layer-packer help storage save", reaches=False)
def _help(at: argparse.ArgumentParser) -> None:
    at.add_argument(
        "topic", metavar="VERB", nargs="*", help=f"a verb, or {OPTIONS!r} (default: all verbs)"
    )


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
        "--debug", action="store_true", default=unset, help="show tracebacks and the log"
    )
    return group


def _add_registry(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = _add_connection(parser)
    group.add_argument(
        "--auth-file",
        metavar="FILE",
        help="docker configuration or Kubernetes pull secret, instead of the docker config",
    )
    _add_login(group)
    group.add_argument(
        "--registry",
        action="append",
        metavar="HOST,OPTION,...",
        help="options for one host only, without dashes: plain-http, ca-file=PEM, ... (repeatable)",
    )
    return group


def _add_connection(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
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
        help="wait so long for a registry that is away (default: 60)",
    )
    return group


def _add_login(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--username", help="user to log in as, instead of the docker config's")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="directory to write to")
    parser.add_argument(
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
    _add_expect(parser)


def _add_expect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expect", metavar="DIGEST", help="fail unless the version has this digest"
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what it would cost in bytes and requests"
    )


def _add_repair(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--verify",
        action="store_true",
        help="read a byte of each blob that the registry says it has; send again what is lost",
    )
    group.add_argument(
        "--force", action="store_true", help="send everything, whatever the registry says it has"
    )

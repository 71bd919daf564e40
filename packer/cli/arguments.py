"""The verbs of the command line, each with its arguments."""

from __future__ import annotations

import argparse

from packer.cli.parser import (
    OPTIONS,
    add_allow_older,
    add_common,
    add_connection,
    add_dry_run,
    add_expect,
    add_level,
    add_login,
    add_no_sync,
    add_opening,
    add_part,
    add_paths,
    add_referrers,
    add_registry,
    add_repair,
    add_target,
    add_trust,
    verb,
)
from packer.cli.parser import make_parser as make_parser  # after the verbs below are declared

SHELLS = ("bash", "zsh", "fish")
"""Shells that there is a completion for."""

EXIT_DIFFERENT = 10
"""Exit code of ``diff --exit-code`` if the versions differ."""
EXIT_INCOMPLETE = 11
"""Exit code of a listing that had to stop before its end."""


@verb(
    "pack",
    "pack a directory or file as a version",
    "layer-packer pack app-1.4.2 --tag app:1.4.2",
)
def _pack(at: argparse.ArgumentParser) -> None:
    at.add_argument(
        "path",
        metavar="DIR|FILE|-",
        help="directory or file to pack; - for a tar archive from standard input",
    )
    at.add_argument("--tag", metavar="NAME", help="its name (default: the directory's name)")
    at.add_argument(
        "--base",
        metavar="REF|none|auto:REPO",
        help="version to build on, or where to find it (default: the newest like it in the store)",
    )
    add_level(at)
    add_opening(at)
    at.add_argument(
        "--no-cache",
        action="store_true",
        help="read every file, also those that look unchanged, anew",
    )
    add_no_sync(at)
    at.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out what it matches, as in a gitignore file (repeatable)",
    )
    at.add_argument(
        "--exclude-from",
        action="append",
        default=[],
        metavar="FILE",
        help="leave out what the patterns in FILE match (repeatable)",
    )
    at.add_argument(
        "--no-ignore-files",
        action="store_true",
        help="do not follow the files named .layerpackerignore in DIR",
    )


@verb(
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
    add_referrers(at)
    add_repair(at)
    add_dry_run(at)


@verb(
    "pull",
    "pull a version and write its tree to a directory",
    "layer-packer pull registry.example/acme/app:1.4.2 out",
    jobs=True,
)
def _pull(at: argparse.ArgumentParser) -> None:
    at.add_argument("reference", metavar="REF", help="the version to pull")
    add_target(at)
    add_no_sync(at)
    add_part(at)
    at.add_argument(
        "--keep",
        metavar="N|all",
        help="pulled versions of the repository that the local store keeps (default: 2)",
    )
    add_referrers(at)
    add_dry_run(at)
    add_trust(at)
    add_allow_older(at)


@verb(
    "unpack",
    "write a version's tree to a directory",
    "layer-packer unpack app:1.4.2 out",
)
def _unpack(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version to write")
    add_target(at, nargs="?")
    add_no_sync(at)
    add_part(at)
    at.add_argument(
        "-o",
        "--output",
        choices=["-"],
        metavar="-",
        help="write a tar archive to standard output, and no DIR",
    )
    add_trust(at)


@verb(
    "ls",
    "list what a version holds",
    "layer-packer ls -l app:1.4.2",
)
def _ls(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")
    at.add_argument("-l", "--long", action="store_true", help="with permissions, size, link target")
    at.add_argument("--inside", action="store_true", help="also list the files in archives")


@verb(
    "cat",
    "write one file of a version, or a directory as tar, to standard output",
    "layer-packer cat app:1.4.2 values.yaml",
)
def _cat(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")
    at.add_argument("path", metavar="PATH", help="of the file or directory, in the version")
    at.add_argument(
        "--inside", action="store_true", help="PATH may lead into an archive: app.tgz!/app/x.yaml"
    )


@verb(
    "diff",
    "show what differs between two versions",
    "layer-packer diff app:1.4.1 app:1.4.2",
)
def _diff(at: argparse.ArgumentParser) -> None:
    at.add_argument("old", metavar="OLD", help="the older version")
    at.add_argument("new", metavar="NEW", help="the newer version")
    at.add_argument(
        "--exit-code", action="store_true", help=f"exit with {EXIT_DIFFERENT} if they differ"
    )
    at.add_argument("--inside", action="store_true", help="also what changed in archives")
    at.add_argument(
        "-p", "--patch", action="store_true", help="show which lines changed, also in archives"
    )
    add_paths(at, "with --patch: show only these files and directories")
    at.add_argument(
        "-U",
        "--unified",
        type=int,
        metavar="N",
        help="with --patch: equal lines around those that differ (default: 3)",
    )
    at.add_argument(
        "--max-size",
        metavar="SIZE",
        help="with --patch: only name texts that are larger (default: 1MiB)",
    )
    at.add_argument("--no-pager", action="store_true", help="with --patch: use no pager")


@verb(
    "inspect",
    "show what a version says of itself",
    "layer-packer inspect app:1.4.2",
)
def _inspect(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")


@verb(
    "verify",
    "read every blob of a version, or of all, and check it",
    "layer-packer verify registry.example/acme/app:1.4.2",
)
def _verify(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", nargs="?", help="the version")
    at.add_argument("--all", action="store_true", help="every version of the local store")
    at.add_argument(
        "--base-at-hand",
        action="store_true",
        help="read what an archive leaves out from the versions that it builds on",
    )
    at.add_argument(
        "--base-from", metavar="REF", help="a further place where these versions may be"
    )
    add_trust(at, receipt=False)


@verb(
    "sign",
    "sign a version with a key, as cosign does",
    "layer-packer sign registry.example/acme/app:1.4.2 --key release.pem",
)
def _sign(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME", help="the version")
    at.add_argument(
        "--key", metavar="PEM", required=True, help="private key: ECDSA P-256, P-384, or Ed25519"
    )


@verb(
    "receipt",
    "tell whether a directory is still what a receipt says",
    "layer-packer receipt verify out receipt.json",
    reaches=False,
)
def _receipt(at: argparse.ArgumentParser) -> None:
    at.add_argument("action", metavar="verify", choices=["verify"], help="what to do")
    at.add_argument("directory", metavar="DIR", help="the directory")
    at.add_argument("receipt", metavar="RECEIPT", help="file that a call wrote by --receipt")
    at.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="PEM",
        help="public key that signed the receipt (repeatable: any)",
    )


@verb(
    "repair",
    "fetch again what is damaged in the local store, from where it came",
    "layer-packer repair --all",
)
def _repair(at: argparse.ArgumentParser) -> None:
    at.add_argument("names", metavar="NAME", nargs="*", help="versions of the local store")
    at.add_argument("--all", action="store_true", help="every version of the local store")
    at.add_argument(
        "--from",
        dest="source",
        metavar="REF",
        help="the place that has the blobs",
    )


@verb(
    "copy",
    "copy a version to a registry, layout or archive, or as a plain image",
    "layer-packer copy app:1.4.2 oci-archive:app.tar:1.4.2 --have app:1.4.1",
    jobs=True,
)
def _copy(at: argparse.ArgumentParser) -> None:
    at.add_argument("source", metavar="SRC", help="the version to copy")
    at.add_argument("destination", metavar="DST", help="where to copy it, and under which tag")
    add_referrers(at)
    add_repair(at)
    add_expect(at)
    add_dry_run(at)
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
    add_trust(at)
    add_allow_older(at)
    at.add_argument(
        "--compression",
        choices=("gzip", "zstd"),
        help="with oci-image: before DST: of the layers (default: gzip)",
    )
    at.add_argument(
        "--one-layer",
        action="store_true",
        help="with oci-image: all in one layer, as Flux and Argo CD need it",
    )
    at.add_argument(
        "--platform",
        metavar="OS/ARCH",
        help="with oci-image: what the image says it is for (default: linux/amd64)",
    )


@verb(
    "inventory",
    "write down what a store holds, for copy --have elsewhere",
    "layer-packer inventory registry.example/acme/app > inventory.json",
)
def _inventory(at: argparse.ArgumentParser) -> None:
    at.add_argument("name", metavar="NAME|REF|DIR", nargs="?", help="default: the local store")


@verb(
    "versions",
    "list the versions of the local store, or of a repository",
    "layer-packer versions registry.example/acme/app",
)
def _versions(at: argparse.ArgumentParser) -> None:
    at.add_argument("reference", metavar="REF", nargs="?", help="repository (default: the store)")
    at.add_argument("--limit", type=int, metavar="N", help="tags to list (default: 20)")
    at.add_argument("--after", metavar="TAG", help="go on behind this tag")
    at.add_argument(
        "--by-date", action="store_true", help="ask for the date of every tag, and sort by it"
    )


@verb(
    "tag",
    "give a version of the local store a further name",
    "layer-packer tag app:1.4.2 app:stable",
    reaches=False,
)
def _tag(at: argparse.ArgumentParser) -> None:
    at.add_argument("old", metavar="OLD", help="the version")
    at.add_argument("new", metavar="NEW", help="its further name; it moves if it is in use")


@verb(
    "forget",
    "remove names from the local store; gc removes the bytes that nothing needs then",
    "layer-packer forget app --keep-last 5 --keep-within 30d --dry-run",
    reaches=False,
)
def _forget(at: argparse.ArgumentParser) -> None:
    at.add_argument(
        "names",
        metavar="NAME|APP",
        nargs="*",
        help="versions; with --keep-..., applications (default: all)",
    )
    at.add_argument(
        "--keep-last", type=int, metavar="N", help="keep the N versions that were tagged last"
    )
    at.add_argument(
        "--keep-within",
        metavar="TIME",
        help="keep what was packed within this time of the newest one, such as 30d or 1y6m",
    )
    at.add_argument("-n", "--dry-run", action="store_true", help="only say what would be forgotten")


@verb(
    "gc",
    "remove the bytes of the local store that no version needs",
    "layer-packer gc --dry-run",
    reaches=False,
)
def _gc(at: argparse.ArgumentParser) -> None:
    at.add_argument(
        "--grace-seconds",
        type=float,
        metavar="N",
        help="leave blobs alone that are younger than N seconds (default: 3600)",
    )
    at.add_argument("--caches", action="store_true", help="remove all caches too")
    at.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")


@verb(
    "usage",
    "show what the local store takes, and what of it could go",
    "layer-packer usage",
    reaches=False,
)
def _usage(at: argparse.ArgumentParser) -> None:
    pass


@verb(
    "login",
    "log in to a registry, as docker login does",
    "layer-packer login registry.example",
    reaches=False,
)
def _login(at: argparse.ArgumentParser) -> None:
    at.add_argument("host", metavar="HOST", help="the registry, such as registry.example:5000")
    add_login(at)
    add_connection(at)


@verb(
    "doctor",
    "find out what a registry can do",
    "layer-packer doctor registry.example/acme/app --write",
)
def _doctor(at: argparse.ArgumentParser) -> None:
    at.add_argument("reference", metavar="REF", help="a repository of the registry")
    at.add_argument(
        "--write", action="store_true", help="also upload two bytes, and try large manifests"
    )


@verb(
    "logout",
    "forget the login of a registry",
    "layer-packer logout registry.example",
    reaches=False,
)
def _logout(at: argparse.ArgumentParser) -> None:
    at.add_argument("host", metavar="HOST", help="the registry, such as registry.example:5000")


@verb(
    "storage",
    "keep every version of applications in a registry",
    "layer-packer storage save APP DIR --storage-base-uri docker://registry.example/base",
    reaches=False,
)
def _storage(at: argparse.ArgumentParser) -> None:
    from packer.cli.storage_arguments import add_storage_verbs  # late: only this verb needs it

    add_storage_verbs(at, add_common, add_registry, add_target)


@verb(
    "migrate",
    "copy what KOTS kept in S3 or a directory to a storage, or back",
    "layer-packer migrate s3://bucket/prefix docker://registry.example/base --dry-run",
)
def _migrate(at: argparse.ArgumentParser) -> None:
    at.add_argument("source", metavar="SRC", help="s3://bucket/prefix or a directory; or a storage")
    at.add_argument("destination", metavar="DST", help="docker://host/repository or oci:DIR")
    at.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")
    at.add_argument("--journal", metavar="FILE", help="notes what is done")


@verb(
    "registry",
    "print the configuration of a registry to run oneself",
    "layer-packer registry config --host registry.example | kubectl apply -f -",
    reaches=False,
)
def _registry(at: argparse.ArgumentParser) -> None:
    from packer.cli.builtin import add_config  # late: only this verb needs it

    add_config(at)


@verb(
    "serve",
    "show what a store, repository or storage holds, as a page and as JSON",
    "layer-packer serve registry.example/acme/app",
)
def _serve(at: argparse.ArgumentParser) -> None:
    from packer.cli.serving import add_serve  # late: only these verbs need it

    add_serve(at)


@verb(
    "report",
    "write a page about a version or an application to a file",
    "layer-packer report app:1.4.2 -o app.html",
)
def _report(at: argparse.ArgumentParser) -> None:
    from packer.cli.serving import add_report

    add_report(at)


@verb(
    "completion",
    "print a script that lets a shell complete what is typed",
    "source <(layer-packer completion bash)",
    reaches=False,
)
def _completion(at: argparse.ArgumentParser) -> None:
    at.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


@verb("manual", "print the manual page", "layer-packer manual | man -l -", reaches=False)
def _manual(at: argparse.ArgumentParser) -> None:
    pass


@verb("help", "show the help of a verb", "layer-packer help storage save", reaches=False)
def _help(at: argparse.ArgumentParser) -> None:
    at.add_argument(
        "topic", metavar="VERB", nargs="*", help=f"a verb, or {OPTIONS!r} (default: all verbs)"
    )

"""The verbs serve and report: the page that shows what a store, a repository or a storage holds."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from packer.cli.call_options import registry_options
from packer.cli.outcome import Report
from packer.cli.output import Output, replace_file
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.text import format_size, text_fields

TOKEN = "LAYER_PACKER_SERVE_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token of `serve`."""
PORT = 8321
"""Port of `serve` unless the caller says otherwise."""
_POLL_SECONDS = 0.1
_MAX_TOKEN_BYTES = 4096


def add_serve(at: argparse.ArgumentParser) -> None:
    """Add the arguments of ``serve``."""
    at.add_argument(
        "place",
        metavar="STORE|REF|BASE-URI",
        nargs="?",
        help="directory of a store, a version, a repository, or the base of a storage"
        " (default: the local store)",
    )
    _add_base(at)
    at.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at (default: 127.0.0.1)"
    )
    at.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"0 for any (default: {PORT})"
    )
    at.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"the token that requests must bring (default: ${TOKEN}); needed off loopback",
    )
    at.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further host name of requests, such as a proxy's (repeatable)",
    )
    at.add_argument("--tls-cert", metavar="PEM", help="certificate, for https")
    at.add_argument("--tls-key", metavar="PEM", help="its key, if not in the same file")


def add_report(at: argparse.ArgumentParser) -> None:
    """Add the arguments of ``report``."""
    at.add_argument("name", metavar="NAME", help="a version, an application, or a repository")
    at.add_argument("-o", "--output", metavar="FILE", required=True, help="the page to write")
    _add_base(at)


def _add_base(at: argparse.ArgumentParser) -> None:
    at.add_argument(
        "--storage-base-uri",
        metavar="URI",
        help="base of a storage; what is named is then one of its applications",
    )


def serve(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Serve the page until a signal ends the process."""
    _need_extra("jinja2", "prometheus_client", "starlette", "uvicorn")
    from packer.serve.finding import open_place
    from packer.serve.running import Listening
    from packer.serve.running import serve as run

    listening = Listening(
        args.host,
        args.port,
        _token(args.token_file),
        tuple(args.allow_host),
        args.tls_cert,
        args.tls_key,
    )
    place = open_place(
        args.place,
        store=args.store,
        registry=registry_options(args),
        storage=args.storage_base_uri,
    )

    def ready(url: str) -> None:
        if args.json:
            out.json({"url": url, **text_fields("place", place.title)})
        elif not args.quiet:
            out.line(f"{place.title} at {url}")
        out.flush()

    run(place, listening, on_ready=ready, stops=(_on_cancel(args.cancel),))
    return Report(None, tuple)


def _on_cancel(cancel: Any) -> Callable[[Callable[[], None]], None]:
    """Return what ends the server once the event of the command's signals is set."""

    def watch(end: Callable[[], None]) -> None:
        def wait() -> None:
            while not cancel.is_set():
                time.sleep(_POLL_SECONDS)
            end()

        threading.Thread(target=wait, name="packer-serve-end", daemon=True).start()

    return watch


def report(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Write one page about a version or an application."""
    _need_extra("jinja2")
    from packer.serve.finding import open_place
    from packer.serve.report import report as make

    place = open_place(
        args.name,
        store=args.store,
        registry=registry_options(args),
        storage=args.storage_base_uri,
    )
    try:
        data = make(place, args.cancel).encode("utf-8", "backslashreplace")
    finally:
        place.close()
    replace_file(args.output, data)

    def lines() -> Iterator[str]:
        yield f"wrote {format_size(len(data))} to {args.output}"

    names = {**text_fields("name", args.name), **text_fields("output", args.output)}
    return Report(lambda: {**names, "bytes": len(data)}, lines)


def _need_extra(*names: str) -> None:
    """Raise if modules of the extra are not installed.

    Raises:
        InvalidParameter: it is not.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InvalidParameter(
            f"the page needs {', '.join(missing)}: pip install 'layer-packer[serve]'"
        )


def _token(path: str | None) -> str | None:
    """Return the token of a file, else of the environment; None if there is none."""
    if path is None:
        return os.environ.get(TOKEN) or None
    with open(path, "rb") as file:
        data = file.read(_MAX_TOKEN_BYTES + 1)
    text = data.decode("utf-8", "replace").strip()
    if not text or len(data) > _MAX_TOKEN_BYTES:
        raise InvalidParameter(f"--token-file {path}: it holds no token")
    return text

"""The verbs about trust: sign, receipt."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from packer.api import trust
from packer.cli.arguments import EXIT_DIFFERENT
from packer.cli.call_options import options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.progress import ProgressCallback
from packer.text import format_count, text_fields
from packer.trust.receipt import read_receipt, trusted_value


def sign(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Sign a version."""
    done = trust.sign(args.name, args.key, **options(args))

    def value() -> dict[str, Any]:
        return {
            **text_fields("name", args.name),
            "digest": done.digest,
            "tag": done.tag,
            "signature": done.carrier,
            "key_id": done.key_id,
            "unchanged": done.unchanged,
        }

    def lines() -> Iterator[str]:
        yield f"{args.name}  {done.digest}"
        how = "was signed before" if done.unchanged else "signed"
        yield f"{how} with {done.key_id}, under the tag {done.tag}"

    return Report(value, lines)


def receipt(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Compare a directory with a receipt."""
    found = read_receipt(args.receipt, trust.load_public_keys(args.key))
    wrong = trust.verify_receipt(args.directory, found)

    def value() -> dict[str, Any]:
        return {
            **text_fields("directory", args.directory),
            **text_fields("receipt", args.receipt),
            "digest": found.digest,
            "action": found.action,
            "time": found.time,
            **text_fields("source", found.source),
            "signed": bool(args.key),
            "files": len(found.files or ()),
            "complete": found.complete,
            "verification": None if found.trusted is None else trusted_value(found.trusted),
            "same": not wrong,
            "differences": [
                {**text_fields("path", each.path), "what": each.what} for each in wrong
            ],
        }

    def lines() -> Iterator[str]:
        yield f"{found.source}  {found.digest}, {found.action} at {found.time}"
        for each in wrong:
            yield f"{each.what}: {each.path}"
        count = format_count(len(found.files or ()), "entry")
        yield (
            f"{len(wrong)} of {count} differ from what was installed"
            if wrong
            else f"{args.directory} is what was installed: {count}"
        )

    return Report(value, lines, exit_code=EXIT_DIFFERENT if wrong else 0)

"""The verb `registry`: the files of the built-in registry."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from packer.cli import builtin_registry
from packer.cli.builtin_registry import RegistryConfig
from packer.cli.outcome import Report
from packer.cli.output import Output, replace_file
from packer.progress import ProgressCallback
from packer.text import text_fields


def registry(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Print the configuration of a registry, or write it to a directory."""
    config = RegistryConfig(
        **{field.name: getattr(args, field.name) for field in fields(RegistryConfig)}
    )
    if args.output is not None:
        files = builtin_registry.files(config, args.form)
        for name, text in files.items():
            replace_file(os.path.join(args.output, *name.split("/")), text.encode())
        return Report(
            lambda: {**text_fields("directory", args.output), "files": sorted(files)},
            lambda: (os.path.join(args.output, name) for name in sorted(files)),
        )
    if args.form == "kubernetes":
        text = builtin_registry.stream(config)
    elif args.form == "compose":
        text = builtin_registry.compose_yaml(config)
    else:
        text = builtin_registry.config_yml(config)

    def value() -> dict[str, Any]:
        return {"format": args.form, "text": text}

    def lines() -> Iterator[str]:
        yield from text.splitlines()

    return Report(value, lines, is_summary=False)

"""The verb `registry`: the files of the built-in registry."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from packer.cli import builtin_registry
from packer.cli.builtin_registry import FORMATS, STORAGES, RegistryConfig
from packer.cli.outcome import Report
from packer.cli.output import Output, replace_file
from packer.progress import ProgressCallback
from packer.text import text_fields


def add_config(at: argparse.ArgumentParser) -> None:
    """Add the arguments of ``registry``."""
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
        ("page", "REF|BASE-URI", "that a page shows (see serve); for Kubernetes"),
        ("page-secret", "NAME", "secret with token, config.json and ca.crt"),
        ("page-image", "IMAGE", "of layer-packer, for the page"),
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

"""The verb copy to ``oci-image:``, which writes a plain OCI image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from packer.api.exports import DEFAULT_PLATFORM, export_image
from packer.cli.call_options import options, refuse_trust
from packer.cli.outcome import Report, copied
from packer.engine.stream_compression import GZIP
from packer.errors import InvalidParameter
from packer.progress import ProgressCallback
from packer.text import format_count, format_size, text_fields


def export(
    args: argparse.Namespace, progress: ProgressCallback | None, split: int | None
) -> Report:
    """Write a version as an image.

    Args:
        args: of the verb ``copy``.
        progress: called now and then.
        split: size of an archive's parts; None for one file.

    Returns:
        The report.

    Raises:
        InvalidParameter: an option is of no use with an image.
    """
    refuse_trust(args)
    for is_given, option in ((args.have, "--have"), (args.dry_run, "--dry-run")):
        if is_given:
            raise InvalidParameter(f"{option} is for versions: an image shares no blobs with them")
    done = export_image(
        args.source,
        args.destination,
        compression=GZIP if args.compression is None else args.compression,
        one_layer=args.one_layer,
        platform=DEFAULT_PLATFORM if args.platform is None else args.platform,
        split_bytes=split,
        verify=args.verify,
        force=args.force,
        expect=args.expect,
        jobs=args.jobs,
        progress=progress,
        cancel=args.cancel,
        **options(args),
    )
    plain = copied("destination", args.destination, done.copied)
    assert plain.value is not None
    base = plain.value

    def value() -> dict[str, Any]:
        return {
            **base(),
            "version": done.version,
            "image_layers": [
                {
                    **text_fields("path", layer.path),
                    "digest": layer.descriptor.digest,
                    "diff_id": layer.diff_id,
                    "media_type": layer.descriptor.media_type,
                    "stored_bytes": layer.descriptor.size,
                    "tar_bytes": layer.tar_bytes,
                }
                for layer in done.layers
            ],
        }

    def lines() -> Iterator[str]:
        first, *rest = plain.lines()
        yield first
        stored = sum(layer.descriptor.size for layer in done.layers)
        tar = sum(layer.tar_bytes for layer in done.layers)
        layers = format_count(len(done.layers), "layer")
        yield (
            f"a plain image of {layers}, {format_size(stored)} for {format_size(tar)} of tar;"
            " an update sends each layer whole in which a file changed"
        )
        yield from rest

    return Report(value, lines)

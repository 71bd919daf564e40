"""The library's call that writes a version as a plain OCI image, for tools that know no versions.

The image is made in a temporary image layout and copied from there. So a registry, a layout and an
archive are written as by any other copy, and memory does not grow with the version.

Sources: OCI image-spec 1.1, ``manifest.md``, ``config.md`` and ``layer.md``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from packer.api.locations import (
    StoreLike,
    open_store,
    opened_version,
    refuse_local_name,
    tag_of,
)
from packer.engine.stream_compression import COMPRESSIONS, GZIP, compressor
from packer.errors import Conflict, InvalidParameter, InvalidReference, NotFound
from packer.files.temporary import temporary_directory
from packer.format.version import CREATED, TITLE, Version
from packer.oci import ARTIFACT_TYPE, MANIFEST_TYPE, Descriptor, canonical_json, load_json
from packer.progress import CancelEvent, Progress, ProgressCallback, cancellable
from packer.reading.image_layers import LayerPlan, plan_layers
from packer.reading.tar_output import tars_of
from packer.reference import IMAGE_PREFIX, parse_location
from packer.stores.graph import check_expected
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Store
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.copy_graph import CopyResult
from packer.transfer.copy_graph import copy as copy_graph

IMAGE_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+"
"""Media type of a layer, up to the name of its compression."""
SOURCE = "layer-packer.version"
"""Annotation of an image: the digest of the version that it was made from."""
DEFAULT_PLATFORM = "linux/amd64"

_OCI_ANNOTATION = "org.opencontainers.image."
_PLATFORM = re.compile(r"([a-z0-9]{1,32})/([a-z0-9_]{1,32})(?:/([a-z0-9.]{1,32}))?\Z")


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer of an image.

    Args:
        path: of the directory that it holds; "" if it holds others, or files at the top.
        descriptor: of the compressed layer.
        diff_id: ``sha256:<hex>`` of the tar archive.
        tar_bytes: size of the tar archive.
    """

    path: str
    descriptor: Descriptor
    diff_id: str
    tar_bytes: int


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """The result of an export.

    Args:
        descriptor: of the image's manifest.
        version: digest of the version that it was made from.
        layers: of the image, the lowest first.
        copied: what the destination lacked and had.
    """

    descriptor: Descriptor
    version: str
    layers: tuple[ImageLayer, ...]
    copied: CopyResult


def export_image(
    name: str,
    destination: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    compression: str = GZIP,
    one_layer: bool = False,
    platform: str = DEFAULT_PLATFORM,
    split_bytes: int | None = None,
    jobs: int = 4,
    verify: bool = False,
    force: bool = False,
    expect: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> ExportedImage:
    """Write a version as a plain OCI image, which container runtimes mount.

    An image shares less than a version: an update of one file stores and sends the whole layer that
    holds it. Nothing but `pull` of the version itself brings the version back.

    The same version gives the same image with the same versions of zlib and zstd, and equal
    directories of any versions give equal layers. Owners are root, times are 1980-01-01;
    permissions and symbolic links are kept.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        destination: a reference to a registry, an ``oci:`` layout or an ``oci-archive:``.
            ``oci-image:`` before it says nothing more.
        store: the local store.
        registry: how to reach registries, on both sides.
        compression: of the layers: "gzip", which all tools read, or "zstd".
        one_layer: write a single layer, as Flux and Argo CD need it. Otherwise each directory at
            the top is a layer, and the files at the top are one.
        platform: that the image says it is for, ``OS/ARCHITECTURE[/VARIANT]``. A runtime
            may refuse an image for another platform than its node's.
        split_bytes: as for `copy`.
        jobs: concurrent transfers, at least 1.
        verify: as for `push`.
        force: as for `push`.
        expect: digest that the version must have; None for any.
        progress: called with the bytes of files that were written to layers, and with those moved.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The image's digest and layers, and the numbers of blobs sent and present.

    Raises:
        NotFound: there is no such version.
        InvalidReference: `destination` is malformed.
        InvalidParameter: an argument has none of the values that are allowed.
        Conflict: the tag at the destination names a version, which it would hide.
        UnsupportedFile: a name begins with ``.wh.``, by which images delete files.
        IntegrityError: bytes differ from their digest; the destination names nothing new.
        StoreError: a store failed.
        OSError: there is no room for the compressed image below TMPDIR, or /var/tmp.
        Cancelled: `cancel` was set.
    """
    if compression not in COMPRESSIONS:
        raise InvalidParameter(f"compression {compression!r} is none of {', '.join(COMPRESSIONS)}")
    system = _platform(platform)
    if jobs < 1:
        raise InvalidParameter(f"jobs={jobs} is less than 1")
    from packer.api.air_gap import open_target

    access = Access.of(registry)
    local = open_store(store, create=False)
    place = destination.removeprefix(IMAGE_PREFIX)
    if not place:
        raise InvalidReference(destination, f"write {IMAGE_PREFIX}registry.example/repository:tag")
    refuse_local_name(place, local)
    location = parse_location(place)
    if location.digest:
        raise InvalidReference(destination, "an image is written under a tag, not a digest")
    with opened_version(name, local, access, cancel, "exporting") as version:
        check_expected(version.descriptor.digest, expect, name)
        plans = plan_layers(version.index, one_layer=one_layer)
        target, tag = open_target(location, access, partial=False, part_bytes=split_bytes)
        tag = tag or tag_of(name)
        _check_free(target, tag)
        watched = cancellable(progress, cancel, "exporting")
        with temporary_directory(on_disk=True) as directory:
            made = LayoutStore(directory, durable=False)
            layers = tuple(_write_layers(version, plans, made, compression, watched))
            manifest = _manifest(version, layers, system, made)
            image = made.put_manifest(manifest, MANIFEST_TYPE)
            copied = copy_graph(
                made,
                image.digest,
                target,
                tag,
                jobs=jobs,
                verify=verify,
                force=force,
                referrers=False,  # those of the version say nothing of the image
                progress=progress,
                cancel=cancel,
            )
    return ExportedImage(image, version.descriptor.digest, layers, copied)


def _platform(text: str) -> dict[str, str]:
    """Return the fields of a config that name a platform."""
    found = _PLATFORM.match(text)
    if found is None:
        raise InvalidParameter(f"platform {text[:80]!r} is not OS/ARCHITECTURE, as linux/arm64")
    names = ("os", "architecture", "variant")
    return {name: value for name, value in zip(names, found.groups(), strict=True) if value}


def _check_free(target: Store, tag: str | None) -> None:
    """Raise if a tag names a version: an image in its place would hide it."""
    if tag is None:
        return
    try:
        descriptor, data = target.get_manifest(tag)
    except NotFound:
        return
    found = load_json(data, f"manifest {descriptor.digest}")
    if found.get("artifactType") == ARTIFACT_TYPE:
        why = f"it names a version in {target.name}, which an image would hide"
        raise Conflict("tag", tag, f"{why}; choose another tag or repository")


def _write_layers(
    version: Version,
    plans: list[LayerPlan],
    made: LayoutStore,
    compression: str,
    progress: ProgressCallback | None,
) -> Iterator[ImageLayer]:
    """Write the layers of an image into a layout, one after the other."""
    total = sum(plan.bytes for plan in plans)
    done = 0
    archives = tars_of(version, version.index, [plan.entries for plan in plans])
    for plan, archive in zip(plans, archives, strict=True):
        stream, plain, size = compressor(compression), hashlib.sha256(), 0
        with made.create() as writer:
            for piece in archive:
                plain.update(piece)
                size += len(piece)
                if data := stream.compress(piece):
                    writer.write(data)
                if progress is not None:
                    # Headers are not counted, so a layer ends at the sum of its files.
                    state = min(done + size, done + plan.bytes)
                    progress(Progress("export", state, total, plan.path))
            writer.write(stream.flush())
            descriptor, _ = writer.commit(LAYER_TYPE + compression)
        done += plan.bytes
        yield ImageLayer(plan.path, descriptor, "sha256:" + plain.hexdigest(), size)


def _shown(path: str) -> str:
    """Return what the history says of a layer; JSON holds no bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode() + "/" if path else "files"


def _manifest(
    version: Version, layers: tuple[ImageLayer, ...], system: dict[str, str], made: LayoutStore
) -> bytes:
    """Write the config of an image into a layout; return the manifest."""
    noted = version.manifest.annotations
    annotations = {
        name: text
        for name, text in noted.items()
        if name.startswith(_OCI_ANNOTATION) and name != TITLE
    }
    created = {"created": noted[CREATED]} if CREATED in noted else {}
    config: dict[str, Any] = {
        **created,
        **system,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            {
                **created,
                "created_by": f"layer-packer: {_shown(layer.path)}",
            }
            for layer in layers
        ],
    }
    with made.create() as writer:
        writer.write(canonical_json(config))
        stored, _ = writer.commit(IMAGE_CONFIG_TYPE)
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": stored.to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
            "annotations": {**annotations, SOURCE: version.descriptor.digest},
        }
    )

"""Ship application versions through any OCI registry: successive versions share their bytes.

packer.pack("app-1.4.2/")
packer.push("registry.example/acme/app:1.4.2")
packer.pull("registry.example/acme/app:1.4.2", "out/")

A public name loads the module that defines it when the name is first used, and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from packer._version import VERSION

if TYPE_CHECKING:
    from packer.api.air_gap import Inventory, InventoryEntry
    from packer.api.estimates import estimate
    from packer.api.exports import ExportedImage, ImageLayer, export_image
    from packer.api.forgetting import Forgotten, KeptVersion, forget
    from packer.api.integrity import Checked, Repaired, repair, verify_all
    from packer.api.keeping import AppUsage, Collected, StoreUsage, Tagged, gc, tag, usage
    from packer.api.listing import ListedVersion, versions
    from packer.api.locations import default_store_path, open_store, open_version
    from packer.api.packs import pack
    from packer.api.pulls import Pulled, pull
    from packer.api.ranges import pin
    from packer.api.readings import (
        cat,
        diff,
        inspect,
        inventory,
        ls,
        patches,
        unpack,
        unpack_tar,
        verify,
    )
    from packer.api.referrers import ListedReferrer, referrers
    from packer.api.remote_versions import RemoteVersion, RemoteVersions, remote_versions
    from packer.api.transfers import copy, push
    from packer.api.trust import Trust, sign, verify_receipt, verify_signatures
    from packer.engine.chunking import ChunkParams
    from packer.errors import (
        AuthError,
        BadSignature,
        Cancelled,
        Conflict,
        DigestMismatch,
        FormatError,
        IntegrityError,
        InvalidParameter,
        InvalidReference,
        MissingExtra,
        NotFound,
        OlderVersion,
        PackerError,
        RegistryError,
        SignatureError,
        SignatureExpired,
        SignatureMismatch,
        SizeMismatch,
        SourceChanged,
        SourceError,
        StoreError,
        TargetExists,
        TransportError,
        UnknownSigner,
        UnsafePath,
        Unsigned,
        UnsupportedFile,
        UnsupportedVersion,
    )
    from packer.files.rules import LeftOut
    from packer.format.closed_files import Closed
    from packer.format.cost import Cost
    from packer.format.usage import Opened, Use
    from packer.oci import Descriptor
    from packer.packing.job import BaseChoice, Packed
    from packer.progress import Progress
    from packer.reading.contents import Details, Entry, LayerUse
    from packer.reading.differences import Change
    from packer.reading.file_patches import Patch
    from packer.reading.line_diff import Hunk, Line
    from packer.reading.restore import Restored
    from packer.reading.verification import Verified
    from packer.storage.condition import Condition, Finding
    from packer.storage.deployments import Deployment
    from packer.storage.migration import Migrated, migrate
    from packer.storage.results import Retained, SavedVersion, StorageEvent, SupportBundle
    from packer.storage.storage import Storage, open_storage
    from packer.stores.memory import MemoryStore
    from packer.stores.registry.access import RegistryOptions
    from packer.stores.registry.diagnosis import Diagnosis, Probe, doctor
    from packer.stores.registry.logins import LoggedIn, login, logout
    from packer.transfer.copy_cost import Estimate
    from packer.trust.checking import Signature, Trusted
    from packer.trust.installed import Deviation
    from packer.trust.keys import SigningKey
    from packer.trust.policy import Policy
    from packer.trust.receipt import InstalledFile, Receipt, read_receipt
    from packer.trust.signing import Signed

__version__ = VERSION

__all__ = [
    "AppUsage",
    "AuthError",
    "BadSignature",
    "BaseChoice",
    "Cancelled",
    "Change",
    "Checked",
    "ChunkParams",
    "Closed",
    "Collected",
    "Condition",
    "Conflict",
    "Cost",
    "Deployment",
    "Descriptor",
    "Details",
    "Deviation",
    "Diagnosis",
    "DigestMismatch",
    "Entry",
    "Estimate",
    "ExportedImage",
    "Finding",
    "Forgotten",
    "FormatError",
    "Hunk",
    "ImageLayer",
    "InstalledFile",
    "IntegrityError",
    "InvalidParameter",
    "InvalidReference",
    "Inventory",
    "InventoryEntry",
    "KeptVersion",
    "LayerUse",
    "LeftOut",
    "Line",
    "ListedReferrer",
    "ListedVersion",
    "LoggedIn",
    "MemoryStore",
    "Migrated",
    "MissingExtra",
    "NotFound",
    "OlderVersion",
    "Opened",
    "Packed",
    "PackerError",
    "Patch",
    "Policy",
    "Probe",
    "Progress",
    "Pulled",
    "Receipt",
    "RegistryError",
    "RegistryOptions",
    "RemoteVersion",
    "RemoteVersions",
    "Repaired",
    "Restored",
    "Retained",
    "SavedVersion",
    "Signature",
    "SignatureError",
    "SignatureExpired",
    "SignatureMismatch",
    "Signed",
    "SigningKey",
    "SizeMismatch",
    "SourceChanged",
    "SourceError",
    "Storage",
    "StorageEvent",
    "StoreError",
    "StoreUsage",
    "SupportBundle",
    "Tagged",
    "TargetExists",
    "TransportError",
    "Trust",
    "Trusted",
    "UnknownSigner",
    "UnsafePath",
    "Unsigned",
    "UnsupportedFile",
    "UnsupportedVersion",
    "Use",
    "Verified",
    "__version__",
    "cat",
    "copy",
    "default_store_path",
    "diff",
    "doctor",
    "estimate",
    "export_image",
    "forget",
    "gc",
    "inspect",
    "inventory",
    "login",
    "logout",
    "ls",
    "migrate",
    "open_storage",
    "open_store",
    "open_version",
    "pack",
    "patches",
    "pin",
    "pull",
    "push",
    "read_receipt",
    "referrers",
    "remote_versions",
    "repair",
    "sign",
    "tag",
    "unpack",
    "unpack_tar",
    "usage",
    "verify",
    "verify_all",
    "verify_receipt",
    "verify_signatures",
    "versions",
]

_MODULES = {
    "api.air_gap": (
        "Inventory",
        "InventoryEntry",
    ),
    "api.estimates": ("estimate",),
    "api.exports": ("ExportedImage", "ImageLayer", "export_image"),
    "api.forgetting": ("Forgotten", "KeptVersion", "forget"),
    "api.integrity": ("Checked", "Repaired", "repair", "verify_all"),
    "api.keeping": ("AppUsage", "Collected", "StoreUsage", "Tagged", "gc", "tag", "usage"),
    "api.listing": ("ListedVersion", "versions"),
    "api.locations": (
        "default_store_path",
        "open_store",
        "open_version",
    ),
    "api.packs": ("pack",),
    "api.pulls": ("Pulled", "pull"),
    "api.ranges": ("pin",),
    "api.readings": (
        "cat",
        "diff",
        "inspect",
        "inventory",
        "ls",
        "patches",
        "unpack",
        "unpack_tar",
        "verify",
    ),
    "api.referrers": ("ListedReferrer", "referrers"),
    "api.remote_versions": ("RemoteVersion", "RemoteVersions", "remote_versions"),
    "api.transfers": ("copy", "push"),
    "api.trust": ("Trust", "sign", "verify_receipt", "verify_signatures"),
    "engine.chunking": ("ChunkParams",),
    "errors": (
        "AuthError",
        "BadSignature",
        "Cancelled",
        "Conflict",
        "DigestMismatch",
        "FormatError",
        "IntegrityError",
        "InvalidParameter",
        "InvalidReference",
        "MissingExtra",
        "NotFound",
        "OlderVersion",
        "PackerError",
        "RegistryError",
        "SignatureError",
        "SignatureExpired",
        "SignatureMismatch",
        "SizeMismatch",
        "SourceChanged",
        "SourceError",
        "StoreError",
        "TargetExists",
        "TransportError",
        "UnknownSigner",
        "UnsafePath",
        "Unsigned",
        "UnsupportedFile",
        "UnsupportedVersion",
    ),
    "files.rules": ("LeftOut",),
    "format.closed_files": ("Closed",),
    "format.cost": ("Cost",),
    "format.usage": (
        "Opened",
        "Use",
    ),
    "oci": ("Descriptor",),
    "packing.job": ("BaseChoice", "Packed"),
    "progress": ("Progress",),
    "reading.contents": ("Details", "Entry", "LayerUse"),
    "reading.differences": ("Change",),
    "reading.file_patches": ("Patch",),
    "reading.line_diff": ("Hunk", "Line"),
    "reading.restore": ("Restored",),
    "reading.verification": ("Verified",),
    "storage.condition": ("Condition", "Finding"),
    "storage.deployments": ("Deployment",),
    "storage.migration": (
        "Migrated",
        "migrate",
    ),
    "storage.results": (
        "Retained",
        "SavedVersion",
        "StorageEvent",
        "SupportBundle",
    ),
    "storage.storage": (
        "Storage",
        "open_storage",
    ),
    "stores.memory": ("MemoryStore",),
    "stores.registry.access": ("RegistryOptions",),
    "stores.registry.diagnosis": (
        "Diagnosis",
        "Probe",
        "doctor",
    ),
    "stores.registry.logins": (
        "LoggedIn",
        "login",
        "logout",
    ),
    "transfer.copy_cost": ("Estimate",),
    "trust.checking": ("Signature", "Trusted"),
    "trust.installed": ("Deviation",),
    "trust.keys": ("SigningKey",),
    "trust.policy": ("Policy",),
    "trust.receipt": ("InstalledFile", "Receipt", "read_receipt"),
    "trust.signing": ("Signed",),
}
"""Each public name, under the module (below this package) that defines it."""

_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used.

    Args:
        name: the name.

    Returns:
        The function or class.

    Raises:
        AttributeError: the package has no such name.
    """
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'packer' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"packer.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

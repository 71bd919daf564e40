"""Ship application versions through any OCI registry: successive versions share their bytes.

packer.pack("app-1.4.2/")
packer.push("registry.example/acme/app:1.4.2")
packer.pull("registry.example/acme/app:1.4.2", "out/")
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from packer._version import VERSION

if TYPE_CHECKING:
    from packer.access import RegistryOptions
    from packer.accounts import LoggedIn, login, logout
    from packer.airgap import Inventory, InventoryEntry
    from packer.api import (
        Pulled,
        cat,
        copy,
        diff,
        inspect,
        inventory,
        ls,
        pack,
        pull,
        push,
        unpack,
        verify,
        versions,
    )
    from packer.bundles import SupportBundle
    from packer.deployments import Deployment
    from packer.doctor import Diagnosis, Probe, doctor
    from packer.errors import (
        AuthError,
        Cancelled,
        Conflict,
        DigestMismatch,
        FormatError,
        IntegrityError,
        InvalidParameter,
        InvalidReference,
        NotFound,
        PackerError,
        RegistryError,
        SizeMismatch,
        SourceChanged,
        SourceError,
        StoreError,
        TargetExists,
        TransportError,
        UnsafePath,
        UnsupportedFile,
        UnsupportedVersion,
    )
    from packer.estimates import estimate
    from packer.listing import Change, Details, Entry, LayerUse, Verified
    from packer.locations import default_store_path, open_store, open_version
    from packer.migration import Migrated, migrate
    from packer.model import ChunkParams, Descriptor
    from packer.pack import Packed
    from packer.planning import Estimate
    from packer.progress import Progress
    from packer.restore import Restored
    from packer.saved import Retained, SavedVersion, StorageEvent
    from packer.storage import Storage, open_storage
    from packer.usage import Opened, Use

__version__ = VERSION

__all__ = [
    "AuthError",
    "Cancelled",
    "Change",
    "ChunkParams",
    "Conflict",
    "Deployment",
    "Descriptor",
    "Details",
    "Diagnosis",
    "DigestMismatch",
    "Entry",
    "Estimate",
    "FormatError",
    "IntegrityError",
    "InvalidParameter",
    "InvalidReference",
    "Inventory",
    "InventoryEntry",
    "LayerUse",
    "LoggedIn",
    "Migrated",
    "NotFound",
    "Opened",
    "Packed",
    "PackerError",
    "Probe",
    "Progress",
    "Pulled",
    "RegistryError",
    "RegistryOptions",
    "Restored",
    "Retained",
    "SavedVersion",
    "SizeMismatch",
    "SourceChanged",
    "SourceError",
    "Storage",
    "StorageEvent",
    "StoreError",
    "SupportBundle",
    "TargetExists",
    "TransportError",
    "UnsafePath",
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
    "pull",
    "push",
    "unpack",
    "verify",
    "versions",
]

_MODULES = (
    "api",
    "access",
    "accounts",
    "airgap",
    "bundles",
    "deployments",
    "doctor",
    "errors",
    "estimates",
    "listing",
    "locations",
    "migration",
    "model",
    "pack",
    "planning",
    "progress",
    "restore",
    "saved",
    "storage",
    "usage",
)
"""Where the names come from, the first that has one."""


class _Package(ModuleType):
    """Keeps `packer.pack` and `packer.copy` functions when modules of these names are loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    """Load a name when it is first used: a program that starts pays for nothing else."""
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"packer.{module}")
            if hasattr(found, name):
                value: object = getattr(found, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module 'packer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


sys.modules[__name__].__class__ = _Package

"""Ship application versions through any OCI registry: successive versions share their bytes.

packer.pack("app-1.4.2/")
packer.push("registry.example/acme/app:1.4.2")
packer.pull("registry.example/acme/app:1.4.2", "out/")
"""

from packer._version import VERSION
from packer.api import (
    Pulled,
    cat,
    copy,
    diff,
    inspect,
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
from packer.listing import Change, Details, Entry, LayerUse, Verified
from packer.locations import RegistryOptions, default_store_path, open_store, open_version
from packer.migration import Migrated, migrate
from packer.model import ChunkParams, Descriptor
from packer.pack import Packed
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
    "DigestMismatch",
    "Entry",
    "FormatError",
    "IntegrityError",
    "InvalidParameter",
    "InvalidReference",
    "LayerUse",
    "Migrated",
    "NotFound",
    "Opened",
    "Packed",
    "PackerError",
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
    "inspect",
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

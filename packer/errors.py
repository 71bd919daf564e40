"""Every exception the package raises on its own account.

    PackerError
    ├── InvalidParameter      (also ValueError)  an argument outside its documented range
    │   └── InvalidReference                     a reference that does not follow the grammar
    ├── NotFound                                 a tag, version, blob or path that is not there
    ├── SourceError                              something in the directory given to pack
    │   ├── SourceChanged                        a file changed while it was being read
    │   └── UnsupportedFile                      a socket, device or fifo
    ├── Cancelled                                the caller's cancel event was set
    ├── TargetExists                             the directory to restore into is not empty
    ├── Conflict                                 the name is taken by something else
    ├── IntegrityError                           stored bytes are not what they should be
    │   ├── DigestMismatch
    │   ├── SizeMismatch
    │   ├── FormatError                          a malformed index, manifest, config or frame
    │   │   └── UnsafePath                       a stored path that would leave the target directory
    │   └── UnsupportedVersion                   written by a later format, or by another tool
    ├── SignatureError                           a version is not signed as the policy asks
    │   ├── Unsigned                             nothing signs it
    │   ├── UnknownSigner                        signatures, but none of the signers asked for
    │   ├── SignatureExpired                     the signature's or its certificate's time is over
    │   ├── SignatureMismatch                    the right signer signed another digest
    │   └── BadSignature                         malformed, or tampered with
    ├── OlderVersion                             an update that is older than what is there
    ├── MissingExtra                             a library that an extra of the package brings
    └── StoreError                               a store could not carry an operation out
        ├── HelperFailed                         a docker credential helper gives no answer
        ├── TransportError                       no answer: connection refused, timeout, TLS
        └── RegistryError                        an answer that says no
            └── AuthError                        401 or 403

Errors of the user's own files (``FileNotFoundError``, ``PermissionError``, ``OSError`` for a full
disk) pass through as they are, with their path. Messages say what failed, on which path or digest,
what was expected and what was found; they never hold a secret or the query part of a URL. All
exceptions can be pickled.
"""

from __future__ import annotations

__all__ = [
    "AuthError",
    "BadSignature",
    "Cancelled",
    "Conflict",
    "DigestMismatch",
    "FormatError",
    "HelperFailed",
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
]


class PackerError(Exception):
    """Base of every exception defined by the package."""


class InvalidParameter(PackerError, ValueError):
    """An argument is outside its documented range."""


class InvalidReference(InvalidParameter):
    """A reference does not follow the grammar ``[transport:]name[:tag][@digest]``."""

    def __init__(self, reference: str, why: str) -> None:
        super().__init__(reference, why)
        self.reference = reference
        self.why = why

    def __str__(self) -> str:
        return f"invalid reference {self.reference!r}: {self.why}"


class NotFound(PackerError):
    """Something named by the caller is not there.

    Args:
        kind: what was looked for: "tag", "version", "blob", "manifest", "path", ...
        name: its name or digest.
        where: the store it was looked for in, or a hint what to do; may be empty.
    """

    touched = ""
    """Of a blob: which files and versions need it, in words, where that is known."""

    def __init__(self, kind: str, name: str, where: str = "") -> None:
        super().__init__(kind, name, where)
        self.kind = kind
        self.name = name
        self.where = where

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        touched = f"; {self.touched}" if self.touched else ""
        return f"{self.kind} not found: {self.name}{where}{touched}"


class _PathError(PackerError):
    """Base of errors about one path; ``path`` is text with undecodable bytes surrogate-escaped."""

    what = "cannot use"

    def __init__(self, path: str, why: str = "") -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        shown = self.path.encode("utf-8", "backslashreplace").decode()
        return f"{self.what}: {shown}" + (f" ({self.why})" if self.why else "")


class SourceError(_PathError):
    """Something in the directory given to ``pack`` cannot be packed."""


class SourceChanged(SourceError):
    """A file changed while it was being read; nothing was tagged. Pack again when it is at rest."""

    what = "changed while being read"


class UnsupportedFile(SourceError):
    """A socket, device or fifo, which a version cannot hold; or see `UnknownSize`."""

    what = "unsupported file type"


class UnknownSize(UnsupportedFile):
    """A file whose size the file system does not tell, as in /proc, /sys and some FUSE ones."""

    what = "file of unknown size"


class TargetExists(_PathError):
    """The directory to restore into exists and is not empty, or something else is there.

    Args:
        path: of the target.
        why: what is there, or what to do.
        is_directory: whether a directory is there.
    """

    def __init__(self, path: str, why: str = "", *, is_directory: bool = True) -> None:
        super().__init__(path, why)
        self.what = "target is not empty" if is_directory else "target is not a directory"


class Cancelled(PackerError):
    """The caller's cancel event was set; nothing half-made is left, as after any other error."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} was cancelled"


class Conflict(PackerError):
    """A sequence number, ID or tag is taken already, by something else; or a version is in use.

    Args:
        kind: "sequence", "support bundle", "tag", or "version".
        name: the number, ID or tag.
        why: what is there, or what to do.
    """

    def __init__(self, kind: str, name: str, why: str) -> None:
        super().__init__(kind, name, why)
        self.kind = kind
        self.name = name
        self.why = why

    def __str__(self) -> str:
        state = "in use" if self.kind == "version" else "taken"
        return f"{self.kind} {self.name} is {state}: {self.why}"


class IntegrityError(PackerError):
    """Stored bytes are not what their digest, size or format promises."""

    touched = ""
    """Which files and versions need what is damaged, in words, where that is known."""

    def __str__(self) -> str:
        message = self._message()
        return f"{message}; {self.touched}" if self.touched else message

    def _message(self) -> str:
        return super().__str__()


class DigestMismatch(IntegrityError):
    """Bytes do not hash to the digest they are stored under."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(what, expected, actual)
        self.what = what
        self.expected = expected
        self.actual = actual

    def _message(self) -> str:
        return f"{self.what}: digest mismatch: expected {self.expected}, got {self.actual}"


class SizeMismatch(IntegrityError):
    """Fewer or more bytes than the descriptor says."""

    def __init__(self, what: str, expected: int, actual: int) -> None:
        super().__init__(what, expected, actual)
        self.what = what
        self.expected = expected
        self.actual = actual

    def _message(self) -> str:
        return f"{self.what}: size mismatch: expected {self.expected} bytes, got {self.actual}"


class FormatError(IntegrityError):
    """A stored structure does not follow docs/format.md.

    Args:
        what: the structure, with its digest where it has one.
        why: the rule that is broken.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why

    def _message(self) -> str:
        return f"malformed {self.what}: {self.why}"


class UnsafePath(FormatError):
    """A stored path is absolute, climbs, holds a NUL or is not inside a directory."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"path {path!r}", why)
        self.args = (path, why)
        self.path = path


class UnsupportedVersion(IntegrityError):
    """Written by a later format version, or not by layer-packer at all."""


class SignatureError(PackerError):
    """A version is not signed as the policy asks; nothing was written.

    Args:
        digest: of the version's manifest, or of the document that should be signed.
        why: what was found, and what was asked for.
    """

    what = "is not trusted"

    def __init__(self, digest: str, why: str) -> None:
        super().__init__(digest, why)
        self.digest = digest
        self.why = why

    def __str__(self) -> str:
        return f"{self.digest} {self.what}: {self.why}"


class Unsigned(SignatureError):
    """Nothing that was found signs the version."""

    what = "is not signed"


class UnknownSigner(SignatureError):
    """There are signatures, but none of a signer that the policy asks for."""

    what = "is not signed by whom it should be"


class SignatureExpired(SignatureError):
    """The time of the signature, or of a certificate that it needs, is over or to come."""

    what = "has a signature out of its time"


class SignatureMismatch(SignatureError):
    """A signer that the policy asks for signed something else: the signature was moved."""

    what = "has a signature of something else"


class BadSignature(SignatureError):
    """A signature is malformed, or was tampered with."""

    what = "has a bad signature"


class OlderVersion(PackerError):
    """An update is older than what is there, or than the receipt that was given."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why

    def __str__(self) -> str:
        return f"{self.what} is older: {self.why}"


class MissingExtra(PackerError):
    """A library is not installed that an extra of the package brings.

    Args:
        library: its name.
        extra: the extra, as in ``pip install 'layer-packer[verify]'``.
        purpose: what needs it.
    """

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(library, extra, purpose)
        self.library = library
        self.extra = extra
        self.purpose = purpose

    def __str__(self) -> str:
        return (
            f"{self.purpose} needs {self.library}, which is not installed:"
            f" pip install 'layer-packer[{self.extra}]'"
        )


class StoreError(PackerError):
    """A store could not carry an operation out.

    Args:
        message: what failed, on which digest or reference.
        retryable: True if the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class HelperFailed(StoreError):
    """A docker credential helper is not installed, failed, or did not end in time."""


class TransportError(StoreError):
    """No answer from a registry: refused, timed out, cut off, or TLS failed."""


class RegistryError(StoreError):
    """A registry answered with an error.

    Args:
        message: one line for people.
        status: HTTP status.
        code: error code of the distribution spec ("BLOB_UNKNOWN", ...), or "".
        method: HTTP method.
        url: the URL without its query.
        detail: digests or names the registry's answer points at.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        method: str = "",
        url: str = "",
        detail: tuple[str, ...] = (),
        retryable: bool = False,
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.status = status
        self.code = code
        self.method = method
        self.url = url
        self.detail = detail


class AuthError(RegistryError):
    """401 or 403: credentials are missing, wrong, or not allowed to do this."""


def _rebuild(
    cls: type[StoreError], args: tuple[object, ...], state: dict[str, object]
) -> StoreError:
    """Unpickle a StoreError, whose attributes are keyword-only in its constructor."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error

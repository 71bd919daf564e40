"""Receipts: what was installed or copied, from where, when, and whose signatures were checked.

A receipt is an in-toto statement about a version's manifest, as JSON, or within a DSSE envelope if
it is signed. docs/trust.md specifies it, and says what it proves.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from packer._version import VERSION
from packer.errors import (
    BadSignature,
    FormatError,
    UnknownSigner,
    Unsigned,
    UnsupportedVersion,
)
from packer.files.durable import TempFile, read_bounded
from packer.oci import canonical_json, is_digest, load_json
from packer.trust.checking import Signature, Trusted
from packer.trust.dsse import STATEMENT, STATEMENT_TYPE, decode_envelope, seal, subjects_of
from packer.trust.keys import PublicKey, SigningKey

PREDICATE = "https://github.com/layer-packer/layer-packer/receipt/v1"
"""Type of the statement; a name, not a page."""
MAX_RECEIPT_BYTES = 1 << 30
"""Bound on a receipt: about 200 bytes a file."""


class InstalledFile(NamedTuple):
    """An entry of an installed directory.

    Args:
        path: relative to the directory; bytes that are not UTF-8 are surrogate-escaped.
        kind: "file", "directory" or "symlink".
        mode: permission bits.
        size: of a file in bytes, else 0.
        digest: ``sha256:<hex>`` of a file's content, else "".
        target: of a link, else "".
    """

    path: str
    kind: str
    mode: int
    size: int
    digest: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done with a version.

    Args:
        action: "pull", "unpack", "load" or "copy".
        time: when, RFC 3339 in UTC.
        source: where the version came from, a reference.
        destination: the directory, or a reference.
        digest: of the version's manifest.
        tag: its name; "" for none.
        parent: digest of the base's manifest; "" for none.
        created: when the version was packed, as its manifest says; "" if it does not.
        tree: digest of the whole tree, as its config says; "" for a manifest of another tool.
        trusted: the policy, and the signatures that were checked; None if none was asked for.
        files: what was installed, in byte order of the paths; None if no directory was written.
        complete: the directory held nothing else.
        blobs: digests of the manifest's blobs, as what the destination has; empty if files are
            listed.
        tool: name and version of the program.
    """

    action: str
    time: str
    source: str
    destination: str
    digest: str
    tag: str
    parent: str
    created: str
    tree: str
    trusted: Trusted | None
    files: tuple[InstalledFile, ...] | None
    complete: bool
    blobs: tuple[str, ...] = ()
    tool: str = f"layer-packer {VERSION}"

    def to_json(self) -> dict[str, Any]:
        """Return the statement."""
        predicate: dict[str, Any] = {
            "action": self.action,
            "time": self.time,
            **_text("source", self.source),
            **_text("destination", self.destination),
            "version": {
                "digest": self.digest,
                "tag": self.tag or None,
                "parent": self.parent or None,
                "created": self.created or None,
                "tree": self.tree or None,
            },
            "tool": self.tool,
            "verification": None if self.trusted is None else trusted_value(self.trusted),
            "complete": self.complete,
        }
        if self.files is not None:
            predicate["files"] = [_file_value(file) for file in self.files]
        if self.blobs:
            predicate["blobs"] = list(self.blobs)
        name = self.tag or self.digest
        return {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": self.digest.partition(":")[2]}}],
            "predicateType": PREDICATE,
            "predicate": predicate,
        }

    def encode(self, key: SigningKey | None = None) -> bytes:
        """Return the receipt as a document.

        Args:
            key: signs it; None leaves it unsigned.

        Returns:
            JSON: the statement, or an envelope with it.
        """
        payload = canonical_json(self.to_json())
        if key is None:
            return payload + b"\n"
        return canonical_json(seal(payload, STATEMENT_TYPE, key).to_json()) + b"\n"

    def write(self, path: str | os.PathLike[str], key: SigningKey | None = None) -> None:
        """Write the receipt to a file, durably; it replaces a file there.

        Args:
            path: of the file.
            key: as for `encode`.

        Raises:
            OSError: it cannot be written.
        """
        full = os.path.abspath(os.fspath(path))
        with TempFile(os.path.dirname(full), ".receipt-") as file:
            file.write(self.encode(key))
            file.publish(full)


def read_receipt(path: str | os.PathLike[str], keys: Sequence[PublicKey] = ()) -> Receipt:
    """Read a receipt.

    Args:
        path: of the file.
        keys: one of which has to have signed it; none believes it as it is.

    Returns:
        The receipt.

    Raises:
        Unsigned: `keys` are given, and it is not signed.
        UnknownSigner: none of `keys` signed it, or it was changed since.
        BadSignature: the envelope is malformed.
        FormatError: the receipt is malformed.
        UnsupportedVersion: it is another statement.
        OSError: it cannot be read.
    """
    name = os.fspath(path)
    return decode_receipt(read_bounded(name, MAX_RECEIPT_BYTES), name, keys)


def decode_receipt(data: bytes, what: str, keys: Sequence[PublicKey] = ()) -> Receipt:
    """Parse a receipt; arguments and errors as of `read_receipt`.

    Args:
        data: the document.
        what: its name in errors.
        keys: as for `read_receipt`.

    Returns:
        The receipt.

    Raises:
        Unsigned: as `read_receipt`.
        UnknownSigner: as `read_receipt`.
        BadSignature: as `read_receipt`.
        FormatError: as `read_receipt`.
        UnsupportedVersion: as `read_receipt`.
    """
    value = load_json(data, what, MAX_RECEIPT_BYTES)
    if "payload" in value:
        envelope = decode_envelope(value, what, MAX_RECEIPT_BYTES)
        if keys and not any(map(envelope.signed_by, keys)):
            raise UnknownSigner(what, "none of the keys signed it, or it was changed since")
        if envelope.payload_type != STATEMENT_TYPE:
            raise BadSignature(what, f"holds {envelope.payload_type[:80]!r}, no statement")
        value = load_json(envelope.payload, what, MAX_RECEIPT_BYTES)
    elif keys:
        raise Unsigned(what, "a key is given, and the receipt has no envelope")
    if value.get("predicateType") != PREDICATE:
        raise UnsupportedVersion(f"{what} is no receipt, by its predicateType")
    try:
        return _receipt_of(value, what)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(what, f"a field is missing or malformed: {error}") from None


def is_receipt(value: dict[str, Any]) -> bool:
    """Return whether a decoded JSON document may be a receipt."""
    return "payload" in value or value.get("predicateType") == PREDICATE


def _receipt_of(value: dict[str, Any], what: str) -> Receipt:
    predicate = value["predicate"]
    version = predicate["version"]
    digest = _string(version["digest"])
    if not is_digest(digest) or digest not in subjects_of(value, what):
        raise FormatError(what, "its subject is not its version")
    files = predicate.get("files")
    blobs = predicate.get("blobs", [])
    if not all(is_digest(_string(blob)) for blob in blobs):
        raise FormatError(what, "a blob is no digest")
    verification = predicate["verification"]
    return Receipt(
        _string(predicate["action"]),
        _string(predicate["time"]),
        _read_text(predicate, "source"),
        _read_text(predicate, "destination"),
        digest,
        _optional(version, "tag"),
        _optional(version, "parent"),
        _optional(version, "created"),
        _optional(version, "tree"),
        None if verification is None else _read_trusted(verification, digest),
        None if files is None else tuple(map(_read_file, files)),
        predicate["complete"] is True,
        tuple(blobs),
        _string(predicate["tool"]),
    )


def trusted_value(trusted: Trusted) -> dict[str, Any]:
    """Return the JSON value of a policy and the signatures that were checked."""
    return {
        "policy": trusted.policy,
        "policy_digest": trusted.policy_digest,
        "repository": trusted.repository,
        "rule": trusted.rule,
        "signatures": [asdict(each) for each in trusted.signatures],
    }


def _read_trusted(value: dict[str, Any], digest: str) -> Trusted:
    names = ("signer", "identity", "kind", "carrier")
    return Trusted(
        digest,
        _string(value["repository"]),
        _string(value["policy"]),
        _string(value["policy_digest"]),
        _string(value["rule"]),
        tuple(Signature(*(_string(each[name]) for name in names)) for each in value["signatures"]),
    )


def _file_value(file: InstalledFile) -> dict[str, Any]:
    value: dict[str, Any] = {
        **_text("path", file.path),
        "kind": file.kind,
        "mode": f"{file.mode:04o}",
    }
    if file.kind == "file":
        value.update(size=file.size, digest=file.digest)
    elif file.target:
        value.update(_text("target", file.target))
    return value


def _read_file(value: dict[str, Any]) -> InstalledFile:
    kind = _string(value["kind"])
    size, digest, target = 0, "", ""
    if kind == "file":
        size, digest = value["size"], _string(value["digest"])
        if not is_digest(digest) or type(size) is not int:
            raise ValueError("digest or size of a file")
    elif kind == "symlink":
        target = _read_text(value, "target")
    elif kind != "directory":
        raise ValueError(f"kind {kind[:20]!r}")
    return InstalledFile(
        _read_text(value, "path"), kind, int(_string(value["mode"]), 8), size, digest, target
    )


def _text(name: str, text: str) -> dict[str, str]:
    """Return the fields of text that may hold bytes that are no UTF-8."""
    exact = os.fsencode(text)
    fields = {name: exact.decode("utf-8", "replace")}
    if fields[name] != text:
        fields[f"{name}_base64"] = base64.b64encode(exact).decode("ascii")
    return fields


def _read_text(value: dict[str, Any], name: str) -> str:
    if f"{name}_base64" in value:
        exact = base64.b64decode(_string(value[f"{name}_base64"]), validate=True)
        return exact.decode("utf-8", "surrogateescape")
    return _string(value[name])


def _optional(value: dict[str, Any], name: str) -> str:
    return "" if value[name] is None else _string(value[name])


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value

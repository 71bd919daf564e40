"""The words of refusals: what registries, proxies and firewalls answer, and what is shown of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.stores.registry.refusals import Refusal, read_refusal

DIGEST = "sha256:" + "ab" * 32


def errors(**entry: object) -> bytes:
    return json.dumps({"errors": [entry]}).encode()


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (errors(code="DENIED", message="no quota left"), "DENIED", "no quota left"),
        (errors(code="DENIED", message=None, detail="archived"), "DENIED", "archived"),
        (errors(code="X", message="", detail={"reason": "frozen"}), "X", "frozen"),
        # docker-registry 2.8 and 3 on a full disk
        (
            errors(code="UNKNOWN", message="unknown error", detail={"DriverName": "f", "Err": 28}),
            "UNKNOWN",
            'unknown error: {"DriverName": "f", "Err": 28}',
        ),
        (
            errors(code="UNKNOWN", message="unknown error", detail="no space left on device"),
            "UNKNOWN",
            "unknown error: no space left on device",
        ),
        (b'{"errors":{"code":"A","message":"one, not a list"}}', "A", "one, not a list"),
        (b'{"errors":["plain"]}', "", "plain"),
        (b'{"errors":[{"code":"lower case","message":"m"}]}', "", "m"),
        (b'{"message":"not allowed to create packages"}', "", "not allowed to create packages"),
        (b'{"error":{"message":"inner"}}', "", "inner"),
        (b'{"detail":"authentication failed"}', "", "authentication failed"),
        (b'{"error":"invalid","error_description":"expired"}', "", "expired"),
        (b'"just a string"', "", "just a string"),
        (b"Method not allowed\n", "", "Method not allowed"),
        (
            b"<html><head><title>Blocked</title><style>p{}</style></head>"
            b"<body><h1>Request&nbsp;blocked</h1>\n<script>x()</script><p>ID 12&lt;3</p></body>",
            "",
            "Request blocked ID 12<3",
        ),
        (b"<html><head><title>413 Too Large</title></head></html>", "", "413 Too Large"),
        (b"<html", "", ""),
        (b"", "", ""),
        (b"\0\1\2", "", ""),
        (b"\xff\xfe\xfd\xfc", "", ""),
        (b"[]", "", ""),
        (b"17", "", ""),
        (b'{"errors":[]}', "", ""),
    ],
)
def test_words(body: bytes, code: str, text: str) -> None:
    found = read_refusal(body)
    assert (found.code, found.text) == (code, text)


def test_full_disks() -> None:
    long = "/var/lib/registry/" + "x" * 500
    detail = {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Path": long, "Err": 28}}
    assert read_refusal(
        errors(code="UNKNOWN", message="unknown error", detail=detail)
    ).is_about_space
    assert read_refusal(b"write /x: no space left on device").is_about_space
    assert not read_refusal(errors(code="UNKNOWN", message="unknown error")).is_about_space


def test_digests_anywhere() -> None:
    body = errors(code="MANIFEST_BLOB_UNKNOWN", message=f"missing {DIGEST}", detail=[{"a": DIGEST}])
    assert read_refusal(body).digests == (DIGEST,)


@pytest.mark.parametrize(
    ("text", "about_login"),
    [
        ("", True),
        ("requested access to the resource is denied", True),
        ("authentication required", True),
        ("insufficient scope", True),
        ("configured quota exceeded, access denied", False),
        ("tag is immutable and cannot be overwritten", False),
        ("denied by policy", False),
        ("project is archived", False),
        ("Request blocked, support ID 1234567", False),
        ("the registry is read-only", False),
    ],
)
def test_what_other_credentials_would_help(text: str, about_login: bool) -> None:
    assert Refusal(text=text).is_about_login is about_login


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(
    st.binary(max_size=300)
    | st.text(alphabet="<>!-/ abc\"'=script&;", max_size=200).map(str.encode)
    | JSON.map(lambda value: json.dumps({"errors": value}).encode())
    | JSON.map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_read(body: bytes) -> None:
    found = read_refusal(body)
    assert "\n" not in found.text
    assert isinstance(found.is_about_login, bool)


def test_deep_and_long_bodies() -> None:
    assert read_refusal(b"[" * 100_000).text == "[" * (64 << 10)
    assert read_refusal(b'{"message":' * 500 + b"1" + b"}" * 500).text == ""
    assert len(read_refusal(b"<" * 1_000_000).text) < 1 << 20

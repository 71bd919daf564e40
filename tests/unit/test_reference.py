"""The grammar of references and locations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import InvalidReference
from packer.reference import (
    ArchiveLocation,
    LayoutLocation,
    Reference,
    is_loopback,
    is_repository,
    parse_location,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry.example/a/b:1.4.2", ("registry.example", "a/b", "1.4.2", None)),
        ("docker://registry.example/a/b", ("registry.example", "a/b", None, None)),
        ("localhost/x", ("localhost", "x", None, None)),
        ("localhost:5000/x:y", ("localhost:5000", "x", "y", None)),
        ("127.0.0.1:5000/x", ("127.0.0.1:5000", "x", None, None)),
        ("[::1]:5000/x:y", ("[::1]:5000", "x", "y", None)),
        (f"r.example/x@{DIGEST}", ("r.example", "x", None, DIGEST)),
        (f"r.example:1/x:t@{DIGEST}", ("r.example:1", "x", "t", DIGEST)),
        ("busybox", ("docker.io", "library/busybox", None, None)),
        ("busybox:1", ("docker.io", "library/busybox", "1", None)),
        ("myorg/myapp", ("docker.io", "myorg/myapp", None, None)),
        ("docker.io/busybox", ("docker.io", "library/busybox", None, None)),
        ("index.docker.io/o/p", ("docker.io", "o/p", None, None)),
        ("r.example/a__b/c--d.e_f", ("r.example", "a__b/c--d.e_f", None, None)),
    ],
)
def test_parse(text: str, expected: tuple[str, str, str | None, str | None]) -> None:
    reference = Reference.parse(text)
    assert (
        reference.registry,
        reference.repository,
        reference.tag,
        reference.digest,
    ) == expected
    assert Reference.parse(str(reference)) == reference
    assert parse_location(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "r.example/",
        "r.example/A",
        "r.example/a//b",
        "r.example/../b",
        "r.example/a/./b",
        "r.example/a b",
        "r.example/a?x=y",
        "r.example/a#x",
        "r.example/a%2fb",
        "r.example/a:",
        "r.example/a:-x",
        "r.example/a:" + "t" * 129,
        "r.example/a:x/y",
        "r.example/a@",
        "r.example/a@sha256:../../x",
        "r.example/a@" + DIGEST.upper(),
        "r.example/a@" + DIGEST[:-1],
        "r.example/a@sha512:" + "0" * 128,
        f"r.example/a@{DIGEST}@{DIGEST}",
        "r.example:/a",
        "r.example:0/a",
        "r.example:65536/a",
        "r.example:99999999999/a",
        "r.example:٣/a",
        "user:pw@r.example/a",
        "-r.example/a",
        "r..example/a",
        "rä.example/a",
        "[::1/a",
        "[::1]x/a",
        "[nope]:5000/a",
        "https://r.example/a",
        "docker://https://r.example/a",
        "r.example/a\n",
        "r.example/a:t\n",
        "r.example/a\0",
        "r.example/" + "a" * 250,
        "r.example/" + "a-" * 100_000,
    ],
)
def test_parse_refuses(text: str) -> None:
    # Each of these would change the meaning of a URL or a path it became part of.
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.reference == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:dir", LayoutLocation("dir")),
        ("oci:dir:v1", LayoutLocation("dir", "v1")),
        ("oci:/a/b.c/d:1.4.2", LayoutLocation("/a/b.c/d", "1.4.2")),
        ("oci:/a:b/c", LayoutLocation("/a:b/c")),
        ("oci:/a:b/c:t", LayoutLocation("/a:b/c", "t")),
        (f"oci:dir@{DIGEST}", LayoutLocation("dir", None, DIGEST)),
        ("oci:a@b", LayoutLocation("a@b")),
    ],
)
def test_layout(text: str, expected: LayoutLocation) -> None:
    assert parse_location(text) == expected
    assert parse_location(str(expected)) == expected


@pytest.mark.parametrize("text", ["oci:", "oci::t", "oci:dir:", "oci:dir:-x", "oci:a\0b"])
def test_layout_refuses(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_location(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci-archive:a.tar", ArchiveLocation("a.tar")),
        ("oci-archive:a.tar:v1", ArchiveLocation("a.tar", "v1")),
        ("oci-archive:/m/a.tar:app:1.4.2", ArchiveLocation("/m/a.tar", "app:1.4.2")),
        (
            "oci-archive:a.tar:r.example:5000/a/b:1",
            ArchiveLocation("a.tar", "r.example:5000/a/b:1"),
        ),
        (f"oci-archive:a@b.tar@{DIGEST}", ArchiveLocation("a@b.tar", None, DIGEST)),
        ("oci-archive:a b/c.tar", ArchiveLocation("a b/c.tar")),
    ],
)
def test_archive(text: str, expected: ArchiveLocation) -> None:
    # The file ends at the first colon, as for skopeo.
    assert parse_location(text) == expected
    assert parse_location(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "oci-archive:",
        "oci-archive::t",
        "oci-archive:a.tar:",
        "oci-archive:a.tar:-x",
        "oci-archive:a.tar:a b",
        "oci-archive:a\0.tar",
        f"oci-archive:a.tar:t@{DIGEST}",
        f"oci-archive:a.tar:{DIGEST}",
    ],
)
def test_archive_refuses(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_location(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("dir:x", "use docker://, oci: or oci-archive:"),
        ("docker-archive:x", "docker-archive:"),
        ("containers-storage:x", "not supported"),
        ("ftp://x/y", "no URL"),
    ],
)
def test_unknown_transports_say_what_to_do(text: str, hint: str) -> None:
    with pytest.raises(InvalidReference, match=hint):
        parse_location(text)


def test_selector() -> None:
    assert Reference.parse("r.example/a").selector == "latest"
    assert Reference.parse("r.example/a:t").selector == "t"
    assert Reference.parse(f"r.example/a:t@{DIGEST}").selector == DIGEST
    assert LayoutLocation("d").selector is None


def test_loopback() -> None:
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"):
        assert is_loopback(host)
    # Whoever answers DNS must not be able to switch TLS off.
    for host in ("localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]", "x.localhost"):
        assert not is_loopback(host)


def test_long_names_are_refused_quickly() -> None:
    assert not is_repository("a" * 100_000_0 + "!")


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        location = parse_location(text)
    except InvalidReference:
        return
    assert parse_location(str(location)) == location


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("oci://registry.example/acme/app:1", "registry.example/acme/app:1"),
        ("oci://localhost/app", "localhost/app"),
        ("oci://127.0.0.1:5000/app@" + DIGEST, "127.0.0.1:5000/app@" + DIGEST),
        ("oci://docker.io/org/app:1", "docker.io/org/app:1"),
    ],
)
def test_oci_urls_are_registries(text: str, same: str) -> None:
    assert parse_location(text) == Reference.parse(same) == Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("oci://acme/app:1", "'acme' is no host"),
        ("oci://", "no host"),
        ("oci-archive://registry.example/app:1", "an archive is a file"),
        ("https://registry.example/app", "a reference is no URL"),
        ("registry.example/MyOrg/app", "lower-case"),
        ("registry.example/app:1+2", "letters, digits and"),
    ],
)
def test_what_people_write_instead(text: str, why: str) -> None:
    with pytest.raises(InvalidReference, match=why):
        parse_location(text)


def test_absolute_paths_keep_their_slashes() -> None:
    assert parse_location("oci:///srv/layout:v1") == LayoutLocation("///srv/layout", "v1")


def test_the_longest_prefix_that_is_there(tmp_path: Path) -> None:
    for name in ("store", "store:app", "a:b"):
        (tmp_path / name).mkdir()
    for name in ("store", "a:b"):
        (tmp_path / name / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "update.tar").touch()
    (tmp_path / "up:date.tar").touch()
    at = str(tmp_path)
    assert parse_location(f"oci:{at}/store:app:1.4.2") == LayoutLocation(f"{at}/store", "app:1.4.2")
    assert parse_location(f"oci:{at}/store:team/app:1") == LayoutLocation(
        f"{at}/store", "team/app:1"
    )
    assert parse_location(f"oci:{at}/a:b") == LayoutLocation(f"{at}/a:b")
    assert parse_location(f"oci:{at}/a:b:v1") == LayoutLocation(f"{at}/a:b", "v1")
    (tmp_path / "store:app" / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    assert parse_location(f"oci:{at}/store:app:1.4.2") == LayoutLocation(f"{at}/store:app", "1.4.2")
    # What is not there yet ends at the first colon, so that no directory gets one in its name.
    assert parse_location(f"oci:{at}/new:app:1.4.2") == LayoutLocation(f"{at}/new", "app:1.4.2")
    for text, path, tag in (
        ("update.tar:app:1.4.2", "update.tar", "app:1.4.2"),
        ("up:date.tar:v1", "up:date.tar", "v1"),
        ("new.tar:app:1", "new.tar", "app:1"),
    ):
        assert parse_location(f"oci-archive:{at}/{text}") == ArchiveLocation(f"{at}/{path}", tag)

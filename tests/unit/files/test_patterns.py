"""Patterns: as git takes them, and bounded."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import InvalidParameter
from packer.files.patterns import Patterns

PATHS = [
    *("a/", "a/b/", "a/b/c", "a/c.md", "b", "b.md", "c.md/", "c.md/a", "x/", "x/a/", "x/a/b"),
    *("x/a/b.md", "d e", "#x", "!x", "x/.h"),
]
"""Entries of a tree in order; directories end with a slash."""


def left(patterns: list[str]) -> set[str]:
    """Return the files of the tree that the patterns leave, as packing and restoring do."""
    rules = Patterns(patterns, "test")
    gone: set[str] = set()
    out = set()
    for entry in PATHS:
        path = entry.rstrip("/")
        parent = path.rpartition("/")[0]
        is_directory = entry.endswith("/")
        if parent in gone or rules.matches(path, is_directory=is_directory):
            gone.add(path)
        elif not is_directory:
            out.add(path)
    return out


@pytest.fixture(scope="module")
def git_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("git")
    for entry in PATHS:
        if entry.endswith("/"):
            (root / entry).mkdir()
        else:
            (root / entry).write_bytes(b"")
    try:
        subprocess.run(["git", "init", "-q", root], check=True)
    except FileNotFoundError:
        pytest.skip("no git")
    return root


def git_leaves(root: Path, patterns: list[str]) -> set[str]:
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/exclude").write_text("\n".join(patterns) + "\n")
    listed = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "-oz", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return set(listed.split("\0")) - {""}


EXAMPLES = [
    ["*"],
    ["*", "!/a", "!/a/c.md"],
    ["/*", "!/a/"],
    ["a/**", "!a/c.md"],
    ["a/**/"],
    ["a/**/b"],
    ["**/b"],
    ["**/"],
    ["*/"],
    ["b/"],
    ["/b"],
    ["*.md", "!b.md"],
    ["a", "!a/c.md"],
    ["[ab]"],
    ["[!ab]"],
    ["?"],
    ["d e"],
    ["d\\ e"],
    ["\\#x", "\\!x"],
    ["# comment", "", "b"],
    ["b   "],
    [".*"],
    ["x/*/b"],
    ["x/a/*", "!x/a/b.md"],
    ["c.md/", "!c.md"],
]


@pytest.mark.parametrize("patterns", EXAMPLES, ids=" ".join)
def test_patterns_mean_what_they_mean_to_git(git_tree: Path, patterns: list[str]) -> None:
    assert left(patterns) == git_leaves(git_tree, patterns)


PIECES = st.sampled_from(["a", "b", "x", "*", "**", "*.md", "c.md", "?", "[ab]", "."])
ONE = st.builds(
    lambda no, lead, parts, tail: no + lead + "/".join(parts) + tail,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)


@pytest.mark.slow
def test_any_patterns_mean_what_they_mean_to_git(git_tree: Path) -> None:
    @given(st.lists(ONE, min_size=1, max_size=4))
    def check(patterns: list[str]) -> None:
        try:
            ours = left(patterns)
        except InvalidParameter:
            return
        assert ours == git_leaves(git_tree, patterns), patterns

    check()


def test_the_worst_pattern_allowed_ends_soon() -> None:
    rules = Patterns(["*a" * 6 + "b"], "test")
    start = time.process_time()
    assert rules.matches("a" * 60, is_directory=False) is None
    assert time.process_time() - start < 20

"""Texts for people: code blocks are sound, links lead somewhere, lists are whole."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import packer
from packer.cli.arguments import make_parser
from packer.cli.main import main
from packer.cli.parser import UsageError

ROOT = Path(__file__).parents[3]
TEXTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
KINDS = {"console", "hex", "json", "python", "sh", "vectors", "yaml", "{eval-rst}", "{toctree}"}
"""Kinds of code blocks: a new one needs a check here, or none."""
EXTERNAL = {"github.com", "jqlang.org"}
"""Hosts that texts link to. These links are not followed: tests need no network."""

each_text = pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


class Block(NamedTuple):
    """A fenced code block: the first word behind the fence, what is in it, and its line."""

    kind: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a text."""
    for found in re.finditer(r"^```([^\s`]*)[^\n]*\n(.*?)^```$", text, re.S | re.M):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


_LINE = r"(?:[^\n]*\\\n)*[^\n]*"  # with the lines that continue it


def commands(text: str) -> Iterator[str]:
    """Yield the shell commands of a text's blocks, a continued one as one line."""
    lines = re.findall(rf"^ {{4,6}}((?:layer-packer|python|make|kubectl) {_LINE})", text, re.M)
    for block in blocks(text):
        if block.kind == "console":
            lines += re.findall(rf"^\$ ({_LINE})", block.text, re.M)
        elif block.kind == "sh":
            lines += re.findall(rf"^({_LINE})$", block.text, re.M)
    yield from (re.sub(r"\\\n\s*", "", line) for line in lines)


def calls(command: str) -> Iterator[list[str]]:
    """Yield the words of each call of layer-packer in a command."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;<>"):
            if words and words[0] == "layer-packer":
                yield words[1:]
            words = []
        else:
            words.append(word)


def is_usage(command: str) -> bool:
    """Return whether it shows what may be said, and is not meant to be run."""
    return bool(re.search(r"[\[|]|\.\.\.|(?<!\$)\b[A-Z]{2,}\b", command.partition("#")[0]))


@each_text
def test_blocks_are_sound(text: Path) -> None:
    for block in blocks(text.read_text(encoding="utf-8")):
        where = f"{text.name}:{block.line}"
        assert block.kind in KINDS, where
        if block.kind == "python":
            compile(block.text, where, "exec")
        elif block.kind == "json":
            json.loads(block.text)
        elif block.kind == "yaml":
            yaml.safe_load(block.text)
        elif block.kind == "sh":
            subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)
        elif block.kind == "console":
            assert block.text.startswith("$ "), where


@each_text
def test_commands_are_accepted(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands are parsed as the program does; the options in usages are looked up."""
    helps: dict[str, str] = {}
    for command in commands(text.read_text(encoding="utf-8")):
        if is_usage(command):
            for usage in re.findall(r"layer-packer ([a-z].*)", re.split(r"#| \| ", command)[0]):
                words = usage.split()
                name = " ".join(words[: 1 + (words[0] in ("storage", "registry"))])
                if name not in helps:
                    with pytest.raises(SystemExit) as ended:
                        main([*name.split(), "--help"])
                    assert ended.value.code == 0, command
                    helps[name] = capsys.readouterr().out
                for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage):
                    assert option in helps[name], command
            continue
        for words in calls(command):
            try:
                make_parser().parse_args(words)
            except UsageError as error:
                pytest.fail(f"{text.name}: {command}: {error}")


def test_a_wrong_command_is_found() -> None:
    (words,) = calls("echo x | layer-packer pack app --tagg app:1 > log")
    with pytest.raises(UsageError):
        make_parser().parse_args(words)
    assert [*commands("```console\n$ layer-packer \\\n  ls x\nout\n```\n")] == ["layer-packer ls x"]


@each_text
def test_links_lead_somewhere(text: Path) -> None:
    content = text.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", content):
        if target.startswith("http"):
            assert re.match(r"https://([^/]+)", target)[1] in EXTERNAL, target  # type: ignore[index]
            continue
        path, _, anchor = target.partition("#")
        file = text.parent / path if path else text
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(file: Path) -> set[str]:
    """Return the anchors of a text's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#\s]+)", index))
    listed = "\n".join(block.text for block in blocks(index))
    for text in TEXTS:
        if text.name != "index.md":
            path = text.name if text.parent == ROOT / "docs" else f"../{text.relative_to(ROOT)}"
            assert path in linked, path
            assert f"\n{path.removesuffix('.md')}\n" in listed, path


def test_the_library_page_has_every_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.M)
    assert len(described) == len(set(described))
    assert set(described) == set(packer.__all__) - {"__version__"}


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    packages = {path.parent.name for path in (ROOT / "packer").glob("*/__init__.py")}
    c_rooms = {path.parent.name for path in (ROOT / "csrc").glob("*/*.h")} - {"tests"}
    assert named == packages | c_rooms
    for row in re.findall(r"^\| `(\w+)` \|.*\| (`.*`) \|$", page, re.M):
        for module in re.findall(r"`([\w.]+)`", row[1]):
            assert (ROOT / "packer" / row[0] / module).exists(), module
    assert len(page.splitlines()) <= 200


def test_figures_are_as_drawn(tmp_path: Path) -> None:
    program = ROOT / "tools" / "draw_figures.py"
    subprocess.run([sys.executable, program, tmp_path], check=True)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(path.name for path in (ROOT / "docs").glob("figure-*.svg"))
    for name in drawn:
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / name).read_bytes(), name

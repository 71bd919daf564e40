"""``diff --patch``: what changed between two versions, in the form of git and patch(1)."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from packer.api import readings
from packer.cli.arguments import EXIT_DIFFERENT, EXIT_INCOMPLETE
from packer.cli.call_options import options
from packer.cli.outcome import Report
from packer.cli.output import Line, Output
from packer.cli.pager import paged
from packer.cli.sizes import parse_size
from packer.errors import InvalidParameter
from packer.text import format_size, text_fields

if TYPE_CHECKING:
    from packer.reading.file_patches import Patch

_NO_END = "\\ No newline at end of file"
_MARKS = {"-": "removed", "+": "added"}


def check_options(args: argparse.Namespace) -> None:
    """Raise if options that only concern patches are given without one.

    Args:
        args: of ``diff``.

    Raises:
        InvalidParameter: such an option is given without ``--patch``.
    """
    given = {
        "PATH": args.paths,
        "--unified": args.unified is not None,
        "--max-size": args.max_size is not None,
        "--no-pager": args.no_pager,
    }
    for name, is_given in given.items():
        if is_given and not args.patch:
            raise InvalidParameter(f"{name} needs --patch")


def patch_report(args: argparse.Namespace, out: Output) -> Report:
    """Write the patches of ``diff --patch``, each when it is made.

    Args:
        args: of ``diff``.
        out: standard output.

    Returns:
        A report with the exit code, and with notes on archives that could not be compared.
    """
    found = readings.patches(
        args.old,
        args.new,
        paths=args.paths,
        context=3 if args.unified is None else args.unified,
        max_bytes=None if args.max_size is None else parse_size(args.max_size),
        **options(args),
    )
    seen = _Seen(found)
    if args.json:
        names = {**text_fields("old", args.old), **text_fields("new", args.new)}
        out.json({**names, "patches": map(_value, seen)})
    else:
        with paged(out, wanted=not args.no_pager) as shown:
            for patch in seen:
                for line in _lines(patch):
                    _show(line, shown)
    code = EXIT_DIFFERENT if seen.count and args.exit_code else 0
    notes = tuple(f"{path}: not all of the archive is compared: {why}" for path, why in seen.cut)
    return Report(
        None, tuple, is_summary=False, exit_code=EXIT_INCOMPLETE if seen.cut else code, notes=notes
    )


class _Seen:
    """Counts patches as they pass."""

    def __init__(self, found: Iterator[Patch]) -> None:
        self._found = found
        self.count = 0
        self.cut: list[tuple[str, str]] = []
        """Archives that could not be compared as a whole, and why."""

    def __iter__(self) -> Iterator[Patch]:
        """Return the patches."""
        for patch in self._found:
            if patch.change == "incomplete":
                self.cut.append((patch.path, patch.detail))
            else:
                self.count += 1
            yield patch


def _show(line: str, out: Output) -> None:
    """Write a line: exact bytes for programs, harmless text for people."""
    if out.is_for_people:
        text = line.expandtabs()
        out.line(Line(text, line.style) if isinstance(line, Line) else text)
    else:
        out.write(line.encode("utf-8", "surrogateescape") + b"\n")


def _lines(patch: Patch) -> Iterator[str]:
    """Yield a patch as git writes it; for what git has no words, lines that patch(1) skips."""
    if patch.change == "incomplete":
        return
    about = f"# {patch.change}: {_quoted(patch.path)} ({patch.detail})"
    if "directory" in patch.detail:  # git knows none
        yield about
        return
    before, after = _quoted("a/" + patch.old_path), _quoted("b/" + patch.path)
    yield Line(f"diff --git {before} {after}", "bold")
    if patch.change == "added":
        if patch.new_mode:
            yield Line(f"new file mode {_git_mode(patch.new_mode)}", "bold")
        before = "/dev/null"
    elif patch.change == "removed":
        if patch.old_mode:
            yield Line(f"deleted file mode {_git_mode(patch.old_mode)}", "bold")
        after = "/dev/null"
    elif patch.old_mode != patch.new_mode:
        yield Line(f"old mode {_git_mode(patch.old_mode)}", "bold")
        yield Line(f"new mode {_git_mode(patch.new_mode)}", "bold")
    if patch.form == "binary":
        yield f"Binary files {before} and {after} differ ({_sizes(patch)})"
    elif patch.form == "large":
        yield f"Files {before} and {after} differ ({_sizes(patch)}; larger texts need --max-size)"
    elif patch.form in ("other", "unreadable") and patch.detail:
        yield about
    if patch.hunks:
        yield Line(f"--- {before}{_tab(before)}", "bold")
        yield Line(f"+++ {after}{_tab(after)}", "bold")
    for hunk in patch.hunks:
        yield Line(
            f"@@ -{_range(hunk.old_start, hunk.old_lines)}"
            f" +{_range(hunk.new_start, hunk.new_lines)} @@",
            "changed",
        )
        for mark, text in hunk.lines:
            line = mark + text.removesuffix("\n")
            yield Line(line, _MARKS[mark]) if mark in _MARKS else line
            if not text.endswith("\n"):
                yield _NO_END


def _git_mode(mode: int) -> str:
    """Return a mode as git writes it: without the permissions of a link."""
    return "120000" if stat.S_ISLNK(mode) else f"{mode:06o}"


def _sizes(patch: Patch) -> str:
    if patch.change == "changed":
        return f"{format_size(patch.old_size)} and {format_size(patch.new_size)}"
    return format_size(max(patch.old_size, patch.new_size))


def _range(start: int, lines: int) -> str:
    return f"{start}" if lines == 1 else f"{start},{lines}"


def _tab(name: str) -> str:
    """Return a tab behind a name with spaces: patch(1) would take the rest for a time."""
    return "\t" if " " in name else ""


def _quoted(name: str) -> str:
    """Return a name as git shows it: in C's quotes if it holds quotes, controls, or odd bytes."""
    raw = name.encode("utf-8", "surrogateescape")
    if name.isprintable() and '"' not in name and "\\" not in name:
        return name
    shown = "".join(_quoted_byte(byte) for byte in raw)
    return f'"{shown}"'


def _quoted_byte(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def _value(patch: Patch) -> dict[str, Any]:
    """Return the JSON object of a patch."""
    return {
        **text_fields("path", patch.path),
        "change": patch.change,
        "form": patch.form,
        **text_fields("old_path", patch.old_path),
        "old_mode": f"{patch.old_mode:06o}" if patch.old_mode else None,
        "new_mode": f"{patch.new_mode:06o}" if patch.new_mode else None,
        "old_size": patch.old_size,
        "new_size": patch.new_size,
        "detail": patch.detail,
        "hunks": [
            {
                "old_start": hunk.old_start,
                "old_lines": hunk.old_lines,
                "new_start": hunk.new_start,
                "new_lines": hunk.new_lines,
                "lines": [
                    {"mark": line.mark, **text_fields("text", line.text)} for line in hunk.lines
                ],
            }
            for hunk in patch.hunks
        ],
    }

"""Runs of the command in this process, and what they leave behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Result:
    """What one run left behind."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def text(self) -> str:
        return self.out.decode()


Run = Callable[..., Result]


def check_error(run: Run, code: int, kind: str, *words: str | Path) -> dict[str, Any]:
    """Run words that fail, with and without --json; return the JSON object of the error."""
    plain = run(*words)
    assert plain.code == code
    assert plain.out == b""
    assert re.fullmatch(r"layer-packer: [^\n]+\n", plain.err)
    result = run(*words, "--json")
    assert (result.code, result.err) == (code, plain.err)
    value = result.json
    assert {"error", "kind", "exit_code"} <= value.keys()
    assert (value["kind"], value["exit_code"]) == (kind, code)
    assert f"layer-packer: {value['error']}\n" == plain.err
    return value

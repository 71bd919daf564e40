"""The verbs that keep house: what they print, and values that make no sense."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from packer.cli.inspection import _details_lines
from packer.cli.keeping import parse_span
from packer.errors import InvalidParameter
from packer.reading.contents import Details, LayerUse
from tests.command import Run


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("2w", timedelta(weeks=2)),
        ("1y6m", timedelta(days=366 + 6 * 31)),
        ("1y1m1w1d1h", timedelta(days=366 + 31 + 7 + 1, hours=1)),
    ],
)
def test_spans_are_written_as_in_restic(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text",
    ["", "0d", "30", "d", "-1d", "1.5d", "30 d", "1d1y", "1h1h", "9" * 400 + "d", "\u0663d", "1s"],
)
def test_no_spans(text: str) -> None:
    with pytest.raises(InvalidParameter, match="is no time above 0"):
        parse_span(text)


@pytest.mark.parametrize(
    "words",
    [
        ("forget",),
        ("forget", "--dry-run"),
        ("forget", "app", "--keep-last", "0"),
        ("forget", "app", "--keep-last", "-1"),
        ("forget", "app", "--keep-last", "many"),
        ("forget", "app", "--keep-within", "1 month"),
        ("forget", "app", "--keep-within", "\x1b[31m"),
        ("gc", "--grace-seconds", "-1"),
        ("gc", "--grace-seconds", "nan"),
        ("gc", "--grace-seconds", "inf"),
        ("gc", "--grace-seconds", "1h"),
        ("gc", "app"),
        ("usage", "app"),
        ("tag", "app:1"),
        ("tag", "app:1", "a b"),
        ("tag", "app:1", ""),
        ("tag", "app:1", "sha256:" + "0" * 64),
        ("pull", "localhost:1/a:b", "out", "--keep", "0"),
        ("pull", "localhost:1/a:b", "out", "--keep", "-1"),
        ("pull", "localhost:1/a:b", "out", "--keep", "none"),
        ("pull", "localhost:1/a:b", "out", "--keep", "9" * 30),
        ("pull", "localhost:1/a:b", "out", "--keep", "2", "--seed", "old"),
    ],
)
def test_values_that_make_no_sense(run: Run, app: Path, words: tuple[str, ...]) -> None:
    run("pack", app, "--tag", "app:1")
    result = run(*words)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "\x1b" not in result.err
    assert [row["tag"] for row in run("versions", "--json").json["versions"]] == ["app:1"]


def test_a_policy_is_explained_before_it_is_carried_out(run: Run, app: Path, changed: Path) -> None:
    run("pack", app, "--tag", "app:1")
    run("pack", changed, "--tag", "app:2")
    words = ("forget", "app", "--keep-last", "1")
    text = run(*words, "--dry-run").text
    kept, _, gone = text.partition("\n\n")
    assert kept.startswith("keep 1 version:\nTAG")
    assert kept.splitlines()[2].startswith("app:2 ")
    assert kept.endswith("last")
    assert gone.startswith("would forget 1 version:\nTAG")
    assert gone.splitlines()[2].startswith("app:1 ")
    assert "\napp:1 " in run("versions").text
    assert "forgot 1 version:" in run(*words).text
    assert "\napp:1 " not in run("versions").text
    assert "stay: younger than 3600 s" in run("gc").text
    assert run("gc", "--grace-seconds", "0").text.startswith("freed ")
    assert run("forget", "app:3").code == 3


def test_a_reading_verb_takes_the_digits_that_a_list_shows(run: Run, app: Path) -> None:
    run("pack", app, "--tag", "app:1")
    digits = run("versions").text.splitlines()[1].split()[1]
    assert len(digits) == 12
    assert run("ls", digits).text == run("ls", "app:1").text
    assert run("verify", digits).text.startswith(digits)


def test_an_empty_store_is_told_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("versions").text == ""
    monkeypatch.setattr("packer.cli.keeping.terminal_width", lambda: 80)
    assert run("versions").text.startswith("no versions in ")


def test_inspect_folds_the_layers_of_a_long_history() -> None:
    layer = LayerUse("sha256:" + "ab" * 32, 1000, 1, 9, 4, 4000, 2000)
    layers = [replace(layer, size=1000 * number, frames=number) for number in range(1, 61)]
    details = Details(
        *("sha256:" + "cd" * 32, "", "", "t", "1", 9, 65536),
        *(1, 0, 0, 1, 1, 1, 1, 1, 1),
        tuple(layers),
        *((), (), ()),
    )
    lines = list(_details_lines(details))
    assert len(lines) == 6 + 1 + 1 + 8 + 1
    assert lines[7].split()[:3] == ["LAYER", "SIZE", "FRAMES"]
    assert lines[8].split()[:2] == ["abababababab", "60.0"]  # the largest
    assert lines[-1] == "and 52 layers more, see --json"
    assert max(map(len, lines)) <= 80

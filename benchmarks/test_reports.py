"""The benchmarks that print, once each on next to nothing: they run, resume, and say what is so."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import re
import shutil
import tarfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    curve,
    history,
    levels,
    losses,
    measure,
    opened,
    peers,
    plots,
    quality,
    race,
    report,
    scale,
)
from benchmarks.contenders import PEERS, LayerPacker, Patches, Peer, TarZstd
from benchmarks.measure import BenchmarkError, CommandFailed, Record, natural, run, versions_of
from benchmarks.samples import make_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora of two versions, with a README beside them, as corpora have."""
    found = make_samples(tmp_path_factory.mktemp("samples"), files=12, versions=2)
    for corpus in found:
        (corpus / "README.md").write_text("what it is\n")
    return found


def tar_of(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


# what they share -----------------------------------------------------------------------------


def test_versions_are_the_directories_in_natural_order(tmp_path: Path) -> None:
    for name in ("v10", "v2", "v1", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").touch()
    assert [path.name for path in versions_of(tmp_path)] == ["v1", "v2", "v10"]
    assert sorted(["1.10.0", "1.9.0", "1.9.0-rc1"], key=natural)[-1] == "1.10.0"
    with pytest.raises(BenchmarkError, match="no versions"):
        versions_of(tmp_path / "v1")


def test_memory_of_a_command_is_its_own() -> None:
    held = b"x" * (200 << 20)  # more than any of the commands takes: it must not be counted
    assert run("true").peak_bytes < 64 << 20 < len(held)


def test_a_command_that_fails_or_hangs_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"ls: exit 2: .*/nowhere"):
        run("ls", tmp_path / "nowhere")
    with pytest.raises(CommandFailed, match="took too long"):
        run("sleep", "1000", timeout=0.2)


def test_a_record_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    record = Record("x", path, versions=2)
    record.add({"corpus": "a", "round": 0})
    assert Record("x", path, versions=2).find(corpus="a", round=0) == {"corpus": "a", "round": 0}
    with pytest.raises(BenchmarkError, match="another options"):
        Record("x", path, versions=3)
    monkeypatch.setattr(measure, "engine", lambda: "other code")
    with pytest.raises(BenchmarkError, match="another engine"):
        Record("x", path, versions=2)


# archives opened -----------------------------------------------------------------------------


def test_archives_are_opened_at_any_depth_and_what_is_damaged_stays(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "target"
    tree.mkdir()
    chart = gzip.compress(tar_of({"app/values.yaml": b"a: 1\n"}))
    (tree / "bundle.tgz").write_bytes(gzip.compress(tar_of({"charts/app.tgz": chart})))
    with zipfile.ZipFile(tree / "some.whl", "w") as wheel:
        wheel.writestr("module.py", "x = 1\n")
    (tree / "log.gz").write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    (tree / "crds.bz2").write_bytes(bz2.compress(b"kind: A\n"))
    (tree / "cut.tgz").write_bytes(chart[:-20])
    (tree / "climbs.tar").write_bytes(tar_of({"../x": b"x"}))
    (tree / "link").symlink_to("log.gz")
    target.mkdir()
    opened.open_tree(tree, target)
    found = {
        name: content for name, kind, content, _ in measure.tree_of(target) if kind != "directory"
    }
    assert found == {
        "bundle.tgz!/charts/app.tgz!/app/values.yaml": b"a: 1\n",
        "some.whl!/module.py": b"x = 1\n",
        "log.gz": b"onetwo",
        "crds.bz2": b"kind: A\n",
        "cut.tgz": chart[:-20],
        "climbs.tar": (tree / "climbs.tar").read_bytes(),
        "link": "log.gz",
    }
    shallow = tmp_path / "shallow"
    shallow.mkdir()
    opened.open_tree(tree, shallow, depth=1)
    assert (shallow / "bundle.tgz!/charts/app.tgz").read_bytes() == chart


def test_the_tar_is_the_same_whatever_the_times_and_order(tmp_path: Path) -> None:
    tars = []
    for at, names in enumerate((("a", "b"), ("b", "a"))):
        tree = tmp_path / f"tree{at}"
        tree.mkdir()
        for name in names:
            (tree / name).write_bytes(gzip.compress(name.encode(), mtime=at))
        assert opened.main([str(tree), str(tmp_path / f"{at}.tar")]) == 0
        tars.append((tmp_path / f"{at}.tar").read_bytes())
    assert tars[0] == tars[1]


def test_changed_archives_are_counted(samples: list[Path]) -> None:
    files, archives = (opened.changed_archive_bytes(versions_of(corpus)) for corpus in samples)
    assert files == [0, 0]
    sizes = [measure.size_of(tree) for tree in versions_of(samples[1])]
    assert archives == sizes  # every archive has a new label


# peers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PEERS, ids=lambda kind: str(kind.name))
def test_a_peer_packs_and_restores(kind: type[Peer], samples: list[Path]) -> None:
    if absent := [program for program in kind.needs if shutil.which(program) is None]:
        pytest.skip(f"{', '.join(absent)} not installed")
    limit = 2 if issubclass(kind, Patches) or kind.name in ("layer-packer", "casync") else 1
    row = peers.peer_row(kind, samples[1], 0, limit, check=True)
    assert "failed" not in row, row
    assert row["restored"] is True
    assert len(row["added_bytes"]) == limit and min(row["added_bytes"]) > 0
    assert row["unpack_peak_bytes"] > 0
    assert (row["again_seconds"] is not None) is kind.repacks


def test_a_restore_that_differs_is_seen(samples: list[Path]) -> None:
    class Forgetful(TarZstd):
        name = "forgetful"

        def unpack(self, number: int, target: Path) -> measure.Use:
            use = super().unpack(number, target)
            next(path for path in sorted(target.rglob("*")) if path.is_file()).write_bytes(b"")
            return use

    assert peers.peer_row(Forgetful, samples[0], 0, 1, check=True)["restored"] is False


def test_peers_in_turn_with_ceilings_and_targets(
    samples: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "peers.json"
    names = "layer-packer,tar.zst -3,zstd -19 --patch-from,zstd -19 on opened archives"
    command = [str(samples[1]), "--peers", names, "--json", str(path)]
    assert peers.main(command) == 0
    text = capsys.readouterr().out
    rows = json.loads(path.read_text())["rows"]
    goals = {goal.what: goal for goal in peers.targets(rows)}
    found = {item.peer: item for item in peers.summaries(rows)["archives"]}
    yardstick = found["zstd -19 on opened archives"].update_bytes
    assert yardstick is not None
    limit = yardstick + 4096 + 0.001 * rows[0]["changed_archive_bytes"][1]
    assert goals["update, patch-from + 4 KiB + 0.1 % of archives"].limit == pytest.approx(limit)
    assert "archives: 2 versions" in text and "zstd -dc | tar x" in text
    before = path.read_text()
    assert peers.main(command) == 0  # nothing is left to measure
    assert path.read_text() == before
    document = json.loads(before)
    at = next(at for at, row in enumerate(rows) if row.get("peer") == "tar.zst -3")
    key = {name: rows[at][name] for name in ("kind", "corpus", "peer", "round")}
    document["rows"][at] = {**key, "failed": "disk full"}
    path.write_text(json.dumps(document))
    assert peers.main(command) == 0  # what failed is tried again
    again = json.loads(path.read_text())["rows"]
    assert [row["peer"] for row in again if row.get("peer") == "tar.zst -3"] == ["tar.zst -3"]
    assert all("failed" not in row for row in again)


# races ---------------------------------------------------------------------------------------


def race_rows(peer: str, added: int, seconds: float) -> list[dict[str, Any]]:
    both = [seconds, seconds]
    return [
        {"corpus": "c", "peer": peer, "round": turn, "bytes": [10 * added, added],
         "pack_seconds": both, "restore_seconds": both, "cpu_seconds": both, "peak_bytes": 1,
         "restored": None if turn else True}
        for turn in range(2)
    ]  # fmt: skip


def test_a_slow_link_is_won_by_few_bytes_and_a_fast_one_by_little_time() -> None:
    rows = race_rows("layer-packer", 100_000, 1.0) + race_rows("restic", 4_000_000, 0.5)
    found = race.heats(race.results(rows))["c", "update"]
    assert found[0].seconds(10) == pytest.approx(2.08)
    assert race.ratio(found, 10) == pytest.approx(2.08 / 4.2)
    assert race.ratio(found, 10_000) == pytest.approx(2.00008 / 1.0032)
    assert race.ratios(rows, "c")["update, 10 Mb/s"] == [pytest.approx(2.08 / 4.2, abs=1e-4)] * 2
    text = race.table(rows)
    # 1 and 10 MB beside 4 and 40: won at 10 and 100 Mb/s, the update at 10 Mb/s alone.
    assert "won 3 of 8 races" in text
    for chart in race.charts(rows):
        assert isinstance(chart, plots.Chart)
        assert set(chart.series) == {"layer-packer", "restic"}
    rows[0]["restored"] = False
    assert race.ratio(race.heats(race.results(rows))["c", "first"], 10) is None
    assert "came back different" in race.table(rows)


def test_races_run_resume_and_are_drawn(
    samples: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "race.json", tmp_path / "race.svg"
    command = [str(samples[0]), "--rounds", "1", "--json", str(out), "--plot", str(plot)]
    command += ["--peers", "layer-packer,tar.zst -3", "--also", "--level 1 --no-sync"]
    assert race.main(command) == 0
    rows = json.loads(out.read_text())["rows"]
    ours = next(row for row in rows if row["peer"] == "layer-packer")
    assert ours["restored"] is True
    assert ours["bytes"][0] > ours["bytes"][1] > 0
    assert all(cpu > 0.02 for cpu in ours["cpu_seconds"])
    assert {row["peer"] for row in rows} >= {"layer-packer", "layer-packer --level 1 --no-sync"}
    text = plot.read_text()
    assert text.lstrip().startswith("<?xml")
    assert "update" in text
    said = capsys.readouterr()
    assert "layer-packer won" in said.out
    assert race.main(command) == 0
    assert not capsys.readouterr().err, "what is in the record is not measured again"


def test_small_updates_in_a_row(samples: list[Path], tmp_path: Path) -> None:
    record = Record("curve", None)
    curve.measure_corpora(record, samples[:1], 4, rounds=1, small=True)
    assert [row["n"] for row in record.rows] == [1, 2, 3, 4]
    assert {row["corpus"] for row in record.rows} == {f"{samples[0].name}, a line each"}
    first, *updates = (row["added_bytes"] for row in record.rows)
    assert all(0 < added < first / 3 for added in updates)
    assert "of the later half" in curve.table(record.rows)
    path = tmp_path / "text"
    path.write_text("one\r\ntwo")
    curve.change_line([path], 2)
    curve.change_line([path], 3)
    assert path.read_bytes() == b"one # 2\r\ntwo # 3"


def test_a_contestant_that_is_not_installed_is_left_out(
    tmp_path: Path, samples: list[Path]
) -> None:
    class Absent(LayerPacker):
        name = "absent"
        needs = ("no-such-program",)

    record = Record("race", None)
    race.measure_corpora(record, samples[:1], [Absent], 1)
    assert record.rows[0]["missing"] == "no-such-program not installed"
    assert "no-such-program not installed" in race.table(record.rows)


# the rest, through the report ----------------------------------------------------------------


class Links(HTMLParser):
    """Collects what a page names, and checks that its tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name == "href" and tag == "a" and value:
                self.targets.append(value)
            if name == "src" or (tag == "link" and name == "href"):
                self.loads.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_sound_page(samples: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pyfastcdc")
    out = tmp_path / "report.html"
    command = [str(out), "--tiny", "--corpora", str(samples[0].parent), "--only", "files"]
    parts = "curve,levels,scale,quality,deflate"
    assert report.main([*command, "--parts", parts]) == 0
    data = tmp_path / "report-data"
    records = {path.stem: json.loads(path.read_text())["rows"] for path in data.glob("*.json")}
    assert set(records) == set(parts.split(","))
    page = out.read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert not links.open
    assert not links.loads, "a page that loads nothing"
    for target in links.targets:
        assert target[1:] in links.ids if target[0] == "#" else (tmp_path / target).exists()
    assert page.count("<svg") == 4
    assert page.count("<table") > 4
    for name, table in (("curve", curve.table), ("levels", levels.table), ("scale", scale.table),
                        ("quality", quality.table)):  # fmt: skip
        assert table(records[name])
    assert curve.pull_points(50) >= {1, 20, 50}
    worst = records["curve"][-1]
    assert worst["fresh_bytes"] >= worst["fetched_bytes"] > 0


def summary_rows(corpus: str, ours: float, theirs: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"kind": "corpus", "corpus": corpus, "versions": 2, "bytes": [9, 9], "entries": [1, 1],
         "changed_archive_bytes": [0, 0]}
    ]  # fmt: skip
    for peer, size in (("layer-packer", ours), ("restic", theirs)):
        rows.append(
            {"kind": "peer", "corpus": corpus, "peer": peer, "round": 0, "again_seconds": 1.0,
             "added_bytes": [100, size], "pack_seconds": [1.0, size], "unpack_seconds": 1.0,
             "pack_peak_bytes": 5, "unpack_peak_bytes": 5, "restored": True}
        )  # fmt: skip
    return rows


def test_losses_are_the_cells_where_a_peer_is_better() -> None:
    rows = summary_rows("won", 10, 20) + summary_rows("lost", 30, 20)
    found = losses.losses({"peers": rows})
    assert {(loss.topic, loss.where) for loss in found} == {
        ("Mean update", "lost"),
        ("Packing an update", "lost"),
    }
    assert found[0].factor == 1.5
    assert found[0].better == (("restic", 20),)


def test_chunks_of_equal_mean_are_between_their_neighbours() -> None:
    rows = [
        {"mean_bytes": mean, "new_percent": new, "deviation": 0.5}
        for mean, new in ((10.0, 1.0), (40.0, 3.0))
    ]
    found = quality.at_mean(rows, 20.0)
    assert found["new_percent"] == pytest.approx(2.0)
    assert found["mean_bytes"] == pytest.approx(20.0)
    assert quality.at_mean(rows, 100.0)["new_percent"] == 3.0  # beyond: the nearest, not a guess


def test_rules_agree_on_how_bytes_are_counted() -> None:
    pytest.importorskip("pyfastcdc")
    data = random.Random(1).randbytes(300_000)
    for cutter in (quality.our_cutter(16 << 10), quality.fastcdc_cutter(16 << 10)):
        row = quality.quality_row([[data], [data + b"x"], [b"y" * 9]], cutter)
        assert 0 < row["new_percent"] < 75
        assert row["cuts"] == sum(len(cutter(each)) - 1 for each in (data, data + b"x", b"y" * 9))


# history -------------------------------------------------------------------------------------


def result_of(commit: str, update: int, times: list[float], cpu: str = "a") -> dict[str, Any]:
    corpus = {"digest": "d", "bytes": {"update": update}, "times": {"first": times}}
    return {
        "commit": commit, "cpu": cpu, "cores": "2", "corpora": {"files": corpus},
        "chunking": [2.0, 2.1, 1.9],
    }  # fmt: skip


def test_history_sees_what_is_beyond_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = result_of("aaaaaaa", 1000, [5.0, 5.1, 4.9])
    for commit, update, times, code in (
        ("bbbbbbb", 1000, [5.3, 5.2, 5.4], 0),  # 6 %: noise
        ("ccccccc", 1000, [6.0, 6.1, 5.9], 1),  # 20 %
        ("ddddddd", 1000, [6.0, 9.0, 4.0], 0),  # rounds that tell nothing
        ("eeeeeee", 1010, [5.0, 5.1, 4.9], 1),  # bytes have no noise
        ("fffffff", 900, [2.0, 2.1, 2.0], 0),  # better is no reason to fail
    ):
        folder = tmp_path / commit
        history.append(old, folder)
        history.append(result_of(commit, update, times), folder)
        assert history.main(["--folder", str(folder), "compare"]) == code, commit
    assert "better" in capsys.readouterr().out
    other = result_of("ggggggg", 1000, [50.0], cpu="another")
    assert [change.what for change in history.compare(old, other)] == ["files: update, bytes"]


def test_history_keeps_one_result_a_commit_in_order(samples: list[Path], tmp_path: Path) -> None:
    racers = [LayerPacker, TarZstd]
    first = history.measure(samples[:1], 1, scan_bytes=1 << 20, contestants=racers)
    if shutil.which("zstd"):
        assert first["corpora"]["files"]["races"]["first, 10 Mb/s"][0] > 0
    assert first["corpora"]["files"]["bytes"]["update"] > 0
    assert set(first["corpora"]["files"]["times"]) == {"first", "update", "unchanged", "restore"}
    names = [history.append({**first, "commit": name}, tmp_path).name for name in ("b", "a", "b")]
    assert names == ["0001-b.json", "0002-a.json", "0001-b.json"]
    assert re.fullmatch(r"[0-9a-f]{16}", first["corpora"]["files"]["digest"])
    assert history.compare(first, first)
    with pytest.raises(BenchmarkError, match="no result of commit"):
        history.pick(["zzz"], tmp_path)


def test_stages_are_compared_beyond_their_spread() -> None:
    def record(median: float, iqr: float) -> dict[str, Any]:
        return {"benchmarks": [{"name": "walk", "stats": {"median": median, "iqr": iqr}}]}

    for median, iqr, verdict in ((1.3, 0.02, "worse"), (1.3, 0.4, "same"), (0.7, 0.0, "better")):
        (change,) = history.stage_changes(record(1.0, 0.02), record(median, iqr))
        assert change.verdict == verdict
        assert (change.old, change.new) == (1000.0, 1000 * median)
    assert history.stage_changes({"benchmarks": []}, record(1.0, 0.0)) == []

"""The command as a process: start-up, signals, pipes, and a real registry with a password."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest

import packer
from packer._version import VERSION
from packer.cli import main
from packer.cli.display import Display, SilentDisplay
from packer.progress import Progress
from tests.registry_server import PASSWORD, USER, run_registry

COMMAND = (sys.executable, "-m", "packer")


def environment(store: Path) -> dict[str, str]:
    return {**os.environ, "LAYER_PACKER_STORE": str(store)}


REGISTRY_MODULES = set(
    "requests oras rich urllib3 ssl http.client asyncio email selectors".split()  # noqa: SIM905
)
ENGINE_MODULES = set(
    "zstandard blake3 packer.engine._native concurrent.futures packer.packing.pack_tree".split()  # noqa: SIM905
)
# Loaded by the first archive that is found, or that changed: most trees hold none.
OF_OPENED_FILES = {
    *("engine.bzip2", "engine.tokens", "engine.zstd_streams", "opening.against"),
    *("opening.bzip2_streams", "opening.flat_file"),
    *("opening.deflate_streams", "opening.discovery", "opening.locating", "opening.old_streams"),
    *("opening.old_text", "opening.rebuilder", "opening.rebuilt_stream", "opening.segment_cache"),
    *("opening.shelf", "opening.text_pieces", "opening.update_plan", "opening.updating"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    root.mkdir()
    (root / "small").write_text("small")
    (root / "large").write_bytes(os.urandom(9_000_000))
    return root


def test_version_without_heavy_modules() -> None:
    code = (
        "import sys\n"
        "from packer.cli.main import main\n"
        "try:\n"
        "    main(['--version'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version == f"layer-packer {VERSION}"
    assert not (REGISTRY_MODULES | ENGINE_MODULES) & set(modules.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, packer; packer.__version__; dir(packer); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not (REGISTRY_MODULES | ENGINE_MODULES | {"argparse", "logging"}) & loaded
    assert {name for name in loaded if name.startswith("packer.")} == {"packer._version"}


@pytest.mark.slow
def test_local_verbs_need_no_registry_modules_and_no_rich(app: Path, store: Path) -> None:
    # Random bytes hold signatures of archives now and then, which are looked at.
    (app / "large").write_text("".join(f"{number:08}\n" for number in range(1_000_000)))
    code = (
        "import sys\n"
        "from packer.cli.main import main\n"
        "assert main(['pack', sys.argv[1]]) == 0\n"
        "open(sys.argv[1] + '/small', 'a').write('more')\n"  # and on a base
        "assert main(['pack', sys.argv[1], '--tag', 'app:2']) == 0\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(app)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(store),
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert not REGISTRY_MODULES & modules
    assert modules >= ENGINE_MODULES
    others = {
        *("api.transfers", "api.air_gap", "reading.contents", "reading.restore"),
        *("transfer.copy_plan", "stores.archive.store", "stores.archive.parts"),
        *OF_OPENED_FILES,
    }
    assert not {f"packer.{name}" for name in others} & modules
    assert not {"shutil", "tempfile", "datetime", "secrets"} & modules


@pytest.mark.slow
def test_restores_load_nothing_that_looks_into_archives(app: Path, store: Path) -> None:
    packer.pack(app, store=store)
    code = (
        "import sys\n"
        "from packer.cli.main import main\n"
        "assert main(['unpack', 'app', sys.argv[1]]) == 0\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(app.parent / "out")],
        capture_output=True,
        text=True,
        check=True,
        env=environment(store),
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert not {name for name in modules if name.startswith("packer.opening.members")}
    assert not {f"packer.{name}" for name in OF_OPENED_FILES} & modules
    assert not {"shutil", "tempfile", "datetime", "secrets"} & modules


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["versions"],
        ["ls", "app"],
        ["inspect", "app"],
        ["push", "oci:{}:1", "--from", "app"],
        ["copy", "app", "oci-archive:{}.tar:1"],
    ],
)
def test_verbs_that_do_not_pack_load_nothing_that_does(
    words: list[str], app: Path, store: Path, tmp_path: Path
) -> None:
    packer.pack(app, store=store)
    code = (
        "import sys\n"
        "from packer.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *(word.format(tmp_path / "other") for word in words)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(store),
    )
    modules = set(done.stdout.splitlines()[-1].split())
    unneeded = {
        *(
            f"packing.{name}"
            for name in ("pack_tree", "scan", "counterparts", "similar", "staging")
        ),
        *("opening.deflate_streams", "reading.restore", "reading.seeds"),
    }
    assert not {f"packer.{name}" for name in unneeded} & modules


def test_every_public_name_is_defined_where_the_package_looks() -> None:
    for name in packer.__all__:
        value = getattr(packer, name)
        assert not isinstance(value, ModuleType), name
        home = getattr(value, "__module__", None)
        if home is not None:
            assert getattr(importlib.import_module(home), name) is value, name


def test_no_module_bears_the_name_of_a_public_function() -> None:
    # Importing such a module would hide the function, or be taken for it.
    modules = {info.name.rpartition(".")[2] for info in walk_packages(packer.__path__)}
    functions = {name for name in packer.__all__ if callable(getattr(packer, name))}
    assert not modules & functions


def test_an_error_class_loads_little() -> None:
    code = "import sys, packer; packer.PackerError; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("packer.")}
    assert loaded == {"packer._version", "packer.errors"}


def test_names_the_package_does_not_have() -> None:

    with pytest.raises(AttributeError, match="nothing_such"):
        _ = packer.nothing_such
    assert set(packer.__all__) <= set(dir(packer))


def test_the_package_has_the_same_version() -> None:

    assert packer.__version__ == VERSION


@pytest.mark.slow
def test_a_run_as_a_process(app: Path, store: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*COMMAND, *words], capture_output=True, env=environment(store))

    packed = run("pack", str(app), "--tag", "app:1", "--json")
    assert packed.returncode == 0, packed.stderr
    assert json.loads(packed.stdout)["files"] == 2
    assert run("unpack", "app:1", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out" / "large").read_bytes() == (app / "large").read_bytes()
    failed = run("unpack", "app:1", str(tmp_path / "out"))
    assert failed.returncode == 8
    assert failed.stderr.startswith(b"layer-packer: target is not empty: ")


@pytest.mark.slow
def test_a_locale_that_cannot_show_a_name_is_no_error(store: Path, tmp_path: Path) -> None:
    root = tmp_path / "v"
    root.mkdir()
    (root / "日本").write_text("x")
    env = {**environment(store), "PYTHONIOENCODING": "ascii"}
    subprocess.run([*COMMAND, "pack", str(root), "--tag", "v"], check=True, env=env)
    listed = subprocess.run([*COMMAND, "ls", "v"], check=True, env=env, capture_output=True)
    assert listed.stdout == b"\\u65e5\\u672c\n"


@pytest.mark.slow
def test_a_reader_that_leaves(app: Path, store: Path) -> None:
    env = environment(store)
    subprocess.run([*COMMAND, "pack", str(app), "--tag", "v", "-q"], check=True, env=env)
    process = subprocess.Popen(
        [*COMMAND, "cat", "v", "large"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), complaint) == (141, b"")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("cat", "v", "large"), ("cat", "v", "small"), ("versions",)])
def test_output_on_a_full_disk(app: Path, store: Path, words: tuple[str, ...]) -> None:
    # A small result is still in a buffer when the verb ends; it must not be lost in silence.
    env = environment(store)
    subprocess.run([*COMMAND, "pack", str(app), "--tag", "v", "-q"], check=True, env=env)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, env=env)
    assert done.returncode == 9
    assert done.stderr == b"layer-packer: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, b"interrupted"), (signal.SIGTERM, b"terminated")]
)
@pytest.mark.slow
def test_a_signal_ends_the_process_in_one_line(
    app: Path, store: Path, number: signal.Signals, word: bytes
) -> None:
    env = environment(store)
    subprocess.run([*COMMAND, "pack", str(app), "--tag", "v", "-q"], check=True, env=env)
    # The pipe is full after 64 KiB, so the process surely is at work when the signal comes.
    process = subprocess.Popen(
        [*COMMAND, "cat", "v", "large"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(number)
    time.sleep(1)  # longer than a verb that does not look for signals is left alone
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (128 + number, b"layer-packer: " + word + b"\n")


class _StopAt(SilentDisplay):
    """Sends this process a signal when the library first reports progress in a phase."""

    def __init__(self, phase: str, number: signal.Signals) -> None:
        self.callback = self._stop
        self.phase = phase
        self.number = number
        self.was_hit = False

    def _stop(self, report: Progress) -> None:
        if report.phase == self.phase and not self.was_hit:
            self.was_hit = True
            os.kill(os.getpid(), self.number)


Stop = Callable[[str, signal.Signals], _StopAt]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch, store: Path) -> Iterator[Stop]:
    monkeypatch.setenv("LAYER_PACKER_STORE", str(store))
    # A signal that the caller ignores stays ignored; who runs the tests (nohup) may ignore one.
    inherited = {
        number: signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_IGN
    }

    def install(phase: str, number: signal.Signals) -> _StopAt:
        display = _StopAt(phase, number)

        def opened(**_: object) -> Display:
            return display

        monkeypatch.setattr(main, "open_display", opened)
        return display

    yield install
    for number, handler in inherited.items():
        signal.signal(number, handler)


# A pool of threads that waits for work it has cancelled would hang here.
@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_made(
    app: Path, store: Path, tmp_path: Path, stop: Stop, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    display = stop("pack", number)
    assert main.main(["pack", str(app), "--tag", "v"]) == 128 + number
    assert display.was_hit
    assert main.main(["versions", "--json"]) == 0
    assert main.main(["ls", "v"]) == 3
    assert [path.name for path in (store / "ingest").iterdir() if path.name != "lock"] == []
    assert main.main(["pack", str(app), "--tag", "v"]) == 0

    display = stop("unpack", number)
    assert main.main(["unpack", "v", str(tmp_path / "out")]) == 128 + number
    assert display.was_hit
    assert sorted(os.listdir(tmp_path)) == ["app", "store"]

    display = stop("copy", number)
    assert main.main(["push", f"oci:{tmp_path}/there:x", "--from", "v"]) == 128 + number
    assert display.was_hit
    assert main.main(["ls", f"oci:{tmp_path}/there:x"]) == 3
    assert main.main(["push", f"oci:{tmp_path}/there:x", "--from", "v"]) == 0
    assert signal.getsignal(number) == before


@pytest.mark.slow
def test_a_signal_sent_twice_at_once_counts_once(
    app: Path,
    tmp_path: Path,
    stop: Stop,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    # timeout(1) does that, and neither the clean-up nor the one line may suffer.
    display = stop("pack", signal.SIGTERM)
    real = os.kill

    def twice(pid: int, number: int) -> None:
        try:
            real(pid, number)
        finally:
            for _ in range(3):
                real(pid, number)

    monkeypatch.setattr(os, "kill", twice)
    assert main.main(["pack", str(app), "--tag", "v"]) == 143
    assert display.was_hit
    assert capsysbinary.readouterr().err == b"layer-packer: terminated\n"


@pytest.mark.slow
def test_ignored_signals_stay_ignored(app: Path, tmp_path: Path, stop: Stop) -> None:
    # nohup layer-packer pack ...
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        display = stop("pack", signal.SIGHUP)
        assert main.main(["pack", str(app), "--tag", "v"]) == 0
        assert display.was_hit
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_interruption_as_json(
    app: Path, stop: Stop, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    stop("pack", signal.SIGINT)
    assert main.main(["pack", str(app), "--tag", "v", "--json"]) == 130
    value = json.loads(capsysbinary.readouterr().out)
    assert value == {"error": "interrupted", "kind": "Stopped", "exit_code": 130}


@pytest.mark.slow
@pytest.mark.registry
def test_a_registry_with_password_and_tls(
    app: Path,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("LAYER_PACKER_STORE", str(store))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    with run_registry(folder, htpasswd=True, tls=True) as server:
        name = f"{server.host}/acme/app:1"
        assert server.ca_file is not None
        access = ("--ca-file", str(server.ca_file), "--no-plain-http")
        login = ("--username", USER, "--password-stdin")

        def run(password: str | None, *words: str) -> int:
            if password is not None:
                words = (*words, *login)
                monkeypatch.setattr(sys, "stdin", io.StringIO(password + "\n"))
            return main.main([*words, *access])

        assert run(PASSWORD, "push", name, "--from", str(app)) == 0
        assert run(None, "ls", name) == 6
        capsysbinary.readouterr()
        assert run("wrong", "pull", name, str(tmp_path / "out"), "--json") == 6
        out, err = capsysbinary.readouterr()
        value = json.loads(out)
        assert (value["kind"], value["status"]) == ("AuthError", 401)
        assert b"wrong" not in err.replace(b"wrong password", b"")
        assert not (tmp_path / "out").exists()
        other = str(tmp_path / "other")
        words = ("pull", name, str(tmp_path / "out"), "--store", other, "--jobs", "2")
        assert run(PASSWORD, *words) == 0
        assert (tmp_path / "out" / "large").read_bytes() == (app / "large").read_bytes()
        assert run(PASSWORD, "ls", f"{server.host}/acme/app:2") == 3
        # Without the certificate the registry is not trusted.
        assert main.main(["ls", name]) == 5

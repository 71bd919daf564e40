"""Runs all of a release that can run on this machine, before its tag is set.

    python tools/release_check.py VERSION [--texts-only]

In order: the texts agree on the version; every file is built, twice, and checked; the built files
are tested (`tests/release`); the source distribution passes its own tests in a new environment. It
publishes nothing and sets no tag. `make release-check VERSION=1.2.3` calls it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"


def git(*words: str) -> str:
    """Return what git prints, an empty text if it fails."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def disagreements(version: str) -> Iterator[str]:
    """Yield what of the texts and of the repository does not fit this release."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        yield f"{version} is no version as 1.2.3 or 1.2.3rc1"
    stated = re.search(r'^VERSION = "(.*)"', (ROOT / "packer/_version.py").read_text(), re.M)
    if stated is None or stated[1] != version:
        yield f"packer/_version.py says {stated and stated[1]}"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", changes, re.M)
    if not headings or not re.fullmatch(rf"{re.escape(version)}, \d{{4}}-\d\d-\d\d", headings[0]):
        yield f"CHANGELOG.md begins with {headings[:1]}, not with '{version}, ' and the day"
    if not any((ROOT / "tests/conformance/samples" / version).glob("*")):
        yield f"tests/conformance/samples/{version} is missing: tests/conformance/make_samples.py"
    for name in ("gitlab-component.yml", "tekton-task.yaml", "Jenkinsfile"):
        text = (ROOT / "examples/ci" / name).read_text(encoding="utf-8")
        for named in re.findall(r"layer-packer/layer-packer:([\w.]+)", text):
            if named != version:
                yield f"examples/ci/{name} names the image {named}"
    if git("status", "--porcelain"):
        yield "the work tree has changes that are not committed"
    tagged = git("rev-parse", "--quiet", "--verify", f"v{version}^{{commit}}")
    if tagged and tagged != git("rev-parse", "HEAD"):
        yield f"the tag v{version} is there, on another commit"
    origin = re.sub(r"^git@([^:]+):", r"https://\1/", git("remote", "get-url", "origin"))
    source = re.search(r'^Source = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    if origin.startswith("https://") and (
        source is None or source[1] != origin.removesuffix(".git")
    ):
        yield f"pyproject.toml gives {source and source[1]} as source, the remote is {origin}"


def run(*command: str | Path, folder: Path = ROOT, **environment: str) -> None:
    """Run a step, showing what it prints; end if it fails."""
    print("release-check:", *(str(word) for word in command), flush=True)
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env={**os.environ, **environment}, check=False
    )
    if done.returncode:
        sys.exit(f"release-check: failed: {' '.join(map(str, command))}")


def test_sdist() -> None:
    """Install the sdist into a new environment, and run its unit tests from what it holds."""
    (sdist,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(folder)
        (tree,) = Path(folder).iterdir()
        run(sys.executable, "-m", "venv", "env", folder=tree)
        python = tree / "env" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1", folder=tree)
        install = ("pip", "install", "--quiet", "-e", ".", "--group", "test")
        run(python, "-m", *install, folder=tree, PYTHONWARNINGS="ignore:Editable installation")
        run(python, "-m", "pytest", "-q", "-n", "auto", "tests/unit", "-m", "not slow", folder=tree)


def main() -> None:
    """Run the steps, in order; the first that fails ends it."""
    parser = argparse.ArgumentParser(description="Check a release before its tag is set.")
    parser.add_argument("version")
    parser.add_argument("--texts-only", action="store_true", help="build and test nothing")
    parser.add_argument("--rehearse", action="store_true", help="go on when the texts disagree")
    arguments = parser.parse_args()
    found = list(disagreements(arguments.version))
    for line in found:
        print("release-check:", line, file=sys.stderr)
    if found and not arguments.rehearse:
        sys.exit(1)
    if arguments.texts_only:
        return
    shutil.rmtree(DIST, ignore_errors=True)
    run("make", "wheels", "standalone", "sbom", f"PYTHON={sys.executable}")
    # Where tools/install-servers builds it, or in the path.
    servers = Path(os.environ.get("LAYER_PACKER_SERVERS", "~/.cache/layer-packer-servers"))
    places = os.pathsep.join([str(servers.expanduser()), os.environ.get("PATH", "")])
    if actionlint := shutil.which("actionlint", path=places):
        run(actionlint)
    else:
        print("release-check: not run: actionlint, which tools/install-servers builds")
    # -rP: the tests print seconds and sizes.
    tests = ("pytest", "-q", "-rP", "tests/release")
    run(sys.executable, "-m", *tests, LAYER_PACKER_DIST=str(DIST))
    test_sdist()
    if found:
        sys.exit("release-check: all that was built is sound; the texts are not ready, see above")
    print(f"release-check: {arguments.version} is ready: git tag v{arguments.version}")


if __name__ == "__main__":
    main()

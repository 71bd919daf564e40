"""Hypothesis profiles, and what every test needs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Test helpers are imported as `tests.name`, one name for mypy and pytest. At the end of the path,
# so that the checkout does not hide an installed packer.
sys.path.append(str(Path(__file__).parents[1]))

# dev, ci (the same examples every time) and nightly (many).
# Other work on the machine must not fail a test, so no deadlines; the timeout of pytest bounds it.
settings.register_profile(
    "dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile("nightly", settings.get_profile("dev"), max_examples=2000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Let SIGINT interrupt, also where the tests were started in the background of a script.

    Such a shell has programs ignore it, which they hand down to all that they start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _no_outages() -> None:
    """Give up at once where a registry is away for good, also in child processes."""
    os.environ["LAYER_PACKER_OUTAGE_SECONDS"] = "0"


@pytest.fixture
def local_times(tmp_path: Path) -> None:
    """Skip where the stat cache would trust no temporary file."""
    from packer.files.syscalls import has_local_times

    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        if not has_local_times(fd):
            pytest.skip("temporary files are on a file system that the cache does not trust")
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def no_features() -> None:
    """Forget what registries do: another test's server may be on the same port."""
    from packer.stores.registry.access import FEATURES

    FEATURES.forget()

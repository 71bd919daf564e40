"""The list of a storage's applications: registries cannot list repositories portably."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from packer.errors import RegistryError
from packer.storage.application import APP
from packer.storage.state.encoded_names import decode_app, encode_app
from packer.storage.state.repositories import Repositories

APP_PREFIX = "app-"
"""Prefix of the base's tags that name the applications."""

_log = logging.getLogger(__name__)


def read(repositories: Repositories) -> list[str]:
    """Return the sorted IDs of all applications below a base."""
    if repositories.is_layout:
        names: Iterable[str] = repositories.local_names()
    else:
        tags = repositories.repository(None).names()
        names = [tag.removeprefix(APP_PREFIX) for tag in tags if tag.startswith(APP_PREFIX)]
    return sorted(app for name in names if (app := decode_app(name)) is not None)


def add(repositories: Repositories, app: str) -> None:
    """List an application, before its first version.

    Args:
        repositories: of the base.
        app: the application's ID.

    Raises:
        RegistryError: the registry failed, and may succeed later.
    """
    if repositories.is_layout:
        return  # the application's directory says it
    try:
        repositories.repository(None).mark(APP_PREFIX + encode_app(app), {APP: app})
    except RegistryError as error:
        # Such as a base that has to be made by hand, and was not. Failures that may pass are
        # raised: later saves do not list the application, and nothing would find its versions.
        if error.status not in (401, 403, 404, 405):
            raise
        _log.warning("%s is not in the list of %s: %s", app, repositories.uri, error)

"""Logging in to a registry and out of it; the docker configuration keeps the login."""

from __future__ import annotations

from dataclasses import dataclass, replace

from packer.errors import InvalidParameter
from packer.reference import Reference
from packer.stores.registry.access import Access, RegistryOptions, registry_host


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The result of logging in.

    Args:
        registry: its host, as references name it.
        kept_in: the docker configuration file, or the credential helper.
    """

    registry: str
    kept_in: str


def login(
    registry: str, username: str, password: str, *, options: RegistryOptions | None = None
) -> LoggedIn:
    """Check credentials with a registry, then keep them where `docker login` keeps them.

    Args:
        registry: its host, such as ``registry.example:5000``.
        username: the user's name; ``<token>`` if `password` is an identity token.
        password: or access token; handed to a credential helper through its standard input, or
            written to the docker configuration file, readable by its owner alone.
        options: how to reach the registry.

    Returns:
        The registry, and the place of the login.

    Raises:
        InvalidParameter: user name or password is empty, or cannot be a login.
        AuthError: the registry refuses them; nothing was kept.
        StoreError: the registry, the credential helper or the configuration file fails.
    """
    from packer.stores.registry.login.credentials import Credentials, store_credentials

    host = registry_host(registry)
    if not username or not password or ":" in username or "\n" in username + password:
        raise InvalidParameter("a user name without a colon and a password are needed")
    reached = replace(
        options or RegistryOptions(), username=username, password=password, token=None
    )
    # Any repository will do: none is asked about.
    with Access(reached).open(Reference(host, "login")) as store:
        store.ping()
    return LoggedIn(host, store_credentials(host, Credentials(username, password)))


def logout(registry: str) -> str:
    """Forget a registry's credentials.

    Args:
        registry: its host, such as ``registry.example:5000``.

    Returns:
        The host as references name it.

    Raises:
        NotFound: there are none.
        StoreError: the credential helper fails, or the configuration file cannot be understood.
    """
    from packer.stores.registry.login.credentials import erase_credentials

    host = registry_host(registry)
    erase_credentials(host)
    return host

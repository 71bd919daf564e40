"""How one registry is reached: everything a caller can choose, in one value."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from packer.errors import InvalidParameter
from packer.reference import split_host
from packer.stores.registry.login.credentials import Credentials, docker_credentials
from packer.stores.registry.transport.certificates import Certificates, certificates_for
from packer.stores.registry.transport.rate import RateLimit
from packer.stores.registry.transport.retries import RetryPolicy
from packer.stores.registry.transport.tls import Tls

CredentialsFinder = Callable[[str, str, threading.Event], "Credentials | None"]
"""Given registry, repository and an event that is set when nobody waits any more: credentials."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one registry is reached.

    Args:
        plain_http: True for http, False for https; None means https except for ``localhost`` and
            loopback addresses, which get http unless anything below asks for TLS.
        username: with `password`, replaces the answer of `credentials`.
        password: never shown, and sent only as packer/stores/registry/login/auth.py says.
        token: a bearer token, or a function that returns the current one; sent to the registry as
            it is, and no other credentials are.
        credentials: finds credentials for a registry (``host[:port]``) and a repository; called
            when the registry asks for any or refuses the ones it got. By default it looks into the
            docker configuration.
        ca_file: PEM file of certificate authorities to trust instead of the system's.
        cert_file: PEM file of a client certificate for this registry.
        key_file: PEM file of its key, if `cert_file` does not hold it.
        insecure_skip_tls_verify: accept any certificate of this registry's host.
        token_hosts: hosts other than the registry's that may be sent its credentials.
        timeout_seconds: silence allowed before an operation on a connection fails.
        max_connections: connections kept open; use about as many threads.
        retry: when and how often to try again.
        limit: on the bytes per second of all transfers; shared with other registries.

    Raises:
        InvalidParameter: a user name without password, or a password without user name.
    """

    plain_http: bool | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    credentials: CredentialsFinder = docker_credentials
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_tls_verify: bool = False
    token_hosts: tuple[str, ...] = ()
    timeout_seconds: float = 60.0
    max_connections: int = 16
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limit: RateLimit | None = None

    def __post_init__(self) -> None:
        """Refuse half a login."""
        if (self.username is None) != (self.password is None):
            raise InvalidParameter("give both user name and password, or neither")

    @property
    def login(self) -> Credentials | None:
        """The caller's user name and password, if given."""
        if self.username is None or self.password is None:
            return None
        return Credentials(self.username, self.password)

    def tls(self, registry: str) -> Tls:
        """Return the TLS settings for a registry, named as in references."""
        host = split_host(registry)[0].strip("[]").lower()
        asked = self.ca_file or self.cert_file or self.insecure_skip_tls_verify
        return Tls(
            self.ca_file,
            self.cert_file,
            self.key_file,
            self.insecure_skip_tls_verify,
            host,
            Certificates() if asked else certificates_for(registry),
        )

"""How registries are reached: the caller's options for each host, then the environment.

Reads `LAYER_PACKER_REGISTRY`, `_USERNAME`, `_PASSWORD`, `_TOKEN` and `_AUTH_FILE`; the docker
configuration and its helpers come last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packer.errors import InvalidParameter, InvalidReference
from packer.reference import DOCKER_HUB, Reference, check_registry
from packer.stores.registry.features import BrokenFeatures

if TYPE_CHECKING:
    from packer.stores.registry.login.credentials import Credentials
    from packer.stores.registry.settings import CredentialsFinder
    from packer.stores.registry.store import RegistryStore
    from packer.stores.registry.transport.rate import RateLimit
    from packer.stores.registry.transport.retries import RetryPolicy

FEATURES = BrokenFeatures()
"""Failed features of registries, shared by the whole process: every call has an `Access` of its
own, and would otherwise find out again by being sent a whole layer for a few bytes."""

OUTAGE_SECONDS = 60
"""Seconds that a registry which is away is waited for: a pod that restarts takes about 30."""
FIRST_SECONDS = 15
"""Seconds that a registry is waited for that has never answered, where the caller has not chosen:
its name or port may be mistyped."""
MAX_OUTAGE_SECONDS = 86_400
"""Bound on the caller's choice of these seconds: a day."""
OTHERS = "*"
"""Key in a mapping from host to options: all hosts that it does not name."""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How to reach a registry.

    Args:
        plain_http: True to use http, False to insist on https; None means http for localhost only.
        username: with `password`, replaces all other credentials.
        password: of `username`.
        token: a bearer token for the registry, sent instead of credentials, or a function that
            returns the current one: it is called again when the registry refuses one.
        auth_file: file to look credentials up in, instead of the docker configuration: another
            docker configuration, or a Kubernetes image pull secret (JSON or YAML).
        auth_config: the same, already read: text, or decoded JSON.
        ca_file: PEM file of certificate authorities to trust instead of the system's.
        cert_file: PEM file of a client certificate; may hold its key as well.
        key_file: PEM file of the key.
        insecure_skip_tls_verify: accept any certificate of the registry's host.
        token_hosts: hosts of token services, other than the registry's own and those of its domain,
            that may be sent its credentials.
        timeout_seconds: silence allowed before an operation on a connection fails.
        outage_seconds: how long a registry that is away (no connection, 429, 502, 503, 504) is
            waited for; None means ``LAYER_PACKER_OUTAGE_SECONDS``, or 60, of which 15 if the
            process has never reached it.
        limit_rate: bytes per second of all transfers of a call together, both ways and of all hosts
            that have the same limit, at least 1000; None for no limit.
        on_retry: called, from any thread, each time that a request is made again.
    """

    plain_http: bool | None = None
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    token: str | Callable[[], str] | None = None
    auth_file: str | os.PathLike[str] | None = None
    auth_config: str | bytes | Mapping[str, Any] | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_tls_verify: bool = False
    token_hosts: tuple[str, ...] = ()
    timeout_seconds: float = 60.0
    outage_seconds: float | None = None
    limit_rate: float | None = None
    on_retry: Callable[[], None] | None = None

    def __repr__(self) -> str:
        """Return the fields that are no secrets."""
        secret = ("password", "token", "auth_config")
        parts = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.__slots__ if name not in secret
        )
        return f"RegistryOptions({parts})"

    @property
    def is_for_one_host(self) -> bool:
        """Whether a field is set that must not serve for a second host by mistake."""
        return bool(
            self.plain_http
            or self.insecure_skip_tls_verify
            or self.username is not None
            or self.token is not None
            or self.cert_file is not None
        )


RegistryLike = RegistryOptions | Mapping[str, RegistryOptions] | None
"""Options for the one registry of a call, or for each host (``"*"``: for all others)."""


class Access:
    """The registries of one call, and the options for each.

    Args:
        registry: the caller's options.
        features: records which features of registries fail.

    Raises:
        InvalidParameter: a key of a mapping is no host.
    """

    def __init__(
        self, registry: RegistryLike | Access = None, features: BrokenFeatures = FEATURES
    ) -> None:
        self._features = features
        self._single: RegistryOptions | None = None
        self._hosts: dict[str, RegistryOptions] = {}
        self._limits: dict[float, RateLimit] = {}
        self._served: str | None = None
        if isinstance(registry, Mapping):
            self._hosts = {
                name if name == OTHERS else registry_host(name).lower(): options
                for name, options in registry.items()
            }
        elif isinstance(registry, RegistryOptions):
            self._single = registry

    @classmethod
    def of(cls, registry: RegistryLike | Access) -> Access:
        """Return `registry` itself if it is one already."""
        return registry if isinstance(registry, Access) else cls(registry)

    def options(self, host: str) -> RegistryOptions:
        """Return the options for a host.

        Args:
            host: ``host[:port]``, as references name it.

        Returns:
            The options.

        Raises:
            InvalidParameter: they would serve for a second host, and are for one only.
        """
        host = host.lower()
        if self._single is None:
            return self._hosts.get(host) or self._hosts.get(OTHERS) or RegistryOptions()
        if self._served not in (None, host) and self._single.is_for_one_host:
            raise InvalidParameter(
                f"credentials, client certificates, plain http and unverified TLS are for one "
                f"registry, and this concerns {self._served} and {host}: say which is for which "
                "(a mapping from host to RegistryOptions; --registry HOST,OPTION)"
            )
        self._served = host
        return self._single

    def open(self, reference: Reference) -> RegistryStore:
        """Return the repository that a reference names.

        Args:
            reference: names registry and repository.

        Returns:
            The store; nothing was asked of the registry yet.

        Raises:
            InvalidParameter: both a token and a user name are given, the environment is incomplete,
                or the outage to wait for is no number of seconds.
        """
        from packer.stores.registry.settings import Settings
        from packer.stores.registry.store import RegistryStore

        options = self.options(reference.registry)
        username, password, token = options.username, options.password, options.token
        if token is not None and username is not None:
            raise InvalidParameter("give a token, or a user name and password, not both")
        if token is None and username is None and not _has_auth(options):
            username, password, token = environment_login(reference.registry)
        settings = Settings(
            plain_http=options.plain_http,
            username=username,
            password=password,
            token=token,
            credentials=_finder(options),
            ca_file=options.ca_file,
            cert_file=options.cert_file,
            key_file=options.key_file,
            insecure_skip_tls_verify=options.insecure_skip_tls_verify,
            token_hosts=options.token_hosts,
            timeout_seconds=options.timeout_seconds,
            retry=_retry_policy(options),
            limit=self._limit(options.limit_rate),
        )
        return RegistryStore(reference, settings, features=self._features)

    def _limit(self, rate: float | None) -> RateLimit | None:
        """Return the limit that all registries of the call with this rate share."""
        if rate is None:
            return None
        from packer.stores.registry.transport.rate import RateLimit

        if rate not in self._limits:
            self._limits.setdefault(rate, RateLimit(rate))
        return self._limits[rate]


def registry_host(text: str) -> str:
    """Return a registry's host as references name it.

    Args:
        text: ``host[:port]``, maybe written as a URL as docker allows it (``https://host/v2/``).

    Returns:
        ``host[:port]``.

    Raises:
        InvalidReference: it is no host.
    """
    host = text.strip()
    for scheme in ("https://", "http://", "docker://", "oci://"):
        host = host.removeprefix(scheme)
    host = host.rstrip("/").removesuffix("/v1").removesuffix("/v2")
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DOCKER_HUB
    if "/" in host:
        raise InvalidReference(text, "a registry's host was expected, without a repository")
    check_registry(host, text)
    return host


def environment_login(host: str) -> tuple[str | None, str | None, str | None]:
    """Return the login that the environment holds for a host.

    Args:
        host: ``host[:port]``.

    Returns:
        User name, password and token, each None if it is not set for this host.

    Raises:
        InvalidParameter: the login is incomplete, or names no host.
    """
    username, password, token = (
        os.environ.get(f"LAYER_PACKER_{name}") or None for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    if username is None and password is None and token is None:
        return None, None, None
    named = os.environ.get("LAYER_PACKER_REGISTRY")
    if not named:
        raise InvalidParameter(
            "LAYER_PACKER_USERNAME, _PASSWORD or _TOKEN is set without LAYER_PACKER_REGISTRY, "
            "the host that they are for"
        )
    if registry_host(named).lower() != host.lower():
        return None, None, None
    if token is not None:
        return None, None, token
    if username is None or password is None:
        raise InvalidParameter("LAYER_PACKER_USERNAME and LAYER_PACKER_PASSWORD go together")
    return username, password, None


def _retry_policy(options: RegistryOptions) -> RetryPolicy:
    """Return how long a registry that is away is waited for."""
    from packer.stores.registry.transport.retries import RetryPolicy

    seconds = options.outage_seconds
    text = os.environ.get("LAYER_PACKER_OUTAGE_SECONDS")
    first = seconds
    if seconds is None:
        try:
            seconds = float(text or OUTAGE_SECONDS)
        except ValueError:
            seconds = -1.0
        first = seconds if text else FIRST_SECONDS
    if not 0 <= seconds <= MAX_OUTAGE_SECONDS:
        raise InvalidParameter(
            "outage_seconds, or LAYER_PACKER_OUTAGE_SECONDS, is no number of seconds from 0 to "
            f"{MAX_OUTAGE_SECONDS}"
        )
    assert first is not None
    return RetryPolicy(outage_seconds=seconds, first_seconds=first, on_retry=options.on_retry)


def _has_auth(options: RegistryOptions) -> bool:
    return options.auth_file is not None or options.auth_config is not None


def _finder(options: RegistryOptions) -> CredentialsFinder:
    """Return a function that looks into the caller's file, the environment's, or docker's."""
    from packer.stores.registry.login import credentials

    path = options.auth_file
    if not _has_auth(options):
        path = os.environ.get("LAYER_PACKER_AUTH_FILE") or None
    if path is None and options.auth_config is None:
        return credentials.docker_credentials

    def find(registry: str, repository: str, halted: threading.Event) -> Credentials | None:
        if options.auth_config is not None:
            what = "auth_config"
            config = credentials.read_auth_file(options.auth_config, what)
        else:
            assert path is not None
            what, config = os.fspath(path), credentials.load_auth_file(path)
        return credentials.find_credentials(config, registry, repository, what, halted)

    return find

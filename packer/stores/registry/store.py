"""A repository in a registry as a store.

Source: OCI distribution-spec 1.1; where registries differ from it, the comment says which.
"""

from __future__ import annotations

from packer.errors import InvalidParameter
from packer.files.closing import Closing
from packer.reference import DOCKER_HUB, Reference, is_loopback, split_host
from packer.stores.registry.blobs import RegistryBlobs
from packer.stores.registry.client import Client
from packer.stores.registry.features import BrokenFeatures
from packer.stores.registry.login.auth import Authenticator
from packer.stores.registry.login.credentials import Credentials
from packer.stores.registry.referrers import RegistryReferrers
from packer.stores.registry.settings import Settings
from packer.stores.registry.transport.http import Transport
from packer.stores.registry.transport.tls import Tls
from packer.stores.registry.transport.urls import Origin, origin_of


class RegistryStore(RegistryBlobs, RegistryReferrers, Closing):
    """Blobs, manifests and tags of one repository; a context manager that closes connections.

    Args:
        reference: names registry and repository; its tag and digest are not used.
        settings: how the registry is reached.
        features: shared by stores, so that one probe of a registry serves all of them.

    Raises:
        InvalidParameter: plain http together with settings of TLS.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        reference: Reference | str,
        settings: Settings | None = None,
        *,
        features: BrokenFeatures | None = None,
    ) -> None:
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        self._settings = settings = settings or Settings()
        tls = settings.tls(reference.registry)
        transport = Transport(
            tls=tls,
            timeout_seconds=settings.timeout_seconds,
            max_connections=settings.max_connections,
            retry=settings.retry,
            limit=settings.limit,
        )
        origin = _origin(reference.registry, settings.plain_http, tls)
        if origin.scheme == "http" and tls.is_set:
            raise InvalidParameter("plain http has no certificates: choose one or the other")
        auth = Authenticator(
            origin,
            reference.repository,
            self._find_credentials,
            transport,
            settings.token_hosts,
            settings.token,
        )
        super().__init__(Client(origin, reference, auth, transport, features or BrokenFeatures()))

    @property
    def client(self) -> Client:
        """The client that makes the requests, for questions that a store does not answer."""
        return self._client

    def ping(self) -> None:
        """Ask only for an answer, with credentials if the registry wants any.

        AuthError means that the registry, or its token service, refuses the credentials;
        RegistryError and TransportError that there is no registry of the distribution-spec.
        """
        self._client.request("GET", self._client.root, ok=(200,), actions="").discard()

    def interrupt(self) -> None:
        """Make requests end at once, also those of other threads, as `Interruptible`."""
        self._client.transport.interrupt()

    def resume(self) -> None:
        """Allow requests again, as `Interruptible`."""
        self._client.transport.resume()

    def close(self) -> None:
        """Close idle connections."""
        self._client.transport.close()

    def _find_credentials(self) -> Credentials | None:
        """Return the caller's credentials, else those that the finder finds."""
        if self._settings.login is not None:
            return self._settings.login
        client = self._client
        return self._settings.credentials(
            client.registry, client.repository, client.transport.halted
        )


def _origin(registry: str, plain_http: bool | None, tls: Tls) -> Origin:
    """Return scheme, host and port of a registry as references name it."""
    host, port = split_host("registry-1.docker.io" if registry == DOCKER_HUB else registry)
    if plain_http is None:
        plain_http = is_loopback(host) and not tls.is_set
    scheme = "http" if plain_http else "https"
    return origin_of(f"{scheme}://{host}" + (f":{port}" if port is not None else ""))

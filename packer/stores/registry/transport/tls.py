"""TLS settings of one registry: the authorities to trust, and the certificate to show.

Client certificate and skipped verification hold for the registry's own host alone: a store that it
redirects to, or a token service elsewhere, is verified as ever and is shown no certificate. An own
authority is the only one for the registry's host, and one more for others: a registry inside may
redirect to a store outside.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

from packer.errors import InvalidParameter
from packer.stores.registry.transport.certificates import Certificates

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name further authorities; OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Settings of one registry.

    Args:
        ca_file: PEM file of certificate authorities to trust: for `host` instead of the system's,
            for other hosts besides them.
        cert_file: PEM file of a client certificate, with its chain.
        key_file: PEM file of its key, without a passphrase; None if `cert_file` holds it too.
        insecure_skip_verify: accept any certificate of `host`.
        host: of the registry, without a port.
        found: certificates that the system keeps for the registry; for `host`, besides the
            system's authorities.

    Raises:
        InvalidParameter: a key without certificate, or a CA file together with no verification.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_verify: bool = False
    host: str = ""
    found: Certificates = field(default_factory=Certificates)

    def __post_init__(self) -> None:
        """Refuse combinations that contradict themselves."""
        if self.key_file is not None and self.cert_file is None:
            raise InvalidParameter("a client key without its certificate: give cert_file too")
        if self.insecure_skip_verify and self.ca_file is not None:
            raise InvalidParameter("ca_file names whom to trust, and insecure_skip_tls_verify all")

    @property
    def is_set(self) -> bool:
        """Whether anything asks for TLS."""
        return bool(self.ca_file or self.cert_file or self.insecure_skip_verify)

    def context(self, host: str) -> ssl.SSLContext:
        """Return the context for connections to a host.

        Args:
            host: without a port.

        Returns:
            The context.

        A file that cannot be read, or holds no certificate or key, raises InvalidParameter.
        """
        own = host == self.host
        if own and self.ca_file is not None:
            context = _only(self.ca_file)
        else:
            context = ssl.create_default_context()
            for variable in BUNDLES:
                if bundle := os.environ.get(variable):
                    _trust(context, bundle, f"{variable} {bundle}")
                    break
            if self.ca_file is not None:
                _trust(context, self.ca_file, f"ca_file {self.ca_file}")
        if not own:
            return context
        for path in self.found.authorities:
            _trust(context, path, path)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        client = self.found.client if self.cert_file is None else (self.cert_file, self.key_file)
        if client is not None:
            _show(context, *client)
        return context


def _only(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities of one PEM file."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"ca_file {ca_file}: {_why(error)}") from None


def _trust(context: ssl.SSLContext, path: str, what: str) -> None:
    """Trust the authorities of a PEM file or of a directory of hashed files."""
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"{what}: {_why(error)}") from None


def _show(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    """Use a client certificate."""
    try:
        # Without a password function OpenSSL would ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        names = cert_file + (f", {key_file}" if key_file else "")
        raise InvalidParameter(f"client certificate {names}: {_why(error)}") from None


def _why(error: OSError | ValueError) -> str:
    """Return the reason in an error about a PEM file."""
    if isinstance(error, ssl.SSLError):
        return "no usable PEM in it, or key and certificate do not belong together"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

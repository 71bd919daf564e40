"""TLS settings of one registry: the authorities to trust, and the certificate to show.

Client certificate and skipped verification hold for the registry's own host alone: a store that it
redirects to, or a token service elsewhere, is verified as ever and is shown no certificate.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from packer.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Tls:
    """Settings of one registry.

    Args:
        ca_file: PEM file of certificate authorities to trust instead of the system's.
        cert_file: PEM file of a client certificate, with its chain.
        key_file: PEM file of its key, without a passphrase; None if `cert_file` holds it too.
        insecure_skip_verify: accept any certificate of `host`.
        host: of the registry, without a port.

    Raises:
        InvalidParameter: a key without certificate, or a CA file together with no verification.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_verify: bool = False
    host: str = ""

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

        Raises:
            InvalidParameter: a file cannot be read, or holds no certificate or key; by name.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise InvalidParameter(f"ca_file {self.ca_file}: {_why(error)}") from None
        if host != self.host:
            return context
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file is not None:
            try:
                # Without a password function OpenSSL would ask on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (OSError, ValueError) as error:
                names = self.cert_file + (f", {self.key_file}" if self.key_file else "")
                raise InvalidParameter(f"client certificate {names}: {_why(error)}") from None
        return context


def _why(error: OSError | ValueError) -> str:
    """Return the reason in an error about a PEM file."""
    if isinstance(error, ssl.SSLError):
        return "no usable PEM in it, or key and certificate do not belong together"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

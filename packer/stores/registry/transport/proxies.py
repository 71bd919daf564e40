"""Proxies of the environment, and the hosts that are reached without one.

``NO_PROXY`` is read as curl, Go and so Kubernetes do: names, addresses, networks, and each of them
with a port. Source: golang.org/x/net/http/httpproxy, documentation of ``Config.NoProxy``.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request

from packer.errors import InvalidParameter
from packer.reference import is_loopback, split_host
from packer.stores.registry.transport.urls import Origin, shown_url


def proxy_for(origin: Origin) -> str | None:
    """Return the proxy to reach a server through.

    Loopback addresses are reached directly.

    Args:
        origin: of the server.

    Returns:
        The proxy's URL, None to connect directly.

    Raises:
        InvalidParameter: the proxy is neither http nor https.
    """
    if is_loopback(origin.host):
        return None
    # Without proxies in the environment, macOS and Windows have them in their settings.
    proxies = urllib.request.getproxies_environment()
    if proxies:
        if is_bypassed(origin, proxies.get("no", "")):
            return None
    else:
        if urllib.request.proxy_bypass(origin.host):
            return None
        proxies = urllib.request.getproxies()
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = "http://" + proxy
    if not proxy.startswith(("http://", "https://")):
        raise InvalidParameter(f"proxy {shown_url(proxy)} is neither http nor https")
    return proxy


def is_bypassed(origin: Origin, no_proxy: str) -> bool:
    """Return whether a server is reached without a proxy.

    Args:
        origin: of the server.
        no_proxy: value of ``NO_PROXY``: entries separated by commas or spaces. ``*`` is every
            server; ``example.org`` a host and those below it, ``.example.org`` and
            ``*.example.org`` only those below it; ``10.0.0.0/8`` a network. ``:PORT`` behind an
            entry limits it to a port.

    Returns:
        Whether an entry fits.
    """
    return any(_fits(origin, entry.lower()) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _fits(origin: Origin, entry: str) -> bool:
    """Return whether an entry of NO_PROXY names a server."""
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        return _address(origin.host) in network if _address(origin.host) is not None else False
    host, port = split_host(entry)
    if port is not None and port != str(origin.port):
        return False
    address = _address(host)
    if address is not None:
        return address == _address(origin.host)
    own = origin.host.lower()
    if host.startswith(("*.", ".")):
        return own.endswith(host.removeprefix("*"))
    return own == host.rstrip(".") or own.endswith("." + host.rstrip("."))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host as an address, None if it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None

"""Hosts that are reached without a proxy."""

from __future__ import annotations

import pytest

from packer.errors import InvalidParameter
from packer.stores.registry.transport.proxies import is_bypassed, proxy_for
from packer.stores.registry.transport.urls import origin_of


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://10.1.2.3:5000", "10.0.0.0/8", True),
        ("http://10.1.2.3:5000", "10.0.0.0/8,192.168.0.0/16", True),
        ("http://11.1.2.3:5000", "10.0.0.0/8", False),
        ("http://10.1.2.3:5000", "10.1.2.3", True),
        ("http://10.1.2.3:5000", "10.1.2.3:5000", True),
        ("http://10.1.2.3:5000", "10.1.2.3:5001", False),
        ("http://10.1.2.3", "10.1.2.3:80", True),
        ("https://[fd00::1]:5000", "fd00::/8", True),
        ("https://[fd00::1]:5000", "[fd00::1]:5000", True),
        ("https://[fd00::1]:5000", "fd00::1", True),
        ("https://registry.example.org", "example.org", True),
        ("https://registry.example.org", ".example.org", True),
        ("https://registry.example.org", "*.example.org", True),
        ("https://example.org", ".example.org", False),
        ("https://example.org", "example.org", True),
        ("https://myexample.org", "example.org", False),
        ("https://registry.example.org", "EXAMPLE.ORG:443", True),
        ("https://registry.example.org", "example.org:5000", False),
        ("http://registry:5000", "registry", True),
        ("http://registry.svc:5000", ".svc, .cluster.local", True),
        ("http://registry.svc:5000", " a  b,.svc", True),
        ("http://registry:5000", "*", True),
        ("http://registry:5000", "", False),
        ("http://registry:5000", ",,::,/8,10.0.0.0/99,[,:5000", False),
    ],
)
def test_no_proxy(url: str, no_proxy: str, direct: bool) -> None:
    assert is_bypassed(origin_of(url), no_proxy) is direct


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    assert proxy_for(origin_of("http://10.1.2.3")) == "http://proxy.example:3128"
    assert proxy_for(origin_of("https://10.1.2.3")) is None
    monkeypatch.setenv(name, "10.0.0.0/8")
    assert proxy_for(origin_of("http://10.1.2.3")) is None
    assert proxy_for(origin_of("http://127.0.0.1")) is None
    monkeypatch.setenv("all_proxy", "socks5://proxy.example")
    with pytest.raises(InvalidParameter, match="neither http nor https"):
        proxy_for(origin_of("https://registry.example"))

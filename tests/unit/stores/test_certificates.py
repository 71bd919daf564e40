"""Authorities and client certificates: the caller's, the environment's, the system's."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from packer.errors import InvalidParameter, NotFound, TransportError
from packer.stores.registry.login.credentials import docker_credentials
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.stores.registry.transport import certificates
from packer.stores.registry.transport.certificates import Certificates, certificates_for
from packer.stores.registry.transport.tls import BUNDLES, Tls
from tests.hostile import QUICK, HostileRegistry, hostile_registry
from tests.registry_server import make_certificate


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(certificates, "FOLDERS", (str(tmp_path / "certs.d"),))
    for variable in (*BUNDLES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)


def reach(server: HostileRegistry, **options: object) -> None:
    settings = Settings(retry=QUICK, timeout_seconds=5, plain_http=False, **options)  # type: ignore[arg-type]
    with RegistryStore(f"{server.host}/app", settings) as store, pytest.raises(NotFound):
        store.resolve("v1")


@pytest.mark.slow
def test_a_registrys_own_folder(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with hostile_registry(certificate=certificate) as server:
        with pytest.raises(TransportError, match="certificate"):
            reach(server)
        folder = tmp_path / "certs.d" / server.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(certificate.read_bytes())
        reach(server)


@pytest.mark.slow
def test_a_client_certificate_of_the_folder(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)  # signs itself, so it is its own authority
    with hostile_registry(certificate=certificate, client_ca=certificate) as server:
        folder = tmp_path / "certs.d" / server.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(certificate.read_bytes())
        with pytest.raises(TransportError):
            reach(server)
        (folder / "client.cert").write_bytes(certificate.read_bytes())
        (folder / "client.key").write_bytes((tmp_path / "key.pem").read_bytes())
        reach(server)


@pytest.mark.slow
@pytest.mark.parametrize("variable", [*BUNDLES, "SSL_CERT_FILE"])
def test_bundles_of_the_environment(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    with hostile_registry(certificate=certificate) as server:
        monkeypatch.setenv(variable, str(certificate))
        reach(server)


def test_a_bundle_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(InvalidParameter, match=r"REQUESTS_CA_BUNDLE /nowhere.*: No such file"):
        Tls(host="registry.example").context("registry.example")


def test_an_own_authority_at_home_and_elsewhere(tmp_path: Path) -> None:
    ca_file = make_certificate(tmp_path)
    tls = Tls(ca_file=str(ca_file), host="registry.example")
    usual = {str(item) for item in ssl.create_default_context().get_ca_certs()}
    home = {str(item) for item in tls.context("registry.example").get_ca_certs()}
    elsewhere = {str(item) for item in tls.context("blobs.example").get_ca_certs()}
    assert len(home) == 1
    assert elsewhere == home | usual


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    assert certificates_for("registry.example") == Certificates()
    folder = tmp_path / "certs.d" / "registry.example:5000"
    folder.mkdir(parents=True)
    assert certificates_for("registry.example:5000") == Certificates()
    for name in ("a.crt", "b.crt", "x.cert", "y.cert", "y.key", "README"):
        (folder / name).touch()
    found = certificates_for("registry.example:5000")
    assert [Path(path).name for path in found.authorities] == ["a.crt", "b.crt"]
    assert found.client == (str(folder / "y.cert"), str(folder / "y.key"))
    assert certificates_for("registry.example") == Certificates()


def test_files_of_docker_and_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "registry.example"

    def write(path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {host: {"username": name, "password": "p"}}}))

    for variable, folder in (
        ("DOCKER_CONFIG", "docker"),
        ("XDG_RUNTIME_DIR", "run"),
        ("XDG_CONFIG_HOME", "config"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    assert docker_credentials(host) is None
    for path, name in (
        (tmp_path / "config" / "containers" / "auth.json", "config"),
        (tmp_path / "run" / "containers" / "auth.json", "run"),
        (tmp_path / "docker" / "config.json", "docker"),
        (tmp_path / "file.json", "file"),
    ):
        write(path, name)
        if name == "file":
            monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
        found = docker_credentials(host)
        assert found is not None
        assert found.username == name
    assert docker_credentials("other.example") is None

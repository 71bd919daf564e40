"""Credentials that change under a long-lived store, and registries that hide from strangers."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from packer.errors import AuthError, HelperFailed, NotFound, RegistryError
from packer.oci import Descriptor, digest_of
from packer.stores.registry.login.credentials import Credentials
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from tests.hostile import QUICK, Exchange, HostileRegistry, Rule, hostile_registry

DATA = b"some bytes of a layer"
BLOB = Descriptor("", digest_of(DATA), len(DATA))


class Wallet:
    """The credentials at hand, which the test changes; counts how often they are asked for."""

    def __init__(self, login: tuple[str, str] | None) -> None:
        self.login = login
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self, registry: str, repository: str, halted: object) -> Credentials | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return None if self.login is None else Credentials(*self.login)


def open_store(server: HostileRegistry, wallet: Wallet) -> RegistryStore:
    options = Settings(retry=QUICK, timeout_seconds=5, credentials=wallet)
    return RegistryStore(f"{server.host}/app", options)


def rotate(server: HostileRegistry, wallet: Wallet, password: str = "second") -> None:
    server.login = ("alice", password)
    server.tokens.clear()
    wallet.login = server.login


def forbidden_unless(server: HostileRegistry) -> Rule:
    """Answer as Amazon ECR does: an old password is 403, and no challenge comes with it."""

    def rule(exchange: Exchange) -> bool:
        if server.knows(exchange) or "authorization" not in exchange.headers:
            return False
        exchange.fail(403, "DENIED", "Your authorization token has expired. Reauthenticate.")
        return True

    return rule


@pytest.mark.parametrize("kind", ["basic", "token", "ecr"])
def test_a_new_password_is_found(kind: str) -> None:
    with hostile_registry(auth="token" if kind == "token" else "basic") as server:
        wallet = Wallet(server.login)
        store = open_store(server, wallet)
        if kind == "ecr":
            for method in ("GET", "HEAD", "POST", "PUT"):
                server.on(method, "/app/", forbidden_unless(server), None)
        store.upload(BLOB, io.BytesIO(DATA))
        for password in ("second", "third"):
            rotate(server, wallet, password)
            assert store.exists(BLOB)
            store.upload(BLOB, io.BytesIO(DATA))
        assert wallet.asked == 3


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_many_threads_ask_once(auth: str) -> None:
    with hostile_registry(auth=auth) as server:
        wallet = Wallet(server.login)
        store = open_store(server, wallet)
        store.upload(BLOB, io.BytesIO(DATA))
        rotate(server, wallet)
        barrier = threading.Barrier(8)

        def ask(_: int) -> bool:
            barrier.wait()
            return store.exists(BLOB)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(ask, range(8)))
        assert wallet.asked == 2


def test_wrong_credentials_are_asked_for_once() -> None:
    with hostile_registry(auth="basic") as server:
        wallet = Wallet(("alice", "wrong"))
        store = open_store(server, wallet)
        for _ in range(3):
            with pytest.raises(AuthError):
                store.exists(BLOB)
        assert wallet.asked == 1


def test_a_helper_that_fails_leaves_the_old_password() -> None:
    with hostile_registry(auth="basic") as server:
        wallet = Wallet(server.login)
        store = open_store(server, wallet)
        assert not store.exists(BLOB)
        server.login, wallet.error = ("alice", "second"), HelperFailed("the keychain is locked")
        with pytest.raises(AuthError, match="the keychain is locked"):
            store.exists(BLOB)
        wallet.error = None
        server.login = ("alice", "s3cret-pass")
        assert not store.exists(BLOB)


def test_a_login_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.stores.registry.login.auth.RENEW_SECONDS", 0.0)
    with hostile_registry(auth="basic") as server:
        wallet = Wallet(None)
        store = open_store(server, wallet)
        with pytest.raises(AuthError, match="none are known"):
            store.exists(BLOB)
        wallet.login = server.login
        assert not store.exists(BLOB)


def test_a_token_of_the_callers_is_asked_for_again_after_403() -> None:
    tokens = iter(["old", "new"])
    with hostile_registry() as server:

        def rule(exchange: Exchange) -> bool:
            if exchange.headers.get("authorization") == "Bearer new":
                return False
            exchange.fail(403, "DENIED")
            return True

        server.on("HEAD", "/app/", rule, None)
        options = Settings(retry=QUICK, timeout_seconds=5, token=lambda: next(tokens))
        assert not RegistryStore(f"{server.host}/app", options).exists(BLOB)


def hide(server: HostileRegistry, status: int) -> None:
    """Let a registry answer strangers with a status and no challenge, but at ``/v2/``."""

    def rule(exchange: Exchange) -> bool:
        if server.knows(exchange):
            return False
        exchange.reply(status)
        return True

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        server.on(method, "/app/", rule, None)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
@pytest.mark.parametrize("auth", ["basic", "token"])
def test_a_registry_that_hides_gets_the_login(auth: str, status: int) -> None:
    with hostile_registry(auth=auth) as server:
        hide(server, status)
        server.tags["v1"] = "sha256:" + "0" * 64
        store = open_store(server, Wallet(server.login))
        assert list(store.tag_names()) == ["v1"]
        store.upload(BLOB, io.BytesIO(DATA))
        assert store.exists(BLOB)
        assert [seen.path for seen in server.seen].count("/v2/") == 1


def test_a_first_upload_to_a_registry_that_hides() -> None:
    with hostile_registry(auth="basic") as server:
        hide(server, 403)
        open_store(server, Wallet(server.login)).upload(BLOB, io.BytesIO(DATA))
        assert server.blobs[BLOB.digest] == DATA


def test_strangers_are_told_to_log_in() -> None:
    with hostile_registry(auth="basic") as server:
        hide(server, 404)
        store = open_store(server, Wallet(None))
        with pytest.raises(AuthError, match="log in"):
            list(store.tag_names())


def test_open_registries_are_not_asked_twice() -> None:
    with hostile_registry() as server:
        for wallet, asked in ((Wallet(None), 0), (Wallet(("bob", "b")), 1)):
            server.seen.clear()
            store = open_store(server, wallet)
            for _ in range(3):
                with pytest.raises(NotFound):
                    store.resolve("v1")
            assert [seen.path for seen in server.seen].count("/v2/") == asked
            assert not any(seen.authorization for seen in server.seen)


def test_a_refusal_that_stays() -> None:
    with hostile_registry(auth="basic") as server:
        server.on("GET", "/app/", lambda exchange: exchange.reply(403), None)
        store = open_store(server, Wallet(server.login))
        with pytest.raises(RegistryError) as caught:
            store.get_manifest("v1")
        assert caught.value.status == 403
        assert server.count("GET", "/app/") == 2

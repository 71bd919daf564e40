"""Where credentials come from: docker's configuration and helpers, files, Kubernetes secrets.

An entry counts for exactly the host it names. Secrets never appear in messages, and reach helpers
through their standard input alone. `oras` reads entries; other files, secrets and storing are done
here. Helpers are asked by `credential_helpers`, as `oras` asks them without bounds.

Sources: docker/cli ``docs/reference/commandline/login.md``; docker-credential-helpers README;
containers-auth.json(5) for keys with a path; Kubernetes "Pull an image from a private registry".
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from packer.errors import HelperFailed, NotFound, StoreError
from packer.reference import DOCKER_HUB
from packer.stores.registry.login.credential_helpers import call_helper, program_of
from packer.stores.registry.transport.urls import safe_text

IDENTITY_USER = "<token>"
"""User name by which credential helpers mark the secret as an identity (refresh) token."""
MAX_AUTH_FILE_BYTES = 4 << 20
"""Bound on a file of credentials, which is held in memory."""
"""Bound on a file of credentials, which is held in memory."""

DOCKER_HUB_HOSTS = ("index.docker.io", "docker.io", "registry-1.docker.io")
"""Hosts under which docker and others keep the login for Docker Hub."""

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SECRET_KEYS = (".dockerconfigjson", ".dockercfg")
_YAML_SECRET = re.compile(
    r"^[ \t]+[\"']?(\.dockerconfigjson|\.dockercfg)[\"']?:[ \t]+"
    r"[\"']?([A-Za-z0-9+/]+=*)[\"']?[ \t\r]*$",
    re.M,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login at a registry.

    Args:
        username: may be empty for an identity token.
        secret: password, or identity token.
        is_identity_token: whether `secret` is exchanged for tokens and never sent as a password.
    """

    username: str
    secret: str = field(repr=False)
    is_identity_token: bool = False


def server_key(registry: str) -> str:
    """Return the name under which docker keeps a registry's credentials."""
    return _HUB_KEY if registry == DOCKER_HUB else registry


def docker_config_path() -> str:
    """Return the docker configuration file, whether or not it is there."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return os.path.join(folder, "config.json")


def docker_credentials(
    registry: str, repository: str = "", halted: threading.Event | None = None
) -> Credentials | None:
    """Look a registry's credentials up in the configurations of docker and podman.

    The first that has some counts: the file of ``REGISTRY_AUTH_FILE``, docker's configuration with
    its helpers, podman's ``containers/auth.json`` in ``XDG_RUNTIME_DIR`` and in ``XDG_CONFIG_HOME``
    (containers-auth.json(5)).

    Args:
        registry: ``host[:port]`` as in references; only entries of exactly this host count.
        repository: an entry of ``host/path`` above it takes precedence; the longest one wins.
        halted: as for `call_helper`.

    Returns:
        The login, None if there is none.

    Raises:
        HelperFailed: no entry counts, and the helper that may have one gives no answer.
        TransportError: `halted` was set while a helper was asked.
        StoreError: the configuration cannot be understood.
    """
    failed: HelperFailed | None = None
    for path in _auth_files():
        if not os.path.exists(path):
            continue
        with _hidden(registry, path):
            config = _decode(_read(path))
        try:
            found = find_credentials(config, registry, repository, path, halted)
        except HelperFailed as error:
            failed = failed or error
            continue
        if found is not None:
            return found
    if failed is not None:
        raise failed
    return None


def _auth_files() -> list[str]:
    """Return the files that docker and podman keep logins in, docker's first."""
    runtime, config = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("XDG_CONFIG_HOME")
    files = [os.environ.get("REGISTRY_AUTH_FILE") or "", docker_config_path()]
    if runtime:
        files.append(os.path.join(runtime, "containers", "auth.json"))
    files.append(os.path.join(config or os.path.expanduser("~/.config"), "containers", "auth.json"))
    return [path for path in files if path and not path.startswith("~")]  # without a home


def find_credentials(
    config: Mapping[str, Any],
    registry: str,
    repository: str,
    what: str,
    halted: threading.Event | None = None,
) -> Credentials | None:
    """Look a registry up in a decoded docker configuration, then ask the helper that it names.

    Args:
        config: as `read_auth_file` returns it.
        registry: ``host[:port]``.
        repository: as for `docker_credentials`.
        what: origin of the configuration, for errors.
        halted: as for `call_helper`.

    Returns:
        The login, None if there is none. Errors are as for `docker_credentials`.
    """
    import oras.auth.base

    with _hidden(registry, what):
        entries = _entries_for(config.get("auths") or {}, registry, repository)
        for entry in entries:
            if entry.get("identitytoken"):
                return Credentials("", str(entry["identitytoken"]), True)
            if not entry.get("auth") and entry.get("username") and entry.get("password"):
                return Credentials(str(entry["username"]), str(entry["password"]))
        backend = oras.auth.base.AuthBackend()
        for entry in entries:
            auth = entry.get("auth")
            # Base64 as the command of that name prints it: in lines.
            auth = "".join(auth.split()) if isinstance(auth, str) else auth
            backend._auth_config = {"auths": {registry: {"auth": auth}}}  # without helpers
            if backend._load_auth(registry):
                return _decode_basic(backend._basic_auth, what)
        helper = _helper(config, registry)
    return None if helper is None else _ask(helper, registry, halted)


def _entries_for(
    auths: Mapping[str, Any], registry: str, repository: str
) -> list[Mapping[str, Any]]:
    """Return the entries that count for a repository, the most exact first."""
    parts = repository.split("/") if repository else []
    paths = [f"{registry}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)]
    found = [auths[path] or {} for path in paths if path in auths]
    exact = auths.get(server_key(registry))
    if exact:
        found.append(exact)
    hosts = DOCKER_HUB_HOSTS if registry == DOCKER_HUB else (registry.lower(),)
    return found + [entry or {} for key, entry in auths.items() if host_of_key(key) in hosts]


def host_of_key(key: str) -> str:
    """Return the host that a key of ``auths`` names, as docker reads it.

    Source: docker/cli ``cli/config/credentials/file_store.go``, ``ConvertToHostname``.

    Args:
        key: such as ``host``, ``https://host/``, ``http://host/v1/`` or ``host/v2``.

    Returns:
        ``host[:port]`` in lower case; "" for a key with another path and no scheme, which names a
        repository (containers-auth.json).
    """
    key = key.strip()
    scheme, separator, rest = key.partition("://")
    host, _, path = (rest if separator else key).partition("/")
    if separator and scheme.lower() not in ("http", "https"):
        return ""
    if not separator and path.rstrip("/") not in ("", "v1", "v2"):
        return ""
    return host.lower()


def read_auth_file(source: str | bytes | Mapping[str, Any], what: str) -> dict[str, Any]:
    """Decode credentials in any of the forms people have them in.

    Args:
        source: a docker configuration (also the content of a ``.dockerconfigjson``), a Kubernetes
            Secret of type ``kubernetes.io/dockerconfigjson`` or ``kubernetes.io/dockercfg`` as JSON
            or as YAML, or the content of a ``.dockercfg``; text, or already decoded.
        what: name of the source in errors.

    Returns:
        A docker configuration.

    Raises:
        StoreError: it is none of these.
    """
    try:
        value = dict(source) if isinstance(source, Mapping) else _decode_any(source)
        data = value.get("data")
        if value.get("kind") == "Secret" or (isinstance(data, dict) and "auths" not in value):
            value = _from_secret(value)
        if isinstance(value.get("auths", value.get("credHelpers", None)), dict) or (
            isinstance(value.get("credsStore"), str)
        ):
            return value
        if value and all(_is_entry(entry) for entry in value.values()):
            return {"auths": value}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # without the error's text, which could hold the secret
    raise StoreError(
        f"{what} is neither a docker configuration (auths, credHelpers, credsStore) nor a "
        "Kubernetes image pull secret with .dockerconfigjson"
    )


def load_auth_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of credentials in any form that `read_auth_file` takes.

    Args:
        path: of the file.

    Returns:
        A docker configuration.

    Raises:
        StoreError: the file holds none of the forms, or is too large.
        OSError: it cannot be read.
    """
    return read_auth_file(_read(os.fspath(path)), os.fspath(path))


def store_credentials(registry: str, login: Credentials) -> str:
    """Keep a login as `docker login` does: with the helper configured for it, else in the file.

    Args:
        registry: ``host[:port]``.
        login: user name and password, or identity token.

    Returns:
        The file's path, or the helper's program.

    Raises:
        StoreError: the helper fails, or the file is no docker configuration.
    """
    path, key = docker_config_path(), server_key(registry)
    config = _load_config(registry, path)
    auths = config.setdefault("auths", {})
    helper = _helper(config, registry)
    if helper is not None:
        entry = {"ServerURL": key, "Username": login.username, "Secret": login.secret}
        call_helper(helper, "store", json.dumps(entry), registry)
        auths[key] = {}
    else:
        pair = f"{login.username}:{login.secret}".encode()
        auths[key] = {"auth": base64.b64encode(pair).decode("ascii")}
    _write(path, config)
    return path if helper is None else program_of(helper)


def erase_credentials(registry: str) -> None:
    """Forget a login, as `docker logout` does.

    Args:
        registry: ``host[:port]``.

    Raises:
        NotFound: there is none.
        StoreError: as for `store_credentials`.
    """
    path, key = docker_config_path(), server_key(registry)
    config = _load_config(registry, path)
    helper = _helper(config, registry)
    auths = config.get("auths", {})
    hosts = DOCKER_HUB_HOSTS if registry == DOCKER_HUB else (registry.lower(),)
    spellings = [name for name in auths if name == key or host_of_key(name) in hosts]
    there = bool([auths.pop(name) for name in spellings])
    if helper is not None:
        known = there or find_credentials(config, registry, "", path) is not None
        if known:
            call_helper(helper, "erase", key, registry)
        there = known
    if not there:
        raise NotFound("login", registry, f"in {path}")
    _write(path, config)


def _load_config(registry: str, path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        return {}
    with _hidden(registry, path):
        config = _decode(_read(path))
        if not isinstance(config.setdefault("auths", {}), dict):
            raise ValueError
    return config


def _helper(config: Mapping[str, Any], registry: str) -> str | None:
    name = (config.get("credHelpers") or {}).get(server_key(registry)) or config.get("credsStore")
    if not name:
        return None
    if not isinstance(name, str) or not _HELPER.match(name):
        raise HelperFailed(f"{safe_text(str(name))!r} is not the name of a credential helper")
    return name


def _ask(helper: str, registry: str, halted: threading.Event | None) -> Credentials | None:
    printed = call_helper(helper, "get", server_key(registry), registry, halted)
    if printed is None:
        return None
    try:
        entry = _decode(printed)
        username, secret = entry["Username"], entry["Secret"]
        if not isinstance(username, str) or not isinstance(secret, str):
            raise ValueError
    except (ValueError, KeyError, RecursionError):
        # Without the text of the error, which could hold the secret.
        raise HelperFailed(f"{program_of(helper)} get printed no login for {registry}") from None
    if not username and not secret:
        return None
    return Credentials(username, secret, username == IDENTITY_USER)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(MAX_AUTH_FILE_BYTES + 1)
    if len(data) > MAX_AUTH_FILE_BYTES:
        raise StoreError(f"{path} is larger than {MAX_AUTH_FILE_BYTES} bytes")
    return data


def _decode(data: str | bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError
    return value


def _decode_any(source: str | bytes) -> dict[str, Any]:
    text = source.decode() if isinstance(source, bytes) else source
    if text.lstrip().startswith("{"):
        return _decode(text)
    found = dict(_YAML_SECRET.findall(text))
    if not found:
        raise ValueError
    return {"kind": "Secret", "data": found}


def _is_entry(value: object) -> bool:
    """Return whether a value is an entry of a ``.dockercfg``, which holds nothing else."""
    return isinstance(value, dict) and any(
        isinstance(value.get(key), str) for key in ("auth", "username")
    )


def _from_secret(value: Mapping[str, Any]) -> dict[str, Any]:
    plain, encoded = value.get("stringData") or {}, value.get("data") or {}
    for key in _SECRET_KEYS:
        if key in plain or key in encoded:
            text = plain[key] if key in plain else base64.b64decode(encoded[key], validate=True)
            inner = _decode(text)
            return inner if key == _SECRET_KEYS[0] else {"auths": inner}
    raise ValueError


def _write(path: str, config: Mapping[str, Any]) -> None:
    """Replace the file in one step, readable by its owner alone; a link stays a link."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=".config.json-", dir=folder)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(config, file, indent="\t")
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _hidden(registry: str, path: str) -> Iterator[None]:
    """Translate errors without their text, which could hold a secret."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise StoreError(
            f"cannot read credentials for {registry} through {path} ({type(error).__name__})"
        ) from None


def _decode_basic(encoded: str, path: str) -> Credentials:
    username, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    if not colon:
        raise StoreError(f"an auth entry in {path} is not base64 of user:password")
    secret = secret.rstrip("\0")
    return Credentials(username, secret, username == IDENTITY_USER)

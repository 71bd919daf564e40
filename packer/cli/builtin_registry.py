"""Makes the configuration of the built-in registry, which is distribution's server.

The templates in ``packer/cli/templates`` are the only source: ``deploy/`` in the repository holds
the output of `files` with its defaults, and a test compares the two. docs/registry.md is the guide.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from packer._version import VERSION
from packer.errors import InvalidParameter

_MAX_REPLICAS = 100
_MAX_PORT = 65535
IMAGE = "docker.io/library/registry:2.8.3"
KUBECTL_IMAGE = "registry.k8s.io/kubectl:v1.33.4"
PAGE_IMAGE = f"ghcr.io/layer-packer/layer-packer:{VERSION}"
STORAGES = ("filesystem", "s3")
FORMATS = ("kubernetes", "compose", "config")

_READ_ONLY = """\
            - name: REGISTRY_STORAGE_MAINTENANCE_READONLY
              value: '{"enabled": false}' # garbage collection sets it"""

_PLACE = re.compile(r"\{\{([a-z_0-9]+)\}\}")
_OWN_LINE = re.compile(r"^[ ]*\{\{([a-z_0-9]+)\}\}\n", re.M)

_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_RULES = {
    "storage": r"filesystem|s3",
    "host": rf"({_NAME})?",
    "namespace": _LABEL,
    "tls_secret": _NAME,
    "auth_secret": _NAME,
    "s3_secret": _NAME,
    "size": r"[1-9][0-9]{0,8}(Mi|Gi|Ti|M|G|T)",
    "storage_class": rf"({_NAME})?",
    "bucket": r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?",
    "region": r"[a-z0-9][a-z0-9-]{0,40}",
    "endpoint": r"(https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?)?",
    "schedule": r"@(daily|weekly|monthly)|[0-9*,/-]+( [0-9A-Z*,/-]+){4}",
    "image": r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}",
    "kubectl_image": r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}",
    "page": r"((docker://)?[A-Za-z0-9][A-Za-z0-9.:-]{0,252}/[a-z0-9._/:@-]{1,254})?",
    "page_secret": _NAME,
    "page_image": r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}",
}


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """Settings of the registry.

    Args:
        storage: "filesystem", one server with a volume, or "s3", several over one bucket.
        host: name that clients outside the cluster use; only inside it if empty.
        namespace: of Kubernetes.
        tls_secret: secret with ``tls.crt`` and ``tls.key``.
        auth_secret: secret with ``htpasswd``, and ``http-secret``, any random text.
        s3_secret: secret with ``access-key`` and ``secret-key``.
        size: of the volume.
        storage_class: of the volume; the cluster's default if empty.
        bucket, region: of S3.
        endpoint: URL of an S3 that is not Amazon's.
        replicas: servers over one bucket.
        port: that compose publishes.
        schedule: of garbage collection, as cron writes it.
        delete_untagged: also collect manifests without a tag. layer-packer needs none of them, but
            but multi-platform images in the same registry would lose their parts.
        image: of the registry.
        kubectl_image: with kubectl as its entry point, for garbage collection.
        page: repository or base of a storage that a page shows; no page if empty.
        page_secret: secret with ``token``, ``config.json`` and ``ca.crt``.
        page_image: of layer-packer.

    Raises:
        InvalidParameter: a value is malformed or out of range.
    """

    storage: str = "filesystem"
    host: str = ""
    namespace: str = "layer-packer"
    tls_secret: str = "registry-tls"  # noqa: S105 - the name of a secret
    auth_secret: str = "registry-auth"  # noqa: S105
    s3_secret: str = "registry-s3"  # noqa: S105
    size: str = "20Gi"
    storage_class: str = ""
    bucket: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    replicas: int = 2
    port: int = 5000
    schedule: str = "17 3 * * 0"
    delete_untagged: bool = False
    image: str = IMAGE
    kubectl_image: str = KUBECTL_IMAGE
    page: str = ""
    page_secret: str = "layer-packer-page"  # noqa: S105
    page_image: str = PAGE_IMAGE

    def __post_init__(self) -> None:
        """Check every value: all of them become part of YAML."""
        for name, rule in _RULES.items():
            value = getattr(self, name)
            if not re.fullmatch(rule, value):
                option = name.replace("_", "-")
                raise InvalidParameter(f"--{option} {value[:80]!r} does not look like one")
        if not 1 <= self.replicas <= _MAX_REPLICAS:
            raise InvalidParameter(f"--replicas {self.replicas} is not from 1 to {_MAX_REPLICAS}")
        if not 1 <= self.port <= _MAX_PORT:
            raise InvalidParameter(f"--port {self.port} is not from 1 to {_MAX_PORT}")
        if self.storage == "s3" and not self.bucket:
            raise InvalidParameter("--storage s3 needs --bucket")


def config_yml(config: RegistryConfig) -> str:
    """Return distribution's own configuration, the same for Kubernetes and compose."""
    values = {
        "region": config.region,
        "bucket": config.bucket,
        "endpoint": f"    regionendpoint: {config.endpoint}" if config.endpoint else "",
        "secure": "false" if config.endpoint.startswith("http:") else "true",
        "realm": config.host or "registry",
    }
    values["storage"] = _fill(f"storage-{config.storage}.yml", values).rstrip("\n")
    return _fill("config.yml", values)


def stream(config: RegistryConfig) -> str:
    """Return all of Kubernetes' resources, one YAML stream for ``kubectl apply -f -``."""
    text = config_yml(config)
    name = "registry-config-" + hashlib.sha256(text.encode()).hexdigest()[:10]
    labels = "    app.kubernetes.io/name: registry\n    app.kubernetes.io/part-of: layer-packer"
    config_map = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n"
        f"  namespace: {config.namespace}\n  labels:\n{labels}\ndata:\n  config.yml: |\n"
    ) + "".join(f"    {line}\n" for line in text.splitlines())
    values = _values(config, name)
    parts = [
        _fill(f"kubernetes/{folder}/{part}", values)
        for folder in _folders(config)
        for part in _parts(folder)
    ]
    return "---\n".join([config_map, *parts])


def files(config: RegistryConfig, form: str) -> dict[str, str]:
    """Return the files to write to a directory.

    Args:
        config: how the registry is to run.
        form: "kubernetes" for ``base/`` and an overlay named like the storage, and ``page/`` if
            there is a page, to be built by kustomize; "compose" for ``compose.yaml`` and
            ``config.yml``; "config" for the latter.

    Returns:
        Content by file name; names have ``/``.

    Raises:
        InvalidParameter: `form` is none of these.
    """
    text = config_yml(config)
    if form == "config":
        return {"config.yml": text}
    if form == "compose":
        return {"compose.yaml": compose_yaml(config), "config.yml": text}
    if form != "kubernetes":
        raise InvalidParameter(f"format {form!r} is none of {', '.join(FORMATS)}")
    values = _values(config, "registry-config")
    out = {
        f"{folder}/{part}": _fill(f"kubernetes/{folder}/{part}", values)
        for folder in _folders(config)
        for part in ("kustomization.yaml", *_parts(folder))
    }
    out[f"{config.storage}/config.yml"] = text
    return out


def compose_yaml(config: RegistryConfig) -> str:
    """Return the file for docker compose, which stands beside ``config.yml``."""
    s3 = config.storage == "s3"
    keys = ("ACCESSKEY", "SECRETKEY")
    environment = ["    environment:"] + [
        f"      REGISTRY_STORAGE_S3_{key}: ${{S3_{key}:?}}" for key in keys
    ]
    return _fill(
        "compose.yaml",
        {
            "image": config.image,
            "port": str(config.port),
            "compose_environment": "\n".join(environment) if s3 else "",
            "compose_data": "" if s3 else "      - ./data:/var/lib/registry",
            "delete_untagged": " --delete-untagged" if config.delete_untagged else "",
            # Compose reads $ as the start of a variable of its own.
            "compose_mend": _indented("mend.sh", 8).replace("$", "$$"),
        },
    )


def _folders(config: RegistryConfig) -> tuple[str, ...]:
    return ("base", config.storage, "page") if config.page else ("base", config.storage)


def _parts(folder: str) -> tuple[str, ...]:
    """Return the resources that a folder's kustomization names, in its order."""
    return tuple(re.findall(r"^  - ([a-z-]+\.yaml)$", _read(_kustomization(folder)), re.M))


def _kustomization(folder: str) -> str:
    return f"kubernetes/{folder}/kustomization.yaml"


def _values(config: RegistryConfig, config_name: str) -> dict[str, str]:
    """Return the values of the placeholders; values of whole lines include their indentation."""
    s3 = config.storage == "s3"
    values = {
        field.name: str(getattr(config, field.name))
        for field in fields(config)
        if field.name != "storage"
    }
    values["config_name"] = config_name
    values["delete_untagged"] = " --delete-untagged" if config.delete_untagged else ""
    values["job_pod"] = _read("job-pod.yaml").rstrip("\n")
    values["job_container"] = _read("job-container.yaml").rstrip("\n")
    values["service_type"] = "LoadBalancer" if config.host else "ClusterIP"
    values["annotations"] = (
        f"  annotations:\n    external-dns.alpha.kubernetes.io/hostname: {config.host}"
        if config.host
        else ""
    )
    # With a host, clients are outside: Kubernetes' policies know only their addresses.
    values["clients"] = (
        "        - ipBlock: {cidr: 0.0.0.0/0}\n        - ipBlock: {cidr: '::/0'}"
        if config.host
        else "        - podSelector: {}\n        - namespaceSelector:\n"
        '            matchLabels: {layer-packer/registry-client: "true"}'
    )
    values["storage_class"] = (
        f"        storageClassName: {config.storage_class}" if config.storage_class else ""
    )
    port = config.endpoint.partition("://")[2].partition(":")[2]
    values["bucket_port"] = port or ("80" if config.endpoint.startswith("http:") else "443")

    secrets = [("REGISTRY_HTTP_SECRET", config.auth_secret, "http-secret")]
    bucket = [
        ("REGISTRY_STORAGE_S3_ACCESSKEY", config.s3_secret, "access-key"),
        ("REGISTRY_STORAGE_S3_SECRETKEY", config.s3_secret, "secret-key"),
    ]
    environment = [_secret(12, *each) for each in secrets + (bucket if s3 else [])]
    if s3:
        environment.append(_READ_ONLY)
    values["environment"] = "\n".join(environment)
    values["job_environment"] = "\n".join(_secret(16, *each) for each in bucket)
    values["mend"] = _indented("mend.sh", 14)
    values["pod_labels"] = "        layer-packer/phase: write" if s3 else ""
    values["mounts"] = "" if s3 else "            - {name: data, mountPath: /var/lib/registry}"
    values["placement"] = (
        "      topologySpreadConstraints:\n"
        "        - maxSkew: 1\n"
        "          topologyKey: kubernetes.io/hostname\n"
        "          whenUnsatisfiable: ScheduleAnyway\n"
        "          labelSelector:\n"
        "            matchLabels:\n"
        "              app.kubernetes.io/name: registry\n"
        "              app.kubernetes.io/component: server"
        if s3
        else "      initContainers:\n" + _fill("collect.yaml", values).rstrip("\n")
    )
    values["pod"] = _fill("pod.yaml", values).rstrip("\n")
    return values


def _secret(indent: int, variable: str, secret: str, key: str) -> str:
    space = " " * indent
    return (
        f"{space}- name: {variable}\n{space}  valueFrom:\n"
        f"{space}    secretKeyRef: {{name: {secret}, key: {key}}}"
    )


def _indented(name: str, columns: int) -> str:
    """Return a template's lines, indented."""
    return "\n".join(" " * columns + line for line in _read(name).splitlines())


def _fill(name: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders filled; a line with only an empty one is dropped."""

    def own_line(match: re.Match[str]) -> str:
        value = values[match[1]]
        return value + "\n" if value else ""

    return _PLACE.sub(lambda match: values[match[1]], _OWN_LINE.sub(own_line, _read(name)))


def _read(name: str) -> str:
    from importlib import resources  # loading it takes longer than most of the rest

    found = resources.files("packer.cli").joinpath("templates", *name.split("/"))
    return found.read_text(encoding="utf-8")

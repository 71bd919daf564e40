"""Policy files: their grammar, and which rule decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from packer.errors import FormatError, InvalidParameter, PackerError, UnsupportedVersion
from packer.trust.policy import MAX_POLICY_BYTES, POLICY_TYPE, Needs, Policy
from tests.signatures import certificate, make_pair


def policy(folder: Path, rules: object, **more: object) -> Policy:
    for name in ("a", "b", "c"):
        make_pair(folder, name)
    signers = {name: {"key": f"{name}.pub"} for name in ("a", "b", "c")}
    value = {"mediaType": POLICY_TYPE, "signers": signers, "rules": rules, **more}
    (folder / "policy.json").write_text(json.dumps(value))
    return Policy.load(folder / "policy.json")


def needs(folder: Path, require: object) -> Needs | None:
    (rule,) = policy(folder, [{"repository": "*", "require": require}]).rules
    return rule.needs


@pytest.mark.parametrize(
    ("require", "passes", "fails"),
    [
        ("a", ["a", "ab"], ["", "b"]),
        ({"any": ["a", "b"]}, ["a", "b"], ["", "c"]),
        ({"all": ["a", "b"]}, ["ab", "abc"], ["a", "b", ""]),
        ({"all": ["a", {"any": ["b", "c"]}]}, ["ab", "ac"], ["a", "bc"]),
        ({"any": ["a", {"all": ["b", "c"]}]}, ["a", "bc"], ["b", "c"]),
    ],
)
def test_any_and_all(tmp_path: Path, require: object, passes: list[str], fails: list[str]) -> None:
    found = needs(tmp_path, require)
    assert found is not None
    assert all(found.met(lambda name, who=who: name in who) for who in passes)  # type: ignore[misc]
    assert not any(found.met(lambda name, who=who: name in who) for who in fails)  # type: ignore[misc]


def test_the_first_rule_decides(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        [
            {"repository": "registry.example/acme/*", "require": "a"},
            {"repository": "registry.example/*", "require": "nothing"},
            {"repository": "oci-archive:*", "require": "b"},
            {"repository": "[::1]:5000/*", "require": "c"},
        ],
    )
    wanted = {
        "registry.example/acme/app": "a",
        "registry.example/acme/deep/app": "a",
        "registry.example/other": "None",
        "oci-archive:/media/update.tar": "b",
        "[::1]:5000/app": "c",
    }
    for name, who in wanted.items():
        rule = found.rule_for(name)
        assert rule is not None
        assert str(rule.needs) == who
    for name in ("elsewhere/acme/app", "REGISTRY.example/acme/app", "xregistry.example/acme/a", ""):
        assert found.rule_for(name) is None


def test_the_digest_is_of_the_keys_too(tmp_path: Path) -> None:
    rules = [{"repository": "*", "require": "a"}]
    first = policy(tmp_path, rules)
    assert Policy.load(tmp_path / "policy.json").digest == first.digest
    assert policy(tmp_path, rules).digest != first.digest  # other keys in the same files


@pytest.mark.parametrize(
    "changes",
    [
        {"rules": None},
        {"rules": [1]},
        {"rules": [{"repository": "*"}]},
        {"rules": [{"require": "a"}]},
        {"rules": [{"repository": "*", "require": "d"}]},
        {"rules": [{"repository": "*", "require": {"any": []}}]},
        {"rules": [{"repository": "*", "require": {"some": ["a"]}}]},
        {"rules": [{"repository": "*", "require": {"any": ["a"], "all": ["b"]}}]},
        {"rules": [{"repository": "*", "require": {"any": [{"any": ["d"]}]}}]},
        {"rules": [{"repository": "*", "require": "a", "until": "2030"}]},
        {"rules": [{"repository": "*", "require": "a"}] * 1001},
        {"signers": None},
        {"signers": {"a": {}}},
        {"signers": {"": {"key": "a.pub"}}},
        {"signers": {"a": {"key": 1}}},
        {"signers": {"a": {"key": "a.pub", "not_after": "2030"}}},
        {"unknown": 1},
    ],
)
def test_malformed_policies(tmp_path: Path, changes: dict[str, Any]) -> None:
    rules = [{"repository": "*", "require": "a"}]
    with pytest.raises(FormatError, match="policy"):
        policy(tmp_path, **{"rules": rules, **changes})


def test_requirements_are_not_endlessly_deep(tmp_path: Path) -> None:
    require: object = "a"
    for _ in range(20):
        require = {"any": [require]}
    with pytest.raises(FormatError, match="require"):
        needs(tmp_path, require)


def test_other_documents_and_large_ones(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedVersion, match="no policy"):
        policy(tmp_path, [], mediaType="application/vnd.layer-packer.policy.v9+json")
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (MAX_POLICY_BYTES + 1))
    with pytest.raises(FormatError, match="limit"):
        Policy.load(path)


def test_certificates_and_subjects(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(certificate("root", None, ca=True).pem)
    signer = {"certificates": "ca.crt", "subject": "CN=release,O=Acme"}
    rules = [{"repository": "*", "require": "ca"}]
    assert policy(tmp_path, rules, signers={"ca": signer}).signers["ca"].name == "ca"
    with pytest.raises(InvalidParameter, match="no subject"):
        policy(tmp_path, rules, signers={"ca": {**signer, "subject": "release"}})
    with pytest.raises(FileNotFoundError):
        policy(tmp_path, rules, signers={"ca": {"certificates": "missing.crt"}})
    assert issubclass(InvalidParameter, PackerError)


def test_keys_in_the_policy_itself(tmp_path: Path) -> None:
    pem = make_pair(tmp_path, "mine").public.read_text()
    rules = [{"repository": "*", "require": "mine"}]
    assert policy(tmp_path, rules, signers={"mine": {"key": pem}}).signers

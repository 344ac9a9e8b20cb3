from typing import Any

import pytest

from moorage.api.validation import validate, validate_update

META = {"metadata": {"name": "a"}}
SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", **META}
LEASE: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **META}
CIDR: dict[str, Any] = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", **META}


@pytest.mark.parametrize(
    ("obj", "errors"),
    [
        (SECRET | {"data": {"a": "no base64"}}, ["data[a]: not base64; encode the value, or put it into stringData"]),
        (SECRET | {"data": {"a": "YWJj\nZGVm\r\n"}}, []),
        (SECRET | {"stringData": {"a/b": "x"}}, ['stringData[a/b]: not a key; use at most 253 letters, digits, "-"']),
        (SECRET | {"data": {"..": ""}}, ["data[..]: not a key"]),
        (SECRET | {"stringData": {"a": "x" * 1048577}}, ["data: 1048577 bytes are too many"]),
        (LEASE | {"spec": {"leaseDurationSeconds": 0}}, ["spec.leaseDurationSeconds: 0 is out of range"]),
        (LEASE | {"spec": {"leaseTransitions": -1}}, ["spec.leaseTransitions: -1 is out of range"]),
        (CIDR, ["spec.cidrs: missing"]),
        (CIDR | {"spec": {"cidrs": ["10.96.0.0"]}}, ["spec.cidrs[0]: 10.96.0.0 is not a range of addresses"]),
        (CIDR | {"spec": {"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]}}, ["spec.cidrs[1]: an IPv4 range is given twice"]),
        (CIDR | {"spec": {"cidrs": ["10.0.0.0/24", "::/64", "::/64"]}}, ["spec.cidrs: 3 ranges"]),
    ],
)
def test_each_mistake_is_named(obj: dict[str, Any], errors: list[str]) -> None:
    found = [str(error) for error in validate(obj)]
    assert len(found) == len(errors)
    for line, start in zip(found, errors, strict=True):
        assert line.startswith(start)


def test_an_immutable_secret_stays_as_it_is() -> None:
    kept = SECRET | {"data": {"a": "YQ=="}, "immutable": True}
    assert validate_update(kept, kept) == []
    changed = SECRET | {"data": {"a": "Yg=="}}
    assert [error.path for error in validate_update(changed, kept)] == ["immutable", "data"]
    assert validate_update(kept, changed) == []
    assert [error.path for error in validate_update(SECRET | {"type": "x"}, SECRET)] == ["type"]


def test_a_service_range_may_only_get_a_second_family() -> None:
    one, both = CIDR | {"spec": {"cidrs": ["10.0.0.0/24"]}}, CIDR | {"spec": {"cidrs": ["10.0.0.0/24", "fd00::/112"]}}
    assert validate_update(both, one) == []
    assert [error.path for error in validate_update(one, both)] == ["spec.cidrs"]

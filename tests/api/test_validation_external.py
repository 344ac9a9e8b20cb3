import copy
from typing import Any

import pytest

from moorage.api.validation import validate, validate_update
from testing.bad_externals import FULL, Bad, corpus

GOOD: dict[str, Any] = {
    "apiVersion": "moorage.dev/v1alpha1",
    "kind": "ExternalService",
    "metadata": {"name": "backend", "namespace": "frontend"},
}
MOORING: dict[str, Any] = {
    **GOOD,
    "kind": "Mooring",
    "spec": {"group": "backend", "client": {"kind": "Pod", "name": "frontend-0"}, "endpoint": "backend1"},
}


@pytest.mark.parametrize("bad", corpus(), ids=lambda bad: bad.what)
def test_what_must_be_refused_gives_these_lines(bad: Bad) -> None:
    assert [str(error) for error in validate(bad.object, strict=True)] == bad.moorage


@pytest.mark.parametrize("bad", corpus(), ids=lambda bad: bad.what)
def test_every_line_says_what_to_do(bad: Bad) -> None:
    for line in bad.moorage:
        assert ";" in line
        assert line.isprintable()


def test_there_are_enough_and_each_has_its_title() -> None:
    titles = [bad.what for bad in corpus()]
    assert len(titles) == len(set(titles)) >= 90


def addresses(count: int) -> list[dict[str, Any]]:
    return [{"address": f"198.18.{index // 256}.{index % 256}", "name": f"b{index}"} for index in range(count)]


@pytest.mark.parametrize(
    "spec",
    [
        {"ports": [{"port": 80}]},
        {"ports": [{"port": 80}], "endpoints": []},
        {"ports": [{"port": 80}], "endpoints": [{"addresses": addresses(128)}]},
        {"ports": [{"port": 53, "name": "a", "protocol": "UDP"}, {"port": 53, "name": "b", "protocol": "TCP"}]},
        {"ports": [{"port": 53, "protocol": "UDP"}], "healthCheck": {"port": 9153}},
        {"ports": [{"port": 80}], "healthCheck": {"http": {"tls": {}, "expectedStatuses": ["200-200"]}}},
        {"ports": [{"port": 80}], "healthCheck": {"http": {"host": "[2001:db8::1]:80"}, "tcp": None}},
        {"ports": [{"port": 80}], "healthCheck": {"intervalSeconds": 1}},
        {"ports": [{"port": 80}], "endpoints": [{"dns": {"name": "_db._tcp.Example.com.", "type": "SRV"}}]},
        {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": "2001:DB8::1", "port": 1}]}]},
        {"ports": [{"port": 80}], "sessionAffinityConfig": {}},
        {"ports": [{"port": 80}], "drain": [{"endpoint": "a", "before": "2027-01-01T00:00:00.5+01:00"}]},
    ],
)
def test_what_is_right_is_let_in(spec: dict[str, Any]) -> None:
    assert validate({**GOOD, "spec": spec}, strict=True) == []


@pytest.mark.parametrize("obj", FULL, ids=lambda obj: obj["metadata"]["name"])
def test_every_field_can_be_right(obj: dict[str, Any]) -> None:
    assert validate(obj, strict=True) == []


def test_a_list_that_is_too_long_is_refused() -> None:
    spec = {"ports": [{"port": 80}], "endpoints": [{"addresses": addresses(129)}] * 17}
    found = [str(error) for error in validate({**GOOD, "spec": spec})]
    assert found[0] == "spec.endpoints: 17 are too many; list at most 16"
    assert found[1] == "spec.endpoints[0].addresses: 129 are too many; list at most 128"


def test_a_moorings_client_stays_and_its_endpoint_may_change() -> None:
    moved, other = copy.deepcopy(MOORING), copy.deepcopy(MOORING)
    moved["spec"]["endpoint"] = "backend2"
    other["spec"]["client"]["name"] = "frontend-1"
    assert validate(MOORING) == []
    assert validate_update(moved, MOORING) == []
    assert [error.path for error in validate_update(other, MOORING)] == ["spec.client"]

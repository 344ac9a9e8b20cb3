import copy
from typing import Any

import pytest

from moorage_lab.apiserver.schema import rules_of
from moorage_lab.apiserver.status import StatusError
from moorage_lab.apiserver.strategic import strategic_merge
from tests.support.apiserver import kind


def merged(name: str, target: Any, patch: Any) -> Any:
    before = copy.deepcopy(target)
    result = strategic_merge(rules_of(kind(name)), target, patch)
    assert target == before
    return result


PORTS = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}


@pytest.mark.parametrize(
    ("patch", "ports"),
    [
        ([{"port": 81, "name": "c"}], [{"port": 80, "name": "a"}, {"port": 81, "name": "c"}]),
        ([{"port": 82}], [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}, {"port": 82}]),
        ([{"port": 80, "$patch": "delete"}], [{"port": 81, "name": "b"}]),
        ([{"$patch": "replace"}, {"port": 1}], [{"port": 1}]),
        ([{"port": 80, "name": None}], [{"port": 80}, {"port": 81, "name": "b"}]),
    ],
)
def test_lists_with_a_merge_key_merge_by_it(patch: Any, ports: Any) -> None:
    assert merged("Service", PORTS, {"spec": {"ports": patch}})["spec"]["ports"] == ports


def test_items_are_brought_into_the_order_that_the_patch_names() -> None:
    patch = {"spec": {"ports": [{"port": 82}], "$setElementOrder/ports": [{"port": 82}, {"port": 81}]}}
    assert [port["port"] for port in merged("Service", PORTS, patch)["spec"]["ports"]] == [80, 82, 81]


def test_lists_without_a_merge_key_are_replaced() -> None:
    container = {"name": "c", "args": ["x", "y"]}
    target = {"spec": {"template": {"spec": {"containers": [container]}}}}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "args": ["z"]}]}}}}
    result = merged("Deployment", target, patch)
    assert result["spec"]["template"]["spec"]["containers"] == [{"name": "c", "args": ["z"]}]


def test_retain_keys_drops_the_others() -> None:
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert merged("Deployment", target, patch) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_primitive_lists_merge_as_sets() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert sorted(merged("Service", target, patch)["metadata"]["finalizers"]) == ["b", "c"]


def test_maps_are_replaced_or_deleted_by_directive() -> None:
    target = {"metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}}}
    patch = {"metadata": {"labels": {"$patch": "replace", "c": "d"}, "annotations": {"$patch": "delete"}}}
    assert merged("Service", target, patch) == {"metadata": {"labels": {"c": "d"}, "annotations": {}}}


@pytest.mark.parametrize(
    "patch", [[], {"spec": {"ports": [{"name": "x"}]}}, {"spec": {"ports": [1]}}, {"$patch": "nope"}]
)
def test_a_patch_that_is_none_is_a_bad_request(patch: Any) -> None:
    with pytest.raises(StatusError) as caught:
        merged("Service", PORTS, patch)
    assert caught.value.code == 400

"""Which nodes are tried, and where hints lead their clients."""

from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.core_v1 import Node, NodeSpec, NodeStatus
from moorage.api.meta import ObjectMeta
from moorage.api.topology import MAX_HINTS, ZONE_LABEL, HintedEndpoint, usable
from moorage.check.plan import AGENTS, MAX_NODES, NODES, SERVERS, ZONES, Plan, planned

READY = NodeStatus(conditions=[{"type": "Ready", "status": "True"}])


def node(number: int, zone: str = "", **labels: str) -> Node:
    """The younger, the higher its number."""
    made = f"2026-01-01T00:00:{number:02}Z"
    its = {**({ZONE_LABEL: zone} if zone else {}), **labels}
    return Node(metadata=ObjectMeta(name=f"n{number:02}", creation_timestamp=made, labels=its), status=READY)


def plan(*nodes: Node, agents: Collection[str] = ()) -> Plan:
    found = planned(nodes, agents)
    assert found is not None
    return found


@given(st.lists(st.sampled_from(["", "x", "y", "z"]), min_size=1, max_size=40), st.integers(0, 40))
def test_what_kube_proxy_makes_of_the_hints_is_what_is_planned(zones: list[str], agents: int) -> None:
    nodes = [node(number, zone) for number, zone in enumerate(zones)]
    zone_of = {each.metadata.name: zone for each, zone in zip(nodes, zones, strict=True)}
    with_agents = set([*zone_of][:agents])
    found = plan(*nodes, agents=with_agents)
    assert len(found.nodes) == min(len(nodes), MAX_NODES)
    assert found.every == len(nodes)
    for way in found.ways.values():
        endpoints = [HintedEndpoint(ready=True, hints=way.hints[server]) for server in SERVERS]
        for name, server in way.lead.items():
            assert [SERVERS[index] for index in usable(endpoints, name, zone_of[name])] == [server]
        for endpoint in endpoints:
            assert max(len(endpoint.hints.nodes), len(endpoint.hints.zones)) <= MAX_HINTS
    led = {name: set(way.lead) for name, way in found.ways.items()}
    assert led.pop(NODES) == set(found.nodes)
    assert led.pop(ZONES, set()) == {name for name in found.nodes if zone_of[name]}
    assert led.pop(AGENTS, set()) == with_agents & set(found.nodes)
    assert led == {}


@given(st.integers(2, 20))
def test_no_client_is_led_to_its_own_node_as_who_ignores_hints_may_lead_it_there(many: int) -> None:
    found = plan(*map(node, range(many)))
    assert all(found.at[server] != name for name, server in found.ways[NODES].lead.items())
    assert set(found.ways[NODES].lead.values()) == set(SERVERS)


def test_servers_are_in_two_zones_if_there_are_two_and_each_zone_is_led_to_the_other() -> None:
    found = plan(node(1, "x"), node(2, "x"), node(3, "y"), node(4))
    assert found.at == {"a": "n01", "b": "n03"}
    assert found.ways[ZONES].lead == {"n01": "b", "n02": "b", "n03": "a"}


def test_one_node_is_led_to_one_of_two_servers_that_are_there() -> None:
    found = plan(node(1))
    assert found.at == {"a": "n01", "b": "n01"}
    assert found.ways[NODES].lead == {"n01": "b"}
    assert ZONES not in found.ways


def test_of_many_nodes_the_oldest_the_newest_and_some_between_are_tried() -> None:
    found = plan(*map(node, reversed(range(46))))
    assert sorted(found.nodes) == [f"n{number:02}" for number in range(0, 46, 3)]
    assert found.every == 46


@pytest.mark.parametrize("many", [1, 15, 16, 17, 18])
def test_as_many_nodes_are_tried_as_there_are_up_to_a_limit(many: int) -> None:
    assert len(set(plan(*map(node, range(many))).nodes)) == min(many, MAX_NODES)


def unable() -> list[Any]:
    def spec(**fields: Any) -> Node:
        return replace(node(1), spec=NodeSpec(**fields))

    return [
        pytest.param(spec(unschedulable=True), id="cordoned"),
        pytest.param(spec(taints=[{"key": "a", "effect": "NoSchedule"}]), id="tainted"),
        pytest.param(spec(taints=[{"key": "a", "effect": "NoExecute"}]), id="being emptied"),
        pytest.param(replace(node(1), status=NodeStatus()), id="without a kubelet yet"),
        pytest.param(
            replace(node(1), status=NodeStatus(conditions=[{"type": "Ready", "status": "Unknown"}])), id="gone"
        ),
        pytest.param(node(1, **{"kubernetes.io/os": "windows"}), id="windows"),
    ]


@pytest.mark.parametrize("other", unable())
def test_a_node_that_takes_no_pods_by_itself_is_left_out(other: Node) -> None:
    assert planned([other], ["n01"]) is None
    found = plan(other, node(2))
    assert (found.nodes, found.every) == (("n02",), 2)


def test_a_taint_that_only_puts_pods_off_does_not_matter() -> None:
    one = replace(node(1), spec=NodeSpec(taints=[{"key": "a", "effect": "PreferNoSchedule"}]))
    assert plan(one).nodes == ("n01",)

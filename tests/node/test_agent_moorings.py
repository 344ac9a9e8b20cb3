"""The agent and moorings: what it wants the kernel to have while pods and Moorings come, move and go."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorage.api.contract import (
    CLIENT_LABEL,
    MooredBy,
)
from moorage.dataplane.model import (
    MooringKey,
    PodPrefixKey,
    ServicePort,
)
from testing.eventually import eventually
from tests.support.moored_agent import (
    ADDRESSES,
    E1,
    E2,
    E3,
    FRONTENDS,
    HTTP,
    A,
    B,
    Fixture,
    moored_agent,
    mooring,
    node,
    pod,
    service,
    slice_,
)


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with moored_agent() as made:
        yield made


# --- coming -------------------------------------------------------------------------------------------------------


async def test_a_pod_is_led_as_soon_as_it_has_an_address_where_its_mooring_was_there_before(fixture: Fixture) -> None:
    async with fixture.agent():
        fixture.store(mooring("a", "e2"), pod("a", phase="Pending"))
        await fixture.uses(E1, E2, E3)
        assert fixture.led() == {}
        fixture.store(pod("a", A))
        await fixture.leads(a=E2)
        assert fixture.kernel.changes[-1] == {MooringKey(A, HTTP)}


async def test_a_pod_is_led_as_soon_as_its_mooring_comes_where_it_had_an_address_before(fixture: Fixture) -> None:
    async with fixture.agent():
        fixture.store(pod("a", A), pod("b", B), mooring("b", "e3"))
        await fixture.leads(b=E3)
        fixture.store(mooring("a", "e2"))
        await fixture.leads(a=E2, b=E3)
        assert fixture.kernel.changes[-1] == {MooringKey(A, HTTP)}


async def test_moorings_come_before_their_service_and_go_with_it(fixture: Fixture) -> None:
    fixture.remove(service())
    fixture.store(pod("a", A), mooring("a", "e2"))
    async with fixture.agent() as agent:
        fixture.store(service())
        await fixture.leads(a=E2)
        fixture.remove(service())
        await fixture.uses()
        await fixture.leads()
        assert fixture.kernel.state == {}
        assert (agent._world.clientele._clients, agent._wanted._pods, agent._wanted._nodes) == ({}, {}, set())


async def test_an_agent_that_starts_wants_all_of_it_at_once(fixture: Fixture) -> None:
    """Else it would first take out of the kernel what an earlier agent had put there."""
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    held = fixture.server.faults.hold(path="/moorings")
    async with fixture.agent():
        async with asyncio.timeout(20):
            await held.arrived.wait()
        for _ in range(50):
            await fixture.client.raw("GET", "/version")
        assert fixture.kernel.changes == []
        held.release()
        await fixture.leads(a=E1, b=E2)
    assert len(fixture.kernel.changes) == 1


async def test_an_agent_that_may_read_neither_pods_nor_moorings_carries_services(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    for path in ("/pods", "/moorings"):
        fixture.server.faults.fail(1000, code=403, path=path)
    async with fixture.agent():
        await fixture.uses(E1, E2, E3)
        assert fixture.led() == {}


# --- moving -------------------------------------------------------------------------------------------------------


async def test_a_client_that_moves_changes_nothing_but_itself(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e1"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E1, b=E1)
        assert (agent.ports, agent.moorings) == (1, 2)
        fixture.store(mooring("a", "e3", reason="Moved", previous="e1"))
        await fixture.leads(a=E3, b=E1)
        assert fixture.kernel.changes[1:] == [{MooringKey(A, HTTP)}]


async def test_an_edit_is_followed_at_once_and_its_record_changes_nothing(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(mooring("a", "e2", endpoint="e1"))
        await fixture.leads(a=E2)
        changes = len(fixture.kernel.changes)
        fixture.store(mooring("a", "e2", reason="Moved", previous="e1"))
        await fixture.seen()
        assert not any(MooringKey(A, HTTP) in each for each in fixture.kernel.changes[changes:])


async def test_an_edit_that_the_operator_refuses_is_taken_back(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        fixture.store(mooring("a", "e2", endpoint="e1"))
        await fixture.leads(a=E2)
        fixture.store(mooring("a", "e2", endpoint="e1", message="spec.endpoint: e2 is drained"))
        await fixture.leads(a=E1)


async def test_an_edit_is_followed_as_soon_as_its_endpoint_serves(fixture: Fixture) -> None:
    fixture.store(slice_("e1", "e2"), pod("a", A), mooring("a", "e3", endpoint="e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(slice_("e1", "e2", "e3"))
        await fixture.leads(a=E3)


async def test_a_pod_that_gets_another_address_is_led_there(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(pod("a", B))
        await fixture.leads(b=E1)


async def test_a_pod_that_is_relabelled_is_no_client_any_more(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(pod("a", A, labels={"app": "other"}))
        await fixture.leads()


# --- going --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", ""])
async def test_a_pods_end_frees_its_address_for_the_next(fixture: Fixture, phase: str) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        if phase:
            fixture.store(pod("a", A, phase=phase))
        else:
            fixture.remove(pod("a"))
        await fixture.leads()
        fixture.store(pod("b", A))
        await fixture.leads(a=E2)


async def test_what_was_learned_of_an_address_is_forgotten_once_no_pod_has_it(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"), pod("b", B), pod("c", B))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.remove(pod("b"))
        await fixture.seen()
        assert fixture.kernel.ended == []
        fixture.kernel.failures = 1
        fixture.remove(pod("c"))
        fixture.store(pod("a", ADDRESSES["d"]))
        await fixture.leads(d=E1)
        await fixture.seen()
        assert sorted(fixture.kernel.ended) == [A, B]


async def test_an_address_of_two_living_pods_is_the_newers_and_the_olders_again_after_it(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"), mooring("b", "e2"))
    newer = pod("b", A, creationTimestamp="2026-01-01T00:00:09Z")
    async with fixture.agent() as agent:
        await fixture.leads(a=E1)
        fixture.store(newer)
        await fixture.leads(a=E2)
        [warning] = agent.warnings
        assert warning.startswith("Pod frontend/a is not led to where it is moored: Pod frontend/b")
        fixture.remove(newer)
        await fixture.leads(a=E1)
        assert agent.warnings == []


async def test_a_pod_of_another_namespace_takes_the_address_along(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    other = pod("x", A, namespace="elsewhere", creationTimestamp="2026-01-01T00:00:09Z")
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(other)
        await fixture.leads()
        fixture.remove(other)
        await fixture.leads(a=E1)


async def test_a_mooring_that_is_deleted_leaves_its_client_to_its_session(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.remove(mooring("a", "e1"))
        await fixture.leads()
        assert fixture.endpoints() == {E1, E2, E3}


async def test_an_endpoint_that_does_not_serve_leads_nobody_until_it_does(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent():
        await fixture.leads(a=E1, b=E2)
        fixture.store(slice_("e2", "e3"))
        await fixture.leads(b=E2)
        assert fixture.endpoints() == {E2, E3}
        fixture.store(slice_("e1", "e2", "e3"))
        await fixture.leads(a=E1, b=E2)


async def test_a_service_that_loses_its_address_to_another_leads_nobody_there(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    second = service(MooredBy("other", "Pod", pods=FRONTENDS), name="a-second", namespace="elsewhere")
    first = service(MooredBy("other", "Pod", pods=FRONTENDS), name="a-first", namespace="elsewhere")
    async with fixture.agent() as agent:
        await fixture.leads(a=E1)
        fixture.store(second, first)
        await fixture.leads()
        assert len(agent.warnings) == 2
        fixture.remove(first)
        await fixture.seen()
        assert fixture.led() == {}
        fixture.remove(second)
        await fixture.leads(a=E1)


# --- who ----------------------------------------------------------------------------------------------------------


async def test_pods_of_other_nodes_are_none_of_ours(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B, node="node-2"), mooring("a", "e1"), mooring("b", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        await fixture.seen()
        assert fixture.led() == {A: E1}


async def test_each_family_of_a_pod_goes_where_its_endpoint_is(fixture: Fixture) -> None:
    six = slice_("e1", "e2", "e3") | {"addressType": "IPv6"}
    six["metadata"] = {**six["metadata"], "name": "backend-six"}
    six["endpoints"] = [{"addresses": ["2001:db8::1"], "hostname": "e1"}]
    fixture.store(service(clusterIPs=[HTTP.address, "fd00::1"]), six)
    fixture.store(pod("a", A, "fd00:10::2"), mooring("a", "e1"))
    async with fixture.agent():

        async def both() -> bool:
            keys = [each for each in fixture.kernel.state if isinstance(each, MooringKey)]
            return {each.client for each in keys} == {A, "fd00:10::2"}

        await eventually(both)


async def test_pods_in_the_hosts_network_go_where_their_node_is_moored(fixture: Fixture) -> None:
    fixture.store(pod("h1", A, hostNetwork=True), pod("h2", A, hostNetwork=True), mooring("node-1", "e3", "Node"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E3)
        assert agent.warnings == []
        fixture.remove(pod("h1"))
        await fixture.seen()
        assert fixture.led() == {A: E3}
        fixture.remove(pod("h2"))
        await fixture.leads()


def made_by(kind: str, name: str, uid: str, api_version: str = "apps/v1") -> list[dict[str, Any]]:
    return [{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}]


async def test_pods_of_a_workload_are_led_and_the_api_is_asked_once_what_made_their_replica_set(
    fixture: Fixture,
) -> None:
    replicas = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "namespace": "frontend", "uid": "rs-1"}
        | {"ownerReferences": made_by("Deployment", "web", "d-1")},
    }
    fixture.store(service(MooredBy("backend", "Workload", pods=FRONTENDS)), replicas)
    fixture.store(mooring("Deployment/web", "e2", "Workload"))
    asked: list[str] = []
    get = fixture.client.get

    async def counted(kind: type[Any], namespace: str | None, name: str) -> Any:
        asked.append(name)
        return await get(kind, namespace, name)

    fixture.client.get = counted  # type: ignore[method-assign]
    async with fixture.agent():
        for name in "ab":
            fixture.store(pod(name, ADDRESSES[name], ownerReferences=made_by("ReplicaSet", "web-1", "rs-1")))
        await fixture.leads(a=E2, b=E2)
        fixture.store(pod("c", ADDRESSES["c"], ownerReferences=made_by("ReplicaSet", "gone", "rs-9")))
        fixture.store(pod("d", ADDRESSES["d"], ownerReferences=made_by("ReplicaSet", "web-1", "rs-1")))
        await fixture.leads(a=E2, b=E2, d=E2)
        await fixture.seen()
    assert asked.count("web-1") == 1
    assert asked.count("gone") <= 1


# --- nodes and zones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "client", "other"), [("Node", "node-1", "node-2"), ("Zone", "eu-1a", "eu-1b")])
async def test_a_node_uses_the_endpoint_that_it_or_its_zone_is_moored_to(
    fixture: Fixture, kind: str, client: str, other: str
) -> None:
    fixture.store(node("eu-1a"), service(MooredBy("backend", kind)))
    fixture.store(mooring(client, "e2", kind), mooring(other, "e3", kind))
    async with fixture.agent():
        await fixture.uses(E2)
        assert len(fixture.kernel.changes) == 1, "it was not without its mooring at first"
        fixture.store(mooring(client, "e1", kind, reason="Moved", previous="e2"))
        await fixture.uses(E1)
        port = fixture.kernel.state[HTTP]
        assert isinstance(port, ServicePort)
        assert {each.address for each in port.keeps} == {E3}
        fixture.store(slice_("e2", "e3"))
        await fixture.uses(E2, E3)
        fixture.store(slice_("e1", "e2", "e3"))
        await fixture.uses(E1)
        fixture.remove(mooring(client, "e1", kind))
        await fixture.uses(E1, E2, E3)


async def test_a_node_that_changes_its_zone_goes_where_the_other_zone_is_moored(fixture: Fixture) -> None:
    fixture.store(node("eu-1a"), service(MooredBy("backend", "Zone")))
    fixture.store(mooring("eu-1a", "e1", "Zone"), mooring("eu-1b", "e2", "Zone"))
    async with fixture.agent():
        await fixture.uses(E1)
        fixture.store(node("eu-1b"))
        await fixture.uses(E2)
        fixture.store(node())
        await fixture.uses(E1, E2, E3)


async def test_the_ranges_of_the_nodes_pods_are_carried_where_pods_are_moored(fixture: Fixture) -> None:
    def prefixes() -> set[str]:
        return {each.prefix for each in fixture.kernel.state if isinstance(each, PodPrefixKey)}

    async def both() -> bool:
        return prefixes() == {"10.244.1.0/24", "fd00:10::/64"}

    async def none() -> bool:
        return prefixes() == set()

    fixture.store(node("", "10.244.1.7/24", "fd00:10:0::/64", "10.244.0.0/16", "nonsense"))
    async with fixture.agent():
        await eventually(both)
        fixture.store(service(MooredBy("backend", "Node")))
        await eventually(none)


# --- what it reads ------------------------------------------------------------------------------------------------


async def test_only_what_is_needed_is_read(fixture: Fixture) -> None:
    """1,000 agents read from one API server."""
    seen: list[tuple[str, str]] = []
    listed = fixture.client.list

    async def noted(kind: type[Any], namespace: str | None = None, **how: Any) -> Any:
        selectors = [how.get("label_selector"), how.get("field_selector")]
        seen.append((kind.__name__, ";".join([namespace or "*", *(each for each in selectors if each)])))
        return await listed(kind, namespace, **how)

    fixture.client.list = noted  # type: ignore[method-assign]
    plain = service(name="plain", clusterIPs=["10.96.0.9"])
    plain["metadata"]["annotations"] = {}
    fixture.store(plain, node("eu-1a"), pod("other", namespace="elsewhere"))
    fixture.remove(service())
    async with fixture.agent():

        async def carried() -> bool:
            return HTTP._replace(address="10.96.0.9") in fixture.kernel.state

        await eventually(carried)
        assert {each for each, _ in seen} == {"Service", "EndpointSlice", "Node"}
        fixture.store(service())
        await fixture.uses(E1, E2, E3)
        pods = "*;spec.nodeName=node-1,status.phase!=Succeeded,status.phase!=Failed"

        async def read(what: tuple[str, str]) -> None:
            async def condition() -> bool:
                return what in seen

            await eventually(condition)

        await read(("Pod", pods))
        await fixture.seen()
        assert "Mooring" not in {each for each, _ in seen}, "no pod of the namespace is here"
        fixture.store(pod("a", A), mooring("a", "e1"))
        await fixture.leads(a=E1)
        await read(("Mooring", "frontend"))
        fixture.store(service(MooredBy("nodes", "Node"), name="nodes", clusterIPs=["10.96.0.8"]))
        await read(("Mooring", f"*;{CLIENT_LABEL} in (node.node-1,zone.eu-1a)"))
        assert {where for kind, where in seen if kind == "Mooring"} == {
            "frontend",
            f"*;{CLIENT_LABEL} in (node.node-1,zone.eu-1a)",
        }

"""What the operator does about the clients of ExternalServices, with everything but packets: as things are now."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorage.api.core_v1 import Event, Namespace, Node, Pod
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from testing.eventually import eventually
from tests.support.operators import Operator, operator, xsvc

ONE, TWO, THREE = "one=203.0.113.1", "two=203.0.113.2", "three=203.0.113.3"
NODES = ["n1", "n2", "n3"]


@pytest.fixture
async def op() -> AsyncIterator[Operator]:
    async with operator() as made:
        yield made


def moored(*addresses: str, name: str = "backend", client: str = "Node", **spec: Any) -> dict[str, Any]:
    mooring = {"client": client, **spec.pop("mooring", {})}
    config = {"sessionAffinity": "Mooring", "sessionAffinityConfig": {"mooring": mooring}}
    return xsvc(name, *addresses, **config, **spec)


async def begun(op: Operator, *addresses: str, nodes: list[str] = NODES, **spec: Any) -> dict[str, str]:
    """An ExternalService whose clients are these nodes; where they are."""
    for each in nodes:
        await op.node(each)
    await op.apply(moored(*addresses, **spec))

    async def all_moored() -> bool:
        return sorted(await op.moorings()) == sorted(nodes)

    await eventually(all_moored)
    await op.rests()
    return await op.moorings()


async def test_clients_are_spread_with_one_write_each_and_hints_follow(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
        assert sorted(Counter(at.values()).values()) == [1, 2]
        hints = await op.hints()
        assert {name: sorted(names) for name, names in hints.items()} == {
            end: sorted(node for node, where in at.items() if where == end) for end in ("one", "two")
        }
        assert op.writes()["Mooring create ok"] == 3
        assert "Mooring patch ok" not in op.writes()
        found = (await op.mooring("n1")).status
        assert (found.reason, found.previous, found.home) == ("Assigned", None, found.endpoint)
        assert (await op.condition("Moored")).status == "True"  # type: ignore[union-attr]


async def test_a_steady_state_is_left_alone_also_by_the_next_leader(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
    await op.next_leader_writes_nothing()


async def test_an_endpoint_that_dies_moves_exactly_its_clients_and_is_told(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
        lost = {node for node, where in at.items() if where == "one"}
        versions = {node: (await op.mooring(node)).metadata.resource_version for node in NODES}
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await op.moors(dict.fromkeys(NODES, "two"))
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})
        await op.rests()
        assert sorted((await op.hints())["two"]) == NODES
        changed = {node for node in NODES if (await op.mooring(node)).metadata.resource_version != versions[node]}
        assert changed == lost
        for node in lost:
            found = (await op.mooring(node)).status
            assert (found.reason, found.previous, found.home) == ("FailedOver", "one", "one")
        assert op.writes()["Mooring patch ok"] == len(lost)

        async def told() -> bool:
            events = (await op.client.list(Event, "default")).items
            kinds = {each.involved_object.kind for each in events if each.reason == "FailedOver"}
            return kinds == {"ExternalService", "Node"}

        await eventually(told)


async def test_an_endpoint_that_is_added_or_comes_back_moves_nobody(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
        await op.apply(moored(ONE, TWO, THREE))
        await op.publishes({f"203.0.113.{number}": True for number in (1, 2, 3)})
        await op.rests()
        assert await op.moorings() == at
        await op.node("n4")
        await op.moors({**at, "n4": "three"})
        op.down.add("203.0.113.3")
        op.prober.check(times=2)

        async def moved() -> bool:
            return (await op.moorings())["n4"] != "three"

        await eventually(moved)
        elsewhere = await op.moorings()
        op.down.clear()
        op.prober.check(times=2)
        await op.publishes({f"203.0.113.{number}": True for number in (1, 2, 3)})
        await op.rests()
        assert await op.moorings() == elsewhere


async def test_a_person_who_edits_a_mooring_moves_its_client(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
        other = "two" if at["n1"] == "one" else "one"
        name = (await op.mooring("n1")).metadata.name
        await op.client.patch(Mooring, "default", name, {"spec": {"endpoint": other}})
        await op.moors({**at, "n1": other})
        await op.rests()
        assert "n1" in (await op.hints())[other]
        found = (await op.mooring("n1")).status
        assert (found.reason, found.previous) == ("Moved", at["n1"])
        await op.client.patch(Mooring, "default", name, {"spec": {"endpoint": "nowhere"}})

        async def said() -> bool:
            return "nowhere" in ((await op.mooring("n1")).status.message or "")

        await eventually(said)
        await op.rests()
        assert await op.moorings() == {**at, "n1": other}


async def test_nodes_that_change_places_between_slices_are_in_the_hints_of_both_meanwhile(op: Operator) -> None:
    """Endpoints with ports of their own have a slice each."""
    ports = [{"name": name, "address": f"203.0.113.{n}", "port": 80 + n} for n, name in enumerate(("one", "two"))]
    async with op.running():
        at = await begun(op, nodes=["n1", "n2"], endpoints=[{"addresses": ports}])
        assert len(await op.slices()) == len({*at.values()}) == 2
    swapped = {"n1": at["n2"], "n2": at["n1"]}
    for node, endpoint in swapped.items():
        name = (await op.mooring(node)).metadata.name
        await op.client.patch(Mooring, "default", name, {"spec": {"endpoint": endpoint}})
    async with op.running():
        await op.moors(swapped)
        await op.rests()
        assert await op.hints() == {endpoint: [node] for node, endpoint in swapped.items()}
        assert op.writes()["EndpointSlice patch ok"] == 3


async def test_a_mooring_that_somebody_deletes_is_made_again(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
        mooring = await op.mooring("n1")
        await op.client.delete(Mooring, "default", mooring.metadata.name)

        async def again() -> bool:
            found = [each for each in NODES if each in await op.moorings()]
            return found == NODES and (await op.mooring("n1")).metadata.uid != mooring.metadata.uid

        await eventually(again)


async def test_a_client_that_goes_frees_its_place_and_its_mooring_waits_for_it(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
        await op.client.delete(Node, None, "n1")
        await op.rests()
        assert await op.moorings() == at
        await op.node("n1")
        await op.rests()
        assert await op.moorings() == at
        assert "Mooring patch ok" not in op.writes()


@pytest.mark.parametrize("writes", range(8))
async def test_a_leader_that_is_lost_after_any_write_of_a_failover_leaves_what_the_next_one_finishes(
    op: Operator, writes: int
) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO, THREE, nodes=[f"n{number}" for number in range(9)])
    op.down.add("203.0.113.1")
    async with op.running():
        await op.rests()
        op.leading.leave_after(writes)
        op.prober.check(times=3)

        async def was_refused() -> bool:
            return op.leading.refused > 0 or "203.0.113.1" not in [
                each for each, ready in (await op.published()).items() if ready
            ]

        await eventually(was_refused)
    async with op.running():
        await op.rests()
        op.prober.check(times=3)
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True, "203.0.113.3": True})
        await op.rests()
        after = await op.moorings()
        assert {node for node in at if at[node] != after[node]} == {node for node in at if at[node] == "one"}
        assert "one" not in after.values()
        hints = await op.hints()
        assert {node: end for end, nodes in hints.items() for node in nodes} == after
        before = op.server.store.version
        op.prober.check(times=3)
        await op.rests()
        assert op.server.store.version == before


async def test_an_operator_that_reads_moorings_late_makes_none_anew(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
    before = op.server.store.version
    held = op.server.faults.hold(path="/moorings", method="GET")
    async with op.running() as term:
        await held.arrived.wait()
        await op.has_time()
        assert not term.synced
        held.release()
        await op.rests()
        assert (await op.moorings(), op.server.store.version) == (at, before)


async def test_an_operator_that_may_not_read_moorings_carries_everything_else(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
    hints = await op.hints()
    op.server.faults.fail(1000, code=403, path="/moorings", method="GET")
    async with op.running():
        await op.apply(xsvc("plain", "203.0.113.7"))
        await op.publishes({"203.0.113.7": True}, "plain")
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})
        assert {name: nodes for name, nodes in hints.items() if name == "two"} == await op.hints()
        assert "Mooring create ok" not in op.writes()
        op.server.faults.clear()


async def test_watches_that_break_lose_no_client(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
        op.server.store.compact()
        op.server.faults.drop_watches()
        await op.node("n4")

        async def moored_too() -> bool:
            return sorted(await op.moorings()) == [*NODES, "n4"]

        await eventually(moored_too)
        assert {**at, "n4": (await op.moorings())["n4"]} == await op.moorings()


async def test_a_mooring_that_is_refused_costs_itself_and_is_told_in_the_servers_words(op: Operator) -> None:
    async with op.running():
        op.server.faults.fail(1, code=403, path="/moorings", method="POST")
        for each in NODES:
            await op.node(each)
        await op.apply(moored(ONE, TWO))
        found = await op.says("Moored", "WriteRefused")
        assert "Mooring backend.node.n" in found.message
        await op.publishes({"203.0.113.1": True, "203.0.113.2": True})
        assert len(await op.moorings()) >= 2

        async def all_there() -> bool:
            return sorted(await op.moorings()) == NODES

        await eventually(all_there)
        await op.says("Moored", "Moored")


async def test_readiness_does_not_wait_for_moorings_that_cannot_be_written(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
        op.server.faults.fail(1000, code=403, path="/moorings", method="PATCH")
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})


async def test_of_a_namespace_one_endpoint_is_published_also_while_its_mooring_is_refused(op: Operator) -> None:
    async with op.running():
        op.server.faults.fail(1000, code=403, path="/moorings", method="POST")
        await op.apply(moored(ONE, TWO, client="Namespace"))

        await op.says("Moored", "WriteRefused")
        before = await op.published()
        assert sorted(before.values()) == [False, True]
        op.server.faults.clear()

        async def is_moored() -> bool:
            return set(await op.moorings()) == {"default"}

        await eventually(is_moored)
        await op.rests()
        assert await op.published() == before, "it is the one that the namespace was going to be moored to"


async def test_members_of_a_group_share_moorings_and_all_must_agree_to_an_endpoint(op: Operator) -> None:
    async with op.running():
        for each in NODES:
            await op.node(each)
        await op.apply(
            moored(ONE, TWO, name="backend", group="pair"), moored(ONE, TWO, name="backend-2", group="pair")
        )

        async def all_moored() -> bool:
            return sorted(await op.moorings()) == NODES

        await eventually(all_moored)
        await op.rests()
        assert {each.spec.group for each in (await op.client.list(Mooring, "default")).items} == {"pair"}
        assert op.writes()["Mooring create ok"] == 3
        op.prober.down = {"203.0.113.1"}
        op.prober.check(times=2)
        await op.moors(dict.fromkeys(NODES, "two"))


async def test_replicas_of_a_deployment_share_a_mooring_through_a_rollout(op: Operator) -> None:
    labels = {"app": "a"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "a"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}

    async def made(kind: str, name: str, spec: object, owner: dict[str, Any] | None = None) -> dict[str, Any]:
        """An object, and how those that it makes refer to it."""
        version = "v1" if kind == "Pod" else "apps/v1"
        meta = {"name": name, "namespace": "default", "labels": labels, "ownerReferences": [owner] if owner else []}
        obj = {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
        uid = (await op.client.apply(obj, field_manager="test"))["metadata"]["uid"]
        return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}

    async with op.running():
        selector = {"podSelector": {"matchLabels": labels}}
        await op.apply(moored(ONE, TWO, client="Workload", proxy="moorage", mooring=selector))
        await op.says("Ready", "Ready")
        deployment = await made("Deployment", "a", spec)
        old = await made("ReplicaSet", "a-1", spec, deployment)
        await made("Pod", "a-1-x", template["spec"], old)

        async def moored_once() -> bool:
            return list(await op.moorings()) == ["Deployment/a"]

        await eventually(moored_once)
        before = await op.moorings()
        new = await made("ReplicaSet", "a-2", spec, deployment)
        await made("Pod", "a-2-x", template["spec"], new)
        await op.client.delete(Pod, "default", "a-1-x", grace_period_seconds=0)
        await op.rests()
        assert await op.moorings() == before
        assert op.writes()["Mooring create ok"] == 1


async def test_the_moorings_of_an_external_service_that_is_gone_go_after_a_while(op: Operator) -> None:
    op.grace_seconds = 0
    async with op.running():
        await begun(op, ONE, TWO)
        await op.client.delete(ExternalService, "default", "backend")
        await op.moors({})


async def test_a_namespace_with_moorings_can_be_deleted_and_nothing_is_made_there_any_more(op: Operator) -> None:
    async with op.running():
        for each in NODES:
            await op.node(each)
        await op.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "frontend"}})
        there = moored(ONE, TWO)
        there["metadata"]["namespace"] = "frontend"
        await op.apply(there)

        async def number() -> int:
            return len((await op.client.list(Mooring, "frontend")).items)

        async def all_moored() -> bool:
            return await number() == len(NODES)

        await eventually(all_moored)
        await op.client.delete(Namespace, None, "frontend")

        async def gone() -> bool:
            names = [each.metadata.name for each in (await op.client.list(Namespace)).items]
            return "frontend" not in names and await number() == 0

        await eventually(gone)
        await op.rests()
        assert await gone()

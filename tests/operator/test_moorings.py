"""What the operator does about the clients of ExternalServices, with everything but packets: as things are now."""

from collections import Counter

from moorage.api.core_v1 import Event, Namespace, Node, Pod
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from testing.eventually import eventually
from tests.support.moored import NODES, ONE, SELECTOR, THREE, TWO, begun, made, moored
from tests.support.operators import Operator


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
        since = op.server.store.version
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await op.moors(dict.fromkeys(NODES, "two"))
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})
        await op.rests()
        written = [each.kind.plural for each in op.server.store.changes(since) if each.kind.plural != "events"]
        assert written == [*("moorings" for _ in lost), "endpointslices", "externalservices"], "moorings come first"
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


async def test_what_is_published_does_not_wait_for_the_news(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
        op.down.add("203.0.113.1")
        held = op.server.faults.hold(path="/endpointslices", method="PATCH")
        op.prober.check(times=2)
        await held.arrived.wait()
        await op.has_time()
        assert "FailedOver" not in {each.reason for each in (await op.client.list(Event, "default")).items}
        held.release()
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})


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
    async with op.running():
        await op.apply(moored(ONE, TWO, client="Workload", proxy="moorage", mooring=SELECTOR))
        await op.says("Ready", "Ready")
        deployment = await made(op, "Deployment", "a")
        await made(op, "Pod", "a-1-x", await made(op, "ReplicaSet", "a-1", deployment))

        async def moored_once() -> bool:
            return list(await op.moorings()) == ["Deployment/a"]

        await eventually(moored_once)
        before = await op.moorings()
        await made(op, "Pod", "a-2-x", await made(op, "ReplicaSet", "a-2", deployment))
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

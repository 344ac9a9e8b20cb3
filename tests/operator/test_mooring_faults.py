"""What becomes of moorings when something is slow, refused, lost or cut off."""

from collections import Counter

import pytest

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.reflector import Reflector
from testing.eventually import eventually
from tests.support.moored import NODES, ONE, SELECTOR, THREE, TWO, begun, made, moored
from tests.support.operators import Operator, xsvc


async def test_clients_are_spread_over_an_endpoint_that_is_checked_late_too(
    op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.core.groups.MAX_AWAITED_SECONDS", 3600.0)
    nodes = [f"n{number}" for number in range(6)]
    async with op.running():
        op.prober.slow.add("203.0.113.2")
        for each in nodes:
            await op.node(each)
        await op.apply(moored(ONE, TWO, healthCheck={"intervalSeconds": 3600}))
        await op.publishes({"203.0.113.1": True, "203.0.113.2": False})

        async def told() -> bool:
            return "Clients get an endpoint once" in (await op.says("Moored", "Pending")).message

        await eventually(told)
        await op.apply(moored(THREE, name="other"))
        await op.moors(dict.fromkeys(nodes, "three"))
        await op.rests()
        assert {each.spec.group for each in (await op.client.list(Mooring, "default")).items} == {"other"}
        op.prober.slow.clear()
        op.prober.check()
        await op.says("Moored", "Moored")
        found = (await op.client.list(Mooring, "default")).items
        at = Counter(each.status.endpoint for each in found if each.spec.group == "backend")
        assert at == {"one": 3, "two": 3}
        assert op.writes()["Mooring create ok"] == 12


@pytest.mark.parametrize("left", [[], [ONE]], ids=["of-all-others", "of-some"])
async def test_clients_are_spread_over_endpoints_that_take_the_place_of_others(
    op: Operator, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    monkeypatch.setattr("moorage.core.groups.MAX_AWAITED_SECONDS", 3600.0)
    nodes = [f"n{number}" for number in range(6)]
    async with op.running():
        before = await begun(op, ONE, TWO, nodes=nodes, healthCheck={"intervalSeconds": 3600})
        op.prober.slow.add("203.0.113.4")
        await op.apply(moored(*left, THREE, "four=203.0.113.4", healthCheck={"intervalSeconds": 3600}))
        await op.publishes({**({"203.0.113.1": True} if left else {}), "203.0.113.3": True, "203.0.113.4": False})
        await op.says("Moored", "Pending")
        await op.rests()
        assert await op.moorings() == before
        op.prober.slow.clear()
        op.prober.check()
        await op.says("Moored", "Moored")
        after = Counter((await op.moorings()).values())
        assert after["one"] == (3 if left else 0)
        assert sorted((after["three"], after["four"])) == ([1, 2] if left else [3, 3])


async def test_an_endpoint_that_is_never_checked_holds_clients_up_for_some_seconds_only(op: Operator) -> None:
    async with op.running():
        op.prober.slow.add("203.0.113.2")
        at = await begun(op, ONE, TWO, healthCheck={"intervalSeconds": 1})
        assert at == dict.fromkeys(NODES, "one")


async def test_a_new_client_does_not_come_to_an_endpoint_that_died_while_nobody_led(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO, THREE)
    op.down.add("203.0.113.2")
    new = [f"m{number}" for number in range(4)]
    for each in new:
        await op.node(each)
    async with op.running():

        async def all_moored() -> bool:
            return len(await op.moorings()) == len({*at, *new})

        await eventually(all_moored)
        await op.rests()
        assert (await op.published())["203.0.113.2"], "it has not failed often enough"
        after = await op.moorings()
        assert at.items() <= after.items()
        assert sorted(after[node] for node in new) == ["one", "one", "three", "three"]
        op.prober.check(times=3)
        await op.publishes({"203.0.113.1": True, "203.0.113.2": False, "203.0.113.3": True})
        await op.rests()
        moves = {node: [each.reason for each in (await op.mooring(node)).status.moves or ()] for node in new}
        assert moves == {node: ["Assigned"] for node in new}
        assert "two" not in (await op.moorings()).values()


async def test_it_does_if_all_seem_to_have_died(op: Operator) -> None:
    async with op.running():
        at = await begun(op, ONE, TWO)
    op.down |= {"203.0.113.1", "203.0.113.2"}
    await op.node("new")
    async with op.running():
        await op.moors(at | {"new": min(("one", "two"), key=[*at.values()].count)})
        assert set((await op.published()).values()) == {True}


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


async def test_watches_that_say_nothing_any_more_are_noticed(op: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {**(Reflector.__init__.__kwdefaults__ or {}), "idle_timeout": 2.0}
    monkeypatch.setattr(Reflector.__init__, "__kwdefaults__", defaults)
    async with op.running():
        of_workloads = moored(ONE, TWO, name="pods", client="Workload", proxy="moorage", mooring=SELECTOR)
        await op.apply(of_workloads)
        await op.says("Ready", "Ready", "pods")
        at = await begun(op, ONE, TWO)
        other = "two" if at["n1"] == "one" else "one"
        op.server.faults.silence_watches()
        await op.client.patch(
            Mooring, "default", (await op.mooring("n1")).metadata.name, {"spec": {"endpoint": other}}
        )
        await op.node("n4")
        await made(op, "Pod", "a-1-x", await made(op, "ReplicaSet", "a-1", await made(op, "Deployment", "a")))

        async def all_seen() -> bool:
            found = await op.moorings()
            return {"n4", "Deployment/a"} <= found.keys() and found["n1"] == other

        await eventually(all_seen)
        await op.rests()
        assert (await op.moorings()).items() >= {**at, "n1": other}.items()


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


async def test_whoever_changes_a_mooring_meanwhile_costs_no_second_write_of_the_others(op: Operator) -> None:
    nodes = [f"n{number}" for number in range(6)]
    async with op.running():
        at = await begun(op, ONE, TWO, nodes=nodes)
        lost = [node for node in nodes if at[node] == "one"]
        name = (await op.mooring(lost[0])).metadata.name
        held = op.server.faults.hold(path=f"/moorings/{name}", method="PATCH")
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await held.arrived.wait()
        await op.client.patch(Mooring, "default", name, {"metadata": {"annotations": {"why": "a test"}}})
        held.release()
        await op.moors(dict.fromkeys(nodes, "two"))
        await op.rests()
        writes = op.writes()
        assert (writes["Mooring patch ok"], writes["Mooring patch conflict"]) == (len(lost), 1)
        found = {each.spec.client.name: each for each in (await op.client.list(Mooring, "default")).items}
        assert {node: len(found[node].status.moves or ()) for node in nodes} == {
            node: 2 if node in lost else 1 for node in nodes
        }
        assert found[lost[0]].metadata.annotations == {"why": "a test"}


async def test_readiness_does_not_wait_for_moorings_that_cannot_be_written(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
        op.server.faults.fail(1000, code=403, path="/moorings", method="PATCH")
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})


async def test_nor_for_moorings_whose_writes_do_not_end(op: Operator) -> None:
    async with op.running():
        await begun(op, ONE, TWO)
        held = op.server.faults.hold(100, path="/moorings", method="PATCH")
        op.down.add("203.0.113.1")
        op.prober.check(times=2)
        await op.publishes({"203.0.113.1": False, "203.0.113.2": True})
        held.release()
        await op.moors(dict.fromkeys(NODES, "two"))


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

"""The agent's loop: it follows the API, survives what fails, and says what it leaves out."""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from moorage.api.core_v1 import Node, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.topology import ZONE_LABEL
from moorage.cluster.client import Client
from moorage.cluster.events import Event
from moorage.dataplane import schema
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.nft import NftError
from moorage.dataplane.services import Carried, Scope, carried
from moorage.dataplane.sync import Synchronizer
from moorage.node import agent as agent_module
from moorage.node import wanted
from moorage.node.agent import Agent
from testing.beside import beside
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server, kind
from tests.support.objects import apply, delete, service, slice_


def node(zone: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {ZONE_LABEL: zone}}}


class RefusingNft(FakeNft):
    """Refuses the next transactions, and those with a word in them."""

    transactions = 0
    refusals = 0
    mistakes = 0
    refused_word = "\0"

    async def run(self, script: str) -> None:
        self.transactions += 1
        if self.refusals:
            self.refusals -= 1
            raise NftError("nft: Cannot allocate memory")
        if self.mistakes:
            self.mistakes -= 1
            raise KeyError("nobody thought of this")
        if self.refused_word in script:
            raise NftError("nft: Value too large")
        await super().run(script)

    async def refusal(self, script: str) -> str | None:
        return "nft: Value too large" if self.refused_word in script else await super().refusal(script)


class Fixture:
    """An agent on a fake kernel, and the API that it follows."""

    def __init__(self, server: RunningApiServer, client: Client, nft: RefusingNft) -> None:
        self.server = server
        self.client = client
        self.nft = nft

    async def targets(self) -> set[str]:
        """The endpoints that new connections go to."""
        return {str(each.value[0]) for each in await self.nft.elements("slots-tcp4") if each.value}

    def store(self, object: dict[str, object]) -> None:
        """As it is: also what this API server would refuse."""
        self.server.store.put(kind(str(object["kind"])), copy.deepcopy(object))

    async def carries(self, *addresses: str) -> None:
        """Wait until new connections go to these endpoints."""

        async def condition() -> bool:
            return await self.targets() == set(addresses)

        await eventually(condition)

    @asynccontextmanager
    async def agent(self, **scope: object) -> AsyncIterator[Agent]:
        synchronizer = Synchronizer(self.nft, FakeConntrack(), Capabilities())
        made = Agent(self.client, synchronizer, Scope("node-1", labelled_only=False, **scope))  # type: ignore[arg-type]
        async with beside(made.run()):
            yield made


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with api_server() as server, Client(server.config) as client:
        yield Fixture(server, client, RefusingNft(lambda: 0.0))


async def test_it_follows_services_and_slices_as_they_come_change_and_go(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        await apply(fixture.client, slice_("203.0.113.1", "203.0.113.2"))
        await fixture.carries("203.0.113.1", "203.0.113.2")
        await delete(fixture.client)
        await fixture.carries()


async def test_a_slice_that_comes_before_its_service_waits_for_it(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(
            fixture.client,
            slice_("203.0.113.1"),
            service("other", "10.96.0.101"),
            slice_("203.0.113.9", name="other"),
        )
        await fixture.carries("203.0.113.9")
        await apply(fixture.client, service())
        await fixture.carries("203.0.113.1", "203.0.113.9")


async def test_a_slice_can_change_hands(fixture: Fixture) -> None:
    moved = slice_("203.0.113.1")
    async with fixture.agent():
        await apply(fixture.client, service(), service("other", "10.96.0.101"), moved)
        await fixture.carries("203.0.113.1")
        moved["metadata"]["labels"]["kubernetes.io/service-name"] = "other"  # type: ignore[index]
        await apply(fixture.client, moved)

        async def condition() -> bool:
            return {str(each.key[0]) for each in await fixture.nft.elements("slots-tcp4")} == {"10.96.0.101"}

        await eventually(condition)


async def test_sessions_that_nearly_fill_their_map_are_told_until_there_is_room(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = schema.MAX_SESSIONS - 1

    async def count(name: str) -> int:
        return taken

    monkeypatch.setattr(fixture.nft, "learned_count", count)
    monkeypatch.setattr(Agent, "CHECK_SECONDS", 0.05)
    async with fixture.agent() as agent:

        async def told() -> bool:
            return sum("sessions are taken" in each for each in agent.warnings) == 2

        async def no_more() -> bool:
            return agent.warnings == [] and agent.crowding.crowded == set()

        await eventually(told)
        assert agent.crowding.sessions == {4: taken, 6: taken}
        taken = 0
        await eventually(no_more)


async def test_a_refused_transaction_is_tried_again_and_loses_nothing(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        fixture.nft.refusals = 2
        await apply(fixture.client, slice_("203.0.113.2"))
        await fixture.carries("203.0.113.2")


async def test_the_kernel_keeps_its_state_while_the_api_is_away_and_catches_up_after(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        fixture.server.faults.drop_watches()
        fixture.server.store.compact()
        await apply(fixture.client, slice_("203.0.113.2"))
        await fixture.carries("203.0.113.2")


@pytest.mark.parametrize("path", ["/api/v1/services", "/v1/endpointslices"])
async def test_an_agent_that_starts_while_a_list_is_answered_late_leaves_the_rules_as_they_are(
    fixture: Fixture, path: str
) -> None:
    await apply(fixture.client, service(), slice_("203.0.113.1"))
    async with fixture.agent():
        await fixture.carries("203.0.113.1")
    held = fixture.server.faults.hold(path=path)
    fixture.nft.transactions = 0
    async with fixture.agent():
        async with asyncio.timeout(20):
            await held.arrived.wait()
        for _ in range(50):
            await fixture.client.list(Service, "default")
        assert await fixture.targets() == {"203.0.113.1"}
        assert fixture.nft.transactions == 0
        await apply(fixture.client, slice_("203.0.113.2"))
        held.release()
        await fixture.carries("203.0.113.2")


async def test_what_nft_refuses_in_the_first_sync_is_told_and_is_no_mistake_of_the_agent(fixture: Fixture) -> None:
    await apply(fixture.client, service(), slice_("203.0.113.1"))
    await apply(fixture.client, service("other", "10.96.0.101"), slice_("203.0.113.9", name="other"))
    fixture.nft.refused_word = "203.0.113.9"
    with capture_logs() as logs:
        async with fixture.agent() as agent:

            async def told() -> bool:
                return any("Service default/other: 10.96.0.101" in warning for warning in agent.warnings)

            await eventually(told)
            await fixture.carries("203.0.113.1")
    assert [each["event"] for each in logs if "mistake" in each["event"]] == []


async def test_after_its_end_an_agent_changes_nothing_and_the_rules_stay(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
    await apply(fixture.client, slice_("203.0.113.2"))
    for _ in range(50):
        await fixture.client.list(Service, "default")
    assert await fixture.targets() == {"203.0.113.1"}


async def test_one_that_starts_again_says_that_all_is_synced_though_it_changed_nothing(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
    with capture_logs() as logs:
        async with fixture.agent() as again:

            async def is_synced() -> bool:
                return again.synced

            await eventually(is_synced)
    assert "synced" in [each["event"] for each in logs]


async def test_a_ruleset_that_somebody_deleted_comes_back(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agent, "CHECK_SECONDS", 0.05)
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        await fixture.nft.run("delete table inet moorage\n")
        await fixture.carries("203.0.113.1")


async def test_a_ruleset_that_somebody_deleted_comes_back_also_while_other_services_change(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other proxies do, and in a large cluster all the time."""
    monkeypatch.setattr(Agent, "CHECK_SECONDS", 0.5)

    async def change_others() -> None:
        for number in itertools.count():
            await apply(fixture.client, slice_(f"203.0.113.{number % 100 + 100}", name="others"))

    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        async with asyncio.TaskGroup() as tasks:
            changing = tasks.create_task(change_others())
            await fixture.nft.run("delete table inet moorage\n")
            await fixture.carries("203.0.113.1")
            changing.cancel()


async def test_an_agent_that_starts_again_writes_nothing_when_nothing_changed(fixture: Fixture) -> None:
    await apply(fixture.client, service(), slice_("203.0.113.1"))
    async with fixture.agent():
        await fixture.carries("203.0.113.1")
    written = list(fixture.nft.scripts)
    async with fixture.agent():
        await apply(fixture.client, service("other", "10.96.0.101"), slice_("203.0.113.9", name="other"))
        await fixture.carries("203.0.113.1", "203.0.113.9")
    assert all("10.96.0.100" not in script for script in fixture.nft.scripts[len(written) :])


async def test_two_services_that_claim_one_address_are_said(fixture: Fixture) -> None:
    # No API server hands out an address twice; the cloud's side, load balancers' addresses, is anybody's to write.
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.200"}]}}}
    for name, address in (("backend", "10.96.0.100"), ("other", "10.96.0.101")):
        given = service(name, address)
        given["spec"]["type"] = "LoadBalancer"  # type: ignore[index]
        await apply(fixture.client, given, slice_(f"203.0.113.{len(name)}", name=name))
        await fixture.client.patch(Service, "default", name, ingress, subresource="status")
    async with fixture.agent(addresses="load-balancer") as agent:
        await fixture.carries("203.0.113.7")
        assert any("Service default/other: 203.0.113.200 tcp 9000" in line for line in agent.warnings)
        await delete(fixture.client)
        await fixture.carries("203.0.113.5")
        assert agent.warnings == []


async def warned(agent: Agent, *words: str) -> None:
    """Wait until there is one warning, with these words in it; none: until there is no warning."""

    async def condition() -> bool:
        return len(agent.warnings) == bool(words) and all(each in "".join(agent.warnings) for each in words)

    await eventually(condition)


async def test_a_slice_that_cannot_be_costs_itself_and_its_last_good_state_stays(fixture: Fixture) -> None:
    good, bad = slice_("203.0.113.9", name="other"), slice_("203.0.113.66")
    bad["ports"] = [{"port": 70000}]
    async with fixture.agent() as agent:
        await apply(fixture.client, service(), slice_("203.0.113.1"), service("other", "10.96.0.101"), good)
        await fixture.carries("203.0.113.1", "203.0.113.9")
        fixture.store(stored(fixture, bad))
        await warned(
            agent, "EndpointSlice default/backend-1: ports[0].port: 70000", "its last good state stays in use"
        )
        await apply(fixture.client, slice_("203.0.113.8", name="other"))
        await fixture.carries("203.0.113.1", "203.0.113.8")
        await apply(fixture.client, slice_("203.0.113.2"))
        await fixture.carries("203.0.113.2", "203.0.113.8")
        await warned(agent)


async def test_an_agent_that_starts_carries_all_but_what_cannot_be(fixture: Fixture) -> None:
    bad = service("bad", "10.96.0.102")
    await apply(fixture.client, service(), slice_("203.0.113.1"), bad, slice_("203.0.113.66", name="bad"))
    changed = stored(fixture, bad)
    changed["spec"] |= {"clusterIP": "10.96.0.300", "clusterIPs": ["10.96.0.300"]}  # type: ignore[operator]
    fixture.store(changed)
    async with fixture.agent() as agent:
        await fixture.carries("203.0.113.1")
        await warned(agent, "Service default/bad: spec.clusterIPs: 10.96.0.300 is not", "nothing of it is carried")
        await delete(fixture.client, "bad")
        await warned(agent)


def stored(fixture: Fixture, object: dict[str, object]) -> dict[str, object]:
    """The stored object, with the fields of `object`."""
    name = object["metadata"]["name"]  # type: ignore[index]
    found = copy.deepcopy(fixture.server.store.get(kind(str(object["kind"])), "default", name))
    assert found is not None
    return found | {key: value for key, value in object.items() if key not in ("metadata", "spec")}


async def test_a_mistake_over_one_service_costs_that_service_alone(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(each: Service, *rest: object) -> Carried:
        if each.metadata.name == "backend":
            raise KeyError("nobody thought of this")
        return carried(each, *rest)  # type: ignore[arg-type]

    async with fixture.agent() as agent:
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        monkeypatch.setattr(wanted, "carried", mistaken)
        for number in (2, 3):
            await apply(fixture.client, slice_(f"203.0.113.{number}"))
            await apply(fixture.client, service("other", "10.96.0.101"), slice_(f"203.0.113.8{number}", name="other"))
            await fixture.carries("203.0.113.1", f"203.0.113.8{number}")
        await warned(agent, "Service default/backend: KeyError, a bug in Moorage", "last good state stays in use")
        monkeypatch.undo()
        await apply(fixture.client, slice_("203.0.113.4"))
        await fixture.carries("203.0.113.4", "203.0.113.83")
        await warned(agent)


async def test_what_nft_does_not_take_costs_itself_and_is_tried_again(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "RETRY_SECONDS", 0.01)
    fixture.nft.refused_word = "203.0.113.66"
    async with fixture.agent() as agent:
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        await apply(
            fixture.client,
            slice_("203.0.113.66"),
            service("other", "10.96.0.101"),
            slice_("203.0.113.9", name="other"),
        )
        await fixture.carries("203.0.113.1", "203.0.113.9")
        await warned(agent, "Service default/backend: 10.96.0.100 tcp 9000 stays as it was: nft: Value too large")
        fixture.nft.refused_word = "\0"
        await fixture.carries("203.0.113.66", "203.0.113.9")
        await warned(agent)


async def test_a_mistake_in_carrying_things_out_ends_no_agent(fixture: Fixture) -> None:
    async with fixture.agent():
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        fixture.nft.mistakes = 2
        await apply(fixture.client, slice_("203.0.113.2"))
        await fixture.carries("203.0.113.2")


async def test_an_object_of_another_schema_is_among_the_warnings(fixture: Fixture) -> None:
    async with fixture.agent() as agent:
        await apply(fixture.client, service(), slice_("203.0.113.1"))
        await fixture.carries("203.0.113.1")
        changed = stored(fixture, slice_("203.0.113.2"))
        changed["ports"] = "http"
        fixture.store(changed)
        await warned(agent, "EndpointSlice default/backend-1: Expected `array", "its last good state stays in use")
        await fixture.carries("203.0.113.1")


async def test_of_services_that_are_gone_nothing_is_kept() -> None:
    nft = FakeNft(lambda: 0.0)
    agent = Agent(None, Synchronizer(nft, FakeConntrack(), Capabilities()), Scope("node-1", labelled_only=False))  # type: ignore[arg-type]
    world = agent._world
    for version, gone in (("1", False), ("2", True)):
        for number in range(1_000):
            name, address = f"s{number}", f"10.96.{number // 250}.{number % 250}"
            meta = ObjectMeta(name=name, namespace="default", uid=name, resource_version=version)
            made = replace(msgspec.convert(service(name, address), Service), metadata=meta)
            agent._world.services._apply(Event("DELETED" if gone else "ADDED", made))
            slice = msgspec.convert(slice_("203.0.113.1", name=name), EndpointSlice)
            slice = replace(slice, metadata=replace(meta, labels=slice.metadata.labels))
            agent._world.slices._apply(Event("DELETED" if gone else "ADDED", slice))
        agent._wanted.decide(agent._world.dirty.take_now())
        count = 0 if gone else 1_000
        assert len(agent._wanted.state) == len(world.services.store) == len(world.slices.store) == count
    assert [len(each) for each in world.slices.store._reverse.values()] == [0]
    desired = agent._wanted._desired
    assert (desired._claims, desired._keys, len(agent._warned)) == ({}, {}, 0)


async def test_a_node_uses_what_is_hinted_to_its_zone_and_follows_the_zone_of_its_node(fixture: Fixture) -> None:
    in_zones = [
        {"addresses": [address], "hints": {"forZones": [{"name": zone}]}}
        for address, zone in (("203.0.113.1", "eu-1a"), ("203.0.113.2", "eu-1b"))
    ]
    await apply(fixture.client, node(zone="eu-1b"))
    await apply(fixture.client, service(), slice_() | {"endpoints": in_zones})
    async with fixture.agent():
        await fixture.carries("203.0.113.2")
        await apply(fixture.client, node(zone="eu-1a"))
        await fixture.carries("203.0.113.1")
        await fixture.client.delete(Node, None, "node-1")
        await fixture.carries("203.0.113.1", "203.0.113.2")

"""The agent's loop: it follows the API, survives what fails, and says what it leaves out."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from moorage.api.core_v1 import Service
from moorage.cluster.client import Client
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.nft import NftError
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synchronizer
from moorage.node.agent import Agent
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.eventually import eventually
from tests.support.objects import apply, delete, service, slice_


class RefusingNft(FakeNft):
    """Refuses the next transactions."""

    refusals = 0

    async def run(self, script: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NftError("nft: Cannot allocate memory")
        await super().run(script)


class Fixture:
    """An agent on a fake kernel, and the API that it follows."""

    def __init__(self, server: RunningApiServer, client: Client, nft: RefusingNft) -> None:
        self.server = server
        self.client = client
        self.nft = nft

    async def targets(self) -> set[str]:
        """The endpoints that new connections go to."""
        return {str(each.value[0]) for each in await self.nft.elements("slots-tcp4") if each.value}

    async def carries(self, *addresses: str) -> None:
        """Wait until new connections go to these endpoints."""

        async def condition() -> bool:
            return await self.targets() == set(addresses)

        await eventually(condition)

    @asynccontextmanager
    async def agent(self, **scope: object) -> AsyncIterator[Agent]:
        synchronizer = Synchronizer(self.nft, FakeConntrack(), Capabilities())
        made = Agent(self.client, synchronizer, Scope("node-1", labelled_only=False, **scope))  # type: ignore[arg-type]
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


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

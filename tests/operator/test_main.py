"""The operator's process: who leads, who is ready, and what is left when it stops."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from moorage.api.coordination_v1 import Lease
from moorage.cluster.client import Client
from moorage.cluster.election import Lead, Leadership
from moorage.cluster.kubeconfig import Config
from moorage.operator import main
from moorage.operator.config import Configuration
from moorage.operator.main import Options, Process
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.operators import Operator, xsvc
from tests.support.programs import free_port

LEASE = "moorage-operator"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with api_server() as running:
        yield running


class Running:
    """A process, and where it answers."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as session, session.get(self._url + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectorError:
            return 0, ""

    async def is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def leads(self) -> bool:
        return "moorage_leader 1.0" in (await self.get("/metrics"))[1]


@asynccontextmanager
async def running(config: Config, identity: str, lease: str | None = LEASE) -> AsyncIterator[Running]:
    port = free_port()
    async with Client(config) as client:
        options = Options(Configuration(), "default", identity, lease, ("127.0.0.1", port))
        process = Process(client, options)
        task = asyncio.create_task(process.run())
        try:
            yield Running(process, port)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def holder(server: RunningApiServer) -> str | None:
    async with Client(server.config) as client:
        return (await client.get(Lease, "default", LEASE)).spec.holder_identity


async def test_of_two_one_leads_both_are_ready_and_a_stop_hands_over_at_once(server: RunningApiServer) -> None:
    async with running(server.config, "first") as first:
        await eventually(first.leads)
        assert (await holder(server) or "").startswith("first_")
        async with running(server.config, "second") as second:
            await eventually(second.is_ready)
            await eventually(first.is_ready)
            assert not await second.leads()
            assert "moorage_synced 0.0" in (await second.get("/metrics"))[1]
    assert await holder(server) == ""
    async with running(server.config, "third") as third:
        await eventually(third.leads)


async def test_without_a_lease_it_leads_at_once(server: RunningApiServer) -> None:
    async with Client(server.config) as client:
        op = Operator(server, client)
        async with running(server.config, "only", lease=None) as only:
            await eventually(only.leads)
            await op.apply(xsvc("backend", "203.0.113.1", healthCheck=None))
            await op.publishes({"203.0.113.1": True})
        assert await op.published() == {"203.0.113.1": True}, "without an operator endpoints stay as they are"


async def test_a_leader_is_not_ready_before_everything_has_been_read(server: RunningApiServer) -> None:
    held = server.faults.hold(path="/api/v1/pods")
    async with running(server.config, "only", lease=None) as only:

        async def says_why() -> bool:
            return await only.get("/readyz") == (503, "leading, but not everything has been read yet\n")

        await eventually(says_why)
        held.release()
        await eventually(only.is_ready)


class Counted(Leadership):
    """Ends after so many writes, as for a process that is frozen there and thawed when another leads."""

    def __init__(self, writes: int) -> None:
        super().__init__(math.inf, 1)
        self._left = writes
        self.asked_in_vain = 0

    def valid(self) -> bool:
        self.asked_in_vain += self._left == 0
        return self._left > 0

    def check(self) -> None:
        super().check()
        self._left -= 1

    async def was_asked_in_vain(self) -> bool:
        return self.asked_in_vain > 0


class Elected:
    """In place of an election: leads at once, with the leadership that the test gives."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    def __call__(self, *_: object, **__: object) -> "Elected":
        return self

    async def run(self, lead: Lead) -> None:
        await lead(self._leadership)


@pytest.mark.parametrize(("writes", "written"), [(0, []), (1, ["Service"]), (3, ["Service", "EndpointSlice"])])
async def test_a_leader_whose_time_is_over_writes_nothing_and_tells_no_news(
    server: RunningApiServer, monkeypatch: pytest.MonkeyPatch, writes: int, written: list[str]
) -> None:
    leadership = Counted(writes)
    monkeypatch.setattr(main, "Election", Elected(leadership))
    async with Client(server.config) as client:
        op = Operator(server, client)
        await op.apply(xsvc("backend", "203.0.113.1", healthCheck=None))
        async with running(server.config, "thawed"):
            await eventually(leadership.was_asked_in_vain)
            await op.has_time()
            there = {"Service": await op.services(), "EndpointSlice": await op.slices(), "Event": await op.events()}
    assert [kind for kind, objects in there.items() if objects] == written


async def test_one_that_does_not_reach_the_api_server_is_alive_and_says_what_is_missing() -> None:
    async with running(Config(server=f"http://127.0.0.1:{free_port()}"), "lonely") as lonely:

        async def says_why() -> bool:
            status, text = await lonely.get("/readyz")
            return status == 503 and "cannot connect" in text

        await eventually(says_why)
        assert await lonely.get("/healthz") == (200, "ok\n")

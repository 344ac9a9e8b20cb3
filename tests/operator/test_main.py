"""The operator's process: who leads, who is ready, and what is left when it stops."""

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from itertools import pairwise
from typing import Any, cast

import aiohttp
import pytest

from moorage.api.coordination_v1 import Lease
from moorage.api.core_v1 import Container, Node, NodeSpec, Pod, PodSpec
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.cluster.election import Lead, Leadership
from moorage.cluster.errors import UnreachableError
from moorage.cluster.kubeconfig import Config
from moorage.operator import main
from moorage.operator.config import Configuration
from moorage.operator.main import Options, Process
from moorage.operator.startup_taint import LABELS
from testing.beside import beside
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.operators import Operator, xsvc
from tests.support.programs import free_port

LEASE = "moorage-operator"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with api_server() as running:
        yield running


def options(
    port: int = 0, identity: str = "me", *, namespace: str | None = "default", lease: str | None = LEASE
) -> Options:
    return Options(Configuration(), namespace, identity, lease, ("127.0.0.1", port))


class Running:
    """A process, and where it answers."""

    def __init__(self, port: int) -> None:
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
async def running(config: Config, identity: str, lease: str | None = LEASE, **more: Any) -> AsyncIterator[Running]:
    """`more`: further options."""
    port = free_port()
    async with Client(config) as client:
        process = Process(client, options(port, identity, lease=lease)._replace(**more))
        async with beside(process.run()):
            yield Running(port)


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

            async def is_told() -> bool:
                return len(await op.events()) > 0

            await eventually(is_told)
        assert await op.published() == {"203.0.113.1": True}, "without an operator endpoints stay as they are"


async def test_a_leader_that_is_told_to_takes_the_startup_taint_from_nodes(server: RunningApiServer) -> None:
    taints: list[dict[str, object]] = [{"key": "example.com/wait", "effect": "NoSchedule"}]
    meta = ObjectMeta(name="agent", namespace="default", labels=dict(each.split("=") for each in LABELS.split(",")))
    async with Client(server.config) as client:
        for name in ("node-1", "node-2"):
            await client.create(Node(metadata=ObjectMeta(name=name), spec=NodeSpec(taints=taints)))
        spec = PodSpec(containers=[Container(name="agent", image="moorage")], node_name="node-1")
        await client.create(Pod(metadata=meta, spec=spec))
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await client.patch(Pod, "default", "agent", ready, subresource="status")

        async def is_gone() -> bool:
            return not (await client.get(Node, None, "node-1")).spec.taints

        async with running(server.config, "only", startup_taint="example.com/wait", agents="default"):
            await eventually(is_gone)
        assert (await client.get(Node, None, "node-2")).spec.taints == taints


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
    """In place of an election: leads at once, with the leadership that the test gives, until that is `over`."""

    def __init__(self, leadership: Leadership | None = None) -> None:
        self._leadership = leadership
        self.over = asyncio.Event()
        self.namespaces: list[str] = []
        """Of the Leases that there are."""

    def __call__(self, client: Client, namespace: str, *_: object) -> "Elected":
        self.namespaces.append(namespace)
        return self

    async def run(self, lead: Lead) -> None:
        if self._leadership is not None:
            leading = asyncio.ensure_future(lead(self._leadership))
            try:
                await self.over.wait()
            finally:
                leading.cancel()
                await asyncio.wait([leading])
        await asyncio.Event().wait()


async def test_one_that_leads_no_more_is_ready_and_counts_nothing(
    server: RunningApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    elected = Elected(Leadership(math.inf, 1))
    monkeypatch.setattr(main, "Election", elected)
    held = server.faults.hold(path="/api/v1/pods")
    async with running(server.config, "former") as former:
        await eventually(former.leads)
        async with asyncio.timeout(20):
            await held.arrived.wait()
        assert not await former.is_ready()
        elected.over.set()
        await eventually(former.is_ready)

        async def leads_no_more() -> bool:
            return not await former.leads()

        await eventually(leads_no_more)
        held.release()


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


class Asked:
    """A client of an API server that answers or does not, and after that is silent."""

    config = Config(server="http://127.0.0.1:1", namespace="moorage-system")

    def __init__(self, *answers: bool) -> None:
        self.times: list[float] = []
        self.silent = asyncio.Event()
        self.given_up = False
        self._answers = list(answers)

    async def raw(self, method: str, path: str) -> None:
        self.times.append(asyncio.get_running_loop().time())
        if self._answers:
            if not self._answers.pop(0):
                raise UnreachableError("cannot connect")
            return
        self.silent.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(1_000):  # an answer that is under way when it is given up
                await asyncio.sleep(0)
            self.given_up = True


@asynccontextmanager
async def waiting(
    client: Asked, monkeypatch: pytest.MonkeyPatch, namespace: str | None = None
) -> AsyncIterator[tuple[Process, Elected]]:
    """A process that serves nothing and never leads."""
    elected = Elected()
    monkeypatch.setattr(main, "Election", elected)
    monkeypatch.setattr(main, "serving", lambda *_: nullcontext(0))
    process = Process(cast("Client", client), options(namespace=namespace))
    task = asyncio.create_task(process.run())
    try:
        yield process, elected
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.looptime
async def test_an_api_server_is_asked_ever_later_while_it_does_not_answer_and_soon_again_after_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Asked(False, False, False, True, True, False)
    async with waiting(client, monkeypatch) as (process, _):
        assert process.missing() == "the API server has not answered yet"
        await asyncio.sleep(0.1)
        assert process.missing() == "cannot connect"
        await client.silent.wait()
    first, second, third, *answered, again = (round(later - earlier, 3) for earlier, later in pairwise(client.times))
    assert (second, third) == (2 * first, 4 * first)
    assert answered == [Process.ASK_SECONDS, Process.ASK_SECONDS]
    assert again == first


@pytest.mark.parametrize(("named", "used"), [(None, "moorage-system"), ("elsewhere", "elsewhere")])
async def test_the_lease_is_where_the_operator_is_unless_another_namespace_is_named(
    monkeypatch: pytest.MonkeyPatch, named: str | None, used: str
) -> None:
    client = Asked()
    async with waiting(client, monkeypatch, named) as (_, elected):
        await client.silent.wait()
    assert elected.namespaces == [used]


async def test_nothing_of_a_process_goes_on_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Asked()
    async with waiting(client, monkeypatch):
        await client.silent.wait()
    assert client.given_up


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_and_gives_the_lease_back(server: RunningApiServer, number: signal.Signals) -> None:
    port = free_port()
    task = asyncio.create_task(main.run(server.config, options(port, "stopped")))
    await eventually(Running(port).leads)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(task, 20)
    assert await holder(server) == ""

"""The startup taint goes from a node when its agent is ready, and from no other node, and nothing else goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from moorage.api.core_v1 import Container, Namespace, Node, NodeSpec, Pod, PodSpec
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.cluster.election import NotLeadingError
from moorage.operator.startup_taint import AGENTS, StartupTaint, others
from testing.beside import beside
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server

KEY = "moorage.dev/agent-not-ready"
OURS: dict[str, object] = {"key": KEY, "effect": "NoSchedule"}
THEIRS: dict[str, object] = {
    "key": "example.com/gpu",
    "value": "yes",
    "effect": "NoExecute",
    "timeAdded": "2026-11-30T00:00:00Z",
}
LABELS = {"app.kubernetes.io/name": "moorage", "app.kubernetes.io/component": "agent"}


class Cluster:
    """Nodes and agents, as an API server has them."""

    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server, self.client = server, client
        self.leads = True
        self.asked = 0
        """How often a write was about to be made."""

    def check(self) -> None:
        self.asked += 1
        if not self.leads:
            raise NotLeadingError("this process does not lead")

    async def node(self, name: str, *taints: dict[str, object]) -> None:
        await self.client.create(Node(metadata=ObjectMeta(name=name), spec=NodeSpec(taints=list(taints))))

    async def agent(
        self, node: str, *, ready: bool = True, namespace: str = AGENTS, labels: dict[str, str] = LABELS
    ) -> None:
        meta = ObjectMeta(name=f"agent-{node}", namespace=namespace, labels=labels)
        spec = PodSpec(containers=[Container(name="agent", image="moorage")], node_name=node)
        await self.client.create(Pod(metadata=meta, spec=spec))
        await self.stands(node, ready=ready, namespace=namespace)

    async def stands(self, node: str, *, ready: bool, namespace: str = AGENTS) -> None:
        status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
        await self.client.patch(Pod, namespace, f"agent-{node}", {"status": status}, subresource="status")

    async def taints(self, name: str) -> list[dict[str, object]]:
        return (await self.client.get(Node, None, name)).spec.taints or []

    async def has(self, name: str, *taints: dict[str, object]) -> None:
        """Wait until the node has these taints and no others."""

        async def condition() -> bool:
            return await self.taints(name) == list(taints)

        await eventually(condition)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with beside(StartupTaint(self.client, KEY, AGENTS, self.check).run()):
            yield


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with api_server() as server, Client(server.config) as client:
        for name in (AGENTS, "tenant"):
            await client.create(Namespace(metadata=ObjectMeta(name=name)))
        yield Cluster(server, client)


async def test_it_goes_when_the_agent_becomes_ready_and_others_stay_as_they_are(cluster: Cluster) -> None:
    await cluster.node("node-1", THEIRS, OURS)
    await cluster.node("node-2", OURS)
    await cluster.agent("node-1", ready=False)
    async with cluster.watched():
        await cluster.node("node-3", OURS)
        await cluster.agent("node-3")
        await cluster.has("node-3")
        assert await cluster.taints("node-1") == [THEIRS, OURS]
        await cluster.stands("node-1", ready=True)
        await cluster.has("node-1", THEIRS)
        assert await cluster.taints("node-2") == [OURS]


async def test_it_goes_as_well_when_somebody_puts_it_on_later(cluster: Cluster) -> None:
    await cluster.node("node-1")
    await cluster.agent("node-1")
    async with cluster.watched():
        for _ in range(2):
            await cluster.client.patch(Node, None, "node-1", {"spec": {"taints": [OURS]}})
            await cluster.has("node-1")


async def test_pods_that_are_no_agents_do_not_count(cluster: Cluster) -> None:
    for name in ("node-1", "node-2", "node-3"):
        await cluster.node(name, OURS)
    await cluster.agent("node-1", namespace="tenant")
    await cluster.agent("node-2", labels={"app.kubernetes.io/name": "moorage"})
    async with cluster.watched():
        await cluster.agent("node-3")
        await cluster.has("node-3")
        assert await cluster.taints("node-1") == await cluster.taints("node-2") == [OURS]


async def test_a_change_of_the_node_meanwhile_is_not_overwritten(cluster: Cluster) -> None:
    await cluster.node("node-1", OURS)
    held = cluster.server.faults.hold(method="PATCH", path="/api/v1/nodes/node-1")
    async with cluster.watched():
        await cluster.agent("node-1")
        await asyncio.wait_for(held.arrived.wait(), 20)
        await cluster.client.replace(Node(metadata=ObjectMeta(name="node-1"), spec=NodeSpec(taints=[OURS, THEIRS])))
        held.release()
        await cluster.has("node-1", THEIRS)


async def test_nothing_is_written_by_who_does_not_lead(cluster: Cluster) -> None:
    cluster.leads = False
    await cluster.node("node-1", OURS)
    await cluster.agent("node-1")
    version = cluster.server.store.version
    async with cluster.watched():

        async def tried() -> bool:
            return cluster.asked > 1

        await eventually(tried)
        assert cluster.server.store.version == version


def test_of_a_node_without_the_taint_nothing_is_to_be_done() -> None:
    def node(*taints: dict[str, object]) -> Node:
        return Node(metadata=ObjectMeta(name="node-1"), spec=NodeSpec(taints=list(taints)))

    assert others(node(), KEY) is None
    assert others(node(THEIRS), KEY) is None
    assert others(node(OURS, {**OURS, "effect": "NoExecute"}), KEY) == []

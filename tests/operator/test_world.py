"""What the leader reads: no more than it needs of what is many, and only what matters makes it look again."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from moorage.api.core_v1 import Node, NodeAddress, NodeSpec, NodeStatus
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, Endpoint, EndpointSlice
from moorage.api.meta import ObjectKey, ObjectMeta, OwnerReference
from moorage.api.networking_v1 import ServiceCIDR
from moorage.cluster.client import Bookmark, Client, Listing
from moorage.cluster.kubeconfig import Config
from moorage.core.admission import API_SERVER, NODE, Gate, gate_of
from moorage.operator.config import Admission
from moorage.operator.mirror import Mirror
from moorage.operator.world import World

OWNER = OwnerReference(
    api_version="moorage.dev/v1alpha1", kind="ExternalService", name="backend", uid="2", controller=True
)
TWO = [Endpoint(addresses=["203.0.113.1"]), Endpoint(addresses=["203.0.113.2"])]


def slice_(name: str, service: str | None = None, *owners: OwnerReference) -> EndpointSlice:
    labels = {SERVICE_NAME_LABEL: service} if service else None
    meta = ObjectMeta(name=name, namespace="default", uid=name, labels=labels, owner_references=list(owners))
    return EndpointSlice(metadata=meta, address_type="IPv4", endpoints=TWO)


async def test_the_addresses_of_an_api_server_that_has_a_name_are_looked_up() -> None:
    client = OfNodes([])
    client.config = Config(server="https://localhost:6443")
    client.answers.set()
    world = world_of(client)  # type: ignore[arg-type]
    running = asyncio.create_task(world.run())
    await world.until_synced()
    assert world.whose("127.0.0.1") == f"{API_SERVER}: localhost"
    running.cancel()
    await asyncio.wait([running])


def world_of(client: Client) -> World:
    return World(
        client,
        Admission(),
        touched=lambda key: None,
        gate_changed=lambda: None,
        addresses_changed=lambda addresses: None,
    )


@pytest.fixture
def world() -> World:
    """One that is told of nothing but writes."""
    return world_of(Client(Config(server="http://127.0.0.1:1")))


async def test_slices_are_found_by_their_service_and_by_their_owner(world: World) -> None:
    key = ObjectKey("default", "backend")
    labelled, owned = slice_("labelled", "backend"), slice_("owned", None, OWNER)
    for each in (labelled, owned, slice_("other", "other")):
        world.wrote(each, made=True)
    assert world.slices_of(key) == [labelled, owned]
    world.wrote(slice_("labelled", "other"), made=False)
    assert world.slices_of(key) == [owned]
    world.gone(EndpointSlice, ObjectKey("default", "owned"))
    assert world.slices_of(key) == []


@pytest.mark.looptime
async def test_of_slices_that_are_gone_nothing_is_kept(world: World) -> None:
    gone, silent = slice_("gone", "backend", OWNER), slice_("silent", "backend", OWNER)
    for each in (gone, silent):
        world.wrote(each, made=True)
    world.gone(EndpointSlice, ObjectKey("default", "gone"))
    assert world.slices_of(ObjectKey("default", "backend")) == [silent]
    world.wrote(gone, made=False)
    assert world.slices_of(ObjectKey("default", "backend")) == [silent]
    await asyncio.sleep(Mirror.PATIENCE_SECONDS + 1)
    assert world.slices_of(ObjectKey("default", "backend")) == []


class OfNodes:
    """A client of a cluster that has Nodes and nothing else. All lists but that of ServiceCIDRs come at once."""

    def __init__(self, nodes: list[Node]) -> None:
        self.config = Config(server="https://192.0.2.6:6443/prefix")
        self.nodes = nodes
        self.answers = asyncio.Event()

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        if kind is not ServiceCIDR:
            await self.answers.wait()
        return Listing(self.nodes if kind is Node else [], "7")

    async def watch(self, kind: type[Any], namespace: str | None = None, **how: Any) -> AsyncGenerator[Any, None]:
        yield Bookmark("7")
        await asyncio.Event().wait()


@pytest.mark.looptime
async def test_all_nodes_of_a_list_make_one_gate_and_it_is_there_before_anything_is_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = OfNodes(
        [
            Node(
                metadata=ObjectMeta(name=f"node-{number}", uid=str(number), resource_version="7"),
                spec=NodeSpec(pod_cidr=f"10.244.{number}.0/24"),
                status=NodeStatus(addresses=[NodeAddress(type="InternalIP", address=f"198.51.100.{number}")]),
            )
            for number in range(100)
        ]
    )
    world = world_of(client)  # type: ignore[arg-type]
    made: list[Gate] = []

    def noted(**of: Any) -> Gate:
        made.append(gate_of(**of))
        return made[-1]

    monkeypatch.setattr("moorage.operator.world.gate_of", noted)
    running = asyncio.create_task(world.run())
    asyncio.get_running_loop().call_later(1, client.answers.set)
    await world.until_synced()
    assert world.gate.refusal("198.51.100.99") == NODE
    assert world.gate.refusal("10.244.99.1") == "the address of a pod of this cluster, by its range 10.244.99.0/24"
    assert world.gate.refusal("192.0.2.6") == API_SERVER
    await asyncio.sleep(1)
    assert made == [world.gate]
    running.cancel()
    await asyncio.wait([running])

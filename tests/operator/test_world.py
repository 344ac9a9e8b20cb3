"""What the leader reads: no more than it needs of what is many, and only what matters makes it look again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from moorage.api.core_v1 import Node, NodeAddress, NodeSpec, NodeStatus, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, Endpoint, EndpointSlice
from moorage.api.meta import Object, ObjectKey, ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec
from moorage.api.networking_v1 import ServiceCIDR, ServiceCIDRSpec
from moorage.cluster.client import Bookmark, Client
from moorage.cluster.errors import ApiError
from moorage.cluster.events import Event
from moorage.cluster.kubeconfig import Config
from moorage.cluster.reading import Listing, Unreadable
from moorage.core.admission import API_SERVER, NODE, Gate, gate_of
from moorage.operator.config import Admission
from moorage.operator.mirror import Mirror
from moorage.operator.world import ASK_NAME_SECONDS, World

OWNER = OwnerReference(
    api_version="moorage.dev/v1alpha1", kind="ExternalService", name="backend", uid="2", controller=True
)
DEPLOYMENT = OwnerReference(api_version="apps/v1", kind="Deployment", name="backend", uid="3", controller=True)
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
    async with running(world, seconds=20):
        assert world.whose("127.0.0.1") == f"{API_SERVER}: localhost"


@pytest.mark.looptime
async def test_the_addresses_of_its_name_are_followed_and_stay_while_they_cannot_be_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    answers: list[str | OSError] = ["203.0.113.1", OSError("SERVFAIL"), "203.0.113.2"]

    async def look_up(host: str, port: None, **how: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return [(2, 1, 6, "", (answer, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    client = OfNodes([])
    client.config = Config(server="https://api.example.com:6443")
    client.answers.set()
    moved: list[set[str]] = []
    world = world_of(client, lambda addresses: moved.append(set(addresses)))  # type: ignore[arg-type]
    async with running(world):
        await asyncio.sleep(ASK_NAME_SECONDS / 2)
        for number, address in enumerate(("203.0.113.1", "203.0.113.1", "203.0.113.2"), 1):
            assert len(asked) == number
            assert world.gate.refusal(address) == API_SERVER
            await asyncio.sleep(ASK_NAME_SECONDS if number < 3 else 0)
        assert world.gate.refusal("203.0.113.1") is None
    assert asked == ["api.example.com"] * 3
    assert moved == [{"203.0.113.1"}, {"203.0.113.1", "203.0.113.2"}]


def world_of(client: Client, moved: Callable[[frozenset[str]], None] = lambda addresses: None) -> World:
    return World(
        client,
        Admission(),
        touched=lambda key: None,
        gate_changed=lambda: None,
        addresses_changed=moved,
    )


@asynccontextmanager
async def running(world: World, seconds: float = 600) -> AsyncIterator[None]:
    """A world that has been read within so many seconds, and follows the cluster until the end of the block."""
    task = asyncio.create_task(world.run())
    try:
        async with asyncio.timeout(seconds):
            await world.until_synced()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def world() -> World:
    """One that is told of nothing but writes."""
    return world_of(Client(Config(server="http://127.0.0.1:1")))


async def test_slices_are_found_by_their_service_and_by_their_owner(world: World) -> None:
    key = ObjectKey("default", "backend")
    labelled, owned = slice_("labelled", "backend"), slice_("owned", None, OWNER)
    others = slice_("theirs", None, DEPLOYMENT), slice_("no-controller", None, replace(OWNER, controller=None))
    for each in (labelled, owned, slice_("other", "other"), *others):
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


@pytest.mark.parametrize("made", [ExternalService, Service, EndpointSlice])
async def test_what_the_api_server_says_is_gone_counts_no_more_though_it_was_written(
    world: World, made: type[Object]
) -> None:
    key = ObjectKey("default", "backend")
    meta = ObjectMeta(name=key.name, namespace=key.namespace, uid="1")
    objects: dict[type[Object], Object] = {
        ExternalService: ExternalService(metadata=meta, spec=ExternalServiceSpec(ports=[])),
        Service: Service(metadata=meta),
        EndpointSlice: slice_("backend"),
    }
    mirrors: dict[type[Object], Mirror[Any]] = {
        ExternalService: world.xsvcs,
        Service: world.services,
        EndpointSlice: world.slices,
    }
    for each in objects.values():
        world.wrote(each, made=True)
    world.gone(made, key)
    assert [kind for kind, mirror in mirrors.items() if mirror.get(key) is None] == [made]


@pytest.mark.looptime
async def test_a_namespace_has_an_unknown_one_while_the_group_of_one_there_could_never_be_read() -> None:
    def meta(namespace: str, name: str, version: str = "7") -> ObjectMeta:
        return ObjectMeta(name=name, namespace=namespace, uid=name, resource_version=version)

    known = ExternalService(metadata=meta("known", "a"), spec=ExternalServiceSpec(ports=[]))
    bad = Unreadable(meta("unknown", "b"), "Expected `int`, got `str`")
    worse = asyncio.Event()

    class OfTwo(OfNodes):
        async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
            if kind is ExternalService:
                return Listing([known], "7", (bad,))
            return await super().list(kind, namespace, **selectors)

        async def watch(self, kind: type[Any], namespace: str | None = None, **how: Any) -> AsyncGenerator[Any, None]:
            yield Bookmark("7")
            if kind is ExternalService:
                await worse.wait()
                yield Unreadable(meta("known", "a", "8"), "Expected `int`, got `str`")
            await asyncio.Event().wait()

    client = OfTwo([])
    client.answers.set()
    world = world_of(client)  # type: ignore[arg-type]
    async with running(world):
        assert [world.has_unknown(each) for each in ("known", "unknown", "none")] == [False, True, False]
        worse.set()
        await asyncio.sleep(1)
        assert world.unreadable(ExternalService, known.metadata.key)
        assert [world.has_unknown(each) for each in ("known", "unknown", "none")] == [False, True, False]


class OfNodes:
    """A client of a cluster that has Nodes and nothing else. All lists but that of ServiceCIDRs come at once."""

    def __init__(self, nodes: list[Node]) -> None:
        self.config = Config(server="https://192.0.2.6:6443/prefix")
        self.nodes = nodes
        self.answers = asyncio.Event()
        self.changed: asyncio.Queue[Node] = asyncio.Queue()
        """What the watch of Nodes shows."""

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        if kind is not ServiceCIDR:
            await self.answers.wait()
        return Listing(self.nodes if kind is Node else [], "7")

    async def watch(self, kind: type[Any], namespace: str | None = None, **how: Any) -> AsyncGenerator[Any, None]:
        yield Bookmark("7")
        while kind is Node:
            yield Event("MODIFIED", await self.changed.get())
        await asyncio.Event().wait()


class OfCidrs(OfNodes):
    """Of a cluster that has ServiceCIDRs: what each attempt to list them comes to, the last one for ever."""

    def __init__(self, *attempts: ApiError | str) -> None:
        super().__init__([])
        self.answers.set()
        self.tried: list[float] = []
        """When."""
        self._attempts = list(attempts)

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        if kind is not ServiceCIDR:
            return await super().list(kind, namespace, **selectors)
        self.tried.append(asyncio.get_running_loop().time())
        attempt = self._attempts.pop(0) if len(self._attempts) > 1 else self._attempts[0]
        if isinstance(attempt, ApiError):
            raise attempt
        meta = ObjectMeta(name="kubernetes", uid="1", resource_version="7")
        return Listing([ServiceCIDR(metadata=meta, spec=ServiceCIDRSpec(cidrs=[attempt]))], "7")


def told_of_cidrs(logs: list[Any]) -> int:
    """How often it was said that ServiceCIDRs cannot be read."""
    return sum("ServiceCIDRs" in each["event"] for each in logs if each["log_level"] == "warning")


@pytest.mark.looptime
async def test_an_api_server_that_has_no_service_cidrs_is_asked_once_and_it_is_said() -> None:
    client = OfCidrs(ApiError(404, "NotFound", "the server could not find the requested resource"))
    with capture_logs() as logs:
        async with running(world_of(client)):  # type: ignore[arg-type]
            await asyncio.sleep(3600)
    assert len(client.tried) == 1
    assert told_of_cidrs(logs) == 1


@pytest.mark.looptime
async def test_service_cidrs_that_cannot_be_listed_are_asked_for_ever_later_and_it_is_said_once() -> None:
    failure = ApiError(500, "InternalError", "etcd has no leader")
    client = OfCidrs(failure, failure, failure, failure, "10.96.0.0/12")
    world = world_of(client)  # type: ignore[arg-type]
    with capture_logs() as logs:
        async with running(world):
            assert world.gate.refusal("10.96.0.10") == "in the service range 10.96.0.0/12 of this cluster"
        with capture_logs() as of_one:
            async with running(world_of(OfCidrs(failure, "10.96.0.0/12"))):  # type: ignore[arg-type]
                assert told_of_cidrs(of_one) == 1, "at the first failure"
    waits = [later - earlier for earlier, later in pairwise(client.tried)]
    assert 0 < waits[0] < waits[2], "doubled each time, of which up to half is taken off"
    assert waits[1] < waits[3]
    assert told_of_cidrs(logs) == 1


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
    made = gates(monkeypatch)
    asyncio.get_running_loop().call_later(1, client.answers.set)
    async with running(world):
        assert world.gate.refusal("198.51.100.99") == NODE
        inside = "the address of a pod of this cluster, by its range 10.244.99.0/24"
        assert world.gate.refusal("10.244.99.1") == inside
        assert world.gate.refusal("192.0.2.6") == API_SERVER
        await asyncio.sleep(1)
        assert made == [world.gate]


def gates(monkeypatch: pytest.MonkeyPatch) -> list[Gate]:
    """All gates that worlds make from now on."""
    made: list[Gate] = []

    def noted(**of: Any) -> Gate:
        made.append(gate_of(**of))
        return made[-1]

    monkeypatch.setattr("moorage.operator.world.gate_of", noted)
    return made


@pytest.mark.looptime
async def test_a_gate_is_made_when_a_nodes_ranges_change_and_not_at_its_heartbeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(version: int, cidr: str | None) -> Node:
        meta = ObjectMeta(name="node", uid="1", resource_version=str(version))
        return Node(metadata=meta, spec=NodeSpec(pod_cidr=cidr))

    client = OfNodes([node(7, "10.244.1.0/24")])
    client.answers.set()
    world = world_of(client)  # type: ignore[arg-type]
    async with running(world):
        made = gates(monkeypatch)
        for version, (cidr, number) in enumerate(
            [("10.244.1.0/24", 0), ("10.244.1.0/24", 0), ("10.244.2.0/24", 1), ("10.244.2.0/24", 1), (None, 2)], 8
        ):
            client.changed.put_nowait(node(version, cidr))
            await asyncio.sleep(1)
            assert len(made) == number

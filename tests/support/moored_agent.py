"""A node agent with a moored Service, for tests of what it wants the kernel to have.

Everything is stored as Kubernetes and the operator write it; the kernel is one that only takes down what is wanted.
"""

import itertools
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec

from moorage.api.contract import (
    MooredBy,
    ServiceContract,
    SliceContract,
    encode_mooring,
    encode_service,
    encode_slice,
)
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.mooring_names import mooring_name
from moorage.api.topology import ZONE_LABEL
from moorage.cluster.client import Client
from moorage.dataplane.crowding import Crowding
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import (
    ClientTarget,
    MooringKey,
    ServiceAddress,
    ServicePort,
    Unit,
    UnitKey,
)
from moorage.dataplane.nft import NftError
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synced, Synchronizer
from moorage.node.agent import Agent
from testing.beside import beside
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server, kind

FRONTENDS = LabelSelector(match_labels={"app": "frontend"})
PODS = MooredBy("backend", "Pod", pods=FRONTENDS, holds=True)
HTTP = ServiceAddress("10.96.0.1", "tcp", 9000)
E1, E2, E3 = "203.0.113.1", "203.0.113.2", "203.0.113.3"


def service(by: MooredBy = PODS, name: str = "backend", namespace: str = "frontend", **spec: Any) -> dict[str, Any]:
    marks = encode_service(ServiceContract("moorage", by)).on(ObjectMeta(name=name, namespace=namespace))
    given = {"clusterIP": HTTP.address, "clusterIPs": [HTTP.address], "sessionAffinity": "ClientIP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": msgspec.to_builtins(marks),
        "spec": {**given, "ports": [{"port": HTTP.port}], **spec},
    }


def slice_(*serving: str, name: str = "backend", namespace: str = "frontend", **lost: bool) -> dict[str, Any]:
    """Endpoints e1, e2 and e3, of which those that are not `serving` do not serve."""
    marks = encode_slice(SliceContract(name, "moorage")).on(ObjectMeta(name=f"{name}-1", namespace=namespace))
    conditions = {each: {"ready": each in serving, "serving": each in serving} for each in ("e1", "e2", "e3")}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": msgspec.to_builtins(marks),
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [
            {"addresses": [f"203.0.113.{n}"], "hostname": f"e{n}", "conditions": conditions[f"e{n}"]}
            for n in (1, 2, 3)
        ],
    }


def pod(name: str, *addresses: str, node: str = "node-1", namespace: str = "frontend", **more: Any) -> dict[str, Any]:
    """`phase`, `hostNetwork` and further metadata say more of it."""
    status = {"phase": more.pop("phase", "Running"), "podIPs": [{"ip": each} for each in addresses]}
    spec = {"nodeName": node, "hostNetwork": more.pop("hostNetwork", False), "containers": []}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "frontend"}, **more},
        "spec": spec,
        "status": status | ({"podIP": addresses[0]} if addresses else {}),
    }


def mooring(client: str, wanted: str, kind: str = "Pod", **status: str) -> dict[str, Any]:
    """As the operator writes it; `wanted` is the endpoint in its spec."""
    name = mooring_name("backend", kind, client)
    marks = encode_mooring("backend", kind, client).on(ObjectMeta(name=name, namespace="frontend"))
    return {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "Mooring",
        "metadata": msgspec.to_builtins(marks),
        "spec": {"group": "backend", "client": {"kind": kind, "name": client}, "endpoint": wanted},
        "status": {"endpoint": wanted, "reason": "Assigned", **status},
    }


def node(zone: str = "", *prefixes: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-1", "labels": {ZONE_LABEL: zone} if zone else {}},
        "spec": {"podCIDRs": list(prefixes)},
    }


class Kernel:
    """In place of a synchronizer: it has what is wanted, and checks that nothing changes unsaid."""

    def __init__(self) -> None:
        self.state: dict[UnitKey, Unit] = {}
        self.changes: list[set[UnitKey]] = []
        """What changed in each sync."""
        self.ended: list[str] = []
        """Addresses of which everything was to be forgotten."""
        self.failures = 0
        self.refused: Mapping[UnitKey, Any] = {}
        self.unfinished = False
        self.crowding = Crowding(FakeNft(lambda: 0.0), families=())

    async def sync(
        self, desired: Mapping[UnitKey, Unit], changed: Collection[UnitKey], ended: Collection[str]
    ) -> Synced:
        if self.failures:
            self.failures -= 1
            raise NftError("nft: Cannot allocate memory")
        self.ended += sorted(ended)
        differ = {key for key in {*desired, *self.state} if desired.get(key) != self.state.get(key)}
        assert differ <= set(changed)
        self.state = dict(desired)
        if differ:
            self.changes.append(differ)
        return Synced()

    async def intact(self) -> bool:
        return True


UIDS = itertools.count(1)


class Fixture:
    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.kernel = Kernel()

    def store(self, *objects: dict[str, Any]) -> None:
        """As they are, whatever an API server would say; an object of the same name gets a new state."""
        for each in objects:
            meta, of = each["metadata"], kind(each["kind"])
            before = self.server.store.get(of, meta.get("namespace", ""), meta["name"])
            uid = before["metadata"]["uid"] if before else f"uid-{next(UIDS)}"
            created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
            self.server.store.put(of, {**each, "metadata": {"uid": uid, **created, **meta}})

    def remove(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            meta = each["metadata"]
            self.server.store.remove(kind(each["kind"]), meta.get("namespace", ""), meta["name"])

    @asynccontextmanager
    async def agent(self, node: str = "node-1") -> AsyncIterator[Agent]:
        made = Agent(self.client, cast("Synchronizer", self.kernel), Scope(node))
        async with beside(made.run()):
            yield made

    def led(self) -> dict[str, str]:
        """Address of a client -> address of its endpoint, on the port HTTP."""
        return {
            key.client: unit.target.address
            for key, unit in self.kernel.state.items()
            if isinstance(key, MooringKey) and isinstance(unit, ClientTarget) and key.service == HTTP
        }

    def endpoints(self) -> set[str]:
        """Where clients without a mooring go."""
        port = self.kernel.state.get(HTTP)
        return {each.address for each in port.targets} if isinstance(port, ServicePort) else set()

    async def leads(self, **pods: str) -> None:
        """Wait until pods are led so: `a="203.0.113.1"`; pod `a` has the first address, `b` the second."""

        async def condition() -> bool:
            return self.led() == {ADDRESSES[name]: endpoint for name, endpoint in pods.items()}

        await eventually(condition)

    async def uses(self, *endpoints: str) -> None:
        async def condition() -> bool:
            return self.endpoints() == set(endpoints)

        await eventually(condition)

    async def seen(self, by: str = "seen") -> None:
        """Wait until the agent has seen all that was stored, by something that it does about it."""
        number = next(UIDS)
        marker = service(PODS._replace(group="other"), name=f"marker-{number}", clusterIP=None)
        marker["spec"]["clusterIPs"] = [f"10.96.1.{number % 250}"]
        self.store(marker)

        async def condition() -> bool:
            return ServiceAddress(f"10.96.1.{number % 250}", "tcp", HTTP.port) in self.kernel.state

        await eventually(condition)


@asynccontextmanager
async def moored_agent() -> AsyncIterator[Fixture]:
    """An API server that has the Service, and three endpoints of it."""
    async with api_server() as server, Client(server.config) as client:
        made = Fixture(server, client)
        made.store(service(), slice_("e1", "e2", "e3"))
        yield made


ADDRESSES = {name: f"10.244.1.{10 + n}" for n, name in enumerate("abcdefgh")}
A, B = ADDRESSES["a"], ADDRESSES["b"]

"""The agent and moorings: what it wants the kernel to have while pods and Moorings come, move and go.

Everything is stored as Kubernetes and the operator write it; the kernel is one that only takes down what is wanted.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import msgspec
import pytest

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
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.topology import ZONE_LABEL
from moorage.cluster.client import Client
from moorage.dataplane.model import (
    ClientTarget,
    MooringKey,
    PodPrefixKey,
    ServiceAddress,
    ServicePort,
    Unit,
    UnitKey,
)
from moorage.dataplane.nft import NftError
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synced, Synchronizer
from moorage.node import moorings as moorings_module
from moorage.node import wanted
from moorage.node.agent import Agent
from moorage.node.moorings import Led
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


def mooring(client: str, endpoint: str, kind: str = "Pod", **status: str) -> dict[str, Any]:
    """As the operator writes it."""
    name = mooring_name("backend", kind, client)
    marks = encode_mooring("backend", kind, client).on(ObjectMeta(name=name, namespace="frontend"))
    return {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "Mooring",
        "metadata": msgspec.to_builtins(marks),
        "spec": {"group": "backend", "client": {"kind": kind, "name": client}, "endpoint": endpoint},
        "status": {"endpoint": endpoint, "reason": "Assigned", **status},
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
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

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


ADDRESSES = {name: f"10.244.1.{10 + n}" for n, name in enumerate("abcdefgh")}
A, B = ADDRESSES["a"], ADDRESSES["b"]


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with api_server() as server, Client(server.config) as client:
        made = Fixture(server, client)
        made.store(service(), slice_("e1", "e2", "e3"))
        yield made


# --- coming -------------------------------------------------------------------------------------------------------


async def test_a_pod_is_led_as_soon_as_it_has_an_address_where_its_mooring_was_there_before(fixture: Fixture) -> None:
    async with fixture.agent():
        fixture.store(mooring("a", "e2"), pod("a", phase="Pending"))
        await fixture.uses(E1, E2, E3)
        assert fixture.led() == {}
        fixture.store(pod("a", A))
        await fixture.leads(a=E2)
        assert fixture.kernel.changes[-1] == {MooringKey(A, HTTP)}


async def test_a_pod_is_led_as_soon_as_its_mooring_comes_where_it_had_an_address_before(fixture: Fixture) -> None:
    async with fixture.agent():
        fixture.store(pod("a", A), pod("b", B), mooring("b", "e3"))
        await fixture.leads(b=E3)
        fixture.store(mooring("a", "e2"))
        await fixture.leads(a=E2, b=E3)
        assert fixture.kernel.changes[-1] == {MooringKey(A, HTTP)}


async def test_moorings_come_before_their_service_and_go_with_it(fixture: Fixture) -> None:
    fixture.remove(service())
    fixture.store(pod("a", A), mooring("a", "e2"))
    async with fixture.agent() as agent:
        fixture.store(service())
        await fixture.leads(a=E2)
        fixture.remove(service())
        await fixture.uses()
        await fixture.leads()
        assert fixture.kernel.state == {}
        assert (agent._world.clientele._clients, agent._wanted._pods, agent._wanted._nodes) == ({}, {}, set())


async def test_an_agent_that_starts_wants_all_of_it_at_once(fixture: Fixture) -> None:
    """Else it would first take out of the kernel what an earlier agent had put there."""
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    held = fixture.server.faults.hold(path="/moorings")
    async with fixture.agent():
        async with asyncio.timeout(20):
            await held.arrived.wait()
        for _ in range(50):
            await fixture.client.raw("GET", "/version")
        assert fixture.kernel.changes == []
        held.release()
        await fixture.leads(a=E1, b=E2)
    assert len(fixture.kernel.changes) == 1


async def test_an_agent_that_may_read_neither_pods_nor_moorings_carries_services(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    for path in ("/pods", "/moorings"):
        fixture.server.faults.fail(1000, code=403, path=path)
    async with fixture.agent():
        await fixture.uses(E1, E2, E3)
        assert fixture.led() == {}


# --- moving -------------------------------------------------------------------------------------------------------


async def test_a_client_that_moves_changes_nothing_but_itself(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e1"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E1, b=E1)
        assert (agent.ports, agent.moorings) == (1, 2)
        fixture.store(mooring("a", "e3", reason="Moved", previous="e1"))
        await fixture.leads(a=E3, b=E1)
        assert fixture.kernel.changes[1:] == [{MooringKey(A, HTTP)}]


async def test_an_edit_is_followed_once_the_operator_has_recorded_it(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        edited = mooring("a", "e2")
        edited["status"]["endpoint"] = "e1"
        fixture.store(edited)
        await fixture.seen()
        assert fixture.led() == {A: E1}
        fixture.store(mooring("a", "e2", reason="Moved", previous="e1"))
        await fixture.leads(a=E2)


async def test_a_pod_that_gets_another_address_is_led_there(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(pod("a", B))
        await fixture.leads(b=E1)


async def test_a_pod_that_is_relabelled_is_no_client_any_more(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(pod("a", A, labels={"app": "other"}))
        await fixture.leads()


# --- going --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", ""])
async def test_a_pods_end_frees_its_address_for_the_next(fixture: Fixture, phase: str) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        if phase:
            fixture.store(pod("a", A, phase=phase))
        else:
            fixture.remove(pod("a"))
        await fixture.leads()
        fixture.store(pod("b", A))
        await fixture.leads(a=E2)


async def test_what_was_learned_of_an_address_is_forgotten_once_no_pod_has_it(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"), pod("b", B), pod("c", B))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.remove(pod("b"))
        await fixture.seen()
        assert fixture.kernel.ended == []
        fixture.kernel.failures = 1
        fixture.remove(pod("c"))
        fixture.store(pod("a", ADDRESSES["d"]))
        await fixture.leads(d=E1)
        await fixture.seen()
        assert sorted(fixture.kernel.ended) == [A, B]


async def test_an_address_of_two_living_pods_is_the_newers_and_the_olders_again_after_it(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"), mooring("b", "e2"))
    newer = pod("b", A, creationTimestamp="2026-01-01T00:00:09Z")
    async with fixture.agent() as agent:
        await fixture.leads(a=E1)
        fixture.store(newer)
        await fixture.leads(a=E2)
        [warning] = agent.warnings
        assert warning.startswith("Pod frontend/a is not led to where it is moored: Pod frontend/b")
        fixture.remove(newer)
        await fixture.leads(a=E1)
        assert agent.warnings == []


async def test_a_pod_of_another_namespace_takes_the_address_along(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    other = pod("x", A, namespace="elsewhere", creationTimestamp="2026-01-01T00:00:09Z")
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.store(other)
        await fixture.leads()
        fixture.remove(other)
        await fixture.leads(a=E1)


async def test_a_mooring_that_is_deleted_leaves_its_client_to_its_session(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        fixture.remove(mooring("a", "e1"))
        await fixture.leads()
        assert fixture.endpoints() == {E1, E2, E3}


async def test_an_endpoint_that_does_not_serve_leads_nobody_until_it_does(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent():
        await fixture.leads(a=E1, b=E2)
        fixture.store(slice_("e2", "e3"))
        await fixture.leads(b=E2)
        assert fixture.endpoints() == {E2, E3}
        fixture.store(slice_("e1", "e2", "e3"))
        await fixture.leads(a=E1, b=E2)


async def test_a_service_that_loses_its_address_to_another_leads_nobody_there(fixture: Fixture) -> None:
    fixture.store(pod("a", A), mooring("a", "e1"))
    second = service(MooredBy("other", "Pod", pods=FRONTENDS), name="a-second", namespace="elsewhere")
    first = service(MooredBy("other", "Pod", pods=FRONTENDS), name="a-first", namespace="elsewhere")
    async with fixture.agent() as agent:
        await fixture.leads(a=E1)
        fixture.store(second, first)
        await fixture.leads()
        assert len(agent.warnings) == 2
        fixture.remove(first)
        await fixture.seen()
        assert fixture.led() == {}
        fixture.remove(second)
        await fixture.leads(a=E1)


# --- who ----------------------------------------------------------------------------------------------------------


async def test_pods_of_other_nodes_are_none_of_ours(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B, node="node-2"), mooring("a", "e1"), mooring("b", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        await fixture.seen()
        assert fixture.led() == {A: E1}


async def test_each_family_of_a_pod_goes_where_its_endpoint_is(fixture: Fixture) -> None:
    six = slice_("e1", "e2", "e3") | {"addressType": "IPv6"}
    six["metadata"] = {**six["metadata"], "name": "backend-six"}
    six["endpoints"] = [{"addresses": ["2001:db8::1"], "hostname": "e1"}]
    fixture.store(service(clusterIPs=[HTTP.address, "fd00::1"]), six)
    fixture.store(pod("a", A, "fd00:10::2"), mooring("a", "e1"))
    async with fixture.agent():

        async def both() -> bool:
            keys = [each for each in fixture.kernel.state if isinstance(each, MooringKey)]
            return {each.client for each in keys} == {A, "fd00:10::2"}

        await eventually(both)


async def test_pods_in_the_hosts_network_go_where_their_node_is_moored(fixture: Fixture) -> None:
    fixture.store(pod("h1", A, hostNetwork=True), pod("h2", A, hostNetwork=True), mooring("node-1", "e3", "Node"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E3)
        assert agent.warnings == []
        fixture.remove(pod("h1"))
        await fixture.seen()
        assert fixture.led() == {A: E3}
        fixture.remove(pod("h2"))
        await fixture.leads()


def made_by(kind: str, name: str, uid: str, api_version: str = "apps/v1") -> list[dict[str, Any]]:
    return [{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}]


async def test_pods_of_a_workload_are_led_and_the_api_is_asked_once_what_made_their_replica_set(
    fixture: Fixture,
) -> None:
    replicas = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "namespace": "frontend", "uid": "rs-1"}
        | {"ownerReferences": made_by("Deployment", "web", "d-1")},
    }
    fixture.store(service(MooredBy("backend", "Workload", pods=FRONTENDS)), replicas)
    fixture.store(mooring("Deployment/web", "e2", "Workload"))
    asked: list[str] = []
    get = fixture.client.get

    async def counted(kind: type[Any], namespace: str | None, name: str) -> Any:
        asked.append(name)
        return await get(kind, namespace, name)

    fixture.client.get = counted  # type: ignore[method-assign]
    async with fixture.agent():
        for name in "ab":
            fixture.store(pod(name, ADDRESSES[name], ownerReferences=made_by("ReplicaSet", "web-1", "rs-1")))
        await fixture.leads(a=E2, b=E2)
        fixture.store(pod("c", ADDRESSES["c"], ownerReferences=made_by("ReplicaSet", "gone", "rs-9")))
        fixture.store(pod("d", ADDRESSES["d"], ownerReferences=made_by("ReplicaSet", "web-1", "rs-1")))
        await fixture.leads(a=E2, b=E2, d=E2)
        await fixture.seen()
    assert asked.count("web-1") == 1
    assert asked.count("gone") <= 1


# --- nodes and zones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "client", "other"), [("Node", "node-1", "node-2"), ("Zone", "eu-1a", "eu-1b")])
async def test_a_node_uses_the_endpoint_that_it_or_its_zone_is_moored_to(
    fixture: Fixture, kind: str, client: str, other: str
) -> None:
    fixture.store(node("eu-1a"), service(MooredBy("backend", kind)))
    fixture.store(mooring(client, "e2", kind), mooring(other, "e3", kind))
    async with fixture.agent():
        await fixture.uses(E2)
        assert len(fixture.kernel.changes) == 1, "it was not without its mooring at first"
        fixture.store(mooring(client, "e1", kind, reason="Moved", previous="e2"))
        await fixture.uses(E1)
        port = fixture.kernel.state[HTTP]
        assert isinstance(port, ServicePort)
        assert {each.address for each in port.keeps} == {E3}
        fixture.store(slice_("e2", "e3"))
        await fixture.uses(E2, E3)
        fixture.store(slice_("e1", "e2", "e3"))
        await fixture.uses(E1)
        fixture.remove(mooring(client, "e1", kind))
        await fixture.uses(E1, E2, E3)


async def test_a_node_that_changes_its_zone_goes_where_the_other_zone_is_moored(fixture: Fixture) -> None:
    fixture.store(node("eu-1a"), service(MooredBy("backend", "Zone")))
    fixture.store(mooring("eu-1a", "e1", "Zone"), mooring("eu-1b", "e2", "Zone"))
    async with fixture.agent():
        await fixture.uses(E1)
        fixture.store(node("eu-1b"))
        await fixture.uses(E2)
        fixture.store(node())
        await fixture.uses(E1, E2, E3)


async def test_the_ranges_of_the_nodes_pods_are_carried_where_pods_are_moored(fixture: Fixture) -> None:
    def prefixes() -> set[str]:
        return {each.prefix for each in fixture.kernel.state if isinstance(each, PodPrefixKey)}

    async def both() -> bool:
        return prefixes() == {"10.244.1.0/24", "fd00:10::/64"}

    async def none() -> bool:
        return prefixes() == set()

    fixture.store(node("", "10.244.1.7/24", "fd00:10:0::/64", "10.244.0.0/16", "nonsense"))
    async with fixture.agent():
        await eventually(both)
        fixture.store(service(MooredBy("backend", "Node")))
        await eventually(none)


# --- what fails ---------------------------------------------------------------------------------------------------


async def test_a_mooring_that_cannot_be_read_costs_its_own_client_and_its_last_good_state_stays(
    fixture: Fixture,
) -> None:
    fixture.store(pod("a", A), pod("b", B), pod("c", ADDRESSES["c"]), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E1, b=E2)
        bad = mooring("a", "e3")
        bad["spec"]["endpoint"] = 5
        never = mooring("c", "e3")
        never["spec"] = "nonsense"
        fixture.store(bad, never, mooring("b", "e3"))
        await fixture.leads(a=E1, b=E3)
        first, second = agent.warnings
        assert first.startswith("Mooring frontend/backend.a: Expected")
        assert first.endswith("its last good state stays in use")
        assert second.endswith("nothing of it is carried")
        fixture.store(mooring("a", "e2"), mooring("c", "e1"))
        await fixture.leads(a=E2, b=E3, c=E1)
        assert agent.warnings == []


async def test_a_pod_that_cannot_be_read_costs_itself(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E1, b=E2)
        bad = pod("a", A)
        bad["status"]["podIPs"] = "nonsense"
        fixture.store(bad, mooring("b", "e3"))
        await fixture.leads(a=E1, b=E3)
        [warning] = agent.warnings
        assert warning.startswith("Pod frontend/a: Expected")


async def test_a_mistake_over_the_pods_of_a_namespace_costs_that_namespace_alone(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = moorings_module.led

    def mistaken(namespace: str, *rest: Any) -> Led:
        if namespace == "frontend":
            raise KeyError("nobody thought of this")
        return right(namespace, *rest)

    fixture.store(pod("a", A), mooring("a", "e1"))
    other = service(name="other", namespace="elsewhere", clusterIPs=["10.96.0.2"])
    async with fixture.agent() as agent:
        await fixture.leads(a=E1)
        monkeypatch.setattr(wanted, "led", mistaken)
        elsewhere = mooring("b", "e2")
        elsewhere["metadata"] = {**elsewhere["metadata"], "namespace": "elsewhere"}
        fixture.store(mooring("a", "e2"), other, slice_("e2", name="other", namespace="elsewhere"))
        fixture.store(pod("b", B, namespace="elsewhere"), elsewhere)

        async def led() -> bool:
            return MooringKey(B, HTTP._replace(address="10.96.0.2")) in fixture.kernel.state

        await eventually(led)

        async def told() -> bool:
            return any("Pods of frontend: KeyError, a bug in Moorage" in each for each in agent.warnings)

        await eventually(told)
        assert fixture.led() == {A: E1}
        monkeypatch.undo()
        fixture.store(mooring("a", "e3"))
        await fixture.leads(a=E3)
        assert agent.warnings == []


async def test_moorings_stay_while_the_api_is_away_and_catch_up_after(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent():
        await fixture.leads(a=E1, b=E2)
        held = fixture.server.faults.hold(20)
        fixture.server.faults.drop_watches()
        fixture.server.store.compact()
        async with asyncio.timeout(20):
            await held.arrived.wait()
        fixture.remove(pod("b"))
        fixture.store(mooring("a", "e3"), pod("c", B), mooring("c", "e1"))
        assert fixture.led() == {A: E1, B: E2}
        held.release()
        fixture.server.faults.clear()
        await fixture.leads(a=E3, b=E1)


async def test_a_pod_that_a_stateful_set_makes_again_on_this_node_keeps_its_endpoint_without_the_operator(
    fixture: Fixture,
) -> None:
    fixture.store(pod("db-0", "10.244.2.10", node="node-2"), mooring("db-0", "e2"))
    async with fixture.agent():
        await fixture.uses(E1, E2, E3)
        fixture.remove(pod("db-0"))
        fixture.store(pod("db-0", phase="Pending"))
        await fixture.seen()
        fixture.store(pod("db-0", A))
        await fixture.leads(a=E2)


async def test_a_pod_that_comes_is_led_though_the_watch_of_moorings_is_silent(fixture: Fixture) -> None:
    """Its Mooring is got by its name."""
    silent = asyncio.Event()
    watch = fixture.client.watch

    async def deaf(kind: type[Any], *rest: Any, **how: Any) -> AsyncGenerator[Any, None]:
        async with aclosing(watch(kind, *rest, **how)) as events:
            async for event in events:
                if kind is not Mooring or not silent.is_set():
                    yield event

    fixture.client.watch = deaf  # type: ignore[method-assign]
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        silent.set()
        fixture.store(mooring("b", "e2"), pod("b", B))
        await fixture.leads(a=E1, b=E2)


# --- what it reads ------------------------------------------------------------------------------------------------


async def test_only_what_is_needed_is_read(fixture: Fixture) -> None:
    """1,000 agents read from one API server."""
    seen: list[tuple[str, str]] = []
    listed = fixture.client.list

    async def noted(kind: type[Any], namespace: str | None = None, **how: Any) -> Any:
        selectors = [how.get("label_selector"), how.get("field_selector")]
        seen.append((kind.__name__, ";".join([namespace or "*", *(each for each in selectors if each)])))
        return await listed(kind, namespace, **how)

    fixture.client.list = noted  # type: ignore[method-assign]
    plain = service(name="plain", clusterIPs=["10.96.0.9"])
    plain["metadata"]["annotations"] = {}
    fixture.store(plain, node("eu-1a"), pod("other", namespace="elsewhere"))
    fixture.remove(service())
    async with fixture.agent():

        async def carried() -> bool:
            return HTTP._replace(address="10.96.0.9") in fixture.kernel.state

        await eventually(carried)
        assert {each for each, _ in seen} == {"Service", "EndpointSlice", "Node"}
        fixture.store(service())
        await fixture.uses(E1, E2, E3)
        pods = "*;spec.nodeName=node-1,status.phase!=Succeeded,status.phase!=Failed"

        async def read(what: tuple[str, str]) -> None:
            async def condition() -> bool:
                return what in seen

            await eventually(condition)

        await read(("Pod", pods))
        await fixture.seen()
        assert "Mooring" not in {each for each, _ in seen}, "no pod of the namespace is here"
        fixture.store(pod("a", A), mooring("a", "e1"))
        await fixture.leads(a=E1)
        await read(("Mooring", "frontend"))
        fixture.store(service(MooredBy("nodes", "Node"), name="nodes", clusterIPs=["10.96.0.8"]))
        await read(("Mooring", "*;moorage.dev/client in (node.node-1,zone.eu-1a)"))
        assert {where for kind, where in seen if kind == "Mooring"} == {
            "frontend",
            "*;moorage.dev/client in (node.node-1,zone.eu-1a)",
        }

"""What is decided, written to an API server and read back is what was decided: with all that a server fills in.

The module that runs these tests gives `client`, a client of a server with the Service ranges RANGES.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import ClientIPConfig, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import Drain, ExternalService, ExternalServicePort, SessionAffinityConfig
from moorage.api.sources_v1alpha1 import HealthCheck, StaticAddress
from moorage.cluster.client import Client
from moorage.core.decide import decide
from moorage.core.model import Create, Decision, Delete, Endpoint, Health, Patch
from moorage.core.snapshot import Snapshot
from moorage.operator.writer import changes
from testing.xsvc import GATE, HTTP, LATER, MOORED, NAME, NOW, answers, endpoints, static, verdicts, xsvc

RANGES = ("10.96.0.0/16", "fd00:96::/112")
STATIC = static(StaticAddress(address="198.18.0.1"))
SIX = Endpoint("six", "2001:db8::1", "addresses")


class Server:
    """A namespace of an API server with one ExternalService."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace

    async def spec(self, **spec: Any) -> None:
        """The ExternalService has this spec from now on."""
        wanted = xsvc(**{"endpoints": STATIC, **spec})
        there = (await self._client.list(ExternalService, self._namespace)).items
        if there:
            await self._client.replace(replace(there[0], spec=wanted.spec))
        else:
            await self._client.create(replace(wanted, metadata=ObjectMeta(name=NAME, namespace=self._namespace)))

    async def settle(self, each: Sequence[Endpoint], **exceptions: Health) -> ExternalService:
        """Decide and do until there is nothing more to do; at most two rounds are needed for that."""
        for _ in range(3):
            decision = await self.decide(each, NOW, **exceptions)
            service = await self._client.get(ExternalService, self._namespace, NAME)
            if not decision.writes and decision.status == service.status:
                assert decision.news == ()
                assert await self.decide(each, LATER, **exceptions) == Decision((), service.status, ())
                return service
            await self._do(decision, service)
        raise AssertionError(f"does not come to rest: {decision}")

    async def decide(self, each: Sequence[Endpoint], now: str, **exceptions: Health) -> Decision:
        xsvc = await self._client.get(ExternalService, self._namespace, NAME)
        services = (await self._client.list(Service, self._namespace)).items
        slices = await self.slices()
        service = next(iter(services), None)
        given = verdicts(each, **exceptions)
        return decide(Snapshot(xsvc, answers(each), GATE, now, slices, service, verdicts=given).merge())

    async def slices(self) -> list[EndpointSlice]:
        return (await self._client.list(EndpointSlice, self._namespace)).items

    async def service(self) -> Service:
        return await self._client.get(Service, self._namespace, NAME)

    async def edit(self, kind: type[Service] | type[EndpointSlice], name: str, patch: dict[str, Any]) -> None:
        """Somebody else's merge patch."""
        await self._client.patch(kind, self._namespace, name, patch)

    async def _do(self, decision: Decision, xsvc: ExternalService) -> None:
        for write in decision.writes:
            match write:
                case Create(obj):
                    await self._client.create(obj)
                case Patch(kind, namespace, name, body):
                    await self._client.patch(kind, namespace, name, body)
                case Delete(kind, namespace, name, uid, version):
                    await self._client.delete(kind, namespace, name, uid=uid, resource_version=version)
        body = {"status": changes(xsvc.status, decision.status)}
        await self._client.patch(ExternalService, self._namespace, NAME, body, subresource="status")


@pytest.fixture
def server(client: Client, namespace: str) -> Server:
    return Server(client, namespace)


HTTPS = ExternalServicePort(name="https", port=443, app_protocol="kubernetes.io/wss")
DNS = ExternalServicePort(name="dns", port=53, protocol="UDP")
HOUR = SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=3600))
SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without-a-check": {"health_check": None},
    "port-without-name": {"ports": [ExternalServicePort(port=80)]},
    "several-ports": {"ports": [HTTP, HTTPS, DNS]},
    "renamed-port": {"ports": [replace(HTTP, name="web")]},
    "other-target": {"ports": [replace(HTTP, target_port=8080)]},
    "other-protocol": {"ports": [replace(HTTP, protocol="UDP")], "health_check": HealthCheck(port=80)},
    "client-ip": {"session_affinity": "ClientIP"},
    "client-ip-for-an-hour": {"session_affinity": "ClientIP", "session_affinity_config": HOUR},
    "node-agents": {"proxy": "moorage"},
    "moorings": {"proxy": "moorage", "group": "databases", **MOORED},
    "moored-nodes": MOORED,
    "same-zone": {"traffic_distribution": "PreferSameZone"},
    "single": {"ip_family_policy": "SingleStack"},
    "preferred": {"ip_family_policy": "PreferDualStack"},
    "preferred-families": {"ip_family_policy": "PreferDualStack", "ip_families": ["IPv4", "IPv6"]},
    "preferred-family": {"ip_family_policy": "PreferDualStack", "ip_families": ["IPv4"]},
    "required": {"ip_family_policy": "RequireDualStack"},
    "families": {"ip_families": ["IPv4", "IPv6"], "ip_family_policy": "RequireDualStack"},
    "family": {"ip_families": ["IPv4"]},
    "single-family": {"ip_family_policy": "SingleStack", "ip_families": ["IPv4"]},
    "drained": {"drain": [Drain(endpoint="b0001")]},
    "panic": {"health_check": HealthCheck(panic_threshold_percent=50)},
}


@pytest.mark.parametrize("name", SPECS)
async def test_every_kind_of_spec_comes_to_rest_and_goes_back_to_the_plain_one(server: Server, name: str) -> None:
    await server.spec(**SPECS[name])
    await server.settle([*endpoints(3), SIX], b0002="Unhealthy")
    before = await server.service()
    await server.spec()
    await server.settle(endpoints(3))
    await server.spec(**SPECS[name])
    await server.settle([*endpoints(2), SIX._replace(priority=1)], b0001="Unknown")
    after = await server.service()
    assert (after.metadata.uid, after.spec.cluster_ip) == (before.metadata.uid, before.spec.cluster_ip)


async def test_one_spec_after_the_other_comes_to_rest(server: Server) -> None:
    for number, spec in enumerate(SPECS.values()):
        await server.spec(**spec)
        single = len(spec.get("ports", [HTTP])) == 1
        await server.settle(endpoints(1 + number % 4, port=8081 if single and number % 3 == 0 else None, weight=3))


async def test_endpoints_that_come_go_and_move_do_not_leave_the_slices_in_doubt(server: Server) -> None:
    await server.spec()
    many = endpoints(205)
    for each in (many, many[50:], many[50:] + endpoints(90, 300), [one._replace(port=81) for one in many[:120]], ()):
        await server.settle(each)
        names = [one.hostname for slice_ in await server.slices() for one in slice_.endpoints or ()]
        assert sorted(names, key=str) == sorted(one.name for one in each)


@pytest.mark.parametrize(
    "edit",
    [
        {"selector": {"app": "x"}},
        {"type": "NodePort"},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        {"type": "ExternalName", "externalName": "db.example.com", "clusterIP": None, "clusterIPs": None},
        {"internalTrafficPolicy": "Local", "publishNotReadyAddresses": True},
        {"sessionAffinity": "ClientIP"},
        {"ports": [{"name": "http", "port": 1}, {"name": "more", "port": 2}]},
        {"externalIPs": ["203.0.113.200"], "trafficDistribution": "PreferClose"},
    ],
    ids=lambda edit: next(iter(edit.values())) if "type" in edit else next(iter(edit)),
)
async def test_what_somebody_does_to_the_service_is_put_right(server: Server, edit: dict[str, Any]) -> None:
    await server.spec()
    await server.settle(endpoints(2))
    before = (await server.service()).spec
    await server.edit(Service, NAME, {"spec": edit})
    await server.settle(endpoints(2))
    after = (await server.service()).spec
    for field in ("type", "selector", "ports", "session_affinity", "internal_traffic_policy", "external_name"):
        assert getattr(after, field) == getattr(before, field)
    if edit.get("type") != "ExternalName":
        assert after.cluster_ip == before.cluster_ip


async def test_what_somebody_does_to_a_slice_is_put_right(server: Server) -> None:
    await server.spec()
    await server.settle(endpoints(2))
    theirs = {"addresses": ["203.0.113.9"], "hostname": "theirs"}
    await server.edit(EndpointSlice, f"{NAME}-1", {"endpoints": [theirs], "ports": [{"port": 1}]})
    await server.edit(EndpointSlice, f"{NAME}-1", {"metadata": {"labels": {"kubernetes.io/service-name": "other"}}})
    await server.settle(endpoints(2))
    (slice_,) = await server.slices()
    assert [one.hostname for one in slice_.endpoints or ()] == ["b0001", "b0002"]

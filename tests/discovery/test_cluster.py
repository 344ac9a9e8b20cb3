"""The cluster source, between two API servers of the lab: this cluster's Secrets, the other's Services."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalServicePort
from moorage.api.sources_v1alpha1 import ClusterSource, SecretKeyReference
from moorage.cluster.kubeconfig import Config
from moorage.core.admission import Gate
from moorage.discovery.choice import FIRST_REST_SECONDS, choose
from moorage.discovery.cluster import ClusterServices
from moorage.discovery.source import Setting
from moorage.discovery.tenant import Kubeconfig
from testing.eventually import eventually
from tests.support.fake_names import FakeNames
from tests.support.tenants import secret
from tests.support.two_clusters import KEY, TwoClusters, external, two_clusters


@pytest.fixture
async def fixture() -> AsyncIterator[TwoClusters]:
    async with two_clusters() as made:
        yield made


async def test_load_balancers_are_followed_as_they_come_change_and_go(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    await fixture.service("internal", type="ClusterIP")
    fixture.sources.set(KEY, external())
    assert fixture.found is None
    await fixture.until({"backend1": "203.0.113.11"})
    await fixture.service("backend2", "203.0.113.12")
    await fixture.until({"backend1": "203.0.113.11", "backend2": "203.0.113.12"})
    await fixture.service("backend1", "203.0.113.99")
    await fixture.until({"backend1": "203.0.113.99", "backend2": "203.0.113.12"})
    await fixture.there.delete(Service, "backend", "backend1")
    await fixture.until({"backend2": "203.0.113.12"})
    assert fixture.now.source == "cluster/backend"


async def test_all_of_them_are_in_the_zone_that_the_source_says(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external(zone="eu-1a"))
    await fixture.until({"backend1": "203.0.113.11"})
    assert [each.zone for each in fixture.now.endpoints or ()] == ["eu-1a"]


async def test_a_service_without_an_address_is_noted_and_is_no_endpoint(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    await fixture.service("backend3")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    assert fixture.now.notes == ("Service backend/backend3 has no load-balancer address yet",)


@pytest.mark.parametrize(
    ("selector", "which"), [(None, "is there"), ({"app": "backend", "tier": "a"}, 'matches "app=backend,tier=a"')]
)
async def test_where_no_load_balancer_is_selected_it_is_noted(
    fixture: TwoClusters, selector: dict[str, str] | None, which: str
) -> None:
    await fixture.give()
    await fixture.service("internal", type="ClusterIP", app="backend", tier="a")
    fixture.sources.set(KEY, external(selector))
    await fixture.until({})
    assert fixture.now.notes == (
        f"no Service of type LoadBalancer in namespace backend of the other cluster {which}",
    )


async def test_of_several_addresses_the_current_one_is_kept(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.20", "203.0.113.10")
    fixture.sources.set(KEY, external(known={"backend1": "203.0.113.20"}))
    await fixture.until({"backend1": "203.0.113.20"})
    await fixture.service("backend1", "203.0.113.30", "203.0.113.10")
    await fixture.until({"backend1": "203.0.113.10"})
    await fixture.service("backend1", "203.0.113.5", "203.0.113.10")
    await fixture.service("mark", "203.0.113.1")
    await fixture.until({"backend1": "203.0.113.10", "mark": "203.0.113.1"})


async def test_a_load_balancer_goes_on_at_another_of_its_addresses_when_one_fails(
    fixture: TwoClusters,
) -> None:
    await fixture.give()
    fixture.names.put("lb.example.com", "203.0.113.11", "203.0.113.12", ttl=300.0)
    await fixture.service("backend1", "lb.example.com")
    await fixture.service("backend2", "203.0.113.21", "203.0.113.22")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11", "backend2": "203.0.113.21"})
    fixture.sources.failing(KEY, {"backend1": "203.0.113.11", "backend2": "203.0.113.99"})
    await fixture.until({"backend1": "203.0.113.12", "backend2": "203.0.113.21"})
    fixture.sources.failing(KEY, {"backend2": "203.0.113.21"})
    await fixture.until({"backend1": "203.0.113.12", "backend2": "203.0.113.22"})


async def test_a_service_that_is_being_deleted_is_leaving_until_its_load_balancer_is_gone(
    fixture: TwoClusters,
) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    await fixture.service("backend2", "203.0.113.12")
    body = {"metadata": {"finalizers": ["service.kubernetes.io/load-balancer-cleanup"]}}
    await fixture.there.patch(Service, "backend", "backend1", body)
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11", "backend2": "203.0.113.12"})
    await fixture.there.delete(Service, "backend", "backend1")

    async def leaving() -> bool:
        return [each.leaving for each in fixture.now.endpoints or ()] == [True, False]

    await eventually(leaving)
    assert fixture.now.notes == ("Service backend/backend1 is being deleted: its endpoint takes no new clients",)
    await fixture.there.patch(
        Service, "backend", "backend1", {"status": {"loadBalancer": {"ingress": None}}}, subresource="status"
    )
    await fixture.until({"backend2": "203.0.113.12"})


async def test_an_address_stays_when_a_status_is_cleared_until_it_fails_its_checks(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    await fixture.service("backend1")

    async def noted() -> bool:
        return fixture.now.notes == (
            "Service backend/backend1 has no load-balancer address any more: 203.0.113.11 stays until it fails its "
            "checks",
        )

    await eventually(noted)
    assert fixture.found == {"backend1": "203.0.113.11"}
    fixture.sources.failing(KEY, {"backend1": "203.0.113.11"})
    await fixture.until({})
    fixture.sources.failing(KEY, {})
    await fixture.service("mark", "203.0.113.1")
    await fixture.until({"mark": "203.0.113.1"})
    await fixture.service("backend1", "203.0.113.12")
    await fixture.until({"backend1": "203.0.113.12", "mark": "203.0.113.1"})


@pytest.mark.looptime
async def test_the_address_of_a_service_that_was_made_anew_is_not_kept() -> None:
    played = Played()
    async with played.running():
        played.put("backend1", ip="203.0.113.11", uid="a")
        await asyncio.sleep(1)
        assert played.found == {"backend1": "203.0.113.11"}
        played.put("backend1", uid="b")
        await asyncio.sleep(1)
        assert played.found == {}


async def test_what_a_load_balancer_says_of_a_port_that_is_used_is_noted(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1")
    errors = [
        {"port": 80, "protocol": "TCP", "error": "example.com/PortInUse"},
        {"port": 81, "protocol": "TCP", "error": "Other"},
    ]
    entry = {"ip": "203.0.113.11", "ports": errors}
    await fixture.there.patch(
        Service, "backend", "backend1", {"status": {"loadBalancer": {"ingress": [entry]}}}, subresource="status"
    )
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    assert fixture.now.notes == (
        "Service backend/backend1: its load balancer has an error (TCP 80: example.com/PortInUse); the health check "
        "decides",
    )


async def test_only_what_is_selected_is_found_and_equal_selections_share_a_watch(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11", app="backend")
    await fixture.service("other", "203.0.113.12", app="other")
    fixture.sources.set(KEY, external({"app": "backend"}))
    await fixture.until({"backend1": "203.0.113.11"})
    fixture.sources.set(ObjectKey("frontend", "again"), external({"app": "backend"}))
    fixture.sources.set(ObjectKey("frontend", "third"), external({"app": "other"}))

    async def condition() -> bool:
        return fixture.sources.follower.clusters.count == 2 and fixture.sources.secrets.count == 1

    fixture.sources._on_change = lambda key: None
    await eventually(condition)


async def test_a_port_that_a_service_does_not_serve_is_noted(fixture: TwoClusters) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11", port=8080)
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    assert fixture.now.notes == (
        "Service backend/backend1 does not serve TCP 80, it serves TCP 8080; change targetPort",
    )
    fixture.sources.set(KEY, external(target=8080))

    async def condition() -> bool:
        return fixture.now.notes == ()

    await eventually(condition)
    assert fixture.found == {"backend1": "203.0.113.11"}


# --- many, and often ------------------------------------------------------------------------------------------------


class Played:
    """A source whose Secret and cluster say what a test puts here."""

    def __init__(self, names: FakeNames | None = None, ports: Sequence[ExternalServicePort] = ()) -> None:
        self.problem = self.trouble = None
        self.secret = secret("")
        self.services: dict[ObjectKey, Service] = {}
        self.changes = 0
        self.changed: Callable[[], None] = lambda: None
        spec = ClusterSource(
            kubeconfig_secret_ref=SecretKeyReference(name="cluster-a", key="kubeconfig"), namespace="backend"
        )
        shared: Any = self
        setting = Setting(self._count, ports=tuple(ports))
        self.source = ClusterServices(spec, "frontend", names or FakeNames(), Gate, shared, shared, setting)

    def once(self, make: object) -> Kubeconfig:
        return Kubeconfig(Config(server="https://203.0.113.1"), "server", None)

    def take(self, key: object, on_change: Callable[[], None]) -> "Played":
        self.changed = on_change
        return self

    def give_back(self, key: object, on_change: object) -> None:
        pass

    def _count(self) -> None:
        self.changes += 1

    def put(self, name: str, *ports: int, uid: str = "", **ingress: Any) -> None:
        """A Service there."""
        balancer = LoadBalancerStatus(ingress=[LoadBalancerIngress(**ingress)] if ingress else [])
        self.services[ObjectKey("backend", name)] = Service(
            metadata=ObjectMeta(name=name, namespace="backend", uid=uid),
            spec=ServiceSpec(type="LoadBalancer", ports=[ServicePort(port=each) for each in ports]),
            status=ServiceStatus(load_balancer=balancer),
        )
        self.changed()

    @property
    def found(self) -> dict[str, str]:
        return {each.name: each.address for each in self.source.state.endpoints or ()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.source.run())
        await asyncio.sleep(0)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each time that an address is chosen for a Service, among how many."""
    times: list[int] = []

    def counting(current: str | None, candidates: Sequence[str], families: Any, resting: Any) -> str | None:
        times.append(len(candidates))
        return choose(current, candidates, families, resting)

    monkeypatch.setattr("moorage.discovery.choice.choose", counting)
    return times


@pytest.mark.looptime
async def test_a_change_is_seen_at_once_and_changes_without_end_five_times_a_second() -> None:
    played = Played()
    async with played.running():
        played.put("backend1", ip="203.0.113.11")
        await asyncio.sleep(0.01)
        assert played.found == {"backend1": "203.0.113.11"}
        for number in range(1000):
            played.put("backend1", ip=f"203.0.{number // 250}.{number % 250}")
            await asyncio.sleep(0.01)
        assert 50 <= played.changes <= 70
        await asyncio.sleep(0.5)
        assert played.found == {"backend1": "203.0.3.249"}
        await asyncio.sleep(10)
        played.put("backend1", ip="203.0.113.12")
        await asyncio.sleep(0.01)
        assert played.found == {"backend1": "203.0.113.12"}


@pytest.mark.looptime
async def test_where_all_addresses_of_a_load_balancer_fail_another_is_tried_after_a_rest() -> None:
    names = FakeNames()
    names.put("lb.example.com", "203.0.113.11", "203.0.113.12", ttl=300)
    played = Played(names)
    async with played.running():
        played.put("backend1", hostname="lb.example.com")
        await asyncio.sleep(1)
        for address in ("203.0.113.11", "203.0.113.12"):
            assert played.found == {"backend1": address}
            played.source.set_failing({"backend1": address})
            await asyncio.sleep(1)
        assert played.found == {"backend1": "203.0.113.12"}
        await asyncio.sleep(FIRST_REST_SECONDS)
        assert played.found == {"backend1": "203.0.113.11"}


@pytest.mark.looptime
async def test_of_many_services_only_those_that_changed_are_looked_at(looked_at: list[int]) -> None:
    names = FakeNames()
    names.put("lb.example.com", *(f"203.0.{number // 250}.{number % 250}" for number in range(1000)), ttl=300)
    played = Played(names)
    async with played.running():
        for number in range(100):
            played.put(f"a{number}", ip=f"203.0.113.{number}")
            played.put(f"b{number}", hostname="lb.example.com")
        await asyncio.sleep(10)
        assert len(played.found) == 200
        looked_at.clear()
        played.put("a7", ip="203.0.113.107")
        await asyncio.sleep(10)
        assert played.found["a7"] == "203.0.113.107"
        assert looked_at == [1]
        looked_at.clear()
        names.put("lb.example.com", "203.0.113.200", ttl=300)
        await asyncio.sleep(400)
        assert played.found["b99"] == "203.0.113.200"
        assert looked_at == [1] * 100


@pytest.mark.looptime
async def test_of_a_host_name_with_many_addresses_the_lowest_are_looked_at(looked_at: list[int]) -> None:
    names = FakeNames()
    names.put("lb.example.com", *(f"203.0.113.{number}" for number in range(100, 200)), ttl=300)
    played = Played(names)
    async with played.running():
        played.put("backend1", hostname="lb.example.com")
        await asyncio.sleep(1)
        assert played.found == {"backend1": "203.0.113.100"}
        assert max(looked_at) == 16


@pytest.mark.looptime
async def test_there_is_one_note_about_ports_a_service_and_it_names_a_few() -> None:
    wanted = [ExternalServicePort(port=20000 + number, name=f"p{number}") for number in range(100)]
    played = Played(ports=wanted)
    async with played.running():
        for number in range(20):
            played.put(f"s{number:02}", *range(1, 101), ip=f"203.0.113.{number}")
        await asyncio.sleep(1)
        notes = played.source.state.notes
        assert notes[0] == (
            "Service backend/s00 does not serve TCP 20000, TCP 20001, TCP 20002, TCP 20003, TCP 20004 and 95 more, "
            "it serves TCP 1, TCP 2, TCP 3, TCP 4, TCP 5 and 95 more; change targetPort"
        )
        assert notes[10:] == ("and 10 more like these",)


# --- host names -----------------------------------------------------------------------------------------------------


async def test_a_host_name_is_looked_up_and_followed(fixture: TwoClusters) -> None:
    fixture.names.put("lb.example.com", "203.0.113.20", "203.0.113.10", ttl=0.1)
    await fixture.give()
    await fixture.service("backend1", "lb.example.com")
    fixture.sources.set(KEY, external(known={"backend1": "203.0.113.20"}))
    await fixture.until({"backend1": "203.0.113.20"})
    fixture.names.put("lb.example.com", "203.0.113.30", ttl=0.1)
    await fixture.until({"backend1": "203.0.113.30"})
    fixture.names.fail("lb.example.com")
    await fixture.until({"backend1": "203.0.113.30"}, "LookupFailed")
    fixture.names.put("lb.example.com", ttl=0.1)
    await fixture.until({})
    assert fixture.now.notes == (
        "Service backend/backend1: lb.example.com, its load balancer's host name, has no address",
    )


async def test_an_address_from_before_stays_until_the_host_name_has_been_looked_up(fixture: TwoClusters) -> None:
    fixture.names.fail("lb.example.com")
    await fixture.give()
    await fixture.service("backend1", "lb.example.com")
    await fixture.service("backend2", "new.example.com")
    fixture.names.fail("new.example.com")
    fixture.sources.set(KEY, external(known={"backend1": "203.0.113.20"}))
    await fixture.until({"backend1": "203.0.113.20"}, "LookupFailed")


@pytest.mark.parametrize(
    ("written", "endpoints"), [("203.000.113.012", {"backend1": "203.0.113.12"}), ("203.0.113.300", {})]
)
async def test_addresses_are_read_as_kubernetes_reads_them_and_what_is_none_is_noted(
    fixture: TwoClusters, written: str, endpoints: dict[str, str]
) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    status = (await fixture.there.get(Service, "backend", "backend1")).status.load_balancer
    assert status is not None
    assert status.ingress is not None
    [balancers] = fixture.sources.follower.clusters.running
    store = balancers.services
    assert store is not None
    key, changed = ObjectKey("backend", "backend1"), [replace(status.ingress[0], ip=written)]
    store.put(replace(store[key], status=replace(store[key].status, load_balancer=replace(status, ingress=changed))))
    await fixture.service("backend2")  # so that the source looks again
    await fixture.until(endpoints)
    noted = f"Service backend/backend1: {written}, its load balancer's address, is not an IP address"
    assert (noted in fixture.now.notes) == (not endpoints)


async def test_it_ends_when_it_is_removed(fixture: TwoClusters) -> None:
    await fixture.give()
    fixture.sources.set(KEY, external())
    await fixture.until({})
    fixture.sources.remove(KEY)

    async def condition() -> bool:
        return fixture.sources.follower.clusters.count == fixture.sources.secrets.count == 0

    await eventually(condition)
    assert fixture.sources.resolutions(KEY) == ()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "discovery" in repr(task.get_coro())]

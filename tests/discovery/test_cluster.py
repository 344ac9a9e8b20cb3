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
    Namespace,
    Secret,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    ClusterSource,
    EndpointSource,
    EndpointStatus,
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    ExternalServiceStatus,
    SecretKeyReference,
)
from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config
from moorage.cluster.reflector import Key
from moorage.core.admission import Gate
from moorage.core.model import Resolution
from moorage.discovery.choice import FIRST_REST, choose
from moorage.discovery.cluster import ClusterServices
from moorage.discovery.source import Setting
from moorage.discovery.sources import Sources
from moorage.discovery.tenant import Kubeconfig, read_kubeconfig
from moorage.lab.apiserver import credentials
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.eventually import eventually
from tests.support.fake_names import FakeNames
from tests.support.tenants import LOOPBACK_ALLOWED, kubeconfig_of, secret

KEY = ("frontend", "backend")


def external(*selectors: dict[str, str] | None, known: dict[str, str] | None = None, target: int = 80) -> Any:
    ref = SecretKeyReference(name="cluster-a", key="kubeconfig")
    return ExternalService(
        metadata=ObjectMeta(name="backend", namespace="frontend"),
        spec=ExternalServiceSpec(
            ports=[ExternalServicePort(port=9000, target_port=target)],
            endpoints=[
                EndpointSource(
                    cluster=ClusterSource(
                        kubeconfig_secret_ref=ref, namespace="backend", selector=LabelSelector(match_labels=each)
                    )
                )
                for each in selectors or (None,)
            ],
        ),
        status=ExternalServiceStatus(
            endpoints=[
                EndpointStatus(name=name, address=address, source="cluster/backend", health="Healthy", ready=True)
                for name, address in (known or {}).items()
            ]
        ),
    )


class Fixture:
    def __init__(self, here: Client, there: Client, other: RunningApiServer) -> None:
        self.here = here
        self.there = there
        self.other = other
        self.names = FakeNames()
        self.gate = LOOPBACK_ALLOWED
        self.changes = 0
        self.sources = Sources(here, self.names, lambda: self.gate, self._changed, now=lambda: "T")

    def _changed(self, key: tuple[str, str]) -> None:
        assert key == KEY
        self.changes += 1

    @property
    def now(self) -> Resolution:
        return self.sources.resolutions(KEY)[0]

    @property
    def found(self) -> dict[str, str] | None:
        return None if self.now.endpoints is None else {each.name: each.address for each in self.now.endpoints}

    async def until(self, found: dict[str, str] | None, reason: str | None = None) -> None:
        async def condition() -> bool:
            problem = self.now.problem
            return self.found == found and (problem.reason if problem else None) == reason

        try:
            await eventually(condition)
        except TimeoutError:
            pytest.fail(f"still {self.now}")

    async def give(self, text: str | None = None) -> None:
        given = secret(text or kubeconfig_of(self.other.config))
        await self.here.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "cluster-a", "namespace": "frontend"},
                "data": given.data,
            },
            field_manager="test",
        )

    async def service(
        self, name: str, *ingress: str, type: str = "LoadBalancer", port: int = 80, **labels: str
    ) -> None:
        """A Service of the other cluster whose load balancer has these addresses or names."""
        obj = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "backend", "labels": labels},
            "spec": {"type": type, "ports": [{"port": port}]},
        }
        await self.there.apply(obj, field_manager="test")
        entries = [{"ip" if each[0].isdigit() else "hostname": each} for each in ingress]
        body = {"status": {"loadBalancer": {"ingress": entries}}}
        await self.there.patch(Service, "backend", name, body, subresource="status")


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with (
        api_server() as own,
        api_server(tls=True) as other,
        Client(own.config) as here,
        Client(other.config) as there,
    ):
        await here.create(Namespace(metadata=ObjectMeta(name="frontend")))
        await there.create(Namespace(metadata=ObjectMeta(name="backend")))
        made = Fixture(here, there, other)
        yield made
        await made.sources.close()


async def test_load_balancers_are_followed_as_they_come_change_and_go(fixture: Fixture) -> None:
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


async def test_a_service_without_an_address_is_noted_and_is_no_endpoint(fixture: Fixture) -> None:
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
    fixture: Fixture, selector: dict[str, str] | None, which: str
) -> None:
    await fixture.give()
    await fixture.service("internal", type="ClusterIP", app="backend", tier="a")
    fixture.sources.set(KEY, external(selector))
    await fixture.until({})
    assert fixture.now.notes == (
        f"no Service of type LoadBalancer in namespace backend of the other cluster {which}",
    )


async def test_of_several_addresses_the_current_one_is_kept(fixture: Fixture) -> None:
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
    fixture: Fixture,
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


async def test_a_service_that_is_being_deleted_is_leaving_until_its_load_balancer_is_gone(fixture: Fixture) -> None:
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


async def test_an_address_stays_when_a_status_is_cleared_until_it_fails_its_checks(fixture: Fixture) -> None:
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


async def test_what_a_load_balancer_says_of_a_port_that_is_used_is_noted(fixture: Fixture) -> None:
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


async def test_only_what_is_selected_is_found_and_equal_selections_share_a_watch(fixture: Fixture) -> None:
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11", app="backend")
    await fixture.service("other", "203.0.113.12", app="other")
    fixture.sources.set(KEY, external({"app": "backend"}))
    await fixture.until({"backend1": "203.0.113.11"})
    fixture.sources.set(("frontend", "again"), external({"app": "backend"}))
    fixture.sources.set(("frontend", "third"), external({"app": "other"}))

    async def condition() -> bool:
        return fixture.sources.follower.clusters.count == 2 and fixture.sources.secrets.count == 1

    fixture.sources._on_change = lambda key: None
    await eventually(condition)


async def test_a_port_that_a_service_does_not_serve_is_noted(fixture: Fixture) -> None:
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
        self.services: dict[Key, Service] = {}
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
        self.services["backend", name] = Service(
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
        await asyncio.sleep(FIRST_REST)
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


async def test_a_host_name_is_looked_up_and_followed(fixture: Fixture) -> None:
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


async def test_an_address_from_before_stays_until_the_host_name_has_been_looked_up(fixture: Fixture) -> None:
    fixture.names.fail("lb.example.com")
    await fixture.give()
    await fixture.service("backend1", "lb.example.com")
    await fixture.service("backend2", "new.example.com")
    fixture.names.fail("new.example.com")
    fixture.sources.set(KEY, external(known={"backend1": "203.0.113.20"}))
    await fixture.until({"backend1": "203.0.113.20"}, "LookupFailed")


# --- what goes wrong ------------------------------------------------------------------------------------------------


def message(fixture: Fixture) -> str:
    assert fixture.now.problem is not None
    assert fixture.now.problem.since == "T"
    text = fixture.now.problem.message
    assert text.startswith("spec.endpoints[0].cluster: ")
    return text.removeprefix("spec.endpoints[0].cluster: ")


async def test_a_secret_that_is_missing_bad_or_goes_away_leaves_what_was_found(fixture: Fixture) -> None:
    fixture.sources.set(KEY, external())
    await fixture.until(None, "SecretMissing")
    assert message(fixture) == "Secret frontend/cluster-a is not there; create it"
    await fixture.give("users: [{name: x, user: {exec: {command: aws}}}]")
    await fixture.until(None, "KubeconfigRefused")
    assert message(fixture).startswith("Secret frontend/cluster-a, key kubeconfig: users[x].user.exec: programs")
    await fixture.service("backend1", "203.0.113.11")
    await fixture.give()
    await fixture.until({"backend1": "203.0.113.11"})
    await fixture.give("broken")
    await fixture.until({"backend1": "203.0.113.11"}, "KubeconfigRefused")
    assert fixture.sources.follower.clusters.count == 0
    await fixture.here.delete(Secret, "frontend", "cluster-a")
    await fixture.until({"backend1": "203.0.113.11"}, "SecretMissing")
    await fixture.give()
    await fixture.until({"backend1": "203.0.113.11"})


async def test_a_token_that_is_not_accepted_is_said_and_a_new_one_is_taken(fixture: Fixture) -> None:
    await fixture.service("backend1", "203.0.113.11")
    await fixture.give(kubeconfig_of(replace(fixture.other.config, token="expired")))
    fixture.sources.set(KEY, external())
    await fixture.until(None, "KubeconfigRejected")
    assert "they may have expired: make a new kubeconfig and put it there" in message(fixture)
    await fixture.give()
    await fixture.until({"backend1": "203.0.113.11"})


async def test_a_right_that_the_other_cluster_does_not_give_is_said(fixture: Fixture) -> None:
    fixture.other.faults.fail(50, code=403, path="/services")
    await fixture.give()
    fixture.sources.set(KEY, external())
    await fixture.until(None, "ClusterForbids")
    assert message(fixture).startswith(
        "the other cluster does not let the user of Secret frontend/cluster-a get, list and watch services in "
        "namespace backend ("
    )
    fixture.other.faults.clear()
    await fixture.until({})


async def test_a_wrong_authority_is_said(fixture: Fixture) -> None:
    await fixture.give(kubeconfig_of(replace(fixture.other.config, ca=credentials.issue().ca)))
    fixture.sources.set(KEY, external())
    await fixture.until(None, "ClusterUnreachable")
    assert "TLS: " in message(fixture)
    assert "check certificate-authority" in message(fixture)


async def test_another_cluster_that_cannot_be_reached_leaves_what_was_found(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.discovery.watched.GRACE", 0.2)
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    fixture.other.faults.fail(4, code=500, path="/services")
    fixture.other.faults.drop_watches()
    await fixture.until({"backend1": "203.0.113.11"}, "ClusterRefused")
    fixture.other.faults.clear()
    await fixture.until({"backend1": "203.0.113.11"})


async def test_a_server_inside_this_cluster_is_refused(fixture: Fixture) -> None:
    for host in ("169.254.169.254", "[::1]", "0.0.0.0", "[64:ff9b::7f00:1]"):
        await fixture.give(kubeconfig_of(replace(fixture.other.config, server=f"https://{host}:6443")))
        fixture.sources.set(KEY, external())
        await fixture.until(None, "KubeconfigRefused")
        assert "the server must be outside this cluster" in message(fixture)
        fixture.sources.remove(KEY)


async def test_a_kubeconfig_is_read_once_for_all_sources_and_only_its_server_is_looked_at_again(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(secret: Secret, key: str) -> Kubeconfig:
        read.append(key)
        return read_kubeconfig(secret, key)

    monkeypatch.setattr("moorage.discovery.cluster.read_kubeconfig", counting)
    monkeypatch.setattr("moorage.discovery.cluster.LOOK_AGAIN", 0.05)
    fixture.gate = Gate()
    await fixture.give()
    fixture.sources.set(KEY, external(None, {"app": "backend"}))
    await fixture.until(None, "KubeconfigRefused")
    fixture.gate = LOOPBACK_ALLOWED
    await fixture.until({})
    assert read == ["kubeconfig"]


@pytest.mark.parametrize("host", ["127.0.0.1", "api.example.com"])
async def test_a_server_that_the_gate_comes_to_refuse_is_spoken_to_no_more(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("moorage.discovery.watched.GRACE", 0.2)
    fixture.names.put("api.example.com", "127.0.0.1")
    server = fixture.other.config.server.replace("127.0.0.1", host)
    await fixture.give(
        kubeconfig_of(replace(fixture.other.config, server=server), **{"tls-server-name": "127.0.0.1"})
    )
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    fixture.gate = Gate()
    fixture.sources.gate_changed()
    await fixture.until(
        {"backend1": "203.0.113.11"}, "KubeconfigRefused" if host == "127.0.0.1" else "ClusterUnreachable"
    )

    async def refused() -> bool:
        return "127.0.0.1 is " in message(fixture)

    await eventually(refused)
    fixture.gate = LOOPBACK_ALLOWED
    fixture.sources.gate_changed()
    await fixture.until({"backend1": "203.0.113.11"})


@pytest.mark.parametrize(
    ("written", "endpoints"), [("203.000.113.012", {"backend1": "203.0.113.12"}), ("203.0.113.300", {})]
)
async def test_addresses_are_read_as_kubernetes_reads_them_and_what_is_none_is_noted(
    fixture: Fixture, written: str, endpoints: dict[str, str]
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
    key, changed = ("backend", "backend1"), [replace(status.ingress[0], ip=written)]
    store[key] = replace(
        store[key], status=replace(store[key].status, load_balancer=replace(status, ingress=changed))
    )
    await fixture.service("backend2")  # so that the source looks again
    await fixture.until(endpoints)
    noted = f"Service backend/backend1: its load balancer's address {written} is none"
    assert (noted in fixture.now.notes) == (not endpoints)


async def test_it_ends_when_it_is_removed(fixture: Fixture) -> None:
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

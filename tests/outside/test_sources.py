"""Sources that a child follows, as the operator sees them. The child's work is done in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServicePort, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import ClusterSource, DnsSource, EndpointSource, SecretKeyReference
from moorage.core.admission import Gate, Ranges, gate_of
from moorage.core.model import Found, Problem
from moorage.discovery.resolver import Server
from moorage.discovery.secrets import ReadSecret, SecretKey
from moorage.discovery.source import Setting, State
from moorage.discovery.sources import FollowedSources
from moorage.outside.following import SourcesWorker
from moorage.outside.link import GRACE_SECONDS
from moorage.outside.sources import RemoteFollower
from moorage.outside.sources_messages import FromSources, SourceState, ToSources
from tests.support.children import ChildHere, Pipe
from tests.support.fake_names import FakeNames

pytestmark = pytest.mark.looptime

KEY = ObjectKey("frontend", "backend")
SECRET = SecretKey("frontend", "cluster-a", "kubeconfig")


class PlayedSecret(ReadSecret):
    def __init__(self) -> None:
        super().__init__(SECRET)
        self.told: list[Callable[[], None]] = []
        self._now: tuple[Secret | None, Problem | None] = None, None

    @property
    def secret(self) -> Secret | None:
        return self._now[0]

    @property
    def problem(self) -> Problem | None:
        return self._now[1]

    def become(self, secret: Secret | None, problem: Problem | None) -> None:
        self._now = secret, problem
        for each in self.told:
            each()

    # --- as Secrets ---

    def take(self, key: SecretKey, on_change: Callable[[], None]) -> ReadSecret:
        assert key == SECRET
        self.told.append(on_change)
        return self

    def give_back(self, key: SecretKey, on_change: Callable[[], None]) -> None:
        self.told.remove(on_change)


class Fixture:
    def __init__(self) -> None:
        self.names = FakeNames()
        self.gate = Gate()
        self.secret = PlayedSecret()
        self.children: list[ChildHere[FromSources]] = []
        self.refuses = 0
        self.told: list[ObjectKey] = []
        self.follower = RemoteFollower(self._start, lambda: self.gate, self.secret, now=lambda: "T")
        self.sources = FollowedSources(self.follower, self.told.append, now=lambda: "T")

    async def _start(self) -> ChildHere[FromSources]:
        if self.refuses:
            self.refuses -= 1
            raise OSError(11, "Resource temporarily unavailable")

        def make(channel: Pipe[ToSources]) -> SourcesWorker:
            return SourcesWorker(channel, self.names, lambda: "T")

        self.children.append(ChildHere(make, ToSources, FromSources))
        return self.children[-1]

    @property
    def there(self) -> SourcesWorker:
        works = self.children[-1].works
        assert isinstance(works, SourcesWorker)
        return works

    @property
    def found(self) -> list[Any]:
        """Of each source the addresses, and the reason of its problem."""
        return [
            (each.endpoints and [one.address for one in each.endpoints], each.problem and each.problem.reason)
            for each in self.sources.resolutions(KEY)
        ]


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    made = Fixture()
    yield made
    await made.sources.close()
    assert made.secret.told == []
    assert all(each.ended for each in made.children)


def dns(name: str = "db.example.com", type: str = "A") -> EndpointSource:
    return EndpointSource(dns=DnsSource(name=name, type=type))


CLUSTER = EndpointSource(
    cluster=ClusterSource(
        kubeconfig_secret_ref=SecretKeyReference(name="cluster-a", key="kubeconfig"), namespace="backend"
    )
)


def external(*sources: EndpointSource, port: int = 80) -> ExternalService:
    return ExternalService(
        metadata=ObjectMeta(name="backend", namespace="frontend"),
        spec=ExternalServiceSpec(ports=[ExternalServicePort(port=port)], endpoints=list(sources)),
    )


def test_all_that_is_found_of_an_endpoint_crosses() -> None:
    found = Found("backend1", "203.0.113.11", 8080, weight=2, priority=1, leaving=True, zone="eu-1a")
    state = SourceState(1, State((found,), None, ()))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=FromSources) == state


async def test_what_a_source_finds_arrives_and_is_told(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1", "203.0.113.2")
    fixture.sources.set(KEY, external(dns()))
    assert fixture.found == [(None, None)]
    await asyncio.sleep(1)
    assert fixture.found == [(["203.0.113.1", "203.0.113.2"], None)]
    assert fixture.told == [KEY]
    [resolution] = fixture.sources.resolutions(KEY)
    assert resolution.endpoints == (
        Found("203-0-113-1", "203.0.113.1"),
        Found("203-0-113-2", "203.0.113.2"),
    )


async def test_a_source_that_is_removed_is_not_followed_any_more(fixture: Fixture) -> None:
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.sources.remove(KEY)
    await asyncio.sleep(1)
    asked = fixture.names.asked.total()
    await asyncio.sleep(1000)
    assert fixture.names.asked.total() == asked


async def test_a_child_that_ends_costs_no_endpoint(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.names.fail("db.example.com")
    fixture.children[0].die()
    await asyncio.sleep(1)
    assert len(fixture.children) == 2
    assert fixture.found == [(["203.0.113.1"], "LookupFailed")]
    fixture.names.put("db.example.com", "203.0.113.2")
    await asyncio.sleep(100)
    assert fixture.found == [(["203.0.113.2"], None)]


async def test_a_new_child_keeps_to_the_addresses_that_the_last_one_chose(fixture: Fixture) -> None:
    fixture.names.put_servers("_db._tcp.example.com", Server(0, 0, 80, "db1.example.com"))
    fixture.names.put("db1.example.com", "203.0.113.9")
    fixture.sources.set(KEY, external(dns("_db._tcp.example.com", "SRV")))
    await asyncio.sleep(1)
    fixture.names.put("db1.example.com", "203.0.113.1", "203.0.113.9")
    fixture.children[0].die()
    await asyncio.sleep(400)
    assert fixture.found == [(["203.0.113.9"], None)]


async def test_while_there_is_no_child_each_source_says_so_and_keeps_its_endpoints(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.told.clear()
    fixture.refuses = 6
    fixture.children[0].die()
    await asyncio.sleep(GRACE_SECONDS + 1)
    assert fixture.found == [(["203.0.113.1"], "Interrupted")]
    assert fixture.told == [KEY]
    await asyncio.sleep(60)
    assert fixture.found == [(["203.0.113.1"], None)]
    assert fixture.told == [KEY, KEY]


async def test_a_source_goes_on_at_another_address_when_it_is_told_that_checks_fail(fixture: Fixture) -> None:
    fixture.names.put_servers("_db._tcp.example.com", Server(0, 0, 80, "db1.example.com"))
    fixture.names.put("db1.example.com", "203.0.113.1", "203.0.113.2")
    fixture.sources.set(KEY, external(dns("_db._tcp.example.com", "SRV")))
    await asyncio.sleep(1)
    [resolution] = fixture.sources.resolutions(KEY)
    assert resolution.endpoints is not None
    [endpoint] = resolution.endpoints
    assert endpoint.address == "203.0.113.1"
    fixture.sources.failing(KEY, {endpoint.name: "203.0.113.1"})
    await asyncio.sleep(100)
    assert fixture.found == [(["203.0.113.2"], None)]
    fixture.sources.failing(KEY, {})
    fixture.children[0].die()
    await asyncio.sleep(100)
    assert fixture.found == [(["203.0.113.2"], None)]


async def test_other_ports_do_not_begin_a_source_anew(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    asked = fixture.names.asked.total()
    fixture.sources.set(KEY, external(dns(), port=81))
    await asyncio.sleep(1)
    assert fixture.names.asked.total() == asked
    assert fixture.found == [(["203.0.113.1"], None)]


async def test_other_ports_reach_the_child(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    told: list[list[ExternalServicePort]] = []
    [followed] = fixture.there._running.values()
    monkeypatch.setattr(followed, "set_ports", told.append)
    fixture.sources.set(KEY, external(dns(), port=81))
    await asyncio.sleep(1)
    assert told == [[ExternalServicePort(port=81)]]


async def test_a_source_that_is_stopped_is_told_of_nothing_any_more(fixture: Fixture) -> None:
    changes: list[str] = []
    setting = Setting(lambda: changes.append("changed"), ("IPv4",), (), {}, lambda: "T")
    fixture.names.put("db.example.com", "203.0.113.1")
    source = fixture.follower.follow("frontend", "db", dns(), setting)
    await asyncio.sleep(1)
    assert changes == ["changed"]
    source.stop()
    fixture.refuses = 6
    fixture.children[0].die()
    await asyncio.sleep(GRACE_SECONDS + 1)
    assert fixture.follower.problem is not None
    assert changes == ["changed"]


async def test_an_operator_that_takes_nothing_is_told_how_things_are_once_it_does(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.children[0].end_of_child.full = True
    fixture.names.put("db.example.com", "203.0.113.2")
    await asyncio.sleep(100)
    assert fixture.found == [(["203.0.113.1"], None)]
    fixture.children[0].end_of_child.full = False
    await asyncio.sleep(2)
    assert fixture.found == [(["203.0.113.2"], None)]


async def test_what_is_followed_at_the_end_needs_no_secret_after_it(fixture: Fixture) -> None:
    fixture.follower.follow("frontend", "cluster", CLUSTER, Setting(lambda: None))
    assert len(fixture.secret.told) == 1
    await fixture.follower.close()
    assert fixture.secret.told == []


async def test_a_child_lets_nothing_through_until_it_knows_the_gate_and_then_what_the_gate_does(
    fixture: Fixture,
) -> None:
    own = {"203.0.113.7": "the address of a pod of this cluster"}
    fixture.gate = gate_of(allow=["127.0.0.1/32"], refuse=["198.51.100.0/24", "2001:db8::/32"], own=own)
    fresh = SourcesWorker(Pipe(asyncio.Queue(), asyncio.Queue(), ToSources), fixture.names)
    assert fresh.gate.refusal("203.0.113.1") == "not known to be outside this cluster yet"
    await fresh.close()
    addresses = ("203.0.113.1", "203.0.113.7", "198.51.100.9", "127.0.0.1", "127.0.0.2", "2001:db8::9", "no address")

    def agree() -> bool:
        return all(fixture.there.gate.refusal(each) == fixture.gate.refusal(each) for each in addresses)

    fixture.follower.gate_changed()
    fixture.follower.addresses_changed(own)
    await asyncio.sleep(1)
    assert agree()
    own["203.0.113.1"] = own.pop("203.0.113.7")
    fixture.follower.addresses_changed(["203.0.113.1", "203.0.113.7"])
    await asyncio.sleep(1)
    assert agree()
    own.update(
        (f"198.18.{number // 250}.{number % 250}", "the address of a pod of this cluster") for number in range(5000)
    )
    fixture.follower.addresses_changed(own)
    await asyncio.sleep(1)
    assert fixture.there.gate.own == own
    fixture.gate = fixture.gate._replace(refused=Ranges())
    fixture.follower.gate_changed()
    await asyncio.sleep(1)
    assert agree()
    fixture.children[-1].die()
    await asyncio.sleep(1)
    assert len(fixture.children) == 2
    assert agree()


async def test_a_secret_is_handed_on_while_a_source_needs_it(fixture: Fixture) -> None:
    fixture.sources.set(KEY, external(CLUSTER))
    await asyncio.sleep(1)
    assert fixture.found == [(None, None)]
    fixture.secret.become(None, Problem("SecretMissing", "Secret frontend/cluster-a does not exist; create it", "T"))
    await asyncio.sleep(1)
    assert fixture.found == [(None, "SecretMissing")]
    meta = ObjectMeta(name="cluster-a", namespace="frontend", uid="1", resource_version="7")
    fixture.secret.become(Secret(metadata=meta, data={"kubeconfig": "bm9uZQ=="}), None)
    await asyncio.sleep(10)
    assert fixture.found == [(None, "KubeconfigRefused")]
    fixture.children[-1].die()
    await asyncio.sleep(10)
    assert fixture.found == [(None, "KubeconfigRefused")]
    fixture.sources.set(KEY, external(CLUSTER, dns()))
    fixture.sources.set(KEY, external(dns()))
    assert fixture.secret.told == []


async def test_a_child_that_is_told_of_another_gate_has_its_connections_looked_at(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.sleep(1)
    seen: list[str | None] = []
    follower = fixture.there.follower
    monkeypatch.setattr(follower, "gate_changed", lambda: seen.append(fixture.there.gate.refusal("203.0.113.1")))
    fixture.gate = gate_of(own={"203.0.113.1": "the address of a pod of this cluster"})
    fixture.follower.addresses_changed(["203.0.113.1"])
    await asyncio.sleep(1)
    fixture.follower.gate_changed()
    await asyncio.sleep(1)
    assert seen == ["the address of a pod of this cluster"] * 2

"""All sources together: what starts, stays, ends and is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    EndpointStatus,
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    ExternalServiceStatus,
)
from moorage.api.sources_v1alpha1 import DnsSource, EndpointSource, HealthCheck, StaticAddress
from moorage.cluster.kubeconfig import Config
from moorage.cluster.reading import Listing
from moorage.core.admission import Gate
from moorage.core.model import Found, Problem, Resolution
from moorage.discovery.loadbalancers import SelectedServices
from moorage.discovery.resolver import Server
from moorage.discovery.share import MAX_QUESTIONS
from moorage.discovery.sources import Sources
from tests.support.fake_names import FakeNames

pytestmark = pytest.mark.looptime

KEY = ObjectKey("frontend", "backend")


class Hanging:
    """An API server that never answers."""

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def watch(self, kind: type[Any], namespace: str | None = None, **request: Any) -> AsyncGenerator[Any, None]:
        raise AssertionError
        yield


class Fixture:
    def __init__(self) -> None:
        self.names = FakeNames()
        self.told: list[ObjectKey] = []
        self._start: float | None = None
        self.sources = Sources(
            Hanging(),
            self.names,
            Gate,
            self.told.append,
            now=self._now,
            jitter=lambda: 0.0,
        )

    def _now(self) -> str:
        """Seconds since this was first asked: the fixture is made on another clock than the test runs on."""
        time = asyncio.get_running_loop().time()
        self._start = time if self._start is None else self._start
        return f"{time - self._start:.0f}"

    @property
    def now(self) -> tuple[Resolution, ...]:
        return self.sources.resolutions(KEY)

    def addresses(self, index: int = 0) -> list[str] | None:
        endpoints = self.now[index].endpoints
        return None if endpoints is None else [each.address for each in endpoints]


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    made = Fixture()
    yield made
    await made.sources.close()


def dns(name: str = "db.example.com", type: str = "A") -> EndpointSource:
    return EndpointSource(dns=DnsSource(name=name, type=type))


def static(*addresses: str) -> EndpointSource:
    return EndpointSource(addresses=[StaticAddress(address=each) for each in addresses])


def external(*sources: EndpointSource, **spec: Any) -> ExternalService:
    return ExternalService(
        metadata=ObjectMeta(name="backend", namespace="frontend"),
        spec=ExternalServiceSpec(ports=[ExternalServicePort(port=80)], endpoints=list(sources), **spec),
    )


async def test_addresses_are_there_at_once(fixture: Fixture) -> None:
    fixture.sources.set(KEY, external(static("203.0.113.1")))
    assert fixture.now == (Resolution("addresses", (Found("203-0-113-1", "203.0.113.1"),)),)


async def test_a_change_is_told_once_and_no_change_not_at_all(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.sources.set(KEY, external(dns()))
    assert fixture.now == (Resolution("dns/db.example.com", None),)
    await asyncio.sleep(100)
    assert fixture.told == [KEY]
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(100)
    assert fixture.told == [KEY]
    fixture.names.put("db.example.com", "203.0.113.2")
    await asyncio.sleep(100)
    assert fixture.told == [KEY, KEY]
    assert fixture.addresses() == ["203.0.113.2"]


async def test_a_source_that_a_new_spec_still_has_goes_on_as_it_was(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1", ttl=300.0)
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.names.fail("db.example.com")
    for changed in (
        external(dns(), health_check=HealthCheck()),
        external(static("203.0.113.9"), dns()),
        external(dns(), session_affinity="ClientIP"),
        replace(external(dns()), metadata=ObjectMeta(name="backend", namespace="frontend", resource_version="7")),
    ):
        fixture.sources.set(KEY, changed)
        index = len(changed.spec.endpoints or ()) - 1
        assert fixture.addresses(index) == ["203.0.113.1"]
    assert fixture.names.asked[("db.example.com", "A")] == 1


async def test_another_name_is_another_source(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.sources.set(KEY, external(dns("other.example.com")))
    assert fixture.addresses() is None
    await asyncio.sleep(100)
    assert fixture.addresses() == []
    asked = fixture.names.asked[("db.example.com", "A")]
    await asyncio.sleep(100)
    assert fixture.names.asked[("db.example.com", "A")] == asked == 1


async def test_other_families_make_srv_targets_be_looked_up_anew(fixture: Fixture) -> None:
    fixture.names.put_servers("_db._tcp.example.com", Server(0, 1, 80, "db1"))
    fixture.names.put("db1", "203.0.113.1")
    fixture.names.put("db1", "2001:db8::1", type="AAAA")
    fixture.sources.set(KEY, external(dns("_db._tcp.example.com", "SRV")))
    await asyncio.sleep(1)
    assert fixture.addresses() == ["203.0.113.1"]
    fixture.sources.set(KEY, external(dns("_db._tcp.example.com", "SRV"), ip_families=["IPv6"]))
    await asyncio.sleep(1)
    assert fixture.addresses() == ["2001:db8::1"]


async def test_problems_name_their_field_and_sources_have_names_of_their_own(fixture: Fixture) -> None:
    fixture.names.fail("db.example.com")
    fixture.names.put("six.example.com", "2001:db8::1", type="AAAA")
    sources = [static("203.0.113.1"), dns(), static("203.0.113.2"), dns("six.example.com", "AAAA"), dns()]
    fixture.sources.set(KEY, external(*sources))
    await asyncio.sleep(0.1)
    assert [each.source for each in fixture.now] == [
        "addresses", "dns/db.example.com", "addresses[2]", "dns/six.example.com", "dns/db.example.com[4]",
    ]  # fmt: skip
    assert fixture.now[1].problem == Problem(
        "LookupFailed", "spec.endpoints[1].dns: db.example.com A: 192.0.2.53 answered SERVFAIL", "0"
    )
    assert fixture.now[4].problem is not None
    assert fixture.names.asked[("db.example.com", "A")] == 1


@pytest.mark.parametrize(
    "source",
    [EndpointSource(), dns(type="MX"), replace(dns(), addresses=[StaticAddress(address="203.0.113.1")])],
)
async def test_what_is_no_source_is_a_problem_and_removes_nothing(fixture: Fixture, source: EndpointSource) -> None:
    fixture.sources.set(KEY, external(source, static("203.0.113.1")))
    assert fixture.now[0].endpoints is None
    assert fixture.now[0].problem == Problem(
        "Invalid", "spec.endpoints[0]: is not a source; give one of addresses, dns and cluster", "0"
    )
    assert fixture.addresses(1) == ["203.0.113.1"]


async def test_a_bug_in_one_source_leaves_the_others_and_what_it_knew(fixture: Fixture) -> None:
    fixture.names.put("db.example.com", "203.0.113.1")
    fixture.names.put("other.example.com", "203.0.113.2")
    fixture.sources.set(KEY, external(dns(), dns("other.example.com")))
    await asyncio.sleep(1)
    fixture.names.fail("db.example.com", error=ZeroDivisionError())
    fixture.names.put("other.example.com", "203.0.113.3")
    await asyncio.sleep(600)
    assert (fixture.addresses(0), fixture.addresses(1)) == (["203.0.113.1"], ["203.0.113.3"])
    assert fixture.now[0].problem == Problem(
        "InternalError",
        "spec.endpoints[0].dns: internal error (ZeroDivisionError): what was known stays; the operator's log says "
        "more",
        "10",
    )
    assert fixture.told == [KEY] * 4  # two answers, the bug, and another answer
    fixture.names.put("db.example.com", "203.0.113.1")
    await asyncio.sleep(400)
    assert fixture.now[0].problem is None
    assert fixture.told == [KEY] * 5


async def test_what_is_removed_is_asked_for_no_more(fixture: Fixture) -> None:
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    fixture.sources.remove(KEY)
    fixture.sources.remove(KEY)
    await asyncio.sleep(100)
    assert fixture.names.asked[("db.example.com", "A")] == 1
    assert fixture.now == ()
    assert fixture.told == [KEY]


async def test_a_namespace_with_many_names_does_not_ask_them_all_at_once(fixture: Fixture) -> None:
    fixture.names.gate.clear()
    for number in range(50):
        fixture.sources.set(ObjectKey("many", f"x{number}"), external(dns(f"db{number}.example.com")))
    fixture.sources.set(KEY, external(dns()))
    await asyncio.sleep(1)
    assert fixture.names.asked.total() == MAX_QUESTIONS + 1
    assert fixture.names.asked[("db.example.com", "A")] == 1
    fixture.names.gate.set()
    await asyncio.sleep(1)
    assert len(fixture.names.asked) == 51


async def test_servers_of_kubeconfigs_are_looked_up_within_the_share_of_their_namespace(fixture: Fixture) -> None:
    def told() -> None:
        pass

    fixture.names.gate.clear()
    taken = [
        SelectedServices(tenant, Config(server=f"https://{tenant}{number}.example.com", token="t"), "backend", None)
        for tenant in ("many", "frontend")
        for number in range(50)
    ]
    for each in taken:
        fixture.sources.follower.clusters.take(each, told)
    await asyncio.sleep(1)
    assert fixture.names.asked.total() == 2 * MAX_QUESTIONS
    for each in taken:
        fixture.sources.follower.clusters.give_back(each, told)
    await asyncio.sleep(1)


async def test_closing_ends_everything(fixture: Fixture) -> None:
    fixture.sources.set(KEY, external(dns(), dns("_x.example.com", "SRV")))
    await asyncio.sleep(1)
    await fixture.sources.close()
    assert len(asyncio.all_tasks()) == 1


async def test_a_source_that_is_new_is_told_at_once_which_endpoints_fail(fixture: Fixture) -> None:
    fixture.names.put_servers("_db._tcp.example.com", Server(0, 1, 80, "db1.example.com"))
    fixture.names.put("db1.example.com", "203.0.113.1", "203.0.113.2")
    service = external(dns("_db._tcp.example.com", "SRV"))
    known = EndpointStatus(
        name="db1-example-com", address="203.0.113.1", source="dns/x", health="Unhealthy", ready=True
    )
    service = replace(service, status=ExternalServiceStatus(endpoints=[known]))
    fixture.sources.set(KEY, external())
    fixture.sources.failing(KEY, {"db1-example-com": "203.0.113.1"})
    fixture.sources.set(KEY, service)
    await asyncio.sleep(1)
    assert fixture.addresses() == ["203.0.113.2"]


async def test_what_fails_of_an_externalservice_that_is_not_followed_is_of_no_interest(fixture: Fixture) -> None:
    fixture.sources.failing(KEY, {"db1": "203.0.113.1"})
    assert fixture.now == ()

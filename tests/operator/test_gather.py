"""What a snapshot is made of, and what is looked after meanwhile."""

from typing import cast

import pytest
from msgspec.structs import replace

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServicePort, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import (
    EndpointSource,
    HealthCheck,
    HttpCheck,
    SecretKeyReference,
    StaticAddress,
    TlsCheck,
)
from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config
from moorage.core.model import Found, Problem
from moorage.operator.gather import Gatherer
from moorage.operator.records import Records
from moorage.operator.world import World
from tests.operator.test_world import world_of
from tests.support.operators import KEY, PlayedProber, PlayedSources

NOW = "2027-01-01T00:00:00Z"
ONE = "203.0.113.1"
CA = SecretKeyReference(name="ca", key="ca.crt")


def xsvc(version: str = "1", **spec: object) -> ExternalService:
    fields = {
        "ports": [ExternalServicePort(port=80)],
        "endpoints": [EndpointSource(addresses=[StaticAddress(address=ONE)])],
        "health_check": HealthCheck(),
        **spec,
    }
    meta = ObjectMeta(name="backend", namespace="default", uid="1", resource_version=version)
    return ExternalService(metadata=meta, spec=ExternalServiceSpec(**fields))  # type: ignore[arg-type]


class Gathered:
    """A gatherer in a world that knows what the test has written."""

    def __init__(self) -> None:
        client = Client(Config(server="http://127.0.0.1:1"))
        self.touched: list[ObjectKey] = []
        self.records = Records()
        self.world: World = world_of(client)
        self.sources = PlayedSources(client, self.touched.append, lambda: NOW)
        self.prober = PlayedProber(lambda key, name, outcome: None, lambda: None)
        self.gatherer = Gatherer(
            self.world, self.sources, self.prober, self.records, self.touched.append, lambda: NOW
        )

    def look(self, obj: ExternalService | None = None) -> ExternalService | None:
        """As the reconciler does, after `obj` has been written."""
        if obj is not None:
            self.world.wrote(obj, made=self.world.xsvcs.get(KEY) is None)
        found = self.gatherer.follow(KEY)
        if found is not None:
            record = self.records.of(KEY)
            self.snapshot = self.gatherer.checked(record, self.gatherer.snapshot(record, found).merge())
        return found


@pytest.fixture
async def gathered() -> Gathered:
    return Gathered()


async def test_its_endpoints_are_checked_and_found_by_their_addresses(gathered: Gathered) -> None:
    assert gathered.look(xsvc()) is not None
    assert set(gathered.prober.checked[KEY][0]) == {"203-0-113-1"}
    assert gathered.records.users([ONE]) == {KEY}
    assert {name: each.health for name, each in gathered.snapshot.verdicts.items()} == {"203-0-113-1": "Unknown"}
    assert gathered.records.of(KEY).sources == 1


async def test_what_is_gone_leaves_nothing_behind(gathered: Gathered) -> None:
    gathered.look(xsvc(health_check=HealthCheck(http=HttpCheck(tls=TlsCheck(ca_secret_ref=CA)))))
    assert gathered.sources.secrets.count == 1
    gathered.world.gone(ExternalService, KEY)
    assert gathered.look() is None
    assert (gathered.prober.checked, gathered.sources.followed, gathered.sources.secrets.count) == ({}, {}, 0)
    assert gathered.records.get(KEY) is None
    assert gathered.records.users([ONE]) == set()


async def test_a_secret_is_watched_for_as_long_as_its_check_is_there(gathered: Gathered) -> None:
    with_secret = HealthCheck(http=HttpCheck(tls=TlsCheck(ca_secret_ref=CA)))
    for version, (check, watched) in enumerate(
        [(with_secret, 1), (None, 0), (with_secret, 1), (HealthCheck(), 0)], 1
    ):
        gathered.look(xsvc(str(version), health_check=check))
        assert gathered.sources.secrets.count == watched


async def test_what_is_suspended_keeps_its_verdicts_and_is_not_looked_after(gathered: Gathered) -> None:
    gathered.look(xsvc())
    gathered.look(xsvc("2", suspend=True))
    assert (gathered.prober.checked, gathered.sources.followed) == ({}, {})
    record = gathered.records.of(KEY)
    assert set(record.health.verdicts) == {"203-0-113-1"}
    assert (record.sources, gathered.records.users([ONE])) == (0, set())


async def test_a_check_that_cannot_be_made_is_not_made_and_counts_as_a_failing_source(gathered: Gathered) -> None:
    gathered.look(xsvc())
    gathered.look(xsvc("2", health_check=HealthCheck(http=HttpCheck(path="no path"))))
    assert gathered.prober.checked == {}
    problem = cast("Problem", gathered.snapshot.check_problem)
    assert (problem.reason, problem.since) == ("InvalidCheck", NOW)
    record = gathered.records.of(KEY)
    assert (record.sources, record.failing_sources) == (2, 1)
    made = xsvc("3", health_check=HealthCheck(http=HttpCheck(path="no path")))
    gathered.look(replace(made, metadata=replace(made.metadata, creation_timestamp="2026-01-01T00:00:00Z")))
    assert cast("Problem", gathered.snapshot.check_problem).since == "2026-01-01T00:00:00Z", (
        "also for the next leader"
    )


async def test_sources_are_counted_with_those_that_fail(gathered: Gathered) -> None:
    gathered.look(xsvc())
    gathered.sources.say(KEY, Found("one", ONE), problem=Problem("LookupFailed", "SERVFAIL", NOW))
    gathered.look()
    record = gathered.records.of(KEY)
    assert (record.sources, record.failing_sources) == (1, 1)


async def test_slices_that_are_in_the_way_are_seen_once(gathered: Gathered) -> None:
    gathered.look(xsvc())
    theirs = EndpointSlice(metadata=ObjectMeta(name="backend-1", namespace="default", uid="9"), address_type="IPv4")
    gathered.world.wrote(theirs, made=True)
    assert list(gathered.snapshot.slices) == []
    gathered.records.of(KEY).obstacles.update({theirs.metadata.key, ObjectKey("default", "gone")})
    gathered.look()
    assert list(gathered.snapshot.slices) == [theirs]
    ours = replace(theirs.metadata, labels={"kubernetes.io/service-name": "backend"}, resource_version="2")
    gathered.world.wrote(replace(theirs, metadata=ours), made=False)
    gathered.look()
    assert [each.metadata.name for each in gathered.snapshot.slices] == ["backend-1"]

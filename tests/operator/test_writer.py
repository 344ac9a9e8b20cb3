"""Writes: checked for the lead right before each, sorted by what a failure means, and counted."""

from collections.abc import AsyncIterator

import pytest

from moorage.api.core_v1 import Service, ServicePort, ServiceSpec
from moorage.api.meta import Condition, Object, ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService, ExternalServiceSpec, ExternalServiceStatus
from moorage.cluster.client import Client
from moorage.cluster.election import NotLeadingError
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.core.model import Create, Delete, Patch
from moorage.operator.metrics import Metrics
from moorage.operator.writer import RefusedError, StaleError, TakenError, Writer, changes
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.operators import xsvc

SERVICE = Service(
    metadata=ObjectMeta(name="backend", namespace="default"), spec=ServiceSpec(ports=[ServicePort(port=80)])
)


class Fixture:
    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server, self.client = server, client
        self.leads = True
        self.wrote: list[tuple[Object, bool]] = []
        self.gone: list[tuple[type[Object], ObjectKey]] = []
        self.metrics = Metrics()
        self.writer = Writer(
            client,
            self.metrics,
            self._check,
            lambda obj, made: self.wrote.append((obj, made)),
            lambda kind, key: self.gone.append((kind, key)),
        )

    def _check(self) -> None:
        if not self.leads:
            raise NotLeadingError("not leading any more")

    def counted(self, kind: str, verb: str, result: str) -> float:
        return float(self.metrics.writes.labels(kind, verb, result)._value.get())


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with api_server() as server, Client(server.config) as client:
        yield Fixture(server, client)


def patch(service: Service, **change: object) -> Patch:
    meta = service.metadata
    body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "spec": change}
    return Patch(Service, "default", meta.name, body)


async def test_answers_are_passed_on_and_counted(fixture: Fixture) -> None:
    await fixture.writer.do(Create(SERVICE))
    [(created, made)] = fixture.wrote
    assert made
    assert isinstance(created, Service)
    assert created.spec.cluster_ip
    await fixture.writer.do(patch(created, sessionAffinity="ClientIP"))
    changed, made = fixture.wrote[-1]
    assert not made
    uid, version = changed.metadata.uid or "", changed.metadata.resource_version or ""
    await fixture.writer.do(Delete(Service, "default", "backend", uid, version))
    for verb in ("create", "patch", "delete"):
        assert fixture.counted("Service", verb, "ok") == 1


async def test_nothing_is_sent_without_the_lead(fixture: Fixture) -> None:
    fixture.leads = False
    before = fixture.server.store.version
    with pytest.raises(NotLeadingError):
        await fixture.writer.do(Create(SERVICE))
    xsvc = ExternalService(metadata=ObjectMeta(name="backend", namespace="default"))
    with pytest.raises(NotLeadingError):
        await fixture.writer.status(xsvc, ExternalServiceStatus(healthy="0/0"))
    assert fixture.server.store.version == before


async def test_a_name_that_is_taken_and_a_state_that_has_passed_are_no_failures(fixture: Fixture) -> None:
    created = await fixture.client.create(SERVICE)
    with pytest.raises(TakenError):
        await fixture.writer.do(Create(SERVICE))
    await fixture.client.patch(Service, "default", "backend", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(StaleError):
        await fixture.writer.do(patch(created, sessionAffinity="ClientIP"))
    uid, version = created.metadata.uid or "", created.metadata.resource_version or ""
    with pytest.raises(StaleError):
        await fixture.writer.do(Delete(Service, "default", "backend", uid, version))
    assert (fixture.wrote, fixture.gone) == ([], [])
    assert fixture.counted("Service", "patch", "conflict") == 1


async def test_an_object_that_was_made_again_is_another_one(fixture: Fixture) -> None:
    created = await fixture.client.create(SERVICE)
    await fixture.client.delete(Service, "default", "backend")
    with pytest.raises(StaleError):
        await fixture.writer.do(patch(created, sessionAffinity="ClientIP"))
    assert fixture.gone == [(Service, ("default", "backend"))]
    again = await fixture.client.create(SERVICE)
    body = {"metadata": {"uid": created.metadata.uid}, "spec": {"sessionAffinity": "ClientIP"}}
    with pytest.raises(StaleError):
        await fixture.writer.do(Patch(Service, "default", "backend", body))
    assert await fixture.client.get(Service, "default", "backend") == again


async def test_to_delete_what_is_gone_is_done(fixture: Fixture) -> None:
    await fixture.writer.do(Delete(Service, "default", "backend", "uid", "7"))


@pytest.mark.parametrize(("code", "error"), [(422, RefusedError), (403, RefusedError), (500, ApiError)])
async def test_what_would_be_refused_again_is_told_from_what_should_be_tried_again(
    fixture: Fixture, code: int, error: type[Exception]
) -> None:
    fixture.server.faults.fail(1, code=code, method="POST")
    with pytest.raises(error):
        await fixture.writer.do(Create(SERVICE))
    assert fixture.counted("Service", "create", "error") == 1


async def test_that_a_namespace_is_gone_says_nothing_of_what_should_be_made_in_it(fixture: Fixture) -> None:
    fixture.server.faults.fail(1, code=404, method="POST")
    with pytest.raises(ApiError):
        await fixture.writer.do(Create(SERVICE))
    assert fixture.gone == []


async def test_a_write_without_an_answer_is_counted_as_an_error(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreached(*_: object, **__: object) -> Object:
        raise UnreachableError("cannot connect")

    created = await fixture.client.create(SERVICE)
    monkeypatch.setattr(fixture.client, "patch", unreached)
    with pytest.raises(UnreachableError):
        await fixture.writer.do(patch(created, sessionAffinity="ClientIP"))
    xsvc = ExternalService(metadata=ObjectMeta(name="backend", namespace="default"))
    with pytest.raises(UnreachableError):
        await fixture.writer.status(xsvc, ExternalServiceStatus(healthy="0/0"))
    assert fixture.counted("Service", "patch", "error") == 1
    assert fixture.counted("ExternalService", "status", "error") == 1


def test_a_status_patch_says_only_what_differs_and_takes_away_what_goes() -> None:
    endpoint = EndpointStatus(name="a", address="203.0.113.1", source="addresses", health="Unchecked", ready=True)
    condition = Condition(type="Ready", status="True")
    old = ExternalServiceStatus(observed_generation=1, conditions=[condition], endpoints=[endpoint], healthy="-/1")
    new = ExternalServiceStatus(observed_generation=1, conditions=[condition], healthy="0/0")
    assert changes(old, new) == {"endpoints": None, "healthy": "0/0"}
    assert changes(old, old) == {}


async def test_a_status_of_another_state_is_not_overwritten(fixture: Fixture) -> None:
    await fixture.client.apply(xsvc("backend", "203.0.113.1"), field_manager="test")
    read = await fixture.client.get(ExternalService, "default", "backend")
    written = await fixture.writer.status(read, ExternalServiceStatus(observed_generation=1, healthy="1/1"))
    assert written.status.healthy == "1/1"
    assert fixture.wrote == [(written, False)]
    with pytest.raises(StaleError):
        await fixture.writer.status(read, ExternalServiceStatus(observed_generation=1, healthy="0/1"))
    assert fixture.gone == []
    assert [fixture.counted("ExternalService", "status", result) for result in ("ok", "conflict", "error")] == [
        1,
        1,
        0,
    ]


async def test_a_status_of_what_is_gone_is_no_failure_and_it_is_known_to_be_gone(fixture: Fixture) -> None:
    meta = ObjectMeta(name="backend", namespace="default", uid="1")
    gone = ExternalService(metadata=meta, spec=ExternalServiceSpec(ports=[]))
    with pytest.raises(StaleError):
        await fixture.writer.status(gone, ExternalServiceStatus(observed_generation=1))
    assert fixture.gone == [(ExternalService, ObjectKey("default", "backend"))]
    assert fixture.counted("ExternalService", "status", "conflict") == 1

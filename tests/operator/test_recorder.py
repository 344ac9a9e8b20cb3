"""Events: written once, counted up when they say the same again, and never too many of one object."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from moorage.api.core_v1 import Event
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import Client
from moorage.core.model import Happening
from moorage.operator.recorder import Recorder
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.eventually import eventually

XSVC = ExternalService(metadata=ObjectMeta(name="backend", namespace="default", uid="1", resource_version="7"))
SICK = Happening("Warning", "EndpointUnhealthy", "endpoint backend1 (203.0.113.1:80): connection refused")
WELL = Happening("Normal", "EndpointHealthy", "endpoint backend1 (203.0.113.1:80) is healthy")


class Fixture:
    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.may_write = True

    @asynccontextmanager
    async def recorder(self) -> AsyncIterator[Recorder]:
        made = Recorder(self.client, "me", lambda: "2027-01-01T00:00:00Z", lambda: self.may_write)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def events(self) -> dict[str, int | None]:
        return {str(event.reason): event.count for event in (await self.client.list(Event, "default")).items}

    async def until(self, wanted: dict[str, int | None]) -> None:
        async def condition() -> bool:
            return await self.events() == wanted

        await eventually(condition)


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with api_server() as server, Client(server.config) as client:
        yield Fixture(server, client)


async def test_what_is_said_again_is_counted_up_also_by_the_next_leader(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        for happening in (SICK, WELL, SICK):
            recorder.record(XSVC, happening)
        await fixture.until({"EndpointUnhealthy": 2, "EndpointHealthy": 1})
    async with fixture.recorder() as recorder:
        recorder.record(XSVC, SICK)
        await fixture.until({"EndpointUnhealthy": 3, "EndpointHealthy": 1})
    [event] = [one for one in (await fixture.client.list(Event, "default")).items if one.type == "Warning"]
    about = event.involved_object
    assert (about.kind, about.namespace, about.name, about.uid) == ("ExternalService", "default", "backend", "1")
    assert event.message == SICK.message
    assert event.reporting_component == "moorage-operator"


async def test_an_event_that_has_expired_is_written_anew(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        recorder.record(XSVC, SICK)
        await fixture.until({"EndpointUnhealthy": 1})
        [event] = (await fixture.client.list(Event, "default")).items
        await fixture.client.delete(Event, "default", event.metadata.name)
        recorder.record(XSVC, SICK)
        await fixture.until({"EndpointUnhealthy": 1})


async def test_an_object_that_has_much_to_say_is_cut_short_and_others_are_not(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        for number in range(Recorder.BURST + 10):
            recorder.record(XSVC, Happening("Warning", "Flapping", f"time {number}"))
        other = ExternalService(metadata=ObjectMeta(name="other", namespace="default", uid="2"))
        recorder.record(other, WELL)
        await fixture.until({"Flapping": 1, "EndpointHealthy": 1})
    assert len((await fixture.client.list(Event, "default")).items) == Recorder.BURST + 1


async def test_an_event_that_is_refused_is_lost_and_the_next_is_written(fixture: Fixture) -> None:
    fixture.server.faults.fail(1, code=500, method="POST")
    async with fixture.recorder() as recorder:
        recorder.record(XSVC, SICK)
        recorder.record(XSVC, WELL)
        await fixture.until({"EndpointHealthy": 1})


async def test_who_does_not_lead_any_more_writes_none(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        fixture.may_write = False
        recorder.record(XSVC, SICK)

        async def taken() -> bool:
            return recorder.waiting == 0

        await eventually(taken)
        fixture.may_write = True
        recorder.record(XSVC, WELL)
        await fixture.until({"EndpointHealthy": 1})

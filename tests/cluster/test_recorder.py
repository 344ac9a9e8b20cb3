"""Events: written once, counted up when they say the same again, and never too many of one object."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import Event, Node, Service
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.cluster.recorder import Recorder, reference_to
from testing.beside import beside
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server

BACKEND = Service(metadata=ObjectMeta(name="backend", namespace="default", uid="1", resource_version="7"))
OTHER = Service(metadata=ObjectMeta(name="other", namespace="default", uid="2"))
SICK = ("Warning", "EndpointUnhealthy", "endpoint backend1 (203.0.113.1:80): connection refused")
WELL = ("Normal", "EndpointHealthy", "endpoint backend1 (203.0.113.1:80) is healthy")


class Fixture:
    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.may_write = True

    @asynccontextmanager
    async def recorder(self) -> AsyncIterator[Recorder]:
        made = Recorder(
            self.client,
            "tests",
            host="me",
            now=lambda: "2027-01-01T00:00:00Z",
            may_write=lambda: self.may_write,
        )
        async with beside(made.run()):
            yield made

    async def events(self) -> list[Event]:
        return (await self.client.list(Event, "default")).items

    async def until(self, wanted: dict[str, int | None]) -> None:
        async def condition() -> bool:
            return {str(event.reason): event.count for event in await self.events()} == wanted

        await eventually(condition)


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with api_server() as server, Client(server.config) as client:
        yield Fixture(server, client)


async def test_what_is_said_again_is_counted_up_also_by_the_next_process(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        for said in (SICK, WELL, SICK, SICK):
            recorder.record(BACKEND, *said)
        await fixture.until({"EndpointUnhealthy": 3, "EndpointHealthy": 1})
    async with fixture.recorder() as recorder:
        recorder.record(BACKEND, *SICK)
        recorder.record(BACKEND, *SICK)
        await fixture.until({"EndpointUnhealthy": 5, "EndpointHealthy": 1})
    [event] = [one for one in await fixture.events() if one.type == "Warning"]
    about = event.involved_object
    assert (about.api_version, about.kind, about.namespace, about.name, about.uid) == (
        "v1",
        "Service",
        "default",
        "backend",
        "1",
    )
    assert event.message == SICK[2]
    assert event.reporting_component == "tests"
    assert event.source == {"component": "tests", "host": "me"}
    assert event.last_timestamp == "2027-01-01T00:00:00Z"


async def test_an_object_without_namespace_has_its_events_in_default(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        recorder.record(Node(metadata=ObjectMeta(name="node-1", uid="n")), *WELL)
        await fixture.until({"EndpointHealthy": 1})


async def test_an_object_of_which_only_a_reference_is_known_has_events_too(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        recorder.record(reference_to(BACKEND), *SICK)
        recorder.record(BACKEND, *SICK)
        await fixture.until({"EndpointUnhealthy": 2})
    [event] = await fixture.events()
    assert (event.involved_object.kind, event.involved_object.uid) == ("Service", "1")


async def test_an_object_that_was_made_again_has_events_of_its_own(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        recorder.record(BACKEND, *SICK)
        recorder.record(replace(BACKEND, metadata=replace(BACKEND.metadata, uid="9")), *SICK)

        async def both() -> bool:
            return len(await fixture.events()) == 2

        await eventually(both)
    assert {event.involved_object.uid: event.count for event in await fixture.events()} == {"1": 1, "9": 1}


async def test_an_event_that_has_expired_is_written_anew(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        recorder.record(BACKEND, *SICK)
        await fixture.until({"EndpointUnhealthy": 1})
        [event] = await fixture.events()
        await fixture.client.delete(Event, "default", event.metadata.name)
        await fixture.until({})
        recorder.record(BACKEND, *SICK)
        await fixture.until({"EndpointUnhealthy": 1})


async def test_many_messages_of_one_reason_share_an_event_and_then_there_are_no_more(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        for number in range(Recorder.BURST_WRITES + 10):
            recorder.record(BACKEND, "Warning", "Flapping", f"time {number}")
        recorder.record(OTHER, *WELL)

        async def told() -> bool:
            return any(event.reason == WELL[1] for event in await fixture.events())

        await eventually(told)
    counts = {str(event.message): event.count for event in await fixture.events() if event.reason == "Flapping"}
    alone = {f"time {number}": 1 for number in range(Recorder.MAX_SIMILAR - 1)}
    combined = Recorder.BURST_WRITES - len(alone)
    assert counts == alone | {f"(combined from similar events): time {Recorder.BURST_WRITES - 1}": combined}


async def test_an_event_that_is_refused_is_lost_and_the_next_is_written(fixture: Fixture) -> None:
    fixture.server.faults.fail(1, code=500, method="POST")
    async with fixture.recorder() as recorder:
        recorder.record(BACKEND, *SICK)
        recorder.record(BACKEND, *WELL)
        await fixture.until({"EndpointHealthy": 1})


async def test_whoever_may_not_write_any_more_writes_none(fixture: Fixture) -> None:
    async with fixture.recorder() as recorder:
        fixture.may_write = False
        recorder.record(BACKEND, *SICK)

        async def taken() -> bool:
            return recorder.waiting == 0

        await eventually(taken)
        fixture.may_write = True
        recorder.record(BACKEND, *WELL)
        await fixture.until({"EndpointHealthy": 1})


class Memory:
    """A client that takes all Events at once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def get(self, kind: type[Event], namespace: str | None, name: str) -> Event:
        raise AssertionError("nothing else writes here")

    async def create(self, obj: Event) -> Event:
        self.counts[str(obj.message)] += 1
        return obj

    async def patch(self, kind: type[Event], namespace: str | None, name: str, body: object) -> Event:
        assert isinstance(body, dict)
        self.counts[body["message"]] += 1
        return Event()


@pytest.mark.looptime
async def test_after_a_pause_each_message_has_its_own_event_again_and_the_budget_fills_up() -> None:
    memory = Memory()
    recorder = Recorder(memory, "tests")
    task = asyncio.create_task(recorder.run())
    for number in range(100):
        recorder.record(BACKEND, "Warning", "Flapping", f"time {number}")
    await asyncio.sleep(1)
    assert memory.counts.total() == Recorder.BURST_WRITES
    await asyncio.sleep(3 * Recorder.REFILL_SECONDS)
    for number in range(10):
        recorder.record(BACKEND, "Warning", "Flapping", f"later {number}")
    await asyncio.sleep(1)
    assert [said for said in memory.counts if "later" in said] == ["later 0", "later 1", "later 2"]
    task.cancel()


@pytest.mark.looptime
async def test_recording_never_waits_and_drops_what_is_too_much() -> None:
    recorder = Recorder(Memory(), "tests")
    for number in range(Recorder.MAX_WAITING + 5):
        recorder.record(BACKEND, "Normal", "Often", f"time {number}")
    assert recorder.waiting == Recorder.MAX_WAITING

"""When an ExternalService is looked at again, how what came of it is counted, and what a mistake costs."""

import asyncio
import threading
from collections import Counter
from typing import cast

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceStatus
from moorage.api.sources_v1alpha1 import DnsSource, EndpointSource, StaticAddress
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.core.decide import decide
from moorage.core.health import Outcome
from moorage.core.model import Decision, Found, Problem
from moorage.core.snapshot import Snapshot
from moorage.errors import MoorageError
from moorage.operator import reconcile, records
from moorage.operator.apart import MIN_ENDPOINTS, Apart
from moorage.operator.groups import Groups
from moorage.operator.metrics import Metrics
from moorage.operator.publish import Publisher
from moorage.operator.reconcile import SETTLING_SECONDS, Reconciler
from moorage.operator.records import Record
from moorage.operator.writer import RefusedError, StaleError
from tests.operator.test_gather import NOW, ONE, Gathered, xsvc
from tests.support.operators import KEY

UNREACHED = UnreachableError("cannot connect")
REFUSED = RefusedError("Service default/backend", ApiError(403, "Forbidden", "no"))
FAILED = Problem("LookupFailed", "SERVFAIL", NOW)
DNS = EndpointSource(dns=DnsSource(name="db.example.com"))


class Published:
    """In place of a publisher: says that something was written, after some seconds, or raises what is to go wrong."""

    def __init__(self) -> None:
        self.count = 0
        self.said: list[ObjectKey] = []
        """Of which it was said that nothing could be decided."""
        self.changes = True
        self.takes_seconds = 0.0
        self.wrong: list[Exception] = []
        self.failures = self

    async def publish(self, record: Record, xsvc: ExternalService, decision: Decision) -> bool:
        await asyncio.sleep(self.takes_seconds)
        if self.wrong:
            raise self.wrong.pop(0)
        self.count += 1
        return self.changes

    async def failed(self, record: Record, xsvc: ExternalService) -> None:
        self.said.append(record.key)
        if self.wrong:
            raise self.wrong.pop(0)


class NoGroups:
    """Of no ExternalService here are the clients moored."""

    def withdraw(self, key: ObjectKey) -> None:
        pass

    def moored(self, key: ObjectKey) -> None:
        pass


class Loop:
    """A reconciler, in a world that knows what the test has written."""

    def __init__(self, obj: ExternalService | None = None) -> None:
        self.gathered = Gathered()
        self.records = self.gathered.records
        self.published = Published()
        self.metrics = Metrics()
        self.apart = Apart()
        self.reconciler = Reconciler(
            self.gathered.world,
            self.gathered.gatherer,
            cast("Publisher", self.published),
            self.records,
            cast("Groups", NoGroups()),
            self.apart,
            self.metrics,
        )
        if obj is not None:
            self.wrote(obj)

    def wrote(self, obj: ExternalService) -> None:
        world = self.gathered.world
        world.wrote(obj, made=world.xsvcs.get(obj.metadata.key) is None)

    async def look(self, key: ObjectKey = KEY) -> float | None:
        return await self.reconciler(key)

    async def until_it_rests(self) -> float:
        """Look again and again, until that is put off. Returns for how many seconds."""
        for _ in range(100):
            if (rest := await self.look()) is not None:
                return rest
        raise AssertionError("it never rests")

    def results(self) -> Counter[str]:
        """How many looks have come to what."""
        [metric] = self.metrics.reconciles.collect()
        samples = [each for each in metric.samples if each.name.endswith("_total")]
        return Counter({each.labels["result"]: int(each.value) for each in samples})


# --- a new one is left alone for a moment --------------------------------------------------------------------------


@pytest.mark.looptime
async def test_a_new_one_is_not_written_before_its_first_checks_unless_they_take_long() -> None:
    loop = Loop(xsvc())
    wait = await loop.look()
    assert wait is not None
    await asyncio.sleep(wait / 4)
    again = await loop.look()
    assert again is not None
    assert again == pytest.approx(wait * 3 / 4), "from when it was seen first, however often it is looked at"
    assert (loop.published.count, loop.results()) == (0, {"unchanged": 2})
    await asyncio.sleep(again)
    assert await loop.look() is None
    assert (loop.published.count, loop.results()) == (1, {"unchanged": 2, "changed": 1})


@pytest.mark.looptime
async def test_a_new_one_whose_checks_have_all_come_back_is_written_at_once() -> None:
    sources = [EndpointSource(addresses=[StaticAddress(address=ONE), StaticAddress(address="203.0.113.2")])]
    loop = Loop(xsvc(endpoints=sources))
    assert await loop.look() is not None
    health = loop.records.of(KEY).health
    health.observe("203-0-113-1", Outcome(True), NOW)
    assert await loop.look() is not None, "one is still to come back"
    health.observe("203-0-113-2", Outcome(True), NOW)
    assert await loop.look() is None
    assert loop.published.count == 1


@pytest.mark.looptime
async def test_a_new_one_whose_sources_are_being_asked_waits_for_them_and_not_for_one_that_has_failed() -> None:
    loop = Loop(xsvc(endpoints=[EndpointSource(addresses=[StaticAddress(address=ONE)]), DNS], health_check=None))
    assert await loop.look() == SETTLING_SECONDS
    loop.gathered.sources.say(KEY, silent=True, problem=FAILED)
    assert await loop.look() is None
    loop = Loop(xsvc(endpoints=[DNS], health_check=None))
    assert await loop.look() == SETTLING_SECONDS
    loop.gathered.sources.say(KEY, Found("one", ONE))
    assert await loop.look() is None


@pytest.mark.looptime
@pytest.mark.parametrize(
    "obj",
    [
        replace(xsvc(), status=ExternalServiceStatus(observed_generation=1)),
        xsvc(suspend=True),
        xsvc(health_check=None),
    ],
)
async def test_what_is_not_new_or_is_suspended_or_has_all_it_needs_is_written_at_once(obj: ExternalService) -> None:
    loop = Loop(obj)
    assert await loop.look() is None
    assert loop.published.count == 1


# --- each has its share of the time --------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_a_change_counts_for_a_second_at_most_however_long_it_takes() -> None:
    loop = Loop(xsvc(health_check=None))
    loop.published.takes_seconds = 2.0
    rest = await loop.until_it_rests()
    assert loop.published.count == records.BURST_SECONDS
    await asyncio.sleep(rest)
    assert await loop.look() is None


@pytest.mark.looptime
async def test_a_quick_change_counts_for_as_long_as_it_took() -> None:
    loop = Loop(xsvc(health_check=None))
    loop.published.takes_seconds = 0.1
    rest = await loop.until_it_rests()
    assert loop.published.count >= records.BURST_SECONDS / 0.1 / 2
    assert 0 < rest < 1, "little is missing at first"


@pytest.mark.looptime
async def test_what_changes_nothing_is_looked_at_as_often_as_need_be() -> None:
    loop = Loop(xsvc(health_check=None))
    loop.published.changes, loop.published.takes_seconds = False, 2.0
    for _ in range(10):
        assert await loop.look() is None
    assert loop.published.count == 10


# --- what came of it -----------------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_looks_are_counted_by_what_came_of_them_with_the_time_they_took() -> None:
    loop = Loop()
    assert await loop.look(ObjectKey("default", "gone")) is None
    loop.wrote(xsvc(health_check=None))
    loop.published.takes_seconds = 3.0
    assert await loop.look() is None
    loop.published.wrong = [StaleError("409"), UNREACHED, REFUSED, MoorageError("500")]
    assert await loop.look() is not None
    assert await loop.look() is not None
    for words in ("no", "500"):
        with pytest.raises(MoorageError, match=words):
            await loop.look()
    assert loop.results() == {"unchanged": 1, "changed": 1, "conflict": 1, "error": 3}
    assert "moorage_reconcile_seconds_sum 15.0" in loop.metrics.text().decode()
    assert loop.published.said == []


@pytest.mark.looptime
async def test_after_conflicts_it_is_looked_at_again_ever_later_and_soon_again_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("moorage.operator.reconcile.random.random", lambda: 0.0)
    loop = Loop(xsvc(health_check=None))
    waits = []
    for _ in range(2):
        loop.published.wrong = [StaleError("409")] * 3
        waits.append([await loop.look() for _ in range(4)])
    assert waits[0] == waits[1]
    first, second, third, done = waits[0]
    assert first is not None
    assert (second, third, done) == (2 * first, 4 * first, None)


@pytest.mark.looptime
async def test_that_the_api_server_cannot_be_reached_is_said_once_however_many_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("moorage.operator.reconcile.random.random", lambda: 0.0)
    loop = Loop(xsvc(health_check=None))
    other = xsvc(health_check=None)
    other = replace(other, metadata=replace(other.metadata, name="other"))

    async def fails(key: ObjectKey) -> float:
        loop.published.wrong.append(UNREACHED)
        wait = await loop.look(key)
        assert wait is not None
        return wait

    with capture_logs() as logs:
        first, second = await fails(KEY), await fails(KEY)
        assert second == 2 * first
        loop.wrote(other)
        assert await fails(other.metadata.key) == first
        said = [each["event"] for each in logs if each["log_level"] == "warning"]
        assert said == ["cannot write; endpoints stay as they are"]
        for key in (KEY, other.metadata.key):
            assert await loop.look(key) is None
        assert await fails(KEY) == first
        said = [each["event"] for each in logs if each["log_level"] == "warning"]
        assert len(said) == 2


# --- mistakes of ours ----------------------------------------------------------------------------------------------


def mistaken(snapshot: Snapshot) -> Decision:
    raise KeyError("nobody thought of this")


async def test_a_mistake_is_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "decide", mistaken)
    loop = Loop(xsvc(health_check=None))
    with pytest.raises(KeyError):
        await loop.look()
    assert loop.published.said == [KEY]
    assert loop.results() == {"error": 1}
    assert "moorage_failed_decisions_total 1.0" in loop.metrics.text().decode()


@pytest.mark.parametrize("wrong", [MoorageError("500"), StaleError("409"), REFUSED, TypeError("another mistake")])
async def test_a_mistake_that_cannot_be_said_is_that_mistake_all_the_same(
    monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    monkeypatch.setattr(reconcile, "decide", mistaken)
    loop = Loop(xsvc(health_check=None))
    loop.published.wrong.append(wrong)
    with pytest.raises(KeyError):
        await loop.look()


async def test_of_a_mistake_over_one_that_is_suspended_or_gone_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile, "decide", mistaken)
    loop = Loop(xsvc(suspend=True))
    with pytest.raises(KeyError):
        await loop.look()
    loop = Loop(xsvc(health_check=None))

    def goes(snapshot: Snapshot) -> Decision:
        loop.gathered.world.gone(ExternalService, KEY)
        return mistaken(snapshot)

    monkeypatch.setattr(reconcile, "decide", goes)
    with pytest.raises(KeyError):
        await loop.look()
    assert loop.published.said == []


# --- large ones ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [MIN_ENDPOINTS - 1, MIN_ENDPOINTS])
async def test_a_decision_about_many_endpoints_does_not_hold_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    threads: list[threading.Thread] = []

    def noted(snapshot: Snapshot) -> Decision:
        threads.append(threading.current_thread())
        return decide(snapshot)

    monkeypatch.setattr(reconcile, "decide", noted)
    loop = Loop(xsvc(health_check=None))
    loop.gathered.sources.say(KEY, *(Found(f"b{number}", f"203.0.113.{number}") for number in range(1, count + 1)))
    assert await loop.look() is None
    loop.apart.close()
    [thread] = threads
    assert (thread is threading.current_thread()) == (count < MIN_ENDPOINTS)

"""Writes of Moorings: several at once, and one that fails does not end the others."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.cluster.reading import Unreadable
from moorage.core.model import Create, Delete, Patch, Write
from moorage.operator.mooring_writes import MAX_IN_FLIGHT, MAX_REFUSALS, Attempt, MooringWriter, name_of
from moorage.operator.refusals import Refusals
from moorage.operator.writer import RefusedError, StaleError, TakenError

GROUP = ObjectKey("default", "backend")
QUOTA = "exceeded quota: few, requested: 1, used: 2, limited: 2"


def mooring(name: str, client: str | None = None, group: str = "backend") -> Mooring:
    return Mooring(
        metadata=ObjectMeta(name=name, namespace="default", uid=name, resource_version="1"),
        spec=MooringSpec(group=group, client=MooringClient(kind="Pod", name=client or name), endpoint="one"),
    )


def creations(number: int) -> list[Write]:
    return [Create(mooring(f"m-{each:02}")) for each in range(number)]


class Played:
    """A writer and what there is: `errors` has what happens to which Mooring, `hold` keeps all under way."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.tried: list[str] = []
        self.under_way = self.most = 0
        self.free = asyncio.Event()
        self.free.set()
        self.gone_ones: list[ObjectKey] = []
        self.known: dict[ObjectKey, Mooring] = {}
        self.bad: dict[ObjectKey, Unreadable] = {}
        self.seconds_each = 0.0

    async def do(self, write: Write) -> None:
        name = name_of(write)
        self.tried.append(name)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.seconds_each)
        await self.free.wait()
        self.under_way -= 1
        if name in self.errors:
            raise self.errors[name]

    def writing(self, key: ObjectKey) -> AbstractContextManager[None]:
        return nullcontext()

    def gone(self, key: ObjectKey) -> None:
        self.gone_ones.append(key)

    def mooring(self, key: ObjectKey) -> Mooring | None:
        return self.known.get(key)

    def unreadable(self, key: ObjectKey) -> Unreadable | None:
        return self.bad.get(key)


class Fixture:
    def __init__(self) -> None:
        self.played = Played()
        self.refusals = Refusals(jitter=lambda: 0.0)
        played: Any = self.played
        self.writer = MooringWriter(played, played)

    async def attempt(self, writes: list[Write], seconds: float = 60.0) -> Attempt:
        self.played.tried.clear()
        return await self.writer.attempt(GROUP, writes, self.refusals, seconds)


@pytest.fixture
async def fixture() -> Fixture:
    return Fixture()


def refused(message: str) -> RefusedError:
    return RefusedError("Mooring default/m", ApiError(403, "Forbidden", message))


@pytest.mark.looptime
async def test_many_are_written_at_once_in_their_order_and_no_more_than_that(fixture: Fixture) -> None:
    writes = creations(3 * MAX_IN_FLIGHT)
    attempt = await fixture.attempt(writes)
    assert attempt == Attempt(done=set(range(len(writes))))
    assert fixture.played.tried == [name_of(each) for each in writes]
    assert fixture.played.most == MAX_IN_FLIGHT


@pytest.mark.looptime
async def test_groups_of_another_namespace_get_their_turns_beside_one_that_writes_thousands(fixture: Fixture) -> None:
    fixture.played.seconds_each = 1.0
    large = asyncio.create_task(fixture.attempt(creations(1000), 3600.0))
    await asyncio.sleep(1.5)
    now = asyncio.get_running_loop().time
    began = now()
    few = [Create(mooring(f"few-{each}")) for each in range(MAX_IN_FLIGHT)]
    await fixture.writer.attempt(ObjectKey("elsewhere", "backend"), few, Refusals(), 60.0)
    assert now() - began < 4.0
    assert not large.done()
    large.cancel()
    await asyncio.wait([large])


@pytest.mark.looptime
async def test_an_attempt_ends_when_its_time_is_over(fixture: Fixture) -> None:
    fixture.played.seconds_each = 1.0
    attempt = await fixture.attempt(creations(5 * MAX_IN_FLIGHT), 1.5)
    assert attempt.left
    assert attempt.done == set(range(2 * MAX_IN_FLIGHT))


@pytest.mark.looptime
@pytest.mark.parametrize(
    "error", [refused("a webhook says no"), ApiError(500, "InternalError", "no webhook answers")]
)
async def test_one_that_is_refused_costs_itself_and_is_tried_again_later(fixture: Fixture, error: Exception) -> None:
    writes = creations(3)
    fixture.played.errors["m-01"] = error
    attempt = await fixture.attempt(writes)
    assert attempt == Attempt(done={0, 2}, refused={1})
    [problem] = fixture.refusals.problems()
    assert problem.reason == "WriteRefused"
    attempt = await fixture.attempt(writes[1:2])
    assert (attempt, fixture.played.tried) == (Attempt(refused={0}), [])
    await asyncio.sleep(3.0)
    fixture.played.errors.clear()
    attempt = await fixture.attempt(writes[1:2])
    assert attempt == Attempt(done={0})
    assert fixture.refusals.problems() == ()


@pytest.mark.looptime
async def test_a_quota_that_is_used_up_is_asked_once_and_other_writes_go_on(fixture: Fixture) -> None:
    fixture.played.errors = {f"m-{number:02}": refused(QUOTA) for number in range(90)}
    patches = [Patch(Mooring, "default", f"p-{number:02}", {}) for number in range(90)]
    attempt = await fixture.attempt([*creations(90), *patches])
    assert attempt.done == set(range(90, 180))
    assert attempt.refused == set(range(90))
    assert len([each for each in fixture.played.tried if each.startswith("m-")]) <= MAX_IN_FLIGHT
    [problem] = fixture.refusals.problems()
    assert (problem.reason, problem.message.split(" cannot")[0]) == ("QuotaExceeded", "Mooring m-00 and 89 more")


@pytest.mark.looptime
async def test_whoever_refuses_everything_is_asked_little_and_still_about_each(fixture: Fixture) -> None:
    writes = creations(99)
    fixture.played.errors = {name_of(each): refused("no") for each in writes[:80]}
    asked: set[str] = set()
    done: set[int] = set()
    for _ in range(8):
        attempt = await fixture.attempt(writes)
        assert len(fixture.played.tried) <= MAX_REFUSALS + MAX_IN_FLIGHT + 19
        asked.update(fixture.played.tried)
        done |= attempt.done
        if not attempt.left:
            break
    assert asked == {name_of(each) for each in writes}
    assert done == set(range(80, 99))


@pytest.mark.looptime
async def test_a_conflict_is_told_and_the_rest_is_done(fixture: Fixture) -> None:
    stale = StaleError("it has changed")
    fixture.played.errors["m-01"] = stale
    attempt = await fixture.attempt(creations(3))
    assert attempt == Attempt(done={0, 2}, stale=stale)
    assert len(fixture.refusals) == 0


@pytest.mark.looptime
@pytest.mark.parametrize("error", [UnreachableError("no answer"), ApiError(503, "ServiceUnavailable", "not now")])
async def test_nothing_more_is_tried_while_nobody_can_write(fixture: Fixture, error: Exception) -> None:
    fixture.played.errors["m-00"] = error
    attempt = await fixture.attempt(creations(90))
    assert attempt.error is error
    assert len(fixture.played.tried) <= MAX_IN_FLIGHT
    assert len(fixture.refusals) == 0


@pytest.mark.looptime
async def test_a_name_that_stays_taken_is_told_and_one_that_the_watch_will_show_is_not(fixture: Fixture) -> None:
    fixture.played.errors = {name: TakenError("there is one") for name in ("m-00", "m-01", "m-02")}
    fixture.played.known[ObjectKey("default", "m-00")] = mooring("m-00", "somebody-else", "other")
    fixture.played.bad[ObjectKey("default", "m-01")] = Unreadable(ObjectMeta(name="m-01"), "Expected str")
    attempt = await fixture.attempt(creations(3))
    assert attempt.refused == {0, 1}
    assert attempt.stale is fixture.played.errors["m-02"]
    [problem] = fixture.refusals.problems()
    assert "there is one for Pod somebody-else of group other" in problem.message


@pytest.mark.looptime
async def test_what_is_deleted_is_gone_before_the_watch_says_so(fixture: Fixture) -> None:
    await fixture.attempt([Delete(Mooring, "default", "m-00", "1", "1")])
    assert fixture.played.gone_ones == [ObjectKey("default", "m-00")]

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorage.outside.link import GRACE_SECONDS, MAX_RESTART_SECONDS, PATIENCE_SECONDS, RECOVERED_SECONDS, Link
from tests.support.children import Nursery

pytestmark = pytest.mark.looptime(noop_cycles=1)


class Fixture:
    def __init__(self) -> None:
        self.nursery = Nursery()
        self.taken: list[Any] = []
        self.problems: list[str | None] = []
        self.restarts = 0
        self.link: Link[Any] = Link(
            "health checks",
            self.nursery.start,
            self.taken.append,
            now=lambda: "2027-01-01T00:00:00Z",
            changed=lambda: self.problems.append(self.link.problem.message if self.link.problem else None),
            restarted=self._restarted,
            jitter=lambda: 0.0,
        )

    def _restarted(self) -> None:
        self.restarts += 1

    def set(self, slot: str, message: str) -> None:
        self.link.set(slot, lambda: [message])

    @property
    def told(self) -> list[Any]:
        return self.nursery.last.told


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    made = Fixture()
    yield made
    await made.link.close()
    assert all(child.closed for child in made.nursery.children)


async def test_a_child_is_told_what_holds_and_what_changes(fixture: Fixture) -> None:
    fixture.set("a", "a1")
    fixture.set("b", "b1")
    await asyncio.sleep(1)
    assert fixture.told == ["a1", "b1"]
    fixture.set("a", "a2")
    fixture.link.unset("b", "no b")
    fixture.link.unset("c", "no c")
    await asyncio.sleep(1)
    assert fixture.told == ["a1", "b1", "a2", "no b"]


async def test_a_slow_child_is_told_the_last_of_what_was_said_of_a_slot(fixture: Fixture) -> None:
    fixture.set("a", "a1")
    await asyncio.sleep(1)
    fixture.nursery.last.room.clear()
    fixture.set("b", "b1")
    await asyncio.sleep(1)
    for number in range(2, 100):
        fixture.set("a", f"a{number}")
    await asyncio.sleep(1)
    fixture.nursery.last.room.set()
    await asyncio.sleep(1)
    assert fixture.told == ["a1", "b1", "a99"]


async def test_to_a_slow_child_what_was_set_last_comes_last(fixture: Fixture) -> None:
    await asyncio.sleep(1)
    fixture.nursery.last.room.clear()
    for slot, message in (("first", "first"), ("a", "a1"), ("b", "b1"), ("a", "a2, which rests on b1")):
        fixture.set(slot, message)
        await asyncio.sleep(1)
    fixture.nursery.last.room.set()
    await asyncio.sleep(1)
    assert fixture.told == ["first", "b1", "a2, which rests on b1"]


async def test_a_new_child_is_not_told_what_only_the_last_one_had_to_know(fixture: Fixture) -> None:
    fixture.set("a", "a1")
    await asyncio.sleep(1)
    fixture.nursery.last.room.clear()
    fixture.set("b", "b1")
    fixture.set("c", "c1")
    await asyncio.sleep(1)
    fixture.link.unset("a", "no a")
    fixture.set("b", "b2")
    fixture.nursery.last.die()
    await asyncio.sleep(1)
    assert len(fixture.nursery.children) == 2
    assert fixture.told == ["b2", "c1"]


async def test_what_the_child_says_is_taken(fixture: Fixture) -> None:
    await asyncio.sleep(1)
    fixture.nursery.last.say("news")
    await asyncio.sleep(1)
    assert fixture.taken == ["news"]


async def test_a_child_that_ends_is_started_again_and_told_all_that_holds(fixture: Fixture) -> None:
    for slot in ("a", "b", "c"):
        fixture.set(slot, f"{slot}1")
    await asyncio.sleep(1)
    fixture.set("a", "a2")
    fixture.link.unset("b", "no b")
    await asyncio.sleep(1)
    fixture.nursery.last.die()
    await asyncio.sleep(1)
    assert len(fixture.nursery.children) == 2
    assert fixture.told == ["a2", "c1"]
    assert fixture.restarts == 1
    assert fixture.problems == []


async def test_what_cannot_be_taken_ends_that_child_only(fixture: Fixture) -> None:
    def refuse(message: Any) -> None:
        raise KeyError(message)

    await asyncio.sleep(1)
    fixture.link._take = refuse
    fixture.nursery.last.say("nonsense")
    await asyncio.sleep(1)
    assert len(fixture.nursery.children) == 2


async def test_the_child_is_killed_when_its_work_is_over(fixture: Fixture) -> None:
    await asyncio.sleep(1)
    await fixture.link.close()
    assert fixture.nursery.last.killed


async def test_that_there_is_no_child_for_a_while_is_said_until_there_is_one(fixture: Fixture) -> None:
    await asyncio.sleep(1)
    fixture.nursery.refuses = 5
    fixture.nursery.last.die()
    await asyncio.sleep(GRACE_SECONDS - 0.1)
    assert fixture.problems == []
    await asyncio.sleep(1)
    [said] = fixture.problems
    assert said is not None
    assert said.startswith("the operator's process for health checks ended with status 1, and is started again;")
    problem = fixture.link.problem
    assert problem is not None
    assert problem[::2] == ("Interrupted", "2027-01-01T00:00:00Z")
    await asyncio.sleep(60)
    assert fixture.problems == [said, None]


async def test_a_child_that_does_not_answer_is_ended(fixture: Fixture) -> None:
    await asyncio.sleep(100)
    assert len(fixture.nursery.children) == 1
    fixture.nursery.last.hung = True
    await asyncio.sleep(2 * PATIENCE_SECONDS)
    assert fixture.nursery.children[0].closed
    assert len(fixture.nursery.children) == 2


async def test_one_that_keeps_ending_is_started_less_and_less_often_until_it_lives(fixture: Fixture) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 600:
        await asyncio.sleep(0.05)
        if fixture.nursery.children and not fixture.nursery.last.closed:
            fixture.nursery.last.die()
    assert 15 <= len(fixture.nursery.children) <= 600 / MAX_RESTART_SECONDS + 10
    await asyncio.sleep(MAX_RESTART_SECONDS + RECOVERED_SECONDS + 1)
    known = len(fixture.nursery.children)
    fixture.nursery.last.die()
    await asyncio.sleep(1)
    assert len(fixture.nursery.children) == known + 1

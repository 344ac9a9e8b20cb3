"""Turns: a limit on what goes on at once, shared fairly."""

import asyncio

from moorage.cluster.turns import Turns


class Work:
    """Things that go on until they are ended."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.going_on: list[str] = []
        self._ends: list[asyncio.Event] = []

    async def _one(self, tenant: str) -> None:
        async with self.turns.turn(tenant):
            end = asyncio.Event()
            self.going_on.append(tenant)
            self._ends.append(end)
            await end.wait()

    async def begin(self, *tenants: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._one(each)) for each in tenants]
        await asyncio.sleep(0)
        return tasks

    async def end_one(self) -> None:
        self._ends.pop(0).set()
        for _ in range(3):
            await asyncio.sleep(0)


async def test_no_more_than_allowed_go_on_at_once() -> None:
    work = Work(Turns(2))
    await work.begin("a", "a", "a")
    assert work.going_on == ["a", "a"]
    await work.end_one()
    assert work.going_on == ["a", "a", "a"]


async def test_a_tenant_that_waits_for_many_turns_gets_no_more_of_them_than_others() -> None:
    work = Work(Turns(1))
    await work.begin("a", "a", "a", "a", "b", "b", "c")
    for _ in range(6):
        await work.end_one()
    assert work.going_on == ["a", "a", "b", "c", "a", "b", "a"]


async def test_whoever_gives_up_while_waiting_takes_no_turn() -> None:
    work = Work(Turns(1))
    _, second, third = await work.begin("a", "a", "b")
    second.cancel()
    await asyncio.sleep(0)
    await work.end_one()
    assert work.going_on == ["a", "b"]
    third.cancel()
    await asyncio.wait([third])
    await work.begin("c")
    assert work.going_on == ["a", "b", "c"]


async def test_a_turn_that_came_to_somebody_who_has_just_given_up_goes_on_to_the_next() -> None:
    turns = Turns(1)
    work = Work(turns)
    first, second = await work.begin("a", "a")
    first.cancel()
    await asyncio.sleep(0)  # its turn has been passed on to the second, which has not run yet
    second.cancel()
    await asyncio.wait([first, second])
    await work.begin("b")
    assert work.going_on == ["a", "b"]

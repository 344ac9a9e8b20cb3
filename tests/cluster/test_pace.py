import asyncio

import pytest

from moorage.cluster.pace import Pace

pytestmark = pytest.mark.looptime


async def test_after_a_burst_each_waits_for_its_turn() -> None:
    pace, started = Pace(2.0, burst=3), asyncio.get_running_loop().time()
    turns = []
    for _ in range(6):
        await pace.turn()
        turns.append(asyncio.get_running_loop().time() - started)
    assert turns == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0, 1.5])


async def test_a_pause_saves_no_more_than_a_burst() -> None:
    pace = Pace(2.0, burst=3)
    for _ in range(4):
        pace.take()
    await asyncio.sleep(1000)
    assert [pace.take() for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0])


async def test_many_at_once_are_a_debt() -> None:
    pace = Pace(2.0, burst=3)
    assert pace.wait() == 0.0
    assert pace.take(10) == 0.0
    assert pace.wait() == pytest.approx(4.0)
    await asyncio.sleep(4)
    assert pace.wait() == pytest.approx(0.0)


async def test_those_who_wait_together_have_turns_one_after_the_other() -> None:
    pace, started = Pace(10.0, burst=1), asyncio.get_running_loop().time()
    await asyncio.gather(*(pace.turn() for _ in range(11)))
    assert asyncio.get_running_loop().time() - started == pytest.approx(1.0)

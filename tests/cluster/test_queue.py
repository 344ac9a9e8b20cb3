import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from moorage.cluster.queue import Queue
from moorage.errors import MoorageError

pytestmark = pytest.mark.looptime


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


def queue(first: float = 1.0, longest: float = 10.0) -> Queue[str]:
    return Queue(first=first, longest=longest, jitter=lambda: 0.0)


async def nothing_to_take(line: Queue[str], seconds: float) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.take(), seconds)


async def test_keys_are_merged_and_taken_oldest_first() -> None:
    line = queue()
    for key in ("b", "a", "b"):
        line.add(key)
    assert len(line) == 2
    assert [await line.take(), await line.take()] == ["b", "a"]
    assert len(line) == 0
    await nothing_to_take(line, 100)


async def test_taking_waits_for_a_key() -> None:
    line = queue()
    asyncio.get_running_loop().call_later(5, line.add, "a")
    assert await line.take() == "a"
    assert now() == 5


async def test_a_key_that_is_added_while_in_work_comes_once_more_after_it() -> None:
    line = queue()
    line.add("a")
    await line.take()
    line.add("a")
    line.add("a")
    await nothing_to_take(line, 100)
    line.done("a")
    assert await line.take() == "a"
    line.done("a")
    await nothing_to_take(line, 100)
    assert line.idle


async def test_a_delayed_key_comes_in_its_time_and_the_earliest_time_counts() -> None:
    line = queue()
    line.add("a", after=10)
    line.add("a", after=3)
    line.add("a", after=20)
    line.add("b", after=4)
    assert (await line.take(), now()) == ("a", 3)
    assert (await line.take(), now()) == ("b", 4)
    line.done("a")
    await nothing_to_take(line, 100)


async def test_a_key_that_is_added_at_once_does_not_come_again_at_its_later_time() -> None:
    line = queue()
    line.add("a", after=10)
    line.add("a")
    assert (await line.take(), now()) == ("a", 0)
    line.done("a")
    await nothing_to_take(line, 100)


async def test_a_key_whose_time_comes_while_it_is_in_work_waits_for_that() -> None:
    line = queue()
    line.add("a")
    await line.take()
    line.add("a", after=5)
    await nothing_to_take(line, 50)
    line.done("a")
    assert (await line.take(), now()) == ("a", 50)


async def test_work_may_ask_to_be_done_again() -> None:
    line = queue()
    line.add("a")
    line.done(await line.take(), again_after=30)
    assert (await line.take(), now()) == ("a", 30)
    line.done("a", again_after=0)
    assert (await line.take(), now()) == ("a", 31), "a worker that asks for no wait at all would never rest"


async def test_failures_wait_longer_each_time_up_to_the_bound_until_one_goes_well() -> None:
    line = queue()
    line.add("a")
    times = []
    for _ in range(6):
        await line.take()
        times.append(now())
        line.failed("a")
    assert times == [0, 1, 3, 7, 15, 25]
    assert line.failures("a") == 6
    await line.take()
    line.done("a")
    assert line.failures("a") == 0
    line.add("a")
    await line.take()
    assert line.failed("a") == 1


async def test_each_key_has_its_own_failures_and_jitter_takes_up_to_half_off() -> None:
    line: Queue[str] = Queue(first=1.0, longest=10.0, jitter=lambda: 0.5)
    for key in ("a", "a", "b"):
        line.add(key)
        await line.take()
        line.failed(key)
    line.add("a")
    assert await line.take() == "a"
    assert line.failed("a") == 3.0
    assert await line.take() == "b"
    assert line.failed("b") == 1.5


async def test_something_new_does_not_wait_for_the_back_off_and_does_not_forget_the_failures() -> None:
    line = queue()
    line.add("a")
    await line.take()
    line.failed("a")
    line.add("a")
    assert (await line.take(), now()) == ("a", 0)
    assert line.failed("a") == 2
    line.add("a")
    await line.take()
    line.add("a")
    line.failed("a")
    assert (await line.take(), now()) == ("a", 0), "what came while it was in work is new, too"


async def test_closing_forgets_what_waits_for_its_time() -> None:
    line = queue()
    line.add("a", after=1)
    line.close()
    await nothing_to_take(line, 100)


async def test_a_taker_that_is_cancelled_takes_nothing_with_it() -> None:
    line = queue()
    taker = asyncio.create_task(line.take())
    await asyncio.sleep(0)
    line.add("a")
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)
    assert await line.take() == "a"


async def run(line: Queue[str], work: Callable[[str], Awaitable[float | None]], seconds: float, workers: int) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.run(work, workers=workers), seconds)


async def test_workers_share_the_keys_and_one_slow_key_holds_up_no_other() -> None:
    line, seen = queue(), []

    async def work(key: str) -> None:
        seen.append((key, now()))
        await asyncio.sleep(10 if key == "slow" else 1)

    for key in ("slow", "a", "b", "c"):
        line.add(key)
    await run(line, work, 50, workers=2)
    assert seen == [("slow", 0), ("a", 0), ("b", 1), ("c", 2)]


async def test_work_that_is_due_together_leaves_the_event_loop_to_others_between_two_keys() -> None:
    line, all_begun = queue(), asyncio.Event()
    seen: list[str] = []
    loop = asyncio.get_running_loop()

    def other() -> None:
        seen.append("other")
        loop.call_soon(other)

    async def work(key: str) -> None:
        seen.append(key)
        if {"a", "b", "c"} <= set(seen):
            all_begun.set()
        await asyncio.sleep(1)

    for key in "abc":
        line.add(key)
    running = asyncio.create_task(line.run(work, workers=3))
    loop.call_soon(other)
    await all_begun.wait()
    running.cancel()
    begun = [index for index, each in enumerate(seen) if each != "other"]
    assert all(later - earlier > 1 for earlier, later in pairwise(begun))
    assert now() == 0


async def test_what_fails_comes_again_and_ends_nothing() -> None:
    line, seen = queue(), []

    async def work(key: str) -> float | None:
        seen.append((key, now()))
        if key == "refused":
            raise MoorageError("Service n/refused: no")
        if key == "mistake":
            raise ZeroDivisionError
        return None

    for key in ("refused", "mistake", "good"):
        line.add(key)
    with capture_logs() as logs:
        await run(line, work, 2, workers=1)
    assert seen == [("refused", 0), ("mistake", 0), ("good", 0), ("refused", 1), ("mistake", 1)]
    assert [(entry["key"], entry["log_level"], entry.get("error")) for entry in logs[:2]] == [
        ("refused", "warning", "Service n/refused: no"),
        ("mistake", "error", None),
    ]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "later", "take", "done", "failed", "sleep"]),
        st.sampled_from("abc"),
        st.floats(0.1, 5),
    ),
    max_size=60,
)


@given(STEPS)
async def test_no_key_is_lost_or_worked_on_twice_at_once(steps: list[tuple[str, str, float]]) -> None:
    line = queue()
    in_work: list[str] = []
    owed: set[str] = set()
    """Added and not taken since."""
    for step, key, seconds in steps:
        if step == "add":
            line.add(key)
            owed.add(key)
        elif step == "later":
            line.add(key, after=seconds)
            owed.add(key)
        elif step == "take" and len(line):
            taken = await line.take()
            assert taken not in in_work
            in_work.append(taken)
            owed.discard(taken)
        elif step in ("done", "failed") and in_work:
            ended = in_work.pop(0)
            if step == "done":
                line.done(ended)
            else:
                line.failed(ended)
                owed.add(ended)
        elif step == "sleep":
            await asyncio.sleep(seconds)
    for key in in_work:
        line.done(key)
    got = set()
    while True:
        try:
            key = await asyncio.wait_for(line.take(), 1000)
        except TimeoutError:
            break
        assert key not in got
        got.add(key)
    assert owed <= got

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from moorage.probe.threads import THREADS, Threads
from testing.eventually import eventually


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


@pytest.fixture
async def blocker() -> AsyncIterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def stepping() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("step")]


async def test_a_step_is_run_beside_the_event_loop_and_its_result_is_told(threads: Threads) -> None:
    before = set(stepping())
    assert await threads.begin("a", threading.get_ident).result != threading.get_ident()
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.begin("a", lambda: int("x")).result
    for _ in range(20):
        await threads.begin("a", int).result
    assert len(set(stepping()) - before) <= THREADS


async def test_a_namespace_whose_steps_take_long_leaves_a_thread_to_others(
    threads: Threads, blocker: threading.Event
) -> None:
    slow = [threads.begin("slow", blocker.wait) for _ in range(5)]
    assert await threads.begin("quick", lambda: "done").result == "done"
    assert [turn.begun for turn in slow] == [True, False, False, False, False]
    blocker.set()
    assert await asyncio.gather(*(turn.result for turn in slow)) == [True] * 5


async def test_what_is_abandoned_is_not_begun_and_counts_as_long_as_it_runs(
    threads: Threads, blocker: threading.Event
) -> None:
    async def begun() -> bool:
        return running.begun

    ran: list[str] = []
    running = threads.begin("a", blocker.wait)
    await eventually(begun)
    waiting = threads.begin("a", lambda: ran.append("abandoned"))
    last = threads.begin("a", lambda: ran.append("last"))
    threads.abandon(waiting)
    threads.abandon(running)
    assert await threads.begin("b", lambda: "done").result == "done"
    assert (running.begun, last.begun) == (True, False)
    blocker.set()
    await last.result
    assert ran == ["last"]


@pytest.mark.usefixtures("uncollected")
async def test_what_a_step_that_failed_held_does_not_wait_for_the_garbage_collector(threads: Threads) -> None:
    class Held:
        def step(self) -> None:
            raise ValueError

    async def gone() -> bool:
        return there() is None

    held = Held()
    there = weakref.ref(held)
    turn = threads.begin("a", held.step)
    with pytest.raises(ValueError):  # noqa: PT011  # which one it is does not matter
        await turn.result
    del held, turn
    await eventually(gone, every=0.001)


async def test_after_close_nothing_is_begun(threads: Threads, blocker: threading.Event) -> None:
    threads.begin("a", blocker.wait)
    turn = threads.begin("a", lambda: None)
    threads.close()
    blocker.set()
    names = stepping()

    async def gone() -> bool:
        return len(stepping()) < len(names)

    await eventually(gone)
    assert not turn.begun

import asyncio
import threading

import pytest

from moorage.operator.apart import MIN_ENDPOINTS, Apart
from testing.eventually import eventually


@pytest.fixture
def apart() -> Apart:
    return Apart()


async def test_what_is_small_is_done_here_and_at_once(apart: Apart) -> None:
    assert await apart.call(MIN_ENDPOINTS - 1, threading.current_thread) is threading.current_thread()


async def test_the_event_loop_goes_on_while_something_large_is_done(apart: Apart) -> None:
    going_on = threading.Event()
    asyncio.get_running_loop().call_soon(going_on.set)
    assert await apart.call(MIN_ENDPOINTS, going_on.wait, timeout=20)
    apart.close()


async def test_what_goes_wrong_there_is_raised_here(apart: Apart) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await apart.call(MIN_ENDPOINTS, int, "none")
    apart.close()


async def test_nothing_is_begun_once_it_is_closed(apart: Apart) -> None:
    apart.close()
    with pytest.raises(RuntimeError):
        await apart.call(MIN_ENDPOINTS, int, "1")


async def test_however_much_there_is_one_thing_is_done_at_a_time(apart: Apart) -> None:
    before = set(threading.enumerate())
    go_on = threading.Event()
    calls = [asyncio.ensure_future(apart.call(MIN_ENDPOINTS, go_on.wait, timeout=20)) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(set(threading.enumerate()) - before) == 1
    go_on.set()
    assert all(await asyncio.gather(*calls))
    apart.close()


async def test_to_close_it_waits_for_nothing_and_what_waits_then_is_never_done(apart: Apart) -> None:
    begun, closed = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> bool:
        begun.set()
        return closed.wait(timeout=5)

    running = asyncio.ensure_future(apart.call(MIN_ENDPOINTS, work))
    waiting = asyncio.ensure_future(apart.call(MIN_ENDPOINTS, done.append, "too late"))

    async def has_begun() -> bool:
        return begun.is_set()

    await eventually(has_begun)
    apart.close()
    closed.set()
    assert await running
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == []

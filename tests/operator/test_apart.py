import asyncio
import threading

import pytest

from moorage.operator.apart import MIN_ENDPOINTS, Apart


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

"""How late the event loop is."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD_SECONDS = 0.01
"""Between two looks at the clock."""
MAX_WAIT_SECONDS = 10.0
"""A longer wait counts as this: the Lease is lost by then."""


def waits(late: float) -> Iterator[float]:
    """The waits during a stall of `late` seconds, if something had been due every PERIOD_SECONDS.

    The late look stands for all those that it kept from being made. If it counted once, a second in which nothing was
    done would be as rare as 10 ms.
    """
    late = min(max(late, 0.0), MAX_WAIT_SECONDS)
    for missed in range(int(late / PERIOD_SECONDS) + 1):
        yield late - missed * PERIOD_SECONDS


@contextmanager
def measured(observe: Callable[[float], None]) -> Iterator[None]:
    """Call `observe` with the seconds by which the event loop is late, every PERIOD_SECONDS until the block ends."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look(due: float) -> None:
        nonlocal timer
        now = loop.time()
        for wait in waits(now - due):
            observe(wait)
        timer = loop.call_at(now + PERIOD_SECONDS, look, now + PERIOD_SECONDS)

    timer = loop.call_at(loop.time() + PERIOD_SECONDS, look, loop.time() + PERIOD_SECONDS)
    try:
        yield
    finally:
        timer.cancel()

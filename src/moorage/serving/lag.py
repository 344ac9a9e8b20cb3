"""How late the event loop is."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD_SECONDS = 0.01
"""How often to look at the clock."""
MAX_WAIT_SECONDS = 10.0
"""A longer wait counts as this much: the Lease is lost by then."""


def waits(late: float) -> Iterator[float]:
    """The waits during a stall of `late` seconds, if something had been due every PERIOD_SECONDS.

    One late look stands for all the looks that were missed. If it counted once, a second of standstill would weigh as
    little as 10 ms.
    """
    late = min(max(late, 0.0), MAX_WAIT_SECONDS)
    for missed in range(int(late / PERIOD_SECONDS) + 1):
        yield late - missed * PERIOD_SECONDS


@contextmanager
def measured(observe: Callable[[float], None]) -> Iterator[None]:
    """Every PERIOD_SECONDS until the block ends, call `observe` with how many seconds late the event loop is."""
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

"""How long the event loop lets others wait."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD = 0.01
"""Seconds between two looks."""
LONGEST = 10.0
"""Seconds: no wait is counted as longer. The Lease is lost by then."""


def waits(late: float) -> Iterator[float]:
    """What everybody waits who comes in a stall, one each PERIOD: the first for all of it, the last for what is left.

    A look that came late by `late` seconds is one observation, and stands for those that it kept from being made. If
    it counted once, a second in which nothing was done would be as rare as 10 ms.
    """
    late = min(max(late, 0.0), LONGEST)
    for missed in range(int(late / PERIOD) + 1):
        yield late - missed * PERIOD


@contextmanager
def measured(observe: Callable[[float], None]) -> Iterator[None]:
    """Tells `observe` how late the event loop comes to what is due, in seconds, until the end of the block."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look(due: float) -> None:
        nonlocal timer
        now = loop.time()
        for wait in waits(now - due):
            observe(wait)
        timer = loop.call_at(now + PERIOD, look, now + PERIOD)

    timer = loop.call_at(loop.time() + PERIOD, look, loop.time() + PERIOD)
    try:
        yield
    finally:
        timer.cancel()

"""Waiting for a condition, within bounds."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 20, every: float = 0.05) -> None:
    """Until the condition holds; fails the test if it does not in time."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # conditions are read from outside: nobody sets an event
            await asyncio.sleep(every)

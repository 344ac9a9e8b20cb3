"""Runs the work of a process until it is told to stop."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def stopped(work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` until it ends; SIGTERM and SIGINT cancel it. Returns whether it was cancelled."""
    running = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return True
    return False

"""Ends commands that run until they are stopped."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

import click


def until_told(program: Coroutine[Any, Any, None]) -> None:
    """Run it until it ends or the user ends it, with Ctrl-C, SIGTERM, or by closing the terminal."""

    async def main() -> None:
        task = asyncio.ensure_future(program)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        # The terminal may have been closed.
        with contextlib.suppress(OSError):
            click.echo("ended")

"""Calculations that take long, beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 100
"""Endpoints from which a decision goes to the thread: one about 1,000 takes some 25 ms."""


class Apart:
    """One thread. The event loop gets the interpreter's lock from it within `sys.getswitchinterval`, 5 ms.

    One, because each more would have a turn of that length before the event loop has its own.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")

    async def call(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a pure function returns or raises: from the thread where `size` is LARGE, else from here, at once."""
        if size < LARGE:
            return function(*args, **kwargs)
        return await asyncio.wrap_future(self._thread.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Begin no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

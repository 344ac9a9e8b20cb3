"""Runs long calculations in a thread beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MIN_ENDPOINTS = 100
"""A decision about fewer is made in the event loop: one about 1,000 takes some 25 ms."""


class Apart:
    """One thread. The event loop gets the interpreter's lock back from it within `sys.getswitchinterval`, 5 ms.

    Each further thread would make the event loop wait as long again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")

    async def call(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a pure function, in the thread if `size` is at least MIN_ENDPOINTS. Returns or raises what it does."""
        if size < MIN_ENDPOINTS:
            return function(*args, **kwargs)
        return await asyncio.wrap_future(self._thread.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Start no more calculations."""
        self._thread.shutdown(wait=False, cancel_futures=True)

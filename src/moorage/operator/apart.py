"""Long calculations in a thread beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MIN_ENDPOINTS = 100
"""A decision about fewer is made at once: one about 1,000 takes some 25 ms."""


class Apart:
    """One thread, from which the event loop gets the interpreter's lock within `sys.getswitchinterval`, 5 ms.

    Each further thread would make the event loop wait as long again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")

    async def call(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a pure function returns or raises. It runs in the thread if `size` is at least MIN_ENDPOINTS."""
        if size < MIN_ENDPOINTS:
            return function(*args, **kwargs)
        return await asyncio.wrap_future(self._thread.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Start nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

"""An event loop's clock that goes only when a test says so, while input and output stay real."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def still_clock() -> Iterator[Callable[[float], None]]:
    """Stop the running loop's clock until the end of the block. Yields what lets so many seconds pass.

    However long the machine takes for something, no timer ends before that.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()

    def let_pass(seconds: float) -> None:
        nonlocal now
        now += seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda: now)
        yield let_pass

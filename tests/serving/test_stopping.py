"""What ends the work of a process, and what comes of it."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from moorage.serving.stopping import stopped


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signals have their own handlers again after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cancels_the_work_which_may_clean_up(number: signal.Signals) -> None:
    cleaned: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    assert await stopped(work())
    assert cleaned == ["up"]


async def test_work_that_ends_by_itself_was_not_stopped() -> None:
    assert not await stopped(asyncio.sleep(0))


async def test_what_goes_wrong_is_raised() -> None:
    async def work() -> None:
        raise OSError("no address")

    with pytest.raises(OSError, match="no address"):
        await stopped(work())

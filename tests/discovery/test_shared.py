"""What is shared runs once, and as long as somebody wants it; what crashes is started again."""

import asyncio
from collections.abc import Callable

import pytest

from moorage.discovery.shared import Shared, supervised

pytestmark = pytest.mark.looptime


class Runner:
    def __init__(self, key: str, on_change: Callable[[], None]) -> None:
        self.key = key
        self.change = on_change
        self.runs = 0
        self.fails: Exception | None = None
        self.crashes: list[Exception] = []
        self.ended = False

    async def run(self) -> None:
        self.runs += 1
        try:
            if self.fails:
                raise self.fails
            await asyncio.Event().wait()
        finally:
            self.ended = True

    def crashed(self, error: Exception) -> None:
        self.crashes.append(error)


async def test_one_runs_for_all_who_take_it_until_the_last_gives_it_back() -> None:
    shared: Shared[str, Runner] = Shared(Runner)
    heard: list[str] = []

    def first() -> None:
        heard.append("first")

    def second() -> None:
        heard.append("second")

    runner = shared.take("a", first)
    assert shared.take("a", second) is runner
    assert shared.take("b", first) is not runner
    await asyncio.sleep(0)
    assert (runner.runs, shared.count) == (1, 2)
    runner.change()
    assert heard == ["first", "second"]
    shared.give_back("a", first)
    runner.change()
    assert heard == ["first", "second", "second"]
    assert not runner.ended
    shared.give_back("a", second)
    await asyncio.sleep(0)
    assert runner.ended
    assert shared.count == 1
    shared.give_back("b", first)


async def test_what_crashes_is_started_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    times: list[float] = []
    crashes: list[Exception] = []
    start = asyncio.get_running_loop().time()

    async def run() -> None:
        times.append(round(asyncio.get_running_loop().time() - start))
        raise ZeroDivisionError

    task = asyncio.create_task(supervised(run, crashes.append, what="test"))
    await asyncio.sleep(1000)
    task.cancel()
    assert times[:5] == [0, 5, 15, 35, 75]
    assert times[-1] - times[-2] == 300
    assert len(crashes) == len(times)

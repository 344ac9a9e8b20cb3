"""A look-up is made again when its answer has expired, and what fails leaves the last good one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from moorage.discovery.following import Failure, RepeatedLookup
from moorage.discovery.resolver import LookupFailedError
from testing.beside import beside

pytestmark = pytest.mark.looptime


class Script:
    """Plays answers (with seconds) and errors; notes when each was asked for."""

    def __init__(self, *plays: tuple[str, float] | str) -> None:
        self._plays = list(plays)
        self.times: list[float] = []
        self.changes: list[tuple[str | None, Failure | None]] = []
        self.following = RepeatedLookup(self._look_up, self._changed, now=self._now, jitter=lambda: 0.0)
        self._start = asyncio.get_running_loop().time()

    def _seconds(self) -> float:
        return round(asyncio.get_running_loop().time() - self._start, 3)

    def _now(self) -> str:
        return f"{self._seconds():g}"

    async def _look_up(self) -> tuple[str, float]:
        self.times.append(self._seconds())
        play = self._plays.pop(0) if len(self._plays) > 1 else self._plays[0]
        if isinstance(play, str):
            raise LookupFailedError(play)
        return play

    def _changed(self) -> None:
        self.changes.append((self.following.answer, self.following.failure))

    @asynccontextmanager
    async def running(self, seconds: float) -> AsyncIterator[None]:
        async with beside(self.following.run()):
            await asyncio.sleep(seconds)
            yield


async def test_it_asks_again_when_the_answer_has_expired() -> None:
    script = Script(("a", 5.0), ("a", 20.0), ("b", 60.0))
    async with script.running(80):
        assert script.times == [0, 5, 25]
        assert script.changes == [("a", None), ("b", None)]


async def test_the_last_good_answer_stays_with_the_time_that_it_was_good() -> None:
    script = Script(("a", 5.0), ("a", 5.0), "SERVFAIL", "SERVFAIL", "time-out", ("a", 60.0))
    async with script.running(30):
        assert script.times == [0, 5, 10, 11, 13, 17]
        assert script.changes == [
            ("a", None),
            ("a", Failure("SERVFAIL", "5")),
            ("a", Failure("time-out", "5")),
            ("a", None),
        ]


async def test_before_the_first_answer_there_is_none() -> None:
    script = Script("SERVFAIL")
    async with script.running(200):
        assert script.changes == [(None, Failure("SERVFAIL", "0"))]
        assert script.times[:7] == [0, 1, 3, 7, 15, 31, 61]
        assert script.times[-1] - script.times[-2] == 30


async def test_a_bug_is_not_swallowed() -> None:
    async def broken() -> tuple[str, float]:
        raise ZeroDivisionError

    following = RepeatedLookup(broken, lambda: None, now=lambda: "", jitter=lambda: 0.0)
    with pytest.raises(ZeroDivisionError):
        await following.run()

"""Since when a watch fails, and that a short break is not worth a word."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest

from moorage.api.core_v1 import Service
from moorage.cluster.client import ApiError, UnreachableError
from moorage.cluster.events import Bookmark
from moorage.cluster.reading import Listing
from moorage.cluster.reflector import Reflector
from moorage.discovery.watched import MonitoredWatch, Trouble
from moorage.errors import MoorageError

pytestmark = pytest.mark.looptime

DOWN = UnreachableError("https://203.0.113.10: cannot connect")
FORBIDDEN = ApiError(403, "Forbidden", "no")
BUSY = ApiError(503, "ServiceUnavailable", "starting")
GONE = ApiError(410, "Expired", "too old")


class Server:
    """Is as `error` says; a watch that stands ends with an error when it is set."""

    def __init__(self) -> None:
        self.error: MoorageError | None = None
        self._changed = asyncio.Event()

    def set(self, error: MoorageError | None) -> None:
        self.error = error
        self._changed.set()
        self._changed = asyncio.Event()

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        if self.error:
            raise self.error
        return Listing([], "1")

    async def watch(self, kind: type[Any], namespace: str | None = None, **request: Any) -> AsyncGenerator[Any, None]:
        if self.error:
            raise self.error
        yield Bookmark("1")
        await self._changed.wait()
        if self.error:
            raise self.error


class Fixture:
    def __init__(self) -> None:
        self.server = Server()
        self.said: list[Trouble | None] = []
        self._start = asyncio.get_running_loop().time()
        self.watched = MonitoredWatch(self.server, lambda: self.said.append(self.watched.trouble), self._now)
        reflector = Reflector(self.watched, Service, jitter=lambda: 0.0)
        self.task = asyncio.create_task(reflector.run())

    def _now(self) -> str:
        return f"{asyncio.get_running_loop().time() - self._start:.0f}"

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        self.watched.close()


async def test_that_the_first_watch_stands_is_said_once() -> None:
    fixture = Fixture()
    await asyncio.sleep(100)
    assert fixture.said == [None]
    await fixture.end()


async def test_a_short_break_is_not_said_a_longer_one_with_its_beginning() -> None:
    fixture = Fixture()
    await asyncio.sleep(10)
    fixture.server.set(DOWN)
    await asyncio.sleep(2)
    fixture.server.set(None)
    await asyncio.sleep(10)
    assert fixture.said == [None]
    fixture.server.set(BUSY)
    await asyncio.sleep(1)
    fixture.server.set(DOWN)
    await asyncio.sleep(3.5)
    assert fixture.said == [None]
    await asyncio.sleep(60)
    assert fixture.said == [None, Trouble(DOWN, "22")]
    fixture.server.set(None)
    await asyncio.sleep(60)
    assert fixture.said == [None, Trouble(DOWN, "22"), None]
    await fixture.end()


async def test_what_fails_from_the_start_and_what_is_refused_is_said_at_once() -> None:
    fixture = Fixture()
    fixture.server.set(DOWN)
    await asyncio.sleep(0.1)
    assert fixture.said == [Trouble(DOWN, "0")]
    fixture.server.set(None)
    await asyncio.sleep(10)
    fixture.server.set(FORBIDDEN)
    await asyncio.sleep(0.1)
    assert fixture.said == [Trouble(DOWN, "0"), None, Trouble(FORBIDDEN, "10")]
    await fixture.end()


@pytest.mark.parametrize(
    ("status", "likely_to_pass"), [(400, False), (403, False), (404, False), (429, True), (500, True), (503, True)]
)
async def test_only_errors_that_are_likely_to_pass_have_some_time_to(status: int, likely_to_pass: bool) -> None:
    fixture = Fixture()
    await asyncio.sleep(10)
    error = ApiError(status, "Reason", "message")
    fixture.server.set(error)
    await asyncio.sleep(1)
    assert fixture.said == ([None] if likely_to_pass else [None, Trouble(error, "10")])
    await fixture.end()


async def test_another_reason_of_the_same_trouble_keeps_its_beginning() -> None:
    fixture = Fixture()
    fixture.server.set(FORBIDDEN)
    await asyncio.sleep(5)
    fixture.server.set(DOWN)
    await asyncio.sleep(60)
    assert fixture.said == [Trouble(FORBIDDEN, "0"), Trouble(DOWN, "0")]
    await fixture.end()


async def test_that_a_version_has_expired_is_no_trouble() -> None:
    fixture = Fixture()
    await asyncio.sleep(1)
    fixture.server.set(GONE)
    await asyncio.sleep(0.1)
    fixture.server.set(None)
    await asyncio.sleep(60)
    assert fixture.said == [None]
    await fixture.end()


async def test_nothing_is_said_after_the_end() -> None:
    fixture = Fixture()
    await asyncio.sleep(1)
    fixture.server.set(DOWN)
    await asyncio.sleep(0.1)
    await fixture.end()
    await asyncio.sleep(60)
    assert fixture.said == [None]

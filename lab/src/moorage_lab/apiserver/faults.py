"""Failures that a test asks for: they happen to the next requests, and then no more."""

import asyncio
from collections import deque
from typing import NamedTuple

from moorage_lab.apiserver.status import StatusError, injected


class Held:
    """Requests that are not looked at until they are let go."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        """The first of them is there."""
        self._free = asyncio.Event()

    def release(self) -> None:
        """Let them go."""
        self._free.set()

    async def pass_through(self) -> None:
        """Wait as a request that is held."""
        self.arrived.set()
        await self._free.wait()


class Fault(NamedTuple):
    code: int = 0
    """HTTP status of the answer; 0: the request is only delayed."""
    retry_after: int | None = None
    """Seconds, sent as the Retry-After header."""
    delay: float = 0.0
    """Seconds before the request is looked at."""
    method: str = ""
    """Only requests with this method; any where empty."""
    path: str = ""
    """Only requests whose path has this in it."""
    held: Held | None = None


class Faults:
    """Faults to come, and the watches to cut."""

    def __init__(self) -> None:
        self._waiting: deque[Fault] = deque()
        self._cut = asyncio.Event()

    def fail(
        self, requests: int = 1, *, code: int = 500, retry_after: int | None = None, method: str = "", path: str = ""
    ) -> None:
        """Answer the next requests that match with an error."""
        self._waiting.extend([Fault(code, retry_after, 0.0, method, path)] * requests)

    def slow(self, requests: int = 1, *, seconds: float, method: str = "", path: str = "") -> None:
        """Hold the next requests that match back."""
        self._waiting.extend([Fault(0, None, seconds, method, path)] * requests)

    def hold(self, requests: int = 1, *, method: str = "", path: str = "") -> Held:
        """Hold the next requests that match back until the test lets them go."""
        held = Held()
        self._waiting.extend([Fault(0, None, 0.0, method, path, held)] * requests)
        return held

    def clear(self) -> None:
        self._waiting.clear()

    def drop_watches(self) -> None:
        """Break the connection of every watch that is open."""
        self._cut.set()
        self._cut = asyncio.Event()

    @property
    def cut(self) -> asyncio.Event:
        """Set when the watches that were open then are to break."""
        return self._cut

    async def strike(self, method: str, path: str) -> None:
        """Let the first fault that matches happen to a request; raises StatusError where that is an error."""
        for fault in self._waiting:
            if fault.method in ("", method) and fault.path in path:
                self._waiting.remove(fault)
                await asyncio.sleep(fault.delay)
                if fault.held:
                    await fault.held.pass_through()
                if fault.code:
                    raise _error(fault)
                return


def _error(fault: Fault) -> StatusError:
    return injected(fault.code, fault.retry_after)

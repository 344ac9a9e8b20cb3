"""Failures that a test asks for. They happen to the next requests, and then stop."""

import asyncio
from collections import deque
from typing import NamedTuple

from moorage_lab.apiserver.status import StatusError, injected


class Held:
    """Requests that wait until the test lets them go."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        """Set when the first of them has arrived."""
        self._free = asyncio.Event()

    def release(self) -> None:
        """Let them go."""
        self._free.set()

    async def pass_through(self) -> None:
        """Called by a held request: wait until it is let go."""
        self.arrived.set()
        await self._free.wait()


class Fault(NamedTuple):
    code: int = 0
    """HTTP status of the answer; 0: only delay the request."""
    retry_after: int | None = None
    """Seconds, sent as the Retry-After header."""
    delay: float = 0.0
    """Seconds to wait before handling the request."""
    method: str = ""
    """Only requests with this method; empty: any."""
    path: str = ""
    """Only requests whose path has this in it."""
    held: Held | None = None


class Faults:
    """Coming faults, and watches to cut or to silence."""

    def __init__(self) -> None:
        self._waiting: deque[Fault] = deque()
        self._cut = asyncio.Event()
        self._silence = asyncio.Event()

    def fail(
        self, requests: int = 1, *, code: int = 500, retry_after: int | None = None, method: str = "", path: str = ""
    ) -> None:
        """Answer the next matching requests with an error."""
        self._waiting.extend([Fault(code, retry_after, 0.0, method, path)] * requests)

    def slow(self, requests: int = 1, *, seconds: float, method: str = "", path: str = "") -> None:
        """Delay the next matching requests."""
        self._waiting.extend([Fault(0, None, seconds, method, path)] * requests)

    def hold(self, requests: int = 1, *, method: str = "", path: str = "") -> Held:
        """Hold the next matching requests back until the test lets them go."""
        held = Held()
        self._waiting.extend([Fault(0, None, 0.0, method, path, held)] * requests)
        return held

    def clear(self) -> None:
        self._waiting.clear()

    def drop_watches(self) -> None:
        """Break the connection of every open watch."""
        self._cut.set()
        self._cut = asyncio.Event()

    def silence_watches(self) -> None:
        """Have every open watch say nothing more, as if what is between lost it all. Connections stay open."""
        self._silence.set()
        self._silence = asyncio.Event()

    @property
    def cut(self) -> asyncio.Event:
        """An event that is set when the watches that are open now must break."""
        return self._cut

    @property
    def silence(self) -> asyncio.Event:
        """An event that is set when the watches that are open now must say nothing more."""
        return self._silence

    async def strike(self, method: str, path: str) -> None:
        """Apply the first matching fault to a request; raises StatusError if that is an error."""
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

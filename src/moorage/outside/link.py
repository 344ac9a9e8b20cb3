"""Keeps a child process running and up to date."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from moorage.cluster.backoff import backoff
from moorage.core.model import Problem
from moorage.log import get_logger
from moorage.outside.channel import Channel
from moorage.outside.messages import Ping, Pong

log = get_logger("moorage.outside")

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)

GRACE_SECONDS = 2.0
"""How long a child that has ended may take to come back before that becomes a problem."""
HEARTBEAT_SECONDS = 5.0
"""How often to ask whether the child still answers."""
PATIENCE_SECONDS = 15.0
"""How long a child may take to answer before it is killed."""
FIRST_RESTART_SECONDS, MAX_RESTART_SECONDS = 0.2, 30.0
"""How long to wait before starting a child again: the first time, and at most."""
RECOVERED_SECONDS = 60.0
"""How long a child must run until earlier failures are forgotten."""

Messages = Callable[[], Iterable[object]]
"""Makes messages at the moment of sending; other tasks have their turn of the event loop between two messages."""


class Child(Protocol[M_co]):
    """A running process."""

    @property
    def channel(self) -> Channel[M_co]: ...

    def kill(self) -> None:
        """End it now; nothing that it holds is needed."""

    async def end(self) -> str:
        """Wait for its end, and enforce it. Returns how it ended, to be read after "the process"."""


Start = Callable[[], Awaitable[Child[M]]]


class Link(Generic[M]):
    """Keeps a child process running and up to date: for each slot it gets the messages that were set last.

    A slow child skips messages that have been replaced meanwhile. A new child gets the messages of all slots, in the
    order in which the slots were first used.

    `part` says what the child is for, in messages for people: "health checks". `take(message)` is called with each
    message from it, `started()` before a new child gets its first message, `changed()` after `problem` has changed,
    `restarted()` before another child is started.
    """

    def __init__(
        self,
        part: str,
        start: Start[M],
        take: Callable[[M], None],
        *,
        now: Callable[[], str],
        started: Callable[[], None] = lambda: None,
        changed: Callable[[], None] = lambda: None,
        restarted: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.problem: Problem | None = None
        """Why messages from the child may be out of date."""
        self._part = part
        self._start = start
        self._take = take
        self._now = now
        self._started = started
        self._changed = changed
        self._restarted = restarted
        self._jitter = jitter
        self._slots: dict[Hashable, Messages] = {}
        self._unsent: dict[Hashable, Messages] = {}
        """Slots that are still to be sent, in this order."""
        self._wake = asyncio.Event()
        self._answered = 0
        self._down_since: str | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._run())

    def set(self, slot: Hashable, messages: Messages) -> None:
        """Set the messages of a slot. `messages` may be called later, and again for the next child."""
        self._slots[slot] = messages
        self._send(slot, messages)

    def unset(self, slot: Hashable, message: object) -> None:
        """Forget the slot, and send `message` about that."""
        if self._slots.pop(slot, None) is not None:
            self._send(slot, lambda: [message])

    async def close(self) -> None:
        """End the child, and wait for it."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _send(self, slot: Hashable, messages: Messages) -> None:
        # Last, so that a message comes after earlier ones that it may depend on.
        self._unsent.pop(slot, None)
        self._unsent[slot] = messages
        self._wake.set()

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                ended = await self._one()
                failures = 1 if loop.time() - began > RECOVERED_SECONDS else failures + 1
                self._down(ended)
                wait = backoff(failures, self._jitter(), first=FIRST_RESTART_SECONDS, longest=MAX_RESTART_SECONDS)
                log.error(f"the process for {self._part} {ended}; it is started again", retry_seconds=round(wait, 1))
                self._restarted()
                await asyncio.sleep(wait)
        finally:
            if self._grace is not None:
                self._grace.cancel()

    async def _one(self) -> str:
        """The life of one child. Returns how it ended."""
        try:
            child = await self._start()
        except OSError as error:
            return f"cannot be started: {error.strerror or error}"
        why = None
        try:
            self._unsent.clear()
            self._started()
            self._unsent.update(self._slots)
            self._wake.set()
            loops = (self._send_all(child), self._receive_all(child), self._watch_over(child))
            works: list[asyncio.Task[str | None]] = [asyncio.create_task(each) for each in loops]
            try:
                await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in works:
                    each.cancel()
                results = await asyncio.gather(*works, return_exceptions=True)
            why = next((result for result in results if isinstance(result, str)), None)
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, ConnectionError):
                    log.error(f"what the process for {self._part} sent was not understood", exc_info=result)
        except asyncio.CancelledError:
            child.kill()
            raise
        finally:
            child.channel.close()
            ended = await child.end()
        return why or ended

    async def _send_all(self, child: Child[M]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                slot = next(iter(self._unsent))
                for message in self._unsent.pop(slot)():
                    child.channel.send(message)
                    await child.channel.ready()
                    await asyncio.sleep(0)

    async def _receive_all(self, child: Child[M]) -> None:
        while (message := await child.channel.receive()) is not None:
            if isinstance(message, Pong):
                self._answered = message.number
                self._up()
            else:
                self._take(message)
            await asyncio.sleep(0)  # much may have come at once

    async def _watch_over(self, child: Child[M]) -> str:
        number = self._answered
        while True:
            number += 1
            child.channel.send(Ping(number))
            for wait in (HEARTBEAT_SECONDS, PATIENCE_SECONDS - HEARTBEAT_SECONDS, 1.0):
                # The last one is for an answer that came while this process itself did not get to run.
                await asyncio.sleep(wait)
                if self._answered == number:
                    break
            else:
                return f"has not answered for {PATIENCE_SECONDS:g} s and was ended"

    def _up(self) -> None:
        self._down_since = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if self.problem is not None:
            self.problem = None
            self._changed()

    def _down(self, ended: str) -> None:
        if self._down_since is None:
            self._down_since = self._now()
            self._grace = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._tell, ended)

    def _tell(self, ended: str) -> None:
        self._grace = None
        assert self._down_since is not None
        what = (
            f"the operator's process for {self._part} {ended}, and is started again; what was known stays. "
            "If this goes on, see the operator's log"
        )
        self.problem = Problem("Interrupted", what, self._down_since)
        self._changed()

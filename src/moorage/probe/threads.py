"""Steps of TLS, which take as long as servers make them take, beside the event loop."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

from moorage.probe.turns import Turns

R = TypeVar("R")

THREADS = 2
NICER = 2
"""By which their priority is lower than the event loop's. Not more: one that is not run may hold the interpreter's
lock, for which the event loop waits."""


class Turn(Generic[R]):
    """A step, and its result."""

    def __init__(self, namespace: str, step: Callable[[], R], result: asyncio.Future[R]) -> None:
        self.namespace = namespace
        self.step = step
        self.result = result
        self.begun = False
        """Whether it no longer waits for those of others."""


class Threads:
    """Runs steps when it is their turn. There are no threads before there is a step."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns: Turns[Turn[Any]] = Turns(THREADS, self._loop.time())
        self._pool = ThreadPoolExecutor(THREADS, "step", _nicer)
        self._closed = False

    def begin(self, namespace: str, step: Callable[[], R]) -> Turn[R]:
        turn = Turn(namespace, step, self._loop.create_future())
        self._turns.wait(namespace, turn)
        self._run()
        return turn

    def abandon(self, turn: Turn[R]) -> None:
        """Nobody waits for it any more. One that has begun goes on, and counts until it has ended."""
        self._turns.withdraw(turn.namespace, turn)
        turn.result.cancel()

    def close(self) -> None:
        """Begins none any more."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._closed and (turn := self._turns.following()) is not None:
            turn.begun = True
            self._pool.submit(self._step, turn)

    def _step(self, turn: Turn[Any]) -> None:
        began = time.thread_time()
        result, error = None, None
        try:
            result = turn.step()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._ended, turn, time.thread_time() - began, result, error)

    def _ended(self, turn: Turn[Any], seconds: float, result: object, error: Exception | None) -> None:
        self._turns.done(turn.namespace, seconds, self._loop.time())
        if not turn.result.done():
            if error is None:
                turn.result.set_result(result)
            else:
                turn.result.set_exception(error)
        self._run()


def _nicer() -> None:
    # In Linux each thread has a priority of its own (setpriority(2)).
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICER)

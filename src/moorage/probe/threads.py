"""Runs steps of TLS in threads beside the event loop: servers decide how long they take."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from moorage.probe.turns import Turns

R = TypeVar("R")

THREADS = 2
"""They have the event loop's priority: on a busy machine a thread with a lower one would run late, and might hold
the interpreter's lock meanwhile, for which the event loop waits."""


class Turn(Generic[R]):
    """A step and its result."""

    def __init__(self, namespace: str, step: Callable[[], R], result: asyncio.Future[R]) -> None:
        self.namespace = namespace
        self.step = step
        self.result = result
        self.begun = False
        """Whether its turn has begun."""


class Threads:
    """Runs steps when it is their turn. Threads start with the first step.

    A thread takes the next step by itself: on a busy machine, waking a thread costs more than the steps.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, "step")
        self._lock = threading.Lock()
        """For the fields below."""
        self._turns: Turns[Turn[Any]] = Turns(THREADS, time.monotonic())
        self._working = 0
        """Threads that have a step or are looking for one."""
        self._closed = False

    def begin(self, namespace: str, step: Callable[[], R]) -> Turn[R]:
        turn = Turn(namespace, step, self._loop.create_future())
        with self._lock:
            self._turns.wait(namespace, turn)
            if self._working < THREADS and not self._closed:
                self._working += 1
                self._pool.submit(self._work)
        return turn

    def abandon(self, turn: Turn[R]) -> None:
        """Stop waiting for a step. If it has begun, it goes on, and counts until it has ended."""
        with self._lock:
            self._turns.withdraw(turn.namespace, turn)
        turn.result.cancel()

    def close(self) -> None:
        """Begin no more steps."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            began = time.thread_time()
            try:
                settle = partial(_settle, turn, result=turn.step())
            except Exception as error:
                settle = partial(_settle, turn, error=error)
            with self._lock:
                self._turns.done(turn.namespace, time.thread_time() - began, time.monotonic())
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(settle)
            del (
                settle
            )  # An error refers to this frame; the frame and all it holds would wait for the garbage collector.

    def _next(self) -> Turn[Any] | None:
        with self._lock:
            turn = None if self._closed else self._turns.following(time.monotonic())
            if turn is None:
                self._working -= 1
            else:
                turn.begun = True
        return turn


def _settle(turn: Turn[Any], result: object = None, error: Exception | None = None) -> None:
    if turn.result.done():
        return
    if error is None:
        turn.result.set_result(result)
    else:
        turn.result.set_exception(error)

"""Repeats a look-up whenever its answer has expired."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from moorage.cluster.backoff import backoff
from moorage.discovery.resolver import LookupFailedError

T = TypeVar("T")

FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 30.0
"""How long until a failed look-up is tried again: the first time, and at most."""
SPREAD = 0.05
"""The share of its TTL by which a look-up may be late, so that not all are made at once."""


class Failure(NamedTuple):
    """Why the last look-up failed."""

    message: str
    since: str
    """RFC 3339: when the last good answer came; before the first one, when it was first asked for."""


class RepeatedLookup(Generic[T]):
    """Keeps the last good answer of `look_up`, and calls it again when the answer has expired.

    `look_up` returns the answer and how many seconds it is valid, or raises LookupFailedError: then `answer` stays,
    and `failure` says why. `on_change` is called after either has changed.
    """

    def __init__(
        self,
        look_up: Callable[[], Awaitable[tuple[T, float]]],
        on_change: Callable[[], None],
        *,
        now: Callable[[], str],
        jitter: Callable[[], float],
    ) -> None:
        self.answer: T | None = None
        self.failure: Failure | None = None
        self._look_up = look_up
        self._on_change = on_change
        self._now = now
        self._jitter = jitter

    async def run(self) -> None:
        """Run until cancelled. Only a bug ends it."""
        failures = 0
        right = self._now()
        while True:
            try:
                answer, seconds = await self._look_up()
                failures, right = 0, self._now()
                wait = seconds * (1 + SPREAD * self._jitter())
                self._set(answer, None)
            except LookupFailedError as error:
                failures += 1
                wait = backoff(failures, self._jitter(), first=FIRST_RETRY_SECONDS, longest=MAX_RETRY_SECONDS)
                self._set(self.answer, Failure(str(error), right))
            await asyncio.sleep(wait)

    def _set(self, answer: T | None, failure: Failure | None) -> None:
        if (answer, failure) != (self.answer, self.failure):
            self.answer, self.failure = answer, failure
            self._on_change()

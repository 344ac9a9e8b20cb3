"""A work queue of keys, with the guarantees of client-go's `util/workqueue`."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from moorage.cluster.backoff import backoff
from moorage.errors import MoorageError
from moorage.log import get_logger

K = TypeVar("K", bound=Hashable)

_log = get_logger("moorage.cluster.queue")


class Queue(Generic[K]):
    """Keys that wait for work, each handed out to one worker at a time.

    - However often a key is added before it is taken, it is taken once: the work reads the state of that moment.
    - A key that is added while a worker has it is handed out again afterwards, never at the same time.
    - If a key is added for several times, the earliest counts.
    - After failures in a row a key waits longer each time: `first` seconds, doubled up to `longest`, less a jitter.
      `add` does not wait for that, and does not forget the failures.

    `Dirty` is simpler: its one reader takes all keys as one batch.
    """

    def __init__(
        self, *, first: float = 0.2, longest: float = 60.0, jitter: Callable[[], float] = random.random
    ) -> None:
        self._first, self._longest, self._jitter = first, longest, jitter
        self._line: asyncio.Queue[K] = asyncio.Queue()
        self._in_line: set[K] = set()
        self._in_work: set[K] = set()
        self._again: set[K] = set()
        """In work, and to be handed out again afterwards."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._turns = asyncio.Lock()

    def __len__(self) -> int:
        """How many keys can be taken now."""
        return len(self._in_line)

    @property
    def idle(self) -> bool:
        """Whether no key is in line or in work. Keys may still be waiting for their time."""
        return not self._in_line and not self._in_work

    def add(self, key: K, after: float = 0.0) -> None:
        """Hand out `key`, `after` seconds from now if given, unless it is due earlier anyway."""
        if after > 0:
            self._add_later(key, after)
            return
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._in_work:
            self._again.add(key)
        elif key not in self._in_line:
            self._in_line.add(key)
            self._line.put_nowait(key)

    async def take(self) -> K:
        """Wait for a key and take the one that has been in line longest; end it with `done` or `failed`."""
        key = await self._line.get()
        self._in_line.discard(key)
        self._in_work.add(key)
        return key

    def done(self, key: K, again_after: float | None = None) -> None:
        """The work on a key went well; its failures are forgotten."""
        self._failures.pop(key, None)
        self._release(key)
        if again_after is not None:
            # Never at once: a worker that asks for no wait would never rest.
            self.add(key, max(again_after, self._first))

    def failed(self, key: K) -> float:
        """The work on a key has failed. Returns the seconds until it comes again, unless it is added earlier."""
        self._failures[key] = self._failures.get(key, 0) + 1
        wait = backoff(self._failures[key], self._jitter(), first=self._first, longest=self._longest)
        self._release(key)
        self.add(key, wait)
        return wait

    def failures(self, key: K) -> int:
        """How many times in a row the work on a key has failed."""
        return self._failures.get(key, 0)

    def close(self) -> None:
        """Forget all keys that wait for their time."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def run(self, work: Callable[[K], Awaitable[float | None]], *, workers: int = 1) -> None:
        """Work on keys as they come, at most `workers` at once, until cancelled.

        `work` returns the seconds after which to work on the key again; None: when it is added. An exception counts
        as a failure of that key alone: neither a bad object nor a bug of ours may stop the others.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._worker(work))
        finally:
            self.close()

    async def _worker(self, work: Callable[[K], Awaitable[float | None]]) -> None:
        while True:
            async with self._turns:
                # Other tasks, such as renewing the Lease, wait for all work that begins in one turn of the event
                # loop: so each turn begins the work on one key only.
                await asyncio.sleep(0)
                key = await self.take()
            try:
                again_after = await work(key)
            except Exception as error:
                wait = round(self.failed(key), 1)
                if isinstance(error, MoorageError):
                    _log.warning("not done", key=str(key), error=str(error), retry_seconds=wait)
                else:
                    _log.exception("not done because of a bug in Moorage", key=str(key), retry_seconds=wait)
            except BaseException:
                self._release(key)
                raise
            else:
                self.done(key, again_after)

    def _add_later(self, key: K, after: float) -> None:
        if key in self._in_line or key in self._again:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + after
        if (timer := self._timers.get(key)) is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self.add, key)

    def _release(self, key: K) -> None:
        self._in_work.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

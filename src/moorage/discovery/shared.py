"""Tasks that run once for all who need the same."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, Protocol, TypeVar

from moorage.cluster.backoff import backoff
from moorage.log import get_logger

log = get_logger("moorage.discovery")


class Runs(Protocol):
    async def run(self) -> None: ...

    def crashed(self, error: Exception) -> None: ...


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Runs)


async def supervised(
    run: Callable[[], Awaitable[None]], crashed: Callable[[Exception], None], *, what: str, longest: float = 300.0
) -> None:
    """Call `run` again and again, with back-off after an exception: a bug in one source must not end the others.

    `crashed` is called with each exception; only the first in a row is logged.
    """
    failures = 0
    while True:
        try:
            await run()
        except Exception as error:
            failures += 1
            if failures == 1:
                log.exception("a source failed; it is tried again", source=what)
            crashed(error)
        await asyncio.sleep(backoff(max(1, failures), 0.0, first=5.0, longest=longest))


def _tell(listeners: list[Callable[[], None]]) -> None:
    for each in tuple(listeners):
        each()


class Shared(Generic[K, R]):
    """Runs one `R` for each key, as long as somebody has taken it.

    `make(key, on_change)` makes it; its `on_change` calls those of all who have taken it.
    """

    def __init__(self, make: Callable[[K, Callable[[], None]], R]) -> None:
        self._make = make
        self._running: dict[K, tuple[R, asyncio.Task[None], list[Callable[[], None]]]] = {}

    def take(self, key: K, on_change: Callable[[], None]) -> R:
        """Take what runs for `key`; starts it if necessary. Give it back with the same `on_change`."""
        if key not in self._running:
            listeners: list[Callable[[], None]] = []
            made = self._make(key, partial(_tell, listeners))
            task = asyncio.create_task(supervised(made.run, made.crashed, what=type(made).__name__))
            self._running[key] = made, task, listeners
        made, _, listeners = self._running[key]
        listeners.append(on_change)
        return made

    def give_back(self, key: K, on_change: Callable[[], None]) -> None:
        """Give it back. It ends when the last one has given it back."""
        _, task, listeners = self._running[key]
        listeners.remove(on_change)
        if not listeners:
            del self._running[key]
            task.cancel()

    @property
    def running(self) -> list[R]:
        """All that run, in the order in which they were started."""
        return [made for made, _, _ in self._running.values()]

    @property
    def count(self) -> int:
        """How many run."""
        return len(self._running)

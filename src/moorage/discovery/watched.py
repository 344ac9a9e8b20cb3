"""A watch that knows since when it has been failing."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from moorage.api.meta import Object
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.reading import Listing, Unreadable
from moorage.cluster.reflector import ListWatch
from moorage.errors import MoorageError

T = TypeVar("T", bound=Object)

GRACE_SECONDS = 5.0
"""How long a broken connection may take to come back before that is a problem: servers restart and end watches."""


class Trouble(NamedTuple):
    """Why the watched objects may be out of date."""

    error: MoorageError
    since: str
    """RFC 3339."""


def _is_transient(error: MoorageError) -> bool:
    """Whether an error is probably over soon: no answer, or a server that is busy or starting."""
    if isinstance(error, ApiError):
        return error.status == 429 or error.status >= 500
    return isinstance(error, UnreachableError)


class MonitoredWatch:
    """Passes on a client's lists and watches, and keeps `trouble`; `on_change` is called when that changes.

    It is also called when the first watch begins: then a reflector has its first list. An expired resource version
    (410) is part of normal service.
    """

    def __init__(self, client: ListWatch, on_change: Callable[[], None], now: Callable[[], str]) -> None:
        self.trouble: Trouble | None = None
        self._client = client
        self._on_change = on_change
        self._now = now
        self._connected = False
        self._since = ""
        """Since when it has been failing; "" if it is not."""
        self._pending: asyncio.TimerHandle | None = None
        self._error: MoorageError | None = None

    async def list(self, kind: type[T], namespace: str | None = None, **selectors: Any) -> Listing[T]:
        try:
            return await self._client.list(kind, namespace, **selectors)
        except MoorageError as error:
            self.failed(error)
            raise

    async def watch(
        self, kind: type[T], namespace: str | None = None, **request: Any
    ) -> AsyncGenerator[Event[T] | Bookmark | Unreadable, None]:
        try:
            async with aclosing(self._client.watch(kind, namespace, **request)) as events:
                async for event in events:
                    self._right()
                    yield event
        except MoorageError as error:
            self.failed(error)
            raise

    def failed(self, error: MoorageError) -> None:
        """To be called when a list or a watch ended with `error`."""
        if isinstance(error, ApiError) and error.status == 410:
            return
        self._since = self._since or self._now()
        self._error = error
        if self.trouble is not None or not self._connected or not _is_transient(error):
            self._say()
        elif self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._say)

    def close(self) -> None:
        """Stop calling `on_change`."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _say(self) -> None:
        self.close()
        assert self._error is not None
        said = self.trouble
        self.trouble = Trouble(self._error, self._since)
        if said is None or str(said.error) != str(self._error):
            self._on_change()

    def _right(self) -> None:
        first, self._connected = not self._connected, True
        self._since = ""
        self.close()
        if first or self.trouble is not None:
            self.trouble = None
            self._on_change()

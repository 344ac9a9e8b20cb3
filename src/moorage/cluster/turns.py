"""A limit on what goes on at once that one tenant cannot use up."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """At most `size` at once. Tenants that wait get their turns one after the other, however many each waits for."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By tenant, in the order in which their turns come."""

    @asynccontextmanager
    async def turn(self, tenant: Hashable) -> AsyncIterator[None]:
        """Wait for a turn of this tenant, and have it until the end of the block."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, tenant: Hashable) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # it came, and is not taken
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            tenant, line = next(iter(self._waiting.items()))
            del self._waiting[tenant]
            next_one = line.popleft()
            if line:
                self._waiting[tenant] = line  # behind the others
            if not next_one.done():
                next_one.set_result(None)
                return
        self._free += 1

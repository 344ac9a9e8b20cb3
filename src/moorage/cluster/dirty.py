"""Keys to look at again."""

import asyncio
from typing import Generic, TypeVar

K = TypeVar("K")


class Dirty(Generic[K]):
    """A set of keys that wait for work. A key that is added several times is returned once."""

    def __init__(self) -> None:
        self._keys: dict[K, None] = {}
        self._some = asyncio.Event()

    def add(self, key: K) -> None:
        self._keys[key] = None
        self._some.set()

    def wake(self) -> None:
        """Let whoever waits in `take` go on, also without a key."""
        self._some.set()

    async def take(self) -> list[K]:
        """Wait for a key, or to be woken, then return all keys, oldest first."""
        await self._some.wait()
        return self.take_now()

    def take_now(self) -> list[K]:
        """All keys, oldest first, without waiting."""
        self._some.clear()
        keys, self._keys = list(self._keys), {}
        return keys

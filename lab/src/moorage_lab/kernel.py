"""Looks at what a node's kernel carries, from outside the lab."""

import time
from collections.abc import Callable

from moorage import proc
from moorage.errors import MoorageError


class Kernel:
    """One node's nftables. `prefix` is the command line prefix that enters the node."""

    def __init__(self, prefix: list[str]) -> None:
        self._prefix = prefix

    async def digest(self) -> str:
        """A digest of what the kernel carries. Raises MoorageError."""
        return await self._list("set", "inet", "moorage", "digest")

    async def table(self) -> str:
        """Our whole table: rules, elements, sessions. Raises MoorageError."""
        return await self._list("table", "inet", "moorage")

    async def _list(self, *what: str) -> str:
        done = await proc.run([*self._prefix, "nft", "list", *what])
        if done.status != 0:
            raise MoorageError(f"nft list {' '.join(what)}: {' '.join(done.stderr.split())}")
        return done.stdout

    async def until(self, holds: Callable[[str], bool], *, table: bool = False, seconds: float) -> float | None:
        """When the digest or the table was first seen as it should be (time.monotonic); None: not within `seconds`.

        It polls, so the real time is earlier by up to the time of one look, which is some milliseconds.
        """
        end = time.monotonic() + seconds
        while True:
            seen = holds(await (self.table() if table else self.digest()))
            now = time.monotonic()
            if seen:
                return now
            if now > end:
                return None

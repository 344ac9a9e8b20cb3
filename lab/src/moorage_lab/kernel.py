"""Looking at what a node's kernel carries, from outside of the lab."""

import time
from collections.abc import Callable

from moorage import proc
from moorage.errors import MoorageError


class Kernel:
    """One node's nftables. `prefix` is the command line prefix that enters the node."""

    def __init__(self, prefix: list[str]) -> None:
        self._prefix = prefix

    async def digest(self) -> str:
        """What changes with every change of what the kernel carries, and nothing else. Raises MoorageError."""
        return await self._list("set", "inet", "moorage", "digest")

    async def table(self) -> str:
        """The whole table of ours: rules, elements, sessions. Raises MoorageError."""
        return await self._list("table", "inet", "moorage")

    async def _list(self, *what: str) -> str:
        done = await proc.run([*self._prefix, "nft", "list", *what])
        if done.status != 0:
            raise MoorageError(f"nft list {' '.join(what)}: {' '.join(done.stderr.split())}")
        return done.stdout

    async def until(self, holds: Callable[[str], bool], *, table: bool = False, seconds: float) -> float | None:
        """When the digest, or the table, was first seen as it should be (time.monotonic); None: not in `seconds`.

        It looks again and again, so the truth is earlier by at most the time of one look, some milliseconds.
        """
        end = time.monotonic() + seconds
        while True:
            seen = holds(await (self.table() if table else self.digest()))
            now = time.monotonic()
            if seen:
                return now
            if now > end:
                return None

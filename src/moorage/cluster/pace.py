"""How often something may be done."""

import asyncio
import math


class Pace:
    """`a_second`, after a pause `burst` at once. The event loop's clock."""

    def __init__(self, a_second: float, burst: float) -> None:
        self._gap = 1.0 / a_second
        self._saved = burst * self._gap
        self._turn = -math.inf
        """When the next one may be done; up to `_saved` ago after a pause."""

    def wait(self) -> float:
        """Seconds until one may be done."""
        return max(0.0, self._turn - asyncio.get_running_loop().time())

    def take(self, number: float = 1.0) -> float:
        """Seconds until it is this one's turn, which is taken; of `number` together, the first one's."""
        now = asyncio.get_running_loop().time()
        turn = max(self._turn, now - self._saved + self._gap)
        self._turn = turn + number * self._gap
        return max(0.0, turn - now)

    async def turn(self) -> None:
        """Wait for the turn of one."""
        if (seconds := self.take()) > 0:
            await asyncio.sleep(seconds)

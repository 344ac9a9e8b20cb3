"""Limits how often something is done."""

import asyncio
import math


class Pace:
    """Allows `a_second` turns a second on average, and `burst` at once after a pause. By the event loop's clock."""

    def __init__(self, a_second: float, burst: float) -> None:
        self._gap = 1.0 / a_second
        self._saved = burst * self._gap
        self._turn = -math.inf
        """When the next turn may begin; after a pause, up to `_saved` in the past."""

    def wait(self) -> float:
        """Seconds until the next turn may begin."""
        return max(0.0, self._turn - asyncio.get_running_loop().time())

    def take(self, number: float = 1.0) -> float:
        """Take `number` turns. Returns the seconds until the first one begins."""
        now = asyncio.get_running_loop().time()
        turn = max(self._turn, now - self._saved + self._gap)
        self._turn = turn + number * self._gap
        return max(0.0, turn - now)

    async def turn(self) -> None:
        """Take a turn, and wait until it begins."""
        if (seconds := self.take()) > 0:
            await asyncio.sleep(seconds)

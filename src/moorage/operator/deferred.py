"""Events that wait until there is nothing more urgent to write."""

import asyncio
from collections.abc import Callable

from moorage.api.meta import Object
from moorage.cluster.recorder import Recorder
from moorage.log import get_logger

log = get_logger("moorage.operator")


class Deferred:
    """Passes on to a recorder what has happened as soon as nothing is `urgent`, or after `LONGEST` seconds.

    A leader that finds a thousand new ExternalServices brings their endpoints into use before it tells of it.
    """

    LONGEST = 10.0
    LOOK = 0.05
    """Seconds between two looks at whether something is urgent."""

    def __init__(self, recorder: Recorder, urgent: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._urgent = urgent
        self._line: asyncio.Queue[tuple[float, Object, str, str, str]] = asyncio.Queue()

    def record(self, about: Object, type: str, reason: str, message: str) -> None:
        """As `Recorder.record`."""
        self._line.put_nowait((asyncio.get_running_loop().time() + self.LONGEST, about, type, reason, message))

    async def run(self) -> None:
        """Pass on until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            until, about, type_, reason, message = await self._line.get()
            while self._urgent() and now() < until:  # noqa: ASYNC110  # asked, as nobody says when it is over
                await asyncio.sleep(self.LOOK)
            try:
                self._recorder.record(about, type_, reason, message)
            except Exception:
                log.exception("an event is lost because of a mistake in Moorage", reason=reason)

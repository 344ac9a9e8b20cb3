"""Holds Events back while something more urgent has to be written."""

import asyncio
from collections.abc import Callable

from moorage.api.core_v1 import LocalObjectReference
from moorage.api.meta import Object
from moorage.cluster.recorder import Recorder
from moorage.log import get_logger

log = get_logger("moorage.operator")


class Deferred:
    """Passes Events on to a recorder once nothing is `urgent`, or after MAX_DELAY_SECONDS.

    A leader that finds a thousand new ExternalServices first brings their endpoints into use. And where an endpoint
    fails, its slices do not wait for the news that its clients have moved.
    """

    MAX_DELAY_SECONDS = 10.0
    POLL_SECONDS = 0.05
    """How often to look whether something is urgent."""

    def __init__(self, recorder: Recorder, urgent: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._urgent = urgent
        self._line: asyncio.Queue[tuple[float, Object | LocalObjectReference, str, str, str]] = asyncio.Queue()

    def record(self, about: Object | LocalObjectReference, type: str, reason: str, message: str) -> None:
        """As `Recorder.record`."""
        self._line.put_nowait(
            (asyncio.get_running_loop().time() + self.MAX_DELAY_SECONDS, about, type, reason, message)
        )

    async def run(self) -> None:
        """Pass on until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            until, about, type_, reason, message = await self._line.get()
            while self._urgent() and now() < until:  # noqa: ASYNC110  # nothing tells us when it is over
                await asyncio.sleep(self.POLL_SECONDS)
            try:
                self._recorder.record(about, type_, reason, message)
            except Exception:
                log.exception("an event is lost because of a bug in Moorage", reason=reason)

"""Carries out a decision about an ExternalService: its writes, then its status, then Events."""

from collections.abc import Callable, Iterable

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.model import Create, Decision, News
from moorage.log import get_logger
from moorage.operator.deferred import Deferred
from moorage.operator.failures import FailureReports
from moorage.operator.records import Record
from moorage.operator.writer import RefusedError, TakenError, Writer, describe

log = get_logger("moorage.operator")


class Publisher:
    """Raises as `Writer` does. By then the status says what the API server refuses for good."""

    def __init__(self, writer: Writer, events: Deferred, now: Callable[[], str]) -> None:
        self._writer = writer
        self._events = events
        self.failures = FailureReports(writer, events, now)

    async def publish(self, record: Record, xsvc: ExternalService, decision: Decision) -> bool:
        """Whether anything had to be written."""
        await self._write(record, xsvc, decision)
        changed = bool(decision.writes)
        if decision.status != xsvc.status:
            changed = True
            try:
                xsvc = await self._writer.status(xsvc, decision.status)
            except RefusedError as refused:
                await self.failures.status_refused(record, xsvc, decision.status, refused)
                raise
        self._record(xsvc, decision.news)
        return changed

    def _record(self, xsvc: ExternalService, news: Iterable[News]) -> None:
        for each in news:
            self._events.record(xsvc, *each)

    async def _write(self, record: Record, xsvc: ExternalService, decision: Decision) -> None:
        for write in decision.writes:
            try:
                await self._writer.do(write)
            except TakenError:
                if isinstance(write, Create) and isinstance(write.obj, EndpointSlice):
                    record.obstacles.add(write.obj.metadata.key)
                raise
            except RefusedError as refused:
                await self.failures.refused(record, xsvc, decision.status, refused)
                # The status has these problems now, so the next decision treats them as known.
                reasons = {each.reason for each in decision.status.problems or ()}
                self._record(xsvc, (each for each in decision.news if each.reason in reasons))
                raise
        if decision.writes:
            log.info("written", object=str(record.key), writes=[describe(each) for each in decision.writes])

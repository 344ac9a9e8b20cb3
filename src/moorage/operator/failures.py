"""Writes into the status of an ExternalService why nothing could be done about it; the old status is out of date."""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec, ExternalServiceStatus
from moorage.cluster.reading import Unreadable
from moorage.core import conditions
from moorage.core.words import ConditionValue
from moorage.log import get_logger
from moorage.operator.deferred import Deferred
from moorage.operator.records import Record
from moorage.operator.writer import RefusedError, Writer

log = get_logger("moorage.operator")


class FailureReports:
    """Each method writes the status, unless it says so already, and then an Event.

    Each write takes a second of the record's pace: a refusal may come in other words each time.
    """

    def __init__(self, writer: Writer, events: Deferred, now: Callable[[], str]) -> None:
        self._writer = writer
        self._events = events
        self._now = now

    async def refused(
        self, record: Record, xsvc: ExternalService, status: ExternalServiceStatus, error: RefusedError
    ) -> None:
        """The API server refuses the Service or a slice that was decided on; its words say what to do."""
        message = f"{error.what} could not be written: {error.error.message}"
        values = {"Ready": ConditionValue("False", "WriteRefused", message)}
        before = xsvc.status
        await self._report(record, xsvc, replace(status, endpoints=before.endpoints, healthy=before.healthy), values)

    async def status_refused(
        self, record: Record, xsvc: ExternalService, status: ExternalServiceStatus, error: RefusedError
    ) -> None:
        """The API server refuses the status, or the status is too large: write it without its list of endpoints."""
        message = f"This status could not be written as a whole: {error.error.message}"
        values = {"Accepted": ConditionValue("False", "WriteRefused", message)}
        await self._report(record, xsvc, replace(status, endpoints=None), values)

    async def failed(self, record: Record, xsvc: ExternalService) -> None:
        """Nothing could be decided, because of a bug."""
        await self._report(record, xsvc, xsvc.status, conditions.failed(xsvc))

    async def service_unreadable(self, record: Record, xsvc: ExternalService, bad: Unreadable) -> None:
        """Nothing can be decided, because the Service of the same name cannot be read."""
        values = conditions.unreadable(xsvc, "The Service of this name", bad.why)
        await self._report(record, xsvc, xsvc.status, values)

    def report_unreadable(self, record: Record, bad: Unreadable) -> None:
        """The ExternalService itself cannot be read: write an Event, once for each generation."""
        if record.unreadable_event != bad.metadata.generation:
            record.unreadable_event = bad.metadata.generation
            value = conditions.unread(bad.why)
            self._events.record(_empty(bad), "Warning", value.reason, value.message)

    async def unreadable(self, record: Record, bad: Unreadable) -> None:
        """It could never be read since this process leads: write the status, once for each generation."""
        if record.unreadable_status == bad.metadata.generation:
            return
        xsvc = _empty(bad)
        values = conditions.unreadable(xsvc, "This ExternalService", bad.why)
        status = ExternalServiceStatus(
            observed_generation=bad.metadata.generation, conditions=conditions.conditions(xsvc, values, self._now())
        )
        try:
            await self._writer.status_of_unreadable(bad.metadata, status)
        except RefusedError as refused:
            # Before Kubernetes 1.30 (KEP-4008) the API server takes a status only together with a valid spec.
            log.debug("a status is refused", object=str(record.key), error=str(refused))
        record.unreadable_status = bad.metadata.generation

    async def _report(
        self,
        record: Record,
        xsvc: ExternalService,
        status: ExternalServiceStatus,
        values: Mapping[str, ConditionValue],
    ) -> None:
        found = conditions.conditions(xsvc, values, self._now(), status.conditions)
        before = {each.type: (each.reason, each.message) for each in xsvc.status.conditions or ()}
        status = replace(status, observed_generation=xsvc.metadata.generation, conditions=found)
        if status != xsvc.status:
            xsvc = await self._writer.status(xsvc, status)
            record.pace.take(1.0)
        first = next(each for each in found if each.type in values)
        if before.get(first.type) != (first.reason, first.message):
            self._events.record(xsvc, "Warning", first.reason, first.message)


def _empty(bad: Unreadable) -> ExternalService:
    return ExternalService(metadata=bad.metadata, spec=ExternalServiceSpec(ports=[]))

"""Says in the status of an ExternalService why it could not be dealt with, in place of what was true before."""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec, ExternalServiceStatus
from moorage.cluster.reading import Unreadable
from moorage.core import conditions
from moorage.core.conditions import ConditionValue
from moorage.log import get_logger
from moorage.operator.deferred import Deferred
from moorage.operator.records import Record
from moorage.operator.writer import RefusedError, Writer

log = get_logger("moorage.operator")


class FailureReports:
    """Each of these writes the status if it says something else so far, and then an Event.

    Each write takes a second of the record's pace: whoever refuses something may do so in other words each time.
    """

    def __init__(self, writer: Writer, events: Deferred, now: Callable[[], str]) -> None:
        self._writer = writer
        self._events = events
        self._now = now

    async def refused(
        self, record: Record, xsvc: ExternalService, status: ExternalServiceStatus, error: RefusedError
    ) -> None:
        """The API server does not want the Service or a slice that was decided: what it says is what to do."""
        message = f"{error.what} could not be written: {error.error.message}"
        values = {"Ready": ConditionValue("False", "WriteRefused", message)}
        before = xsvc.status
        await self._report(record, xsvc, replace(status, endpoints=before.endpoints, healthy=before.healthy), values)

    async def status_refused(
        self, record: Record, xsvc: ExternalService, status: ExternalServiceStatus, error: RefusedError
    ) -> None:
        """The API server does not want the status, or it is too large: the list of endpoints is left out of it."""
        message = f"This status could not be written as a whole: {error.error.message}"
        values = {"Accepted": ConditionValue("False", "WriteRefused", message)}
        await self._report(record, xsvc, replace(status, endpoints=None), values)

    async def failed(self, record: Record, xsvc: ExternalService) -> None:
        """Nothing could be decided, for a reason that nobody thought of."""
        await self._report(record, xsvc, xsvc.status, conditions.failed(xsvc))

    async def service_unreadable(self, record: Record, xsvc: ExternalService, bad: Unreadable) -> None:
        """Nothing can be decided, because the Service of this name cannot be read."""
        values = conditions.unreadable(xsvc, "The Service of this name", bad.why)
        await self._report(record, xsvc, xsvc.status, values)

    def report_unreadable(self, record: Record, bad: Unreadable) -> None:
        """The ExternalService itself cannot be read: an Event says so, once for each generation."""
        if record.unreadable_event != bad.metadata.generation:
            record.unreadable_event = bad.metadata.generation
            value = conditions.unread(bad.why)
            self._events.record(_empty(bad), "Warning", value.reason, value.message)

    async def unreadable(self, record: Record, bad: Unreadable) -> None:
        """It could never be read since this process leads: the status says so, once for each generation."""
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
            # Before Kubernetes 1.30 (KEP-4008) a status is only taken together with a valid spec.
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

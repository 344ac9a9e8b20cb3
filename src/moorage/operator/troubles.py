"""Says in the status of an ExternalService what kept it from being dealt with, so that no old truth stands there."""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec, ExternalServiceStatus
from moorage.cluster.reading import Unreadable
from moorage.core import conditions
from moorage.core.conditions import ConditionValue
from moorage.log import get_logger
from moorage.operator.deferred import Deferred
from moorage.operator.writer import RefusedError, Writer

log = get_logger("moorage.operator")


class Troubles:
    """Each of these writes the status where it says something else so far, and then tells it as an Event.

    `charge(key, seconds)` is called for each write: the words of whoever refuses something may be others each time.
    """

    def __init__(
        self, writer: Writer, events: Deferred, now: Callable[[], str], charge: Callable[[ObjectKey, float], None]
    ) -> None:
        self._writer = writer
        self._events = events
        self._now = now
        self._charge = charge
        self._told: dict[ObjectKey, int | None] = {}
        """The generation of which it was told that it cannot be read."""
        self._written: dict[ObjectKey, int | None] = {}
        """The generation of which the status says so, or cannot say so."""

    async def refused(self, xsvc: ExternalService, status: ExternalServiceStatus, error: RefusedError) -> None:
        """The API server does not want the Service or a slice that was decided: what it says is what to do."""
        said = ConditionValue("False", "WriteRefused", f"{error.what} could not be written: {error.error.message}")
        before = xsvc.status
        await self._say(xsvc, replace(status, endpoints=before.endpoints, healthy=before.healthy), {"Ready": said})

    async def status_refused(self, xsvc: ExternalService, status: ExternalServiceStatus, error: RefusedError) -> None:
        """The API server does not want the status, or it is too large: the list of endpoints is left out of it."""
        said = ConditionValue(
            "False", "WriteRefused", f"This status could not be written as a whole: {error.error.message}"
        )
        await self._say(xsvc, replace(status, endpoints=None), {"Accepted": said})

    async def failed(self, xsvc: ExternalService) -> None:
        """Nothing could be decided, for a reason that nobody thought of."""
        await self._say(xsvc, xsvc.status, conditions.failed(xsvc))

    async def service_unreadable(self, xsvc: ExternalService, bad: Unreadable) -> None:
        """Nothing can be decided, because the Service of this name cannot be read."""
        await self._say(xsvc, xsvc.status, conditions.unreadable(xsvc, "The Service of this name", bad.why))

    def tell_of_unreadable(self, key: ObjectKey, bad: Unreadable) -> None:
        """The ExternalService itself cannot be read: told as an Event, once for each generation."""
        if self._told.get(key, -1) != bad.metadata.generation:
            self._told[key] = bad.metadata.generation
            said = conditions.unread(bad.why)
            self._events.record(_empty(bad), "Warning", said.reason, said.message)

    async def unreadable(self, key: ObjectKey, bad: Unreadable) -> None:
        """The same where none of its states could be read since this process leads: in its status, once."""
        if self._written.get(key, -1) == bad.metadata.generation:
            return
        xsvc = _empty(bad)
        said = conditions.unreadable(xsvc, "This ExternalService", bad.why)
        status = ExternalServiceStatus(
            observed_generation=bad.metadata.generation, conditions=conditions.conditions(xsvc, said, self._now())
        )
        try:
            await self._writer.status_of_unreadable(bad.metadata, status)
        except RefusedError as refused:
            # Before Kubernetes 1.30 (KEP-4008) a status is only taken together with a valid spec.
            log.debug("a status is refused", object=str(key), error=str(refused))
        self._written[key] = bad.metadata.generation

    def forget(self, key: ObjectKey) -> None:
        """This ExternalService can be read, or is gone."""
        self._told.pop(key, None)
        self._written.pop(key, None)

    async def _say(
        self, xsvc: ExternalService, status: ExternalServiceStatus, said: Mapping[str, ConditionValue]
    ) -> None:
        told = {each.type: each for each in conditions.conditions(xsvc, said, self._now()) if each.type in said}
        before = {each.type: (each.reason, each.message) for each in xsvc.status.conditions or ()}
        found = {each.type: each for each in status.conditions or ()} | told
        status = replace(
            status, observed_generation=xsvc.metadata.generation, conditions=conditions.in_order(found.values())
        )
        if status != xsvc.status:
            xsvc = await self._writer.status(xsvc, status)
            self._charge(xsvc.metadata.key, 1.0)
        first = next(iter(told.values()))
        if before.get(first.type) != (first.reason, first.message):
            self._events.record(xsvc, "Warning", first.reason, first.message)


def _empty(bad: Unreadable) -> ExternalService:
    return ExternalService(metadata=bad.metadata, spec=ExternalServiceSpec(ports=[]))

"""Events, so that `kubectl describe` tells what happened."""

import asyncio
from collections.abc import Callable

from moorage.api.core_v1 import Event, LocalObjectReference
from moorage.api.kinds import kind_of
from moorage.api.meta import Object, ObjectMeta
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage.lab.control.names import Suffix
from moorage.log import get_logger

COMPONENT = "moorage-lab"
_LONGEST_QUEUE = 1000
_LONGEST_MESSAGE = 1024
_KNOWN = 1000
"""Events that are remembered, to be counted up instead of written anew."""

_log = get_logger("moorage.lab.control.events")


def event(about: Object, type: str, reason: str, message: str, suffix: str, now: str) -> Event:
    """A new Event about an object; `type` is Normal or Warning, `now` RFC 3339."""
    meta, kind = about.metadata, kind_of(about.__class__)
    return Event(
        api_version="v1",
        kind="Event",
        metadata=ObjectMeta(name=f"{meta.name}.{suffix}", namespace=meta.namespace or "default"),
        involved_object=LocalObjectReference(kind=kind.kind, name=meta.name, namespace=meta.namespace, uid=meta.uid),
        type=type,
        reason=reason,
        message=message[:_LONGEST_MESSAGE],
        count=1,
        first_timestamp=now,
        last_timestamp=now,
        reporting_component=COMPONENT,
        source={"component": COMPONENT},
    )


class Recorder:
    """Writes Events in its own time; where the API server does not take them, they are lost."""

    def __init__(self, client: Client, suffix: Suffix, now: Callable[[], str]) -> None:
        self._client, self._suffix, self._now = client, suffix, now
        self._queue: asyncio.Queue[Event] = asyncio.Queue(_LONGEST_QUEUE)
        self._known: dict[tuple[str | None, str | None, str | None], Event] = {}

    def record(self, about: Object, type: str, reason: str, message: str) -> None:
        """Note that something happened; repeated, the Event of before is counted up."""
        if not self._queue.full():
            self._queue.put_nowait(event(about, type, reason, message, self._suffix(), self._now()))

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            new = await self._queue.get()
            try:
                await self._write(new)
            except MoorageError as error:
                _log.debug("event not written", error=str(error))

    async def _write(self, new: Event) -> None:
        key = new.involved_object.uid, new.reason, new.message
        old = self._known.pop(key, None)
        if old is None:
            self._known[key] = await self._client.create(new)
        else:
            body = {"count": (old.count or 1) + 1, "lastTimestamp": new.last_timestamp}
            self._known[key] = await self._client.patch(Event, old.metadata.namespace, old.metadata.name, body)
        while len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

"""Kubernetes Events, which `kubectl describe` shows for an object (client-go's `tools/record`)."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from moorage.api.core_v1 import Event, LocalObjectReference
from moorage.api.kinds import kind_of
from moorage.api.meta import Object, ObjectMeta
from moorage.cluster.clock import timestamp
from moorage.cluster.errors import ApiError
from moorage.errors import MoorageError
from moorage.log import get_logger

V = TypeVar("V")

MAX_MESSAGE_CHARACTERS = 1024
"""The API server refuses longer ones."""

_log = get_logger("moorage.cluster.recorder")


class EventClient(Protocol):
    """The part of a client that a recorder needs."""

    async def get(self, kind: type[Event], namespace: str | None, name: str) -> Event: ...

    async def create(self, obj: Event) -> Event: ...

    async def patch(self, kind: type[Event], namespace: str | None, name: str, body: object) -> Event: ...


class _Entry(NamedTuple):
    about: LocalObjectReference
    type: str
    reason: str
    message: str
    at: str


class Recorder:
    """Writes Events in the background, one after the other. `record` never waits; what cannot be written is lost.

    It has client-go's limits, so that an object that changes all the time does not flood anybody. A repeated Event
    only increases its count. From the `MAX_SIMILAR`th message with the same reason within `SIMILAR_SECONDS`, all
    share one Event. Each object may have `BURST_WRITES` writes at once, and then one every `REFILL_SECONDS`. Unlike
    in client-go, the name of an Event follows from its text, so that the next leader increases the count of the same
    Event.
    """

    BURST_WRITES = 25
    REFILL_SECONDS = 300.0
    MAX_SIMILAR = 10
    SIMILAR_SECONDS = 600.0
    MAX_WAITING = 10_000
    """How many Events may wait; more are dropped."""
    MAX_REMEMBERED = 4_096
    """How many Events, reasons and objects are remembered."""

    def __init__(
        self,
        client: EventClient,
        component: str,
        *,
        host: str = "",
        now: Callable[[], str] = timestamp,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """`component` and `host` are the reporter. `may_write` is asked before each write."""
        self._client, self._component, self._host = client, component, host
        self._now, self._may_write = now, may_write
        self._pending: asyncio.Queue[_Entry] = asyncio.Queue(self.MAX_WAITING)
        self._counts: _Recent[tuple[str, str], int] = _Recent(self.MAX_REMEMBERED)
        """Namespace and name of an Event -> its count."""
        self._similar: _Recent[tuple[str, str, str], tuple[float, frozenset[str]]] = _Recent(self.MAX_REMEMBERED)
        """uid, type and reason -> when it last occurred, and with which messages."""
        self._budgets: _Recent[str, tuple[float, float]] = _Recent(self.MAX_REMEMBERED)
        """uid -> how many writes it had left, and when that was, by the event loop's clock."""

    @property
    def waiting(self) -> int:
        """How many Events wait to be written."""
        return self._pending.qsize()

    def record(self, about: Object | LocalObjectReference, type: str, reason: str, message: str) -> None:
        """Record an Event. `type` is Normal or Warning, `reason` one CamelCase word."""
        reference = reference_to(about) if isinstance(about, Object) else about
        if self._pending.full():
            _log.debug("an event is dropped: too many wait", reason=reason)
            return
        self._pending.put_nowait(_Entry(reference, type, reason, message[:MAX_MESSAGE_CHARACTERS], self._now()))

    async def run(self) -> None:
        """Write recorded Events until cancelled."""
        while True:
            entry = await self._pending.get()
            if not self._may_write() or not self._within_budget(entry.about.uid or ""):
                continue
            try:
                await self._write(entry)
            except MoorageError as error:
                _log.debug("an event is lost", reason=entry.reason, error=str(error))
            except Exception:
                _log.exception("an event is lost because of a bug in Moorage", reason=entry.reason)

    async def _write(self, entry: _Entry) -> None:
        if self._is_one_of_many(entry):
            message = f"(combined from similar events): {entry.message}"[:MAX_MESSAGE_CHARACTERS]
            name = _name(entry, "")
            entry = entry._replace(message=message)
        else:
            name = _name(entry, entry.message)
        # An object without a namespace has its Events in this one, as with client-go.
        namespace = entry.about.namespace or "default"
        count = self._counts.get((namespace, name))
        if count is None:
            try:
                await self._create(namespace, name, entry)
                return
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                # Written by a process before this one.
                count = (await self._client.get(Event, namespace, name)).count or 1
        again = {"count": count + 1, "lastTimestamp": entry.at, "message": entry.message}
        try:
            await self._client.patch(Event, namespace, name, again)
            self._counts.put((namespace, name), count + 1)
        except ApiError as error:
            if error.status != 404:
                raise
            # Events last an hour.
            await self._create(namespace, name, entry)

    async def _create(self, namespace: str, name: str, entry: _Entry) -> None:
        await self._client.create(
            Event(
                metadata=ObjectMeta(name=name, namespace=namespace),
                involved_object=entry.about,
                type=entry.type,
                reason=entry.reason,
                message=entry.message,
                count=1,
                first_timestamp=entry.at,
                last_timestamp=entry.at,
                reporting_component=self._component,
                source={"component": self._component, **({"host": self._host} if self._host else {})},
            )
        )
        self._counts.put((namespace, name), 1)

    def _is_one_of_many(self, entry: _Entry) -> bool:
        now = asyncio.get_running_loop().time()
        key = entry.about.uid or "", entry.type, entry.reason
        last, messages = self._similar.get(key) or (now, frozenset())
        if now - last > self.SIMILAR_SECONDS:
            messages = frozenset()
        # No more than necessary to know that there are many.
        if len(messages) < self.MAX_SIMILAR:
            messages |= {entry.message}
        self._similar.put(key, (now, messages))
        return len(messages) >= self.MAX_SIMILAR

    def _within_budget(self, uid: str) -> bool:
        now = asyncio.get_running_loop().time()
        left, since = self._budgets.get(uid) or (float(self.BURST_WRITES), now)
        left = min(float(self.BURST_WRITES), left + (now - since) / self.REFILL_SECONDS)
        allowed = left >= 1.0
        self._budgets.put(uid, (left - 1.0 if allowed else left, now))
        return allowed


K = TypeVar("K")


class _Recent(Generic[K, V]):
    """A map that forgets its oldest entries."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)


def reference_to(obj: Object) -> LocalObjectReference:
    """How an Event names the object that it is about."""
    meta, kind = obj.metadata, kind_of(obj.__class__)
    return LocalObjectReference(
        api_version=kind.api_version,
        kind=kind.kind,
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
    )


def _name(entry: _Entry, message: str) -> str:
    """The name of the Event: the same in every process for the same text about the same object."""
    text = "\n".join((entry.about.uid or "", entry.type, entry.reason, message))
    return f"{entry.about.name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"

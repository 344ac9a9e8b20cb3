"""Keeps a copy of a collection current by list and watch."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, Generic, Protocol, TypeVar

from msgspec.structs import replace

from moorage.api.kinds import kind_of
from moorage.api.meta import Object, ObjectKey
from moorage.cluster.backoff import backoff
from moorage.cluster.errors import ApiError, SilentError, UnreachableError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.reading import Listing, Unreadable
from moorage.cluster.store import Change, Index, Store
from moorage.errors import MoorageError
from moorage.log import get_logger

T = TypeVar("T", bound=Object)

MAX_RETRY_AFTER_SECONDS = 60.0
"""A server that asks for a longer wait does not get it."""
IDLE_TIMEOUT_SECONDS = 100.0
"""How long a watch may be silent before it is opened again. If something changes now and then, kube-apiserver sends
a bookmark about every minute."""
MIN_WATCH_SECONDS = 1.0
"""A watch that ends earlier than this without an event counts as a failure; otherwise this would be a busy loop."""


class ListWatch(Protocol):
    """The part of a client that a reflector needs."""

    async def list(
        self, kind: type[T], namespace: str | None = None, *, label_selector: str | None, field_selector: str | None
    ) -> Listing[T]: ...

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None,
        field_selector: str | None,
        idle_timeout: float,
    ) -> AsyncGenerator[Event[T] | Bookmark | Unreadable, None]: ...


class Reflector(Generic[T]):
    """Keeps the objects of a kind, in one namespace or in all, in `store`, without their managedFields.

    The store also finds them by `indexes`: `reflector.store.by(index, key)`.

    `synced` is set when the first list is in the store, and stays set: while the server cannot be reached, the store
    holds the last known state. Then `error` says what went wrong; it is None while the watch works.

    `on_change(change)` is called after each change of the store. That includes changes that happened while the server
    could not be reached: an object that was deleted and created again is first reported as gone. For one list,
    objects that are gone are reported before new ones, so that addresses are given up before they are taken.

    `answered` is set together with `synced`, and also when the server has refused the list (403, 404): then no list
    will come before somebody changes that.

    An object that cannot be read, that has a `fault`, or that makes `on_change`, `transform` or an index fail, is in
    `unreadable` and affects no others. The store keeps its last good state, under the uid, resourceVersion and
    generation that it has now. `on_unreadable(key)` is called when that happens, and when such an object is gone
    without having been in the store.

    `transform` reduces each object to what is needed, which matters for large collections; it must keep name,
    namespace, uid and resourceVersion. `fault` says why an object cannot be used, in words that follow its name; None
    if it can. `idle_timeout`: seconds of silence after which a watch is closed and opened again.
    """

    def __init__(
        self,
        client: ListWatch,
        kind: type[T],
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        on_change: Callable[[Change[T]], None] = lambda change: None,
        on_unreadable: Callable[[ObjectKey], None] = lambda key: None,
        transform: Callable[[T], T] = lambda obj: obj,
        fault: Callable[[T], str | None] = lambda obj: None,
        indexes: Iterable[Index[T, Any]] = (),
        idle_timeout: float = IDLE_TIMEOUT_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.store = Store(indexes)
        self.unreadable: dict[ObjectKey, Unreadable] = {}
        self.synced, self.answered = asyncio.Event(), asyncio.Event()
        self.error: MoorageError | None = None
        self.kind = kind_of(kind).kind
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._on_change = on_change
        self._on_unreadable = on_unreadable
        self._transform = transform
        self._fault = fault
        self._idle_timeout = idle_timeout
        self._jitter = jitter
        self._version: str | None = None
        """The version from which to watch; None: list first."""
        self._failures = 0
        self._log = get_logger("moorage.cluster.reflector", kind=self.kind, namespace=namespace)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if self._version is None:
                    await self._relist()
                await self._watch()
            except MoorageError as error:
                await self._failed(error)

    async def _relist(self) -> None:
        # The newest state, not a cached one, so that the store never goes back in time.
        listing = await self._client.list(
            self._kind, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector
        )
        taken = [*map(self._prepare, listing.items), *listing.unreadable]
        bad = {obj.metadata.key: obj for obj in taken if isinstance(obj, Unreadable)}
        new = {obj.metadata.key: obj for obj in taken if not isinstance(obj, Unreadable)}
        old = dict(self.store)
        kept = [self._last_good(key, obj) for key, obj in bad.items()]
        self.store.replace([*new.values(), *filter(None, kept)])
        self._version = listing.resource_version
        for key, obj in list(old.items()):
            if key not in self.store or self.store[key].metadata.uid != obj.metadata.uid:
                self._notify(Change(key, old.pop(key), None))
        for key, each in list(self.unreadable.items()):
            if key not in bad and (
                key not in new or new[key].metadata.resource_version != each.metadata.resource_version
            ):
                self._clear_unreadable(key)
        for key, each in bad.items():
            self._mark_unreadable(key, each)
        for key, obj in list(self.store.items()):
            before = old.get(key)
            if before is None or obj.metadata.resource_version != before.metadata.resource_version:
                self._notify(Change(key, before, obj))
        self.synced.set()
        self.answered.set()

    async def _watch(self) -> None:
        assert self._version is not None
        now = asyncio.get_running_loop().time
        started = now()
        watch = self._client.watch(
            self._kind,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            idle_timeout=self._idle_timeout,
        )
        async with aclosing(watch) as events:
            await anext(events, None)
            self._connected()
            heard = False
            # A quiet collection is as silent as a dead connection: the next watch will show which it was.
            with suppress(SilentError):
                async for event in events:
                    heard, self._failures = True, 0
                    if isinstance(event, Bookmark):
                        self._version = event.resource_version
                    elif isinstance(event, Unreadable):
                        self._apply_unreadable(event)
                    else:
                        self._apply(event)
        if not heard and now() - started < MIN_WATCH_SECONDS:
            raise UnreachableError("the server ended the watch as soon as it began")
        self._failures = 0

    def _apply(self, event: Event[T]) -> None:
        obj = self._prepare(event.object)
        if isinstance(obj, Unreadable):
            self._apply_unreadable(replace(obj, deleted=event.type == "DELETED"))
            return
        key = obj.metadata.key
        old = self.store.get(key)
        self._version = obj.metadata.resource_version
        self.unreadable.pop(key, None)
        if event.type == "DELETED":
            if (gone := self.store.discard(key)) is not None:
                self._notify(Change(key, gone, None))
            return
        self.store.put(obj)
        if old is not None and old.metadata.uid != obj.metadata.uid:
            self._notify(Change(key, old, None))
            old = None
        if old is None or old.metadata.resource_version != obj.metadata.resource_version:
            self._notify(Change(key, old, obj))

    def _apply_unreadable(self, bad: Unreadable) -> None:
        key = bad.metadata.key
        self._version = bad.metadata.resource_version
        good = None if bad.deleted else self._last_good(key, bad)
        if good is not None:
            self.store.put(good)
        elif (gone := self.store.discard(key)) is not None:
            self._notify(Change(key, gone, None))
        if bad.deleted:
            self._clear_unreadable(key)
        else:
            self._mark_unreadable(key, bad)

    def _clear_unreadable(self, key: ObjectKey) -> None:
        if self.unreadable.pop(key, None) is not None:
            self._guarded(key, lambda: self._on_unreadable(key))

    def _prepare(self, obj: T) -> T | Unreadable:
        try:
            kept = self._transform(_slim(obj))
            self.store.check(kept)
            why = self._fault(kept)
            return kept if why is None else Unreadable(obj.metadata, why)
        except Exception as error:
            self._log.exception("an object is left out because of a bug in Moorage", object=str(obj.metadata.key))
            return Unreadable(obj.metadata, repr(error))

    def _last_good(self, key: ObjectKey, bad: Unreadable) -> T | None:
        """The last good state of an object with its present version; None if there is none with this uid."""
        good, meta = self.store.get(key), bad.metadata
        if good is None or good.metadata.uid != meta.uid:
            return None
        now = replace(good.metadata, resource_version=meta.resource_version, generation=meta.generation)
        return replace(good, metadata=now)

    def _mark_unreadable(self, key: ObjectKey, bad: Unreadable) -> None:
        before = self.unreadable.get(key)
        self.unreadable[key] = bad
        if before is None or before.why != bad.why:
            stays = "its last good state stays in use" if key in self.store else "it is left out"
            self._log.warning(f"an object cannot be used; {stays}", object=str(key), error=bad.why)
        self._guarded(key, lambda: self._on_unreadable(key))

    def _notify(self, change: Change[T]) -> None:
        key, _, new = change
        if not self._guarded(key, lambda: self._on_change(change)) and new is not None:
            self.unreadable[key] = Unreadable(new.metadata, "a bug in Moorage; the log says more")

    def _guarded(self, key: ObjectKey, call: Callable[[], None]) -> bool:
        """Whether `call` succeeded. A bug that one object triggers must not keep others from being reported."""
        try:
            call()
        except Exception:
            self._log.exception("an object is not dealt with because of a bug in Moorage", object=str(key))
            return False
        return True

    def _connected(self) -> None:
        if self.error is not None:
            self._log.info("watching again")
        self.error = None

    async def _failed(self, error: MoorageError) -> None:
        self._failures += 1
        wait = backoff(self._failures, self._jitter())
        if isinstance(error, ApiError):
            if error.status == 410 and self._failures == 1:
                wait = 0.0
            if error.status in (403, 404):
                self.answered.set()
            wait = max(wait, min(error.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
        if not isinstance(error, UnreachableError):
            self._version = None
        # Once, not at every attempt. An expired version is part of normal service.
        if self.error is None and wait:
            self._log.warning(
                "not watching; what is known stays in use", error=str(error), retry_seconds=round(wait, 1)
            )
        # It is kept until something changes, and its frames would keep the whole answer in memory.
        error.__traceback__ = error.__context__ = None
        self.error = error
        await asyncio.sleep(wait)


def _slim(obj: T) -> T:
    """`obj` without its managedFields, which nobody reads and which would take much of a store's memory."""
    if obj.metadata.managed_fields is None:
        return obj
    return replace(obj, metadata=replace(obj.metadata, managed_fields=None))

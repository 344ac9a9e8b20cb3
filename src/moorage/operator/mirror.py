"""A reflector's store that includes our own writes before the watch shows them."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from moorage.api.meta import Object, ObjectKey, is_older
from moorage.cluster.store import Change, Index, Store

T = TypeVar("T", bound=Object)
K = TypeVar("K", bound=Hashable)


class Mirror(Generic[T]):
    """The newest known objects: from the watch, or from answers to later writes.

    Without it, a decision soon after a write would start from the state before the write: the API server would refuse
    it (409), or the same news would be told twice.
    """

    PATIENCE_SECONDS = 30.0
    """How long a write's answer counts while the watch does not show it. The watch never shows an object that is gone
    again before it can be seen."""

    def __init__(self, store: Store[T], expired: Callable[[Change[T]], None] = lambda change: None) -> None:
        """`expired` is called when a write's answer no longer counts because its time is over."""
        self._store = store
        self._written = Store(store.indexes)
        self._until: dict[ObjectKey, float] = {}
        """When each answer expires, by the event loop's clock."""
        self._expired = expired

    def get(self, key: ObjectKey) -> T | None:
        """The object; None if there is none."""
        return self._written.get(key) or self._store.get(key)

    def by(self, index: Index[T, K], key: K) -> list[T]:
        """The objects that `index`, one of the store's indexes, finds under `key`; by namespace and name."""
        found = {each.metadata.key: each for each in self._store.by(index, key)}
        found = {name: each for name, each in found.items() if name not in self._written}
        found |= {each.metadata.key: each for each in self._written.by(index, key)}
        return [found[name] for name in sorted(found)]

    def wrote(self, obj: T, made: bool) -> None:
        """Take the answer to a write; `made`: the write created the object."""
        key = obj.metadata.key
        known = self.get(key)
        if not made and (known is None or known.metadata.uid != obj.metadata.uid):
            return  # the watch was faster: the object is gone again
        shown = self._store.get(key)
        if shown and (is_older(obj, shown) or shown.metadata.resource_version == obj.metadata.resource_version):
            return  # the watch was faster
        loop = asyncio.get_running_loop()
        self._written.put(obj)
        self._until[key] = loop.time() + self.PATIENCE_SECONDS
        loop.call_later(self.PATIENCE_SECONDS, self._expire, key)

    def gone(self, key: ObjectKey) -> None:
        """Forget a write's answer, because the object no longer exists."""
        self._drop(key)

    def watched(self, change: Change[T]) -> Change[T]:
        """Drop the answer if this change of the watch is as new. Returns the change as seen from here."""
        key, old, new = change
        written = self._written.get(key)
        if written is not None and (new is None or not is_older(new, written)):
            self._drop(key)
        return Change(key, written or old, self.get(key))

    def _expire(self, key: ObjectKey) -> None:
        if key in self._until and asyncio.get_running_loop().time() >= self._until[key]:
            written = self._drop(key)
            self._expired(Change(key, written, self._store.get(key)))

    def _drop(self, key: ObjectKey) -> T | None:
        self._until.pop(key, None)
        return self._written.discard(key)

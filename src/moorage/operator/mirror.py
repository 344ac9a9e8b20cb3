"""A reflector's store that knows our own writes before the watch tells of them."""

import asyncio
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from moorage.api.meta import Object, ObjectKey

T = TypeVar("T", bound=Object)


class _Written(NamedTuple, Generic[T]):
    obj: T
    until: float
    """By the event loop's clock."""


class Mirror(Generic[T]):
    """The newest known objects: what the watch told, or what a write answered since.

    Without it, work that follows a write closely would decide from the state before it, and be refused (409) or
    tell the same news twice.
    """

    PATIENCE_SECONDS = 30.0
    """Seconds for which a write's answer counts while the watch is silent about it: if what was written was gone
    again before the watch could see it, nobody will ever tell."""

    def __init__(self, store: dict[ObjectKey, T], expired: Callable[[ObjectKey], None] = lambda key: None) -> None:
        self._store = store
        self._written: dict[ObjectKey, _Written[T]] = {}
        self._expired = expired

    def get(self, key: ObjectKey) -> T | None:
        """The object, None where there is none."""
        written = self._written.get(key)
        if written is None:
            return self._store.get(key)
        return written.obj

    def wrote(self, obj: T, made: bool) -> None:
        """Take the answer to a write; `made`: to one that made the object."""
        key = obj.metadata.key
        known = self.get(key)
        if not made and (known is None or known.metadata.uid != obj.metadata.uid):
            return  # the watch was faster, and has told that it is gone since
        if _is_older(obj, self._store.get(key)):
            return  # the watch was faster
        loop = asyncio.get_running_loop()
        self._written[key] = _Written(obj, loop.time() + self.PATIENCE_SECONDS)
        loop.call_later(self.PATIENCE_SECONDS, self._expire, key)

    def gone(self, key: ObjectKey) -> None:
        """Forget a write's answer: there is no such object any more."""
        self._written.pop(key, None)

    def told(self, key: ObjectKey, obj: T | None) -> None:
        """The watch has told of this object, None of its end: an answer that is not newer than that is not needed."""
        written = self._written.get(key)
        if written is not None and (obj is None or not _is_older(obj, written.obj)):
            del self._written[key]

    def _expire(self, key: ObjectKey) -> None:
        written = self._written.get(key)
        if written is not None and asyncio.get_running_loop().time() >= written.until:
            del self._written[key]
            self._expired(key)


def _is_older(obj: Object, than: Object | None) -> bool:
    """Whether `obj` is of an older state of the collection.

    Resource versions are numbers that grow (KEP-5504 makes that a promise; etcd's revisions have always been such).
    Where they are none, nothing is said to be older.
    """
    if than is None:
        return False
    ours, theirs = obj.metadata.resource_version or "", than.metadata.resource_version or ""
    return ours.isdecimal() and theirs.isdecimal() and int(ours) < int(theirs)

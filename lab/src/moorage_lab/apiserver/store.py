"""All objects of one cluster, in memory, with the history that watches resume from.

One number counts the writes to all kinds: an object's resourceVersion is the number of its last write.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from moorage.api.kinds import Kind
from moorage.api.meta import ObjectKey
from moorage_lab.apiserver.objects import Obj, dig, metadata, name_of, namespace_of
from moorage_lab.apiserver.status import expired

"""Namespace (`""` for cluster-scoped kinds) and name."""


class Change(NamedTuple):
    """One write: its type, and the object before and after it."""

    version: int
    kind: Kind
    before: Obj | None
    after: Obj | None
    """None when the object was deleted."""
    last: Obj
    """`after`, or the deleted object with the resourceVersion of its deletion."""


class Store:
    """Objects by kind, namespace and name. Objects that go in or come out must not be changed afterwards."""

    def __init__(self, history: int = 20_000) -> None:
        """`history`: how many writes are kept for watches and for lists at an older resourceVersion."""
        self.version = 1
        self._limit = history
        self._objects: dict[tuple[str, str], dict[ObjectKey, Obj]] = {}
        self._uids: dict[str, tuple[Kind, ObjectKey]] = {}
        self._dependents: dict[str, set[str]] = {}
        self._history: deque[Change] = deque()
        self._changed = asyncio.Event()

    @property
    def oldest(self) -> int:
        """The oldest resourceVersion that a watch can resume from."""
        return self._history[0].version - 1 if self._history else self.version

    def get(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        return self._table(kind).get(ObjectKey(namespace, name))

    def by_uid(self, uid: str) -> tuple[Kind, Obj] | None:
        found = self._uids.get(uid)
        return (found[0], self._table(found[0])[found[1]]) if found else None

    def dependents(self, uid: str) -> list[tuple[Kind, Obj]]:
        """Objects that name `uid` among their ownerReferences, by age."""
        found = [one for dependent in self._dependents.get(uid, ()) if (one := self.by_uid(dependent))]
        return sorted(found, key=lambda one: int(metadata(one[1])["resourceVersion"]))

    def list(self, kind: Kind, namespace: str = "", at: int | None = None) -> list[Obj]:
        """The kind's objects by namespace and name, in one namespace or in all (`""`), now or as they were `at` a
        resourceVersion. Raises StatusError 410 where history does not reach back to it."""
        table = self._table(kind)
        if at is not None and at < self.version:
            table = dict(table)
            for change in reversed(list(self.changes(at))):
                if change.kind.plural == kind.plural and change.kind.group == kind.group:
                    key = _key(change.last)
                    if change.before is None:
                        table.pop(key, None)
                    else:
                        table[key] = change.before
        return [table[key] for key in sorted(table) if not namespace or key.namespace == namespace]

    def in_namespace(self, namespace: str) -> Iterator[tuple[Kind, Obj]]:
        """Every object in a namespace, of any kind; a snapshot, so that they may be deleted during the loop."""
        found = [one for one in self._uids.values() if one[1].namespace == namespace]
        for kind, key in found:
            obj = self._table(kind).get(key)
            if obj is not None:
                yield kind, obj

    def put(self, kind: Kind, obj: Obj) -> Obj:
        """Write a new object, or a new state of it; returns it with its resourceVersion."""
        key = _key(obj)
        before = self._table(kind).get(key)
        after = self._stamp(obj)
        self._table(kind)[key] = after
        if before is not None:
            self._unlink(before)
        uid = metadata(after)["uid"]
        self._uids[uid] = (kind, key)
        for owner in _owners(after):
            self._dependents.setdefault(owner, set()).add(uid)
        self._record(Change(self.version, kind, before, after, after))
        return after

    def remove(self, kind: Kind, namespace: str, name: str) -> Obj:
        """Delete an object for good; returns its last state, with the resourceVersion of the deletion."""
        before = self._table(kind).pop(ObjectKey(namespace, name))
        last = self._stamp(before)
        self._unlink(before)
        self._record(Change(self.version, kind, before, None, last))
        return last

    def changes(self, since: int) -> Iterator[Change]:
        """Every write after `since`, oldest first.

        Raises StatusError 410 if they are no longer all kept, and also if `since` is in the future: then it comes
        from a server that has lost its state, and the changes since then are unknown.
        """
        if since < self.oldest or since > self.version:
            raise expired(since, self.oldest)
        # Every write adds exactly one, so that many are the last ones; a deque is quick at its ends only.
        return reversed(list(islice(reversed(self._history), self.version - since)))

    def compact(self) -> None:
        """Forget the history: watches can only resume from now on."""
        self._history.clear()

    async def wait(self, since: int) -> None:
        """Wait until there has been a write after `since`."""
        while self.version <= since:
            await self._changed.wait()

    def _table(self, kind: Kind) -> dict[ObjectKey, Obj]:
        return self._objects.setdefault((kind.group, kind.plural), {})

    def _stamp(self, obj: Obj) -> Obj:
        self.version += 1
        return {**obj, "metadata": {**metadata(obj), "resourceVersion": str(self.version)}}

    def _unlink(self, obj: Obj) -> None:
        uid = metadata(obj)["uid"]
        self._uids.pop(uid, None)
        for owner in _owners(obj):
            dependents = self._dependents.get(owner, set())
            dependents.discard(uid)
            if not dependents:
                self._dependents.pop(owner, None)

    def _record(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) > self._limit:
            self._history.popleft()
        self._changed.set()
        self._changed = asyncio.Event()


def _key(obj: Obj) -> ObjectKey:
    return ObjectKey(namespace_of(obj), name_of(obj))


def _owners(obj: Obj) -> list[str]:
    references = dig(obj, "metadata", "ownerReferences")
    return [one["uid"] for one in references or [] if isinstance(one, dict) and one.get("uid")]

"""Writes to the store, and keeps track of ClusterIPs. Every change ends here."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from moorage.api.kinds import Kind
from moorage_lab.apiserver.addresses import ClusterIPs
from moorage_lab.apiserver.objects import Obj, name_of, namespace_of, timestamp
from moorage_lab.apiserver.store import Store


class Writer:
    """Writes objects without checking them."""

    def __init__(self, store: Store, addresses: ClusterIPs, now: Callable[[], datetime]) -> None:
        self.store = store
        self.addresses = addresses
        self._now = now

    def now(self) -> str:
        """RFC 3339, UTC, whole seconds."""
        return timestamp(self._now())

    def put(self, kind: Kind, obj: Obj) -> Obj:
        """Create or replace an object; returns it as stored."""
        if _is_service(kind):
            before = self.store.get(kind, namespace_of(obj), name_of(obj))
            if before is not None:
                self.addresses.release(before)
            self.addresses.record(obj)
        return self.store.put(kind, obj)

    def remove(self, kind: Kind, obj: Obj) -> Obj:
        """Remove an object at once, and free its addresses; returns its last state."""
        if _is_service(kind):
            self.addresses.release(obj)
        return self.store.remove(kind, namespace_of(obj), name_of(obj))

    def touch(self, kind: Kind, obj: Obj, **meta: Any) -> Obj:
        """Write metadata that only the server sets; None takes a field out."""
        merged = {**obj["metadata"], **meta}
        return self.put(kind, {**obj, "metadata": {key: value for key, value in merged.items() if value is not None}})


def _is_service(kind: Kind) -> bool:
    return (kind.group, kind.kind) == ("", "Service")

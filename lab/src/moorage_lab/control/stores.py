"""Keeps the controllers' objects current, and waits until the stores have seen a write."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from moorage.api.apps_v1 import Deployment, StatefulSet
from moorage.api.core_v1 import Endpoints, Node, Pod, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object, ObjectKey
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Store

T = TypeVar("T", bound=Object)

KINDS: tuple[type[Object], ...] = (Node, Deployment, StatefulSet, Pod, Service, EndpointSlice, Endpoints)
CATCH_UP_SECONDS = 2.0
"""How long to wait for a store to show a write; after that the next round works with what it shows."""


class Stores:
    """One reflector for each of `KINDS`. `subscribe` before `run`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._subscribers: dict[type[Object], list[asyncio.Event]] = {kind: [] for kind in KINDS}
        self._waiting: list[tuple[Object, asyncio.Future[None]]] = []
        self._reflectors: dict[type[Object], Reflector[Any]] = {
            kind: Reflector(client, kind, on_change=self._on_change(kind)) for kind in KINDS
        }

    def subscribe(self, *kinds: type[Object]) -> asyncio.Event:
        """An event that is set at each change of these kinds, and at the start."""
        event = asyncio.Event()
        event.set()
        for kind in kinds:
            self._subscribers[kind].append(event)
        return event

    async def run(self) -> None:
        """Keep the stores current until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors.values():
                group.create_task(reflector.run())

    async def synced(self) -> None:
        """Wait until each store holds its first list."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()

    def list(self, kind: type[T], namespace: str | None = None) -> list[T]:
        """All objects of a kind, of one namespace or of all."""
        store: Store[T] = self._reflectors[kind].store
        return [obj for key, obj in store.items() if namespace is None or key.namespace == namespace]

    def get(self, kind: type[T], namespace: str | None, name: str) -> T | None:
        store: Store[T] = self._reflectors[kind].store
        return store.get(ObjectKey(namespace or "", name))

    async def seen(self, written: Iterable[Object]) -> None:
        """Wait until the stores show these objects, as in the API server's answers, or newer ones.

        Without this, a controller would act again on the state before its own writes. At most
        `CATCH_UP_SECONDS`: an object that was deleted at once is never seen.
        """
        loop = asyncio.get_running_loop()
        new = [(obj, loop.create_future()) for obj in written if not self._shows(obj)]
        self._waiting += new
        if new:
            await asyncio.wait([future for _, future in new], timeout=CATCH_UP_SECONDS)
            self._waiting = [entry for entry in self._waiting if entry not in new]

    def _on_change(self, kind: type[Object]) -> Callable[[Change[Any]], None]:
        def changed(change: Change[Any]) -> None:
            for event in self._subscribers[kind]:
                event.set()
            for written, future in self._waiting:
                if isinstance(written, kind) and not future.done() and self._shows(written):
                    future.set_result(None)

        return changed

    def _shows(self, written: Object) -> bool:
        """Resource versions of one kind are numbers that grow (API conventions since Kubernetes 1.35; KEP-5504)."""
        obj = self.get(type(written), written.metadata.namespace, written.metadata.name)
        if obj is None or obj.metadata.uid != written.metadata.uid:
            return False
        return int(obj.metadata.resource_version or 0) >= int(written.metadata.resource_version or 0)

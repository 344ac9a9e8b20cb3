"""Watches the LoadBalancer Services of another cluster, read-only."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar, cast

from moorage.api.core_v1 import Service
from moorage.api.meta import Object, ObjectKey
from moorage.cluster import handshake
from moorage.cluster.client import Client
from moorage.cluster.errors import AnswerError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.kubeconfig import Config
from moorage.cluster.pace import Pace
from moorage.cluster.reading import Listing, Reading, Unreadable
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Store
from moorage.core.admission import Gate
from moorage.discovery.foreign import MAX_SERVICES, MAX_VERSION_CHARACTERS, SERVICES
from moorage.discovery.share import MAX_CLUSTERS, Share
from moorage.discovery.tenant import client_of
from moorage.discovery.watched import MonitoredWatch, Trouble
from moorage.errors import MoorageError

T = TypeVar("T", bound=Object)

EVENTS_PER_SECOND = 50.0
"""After a burst of MAX_SERVICES. What a server sends beyond that waits in its own buffers."""
REQUESTS_PER_SECOND = 1.0
"""After a burst of 5. Back-off only limits failures, but a server may end each watch, or let each version expire,
right after it has sent something."""


class SelectedServices(NamedTuple):
    """Which Services of which cluster to watch. Sources of a namespace that select the same ones share a watch."""

    tenant: str
    """The namespace in this cluster whose share of look-ups it uses."""
    config: Config
    namespace: str
    selector: str | None


class TooManyClustersError(MoorageError):
    """The namespace already follows as many clusters as it may."""


class LoadBalancers:
    """The selected Services, reduced to the fields that are used."""

    def __init__(
        self,
        selected: SelectedServices,
        share: Share,
        gate: Callable[[], Gate],
        on_change: Callable[[], None],
        now: Callable[[], str],
    ) -> None:
        self._share = share
        self._client = client_of(selected.config, share, gate, pace=share.pace, room=share.room)
        self._watched = MonitoredWatch(_Slim(self._client, share.handshakes), on_change, now)
        self._reflector = Reflector(
            self._watched,
            Service,
            selected.namespace,
            label_selector=selected.selector,
            on_change=lambda change: on_change(),
        )

    @property
    def services(self) -> Store[Service] | None:
        """The Services as last seen; None before the first list."""
        return self._reflector.store if self._reflector.synced.is_set() else None

    @property
    def trouble(self) -> Trouble | None:
        return self._watched.trouble

    def hang_up(self) -> None:
        """Close connections to addresses that the gate now refuses."""
        self._client.hang_up()

    async def run(self) -> None:
        handshake.account.set(self._spent)
        if self._share.clusters.locked():
            what = f"this namespace follows {MAX_CLUSTERS} clusters already; give several sources the same one"
            self._watched.failed(TooManyClustersError(what))
        try:
            async with self._share.clusters, self._client:
                await self._reflector.run()
        finally:
            self._watched.close()

    def _spent(self, seconds: float) -> None:
        self._share.handshakes.take(seconds)

    def crashed(self, error: Exception) -> None:
        self._watched.failed(MoorageError(f"internal error: {type(error).__name__}; the operator's log has more"))


class _Slim:
    """Passes on lists and watches of Services, reduced to what is used and limited in number and rate."""

    def __init__(self, client: Client, handshakes: Pace | None = None) -> None:
        self._client = client
        self._handshakes = handshakes
        self._seen: set[ObjectKey] = set()
        self._requests = Pace(REQUESTS_PER_SECOND, burst=5)
        self._events = Pace(EVENTS_PER_SECOND, burst=MAX_SERVICES)

    async def list(self, kind: type[T], namespace: str | None = None, **selectors: Any) -> Listing[T]:
        await self._turn()
        found = await self._client.list(kind, namespace, **selectors, reading=self._reading(kind))
        self._seen = {each.metadata.key for each in found.items}
        return found

    async def watch(
        self, kind: type[T], namespace: str | None = None, **request: Any
    ) -> AsyncGenerator[Event[T] | Bookmark | Unreadable, None]:
        await self._turn()
        async with aclosing(self._client.watch(kind, namespace, **request, reading=self._reading(kind))) as events:
            async for event in events:
                await self._events.turn()
                if isinstance(event, Bookmark):
                    if len(event.resource_version) > MAX_VERSION_CHARACTERS:
                        raise AnswerError(f"resourceVersion has more than {MAX_VERSION_CHARACTERS} characters")
                elif isinstance(event, Event):
                    self._seen.add(event.object.metadata.key)
                    if len(self._seen) > MAX_SERVICES:
                        raise AnswerError(f"more than {MAX_SERVICES} Services; narrow the selector")
                    if event.type == "DELETED":
                        self._seen.discard(event.object.metadata.key)
                yield event

    async def _turn(self) -> None:
        """Wait until the next request, which may open a connection, may be sent."""
        await self._requests.turn()
        if self._handshakes is not None and (seconds := self._handshakes.wait()) > 0:
            await asyncio.sleep(seconds)

    def _reading(self, kind: type[T]) -> Reading[T]:
        assert kind is Service
        return cast("Reading[T]", SERVICES)

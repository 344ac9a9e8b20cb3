"""The LoadBalancer Services of another cluster, watched read-only."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from moorage.api.core_v1 import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus
from moorage.api.meta import Object, ObjectMeta
from moorage.cluster.client import Client, Listing
from moorage.cluster.errors import AnswerError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.kubeconfig import Config
from moorage.cluster.pace import Pace
from moorage.cluster.reflector import Key, Reflector
from moorage.core.admission import Gate
from moorage.discovery.resolver import Names
from moorage.discovery.tenant import MOST_SERVICES, client_of
from moorage.discovery.watched import Trouble, Watched
from moorage.errors import MoorageError

T = TypeVar("T", bound=Object)

MOST_INGRESS = 16
MOST_PORTS = 100
EVENTS_A_SECOND = 50.0
"""After a burst of MOST_SERVICES. What a server sends beyond that waits in its own buffers."""
REQUESTS_A_SECOND = 1.0
"""After a burst of 5. Back-off is only for what fails: a server may end each watch, or have each version expired, as
soon as it has said something."""


class Selected(NamedTuple):
    """Which Services of which cluster. Those who select the same share one watch."""

    config: Config
    namespace: str
    selector: str | None


class LoadBalancers:
    """The selected Services of type LoadBalancer, slimmed to what is used of them."""

    def __init__(
        self,
        selected: Selected,
        names: Names,
        gate: Callable[[], Gate],
        on_change: Callable[[], None],
        now: Callable[[], str],
    ) -> None:
        self._client = client_of(selected.config, names, gate)
        self._watched = Watched(_Slim(self._client), on_change, now)
        self._reflector = Reflector(
            self._watched,
            Service,
            selected.namespace,
            label_selector=selected.selector,
            on_change=lambda key, service: on_change(),
        )

    @property
    def services(self) -> dict[Key, Service] | None:
        """Those that were last seen; None before the first list."""
        return self._reflector.store if self._reflector.synced.is_set() else None

    @property
    def trouble(self) -> Trouble | None:
        return self._watched.trouble

    async def run(self) -> None:
        try:
            async with self._client:
                await self._reflector.run()
        finally:
            self._watched.close()

    def crashed(self, error: Exception) -> None:
        self._watched.failed(MoorageError(f"internal error: {type(error).__name__}; the operator's log has more"))


class _Slim:
    """Passes on lists and watches of Services, each slimmed and all together bounded, whatever the server sends.

    So is the time that reading them takes, which all sources and checks share.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: set[Key] = set()
        self._requests = Pace(REQUESTS_A_SECOND, burst=5)
        self._events = Pace(EVENTS_A_SECOND, burst=MOST_SERVICES)

    async def list(self, kind: type[T], namespace: str | None = None, **selectors: Any) -> Listing[T]:
        await self._requests.turn()
        found = await self._client.list(kind, namespace, **selectors)
        self._seen = {_key(each) for each in found.items}
        return Listing([_slim(each) for each in found.items], found.resource_version)

    async def watch(
        self, kind: type[T], namespace: str | None = None, **request: Any
    ) -> AsyncGenerator[Event[T] | Bookmark, None]:
        await self._requests.turn()
        async with aclosing(self._client.watch(kind, namespace, **request)) as events:
            async for event in events:
                await self._events.turn()
                if isinstance(event, Bookmark):
                    yield event
                    continue
                self._seen.add(_key(event.object))
                if len(self._seen) > MOST_SERVICES:
                    raise AnswerError(f"more than {MOST_SERVICES} Services; narrow the selector")
                if event.type == "DELETED":
                    self._seen.discard(_key(event.object))
                yield Event(event.type, _slim(event.object))


def _key(obj: Object) -> Key:
    return obj.metadata.namespace or "", obj.metadata.name


def _slim(obj: T) -> T:
    assert isinstance(obj, Service)
    meta = obj.metadata
    balancer = obj.status.load_balancer
    ingress = [
        LoadBalancerIngress(ip=each.ip, hostname=each.hostname) for each in (balancer and balancer.ingress) or ()
    ]
    return replace(
        obj,
        metadata=ObjectMeta(
            name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version
        ),
        spec=ServiceSpec(type=obj.spec.type, ports=(obj.spec.ports or [])[:MOST_PORTS]),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress[:MOST_INGRESS])),
    )

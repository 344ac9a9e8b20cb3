"""The LoadBalancer Services of another cluster, watched read-only."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from moorage.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import Object, ObjectMeta
from moorage.api.show import show
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
S = TypeVar("S", str, str | None)

MOST_INGRESS = 16
MOST_PORTS = 100
LONGEST_NAME = 253
"""Characters of a host name (RFC 1123, 2.1) or of a name in Kubernetes."""
LONGEST_ADDRESS = 45
"""Characters: IPv6 with the IPv4 address in it written out."""
LONGEST_VERSION = 128
"""Characters of a uid or resourceVersion; kube-apiserver's have 36 and 20."""
LONGEST_WORD = 16
"""Characters of a protocol or of a type of Service."""
EVENTS_A_SECOND = 50.0
"""After a burst of MOST_SERVICES. What a server sends beyond that waits in its own buffers."""
REQUESTS_A_SECOND = 1.0
"""After a burst of 5. Back-off is only for what fails: a server may end each watch, or have each version expired, as
soon as it has said something."""


class Selected(NamedTuple):
    """Which Services of which cluster. Those of a namespace who select the same share one watch."""

    tenant: str
    """The namespace here whose share of the look-ups it takes."""
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
        version = _bounded("resourceVersion", found.resource_version, LONGEST_VERSION)
        slim = [_slim(each) for each in found.items]
        self._seen = {_key(each) for each in slim}
        return Listing(slim, version)

    async def watch(
        self, kind: type[T], namespace: str | None = None, **request: Any
    ) -> AsyncGenerator[Event[T] | Bookmark, None]:
        await self._requests.turn()
        async with aclosing(self._client.watch(kind, namespace, **request)) as events:
            async for event in events:
                await self._events.turn()
                if isinstance(event, Bookmark):
                    yield Bookmark(_bounded("resourceVersion", event.resource_version, LONGEST_VERSION))
                    continue
                slim = _slim(event.object)
                self._seen.add(_key(slim))
                if len(self._seen) > MOST_SERVICES:
                    raise AnswerError(f"more than {MOST_SERVICES} Services; narrow the selector")
                if event.type == "DELETED":
                    self._seen.discard(_key(slim))
                yield Event(event.type, slim)


def _key(obj: Object) -> Key:
    return obj.metadata.namespace or "", obj.metadata.name


def _slim(obj: T) -> T:
    """What is used of a Service. Raises AnswerError where that is longer than anything in Kubernetes."""
    assert isinstance(obj, Service)
    meta = obj.metadata
    _bounded("metadata.name", meta.name, LONGEST_NAME)
    where = f"Service {show(meta.name)}: "
    _bounded(f"{where}metadata.namespace", meta.namespace, LONGEST_NAME)
    _bounded(f"{where}metadata.uid", meta.uid, LONGEST_VERSION)
    _bounded(f"{where}metadata.resourceVersion", meta.resource_version, LONGEST_VERSION)
    balancer = obj.status.load_balancer
    ingress = [
        LoadBalancerIngress(
            ip=_bounded(f"{where}status.loadBalancer.ingress.ip", each.ip, LONGEST_ADDRESS),
            hostname=_bounded(f"{where}status.loadBalancer.ingress.hostname", each.hostname, LONGEST_NAME),
        )
        for each in ((balancer and balancer.ingress) or ())[:MOST_INGRESS]
    ]
    ports = [
        ServicePort(protocol=_bounded(f"{where}spec.ports.protocol", each.protocol, LONGEST_WORD), port=each.port)
        for each in (obj.spec.ports or ())[:MOST_PORTS]
        if 0 < each.port < 2**16
    ]
    return replace(
        obj,
        api_version="",
        kind="",
        metadata=ObjectMeta(
            name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version
        ),
        spec=ServiceSpec(type=_bounded(f"{where}spec.type", obj.spec.type, LONGEST_WORD), ports=ports),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress)),
    )


def _bounded(field: str, value: S, longest: int) -> S:
    if value is not None and len(value) > longest:
        raise AnswerError(f"{field} has {len(value)} characters, of at most {longest}; is it a Kubernetes API?")
    return value

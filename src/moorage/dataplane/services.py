"""Kubernetes Services and EndpointSlices to what the node should carry. Pure.

The rules are those of kube-proxy: endpoints are matched to ports by the port's name and protocol, so a named
target port and a slice whose port differs from `targetPort` both work; only the first address of an endpoint
counts; ready endpoints are used, and where there are none, those that are terminating but still serving (KEP-1669).
"""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from moorage.api.addresses import canonical_endpoint
from moorage.api.core_v1 import Service
from moorage.api.core_v1 import ServicePort as ApiPort
from moorage.api.discovery_v1 import Endpoint as ApiEndpoint
from moorage.api.discovery_v1 import EndpointPort, EndpointSlice
from moorage.dataplane.model import Endpoint, Key, NodeState, ServicePort, Target

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
PROXY_NAME = "moorage"
WEIGHTS_ANNOTATION = "moorage.dev/weights"
"""On an EndpointSlice: a JSON object of endpoint hostname (or address) to weight, 1 to 100."""

Addresses = Literal["cluster", "load-balancer"]


class Scope(NamedTuple):
    """Which Services a node carries, and on which of their addresses."""

    node: str
    """The node's own name: its endpoints are local."""
    labelled_only: bool = True
    """Only Services whose service-proxy-name label says `moorage`; otherwise all that name no other proxy."""
    addresses: Addresses = "cluster"
    """Their cluster IPs, or the IPs of their load balancer (the lab's cloud)."""


class Carried(NamedTuple):
    """What a node carries of one Service, and what it had to leave out and why, a line each."""

    ports: tuple[ServicePort, ...]
    warnings: tuple[str, ...] = ()


def carried(service: Service, slices: Iterable[EndpointSlice], scope: Scope) -> Carried:
    """What the node carries of `service`, whose EndpointSlices are `slices` (in any order)."""
    name = f"{service.metadata.namespace}/{service.metadata.name}"
    proxy = (service.metadata.labels or {}).get(PROXY_NAME_LABEL)
    ours = proxy == PROXY_NAME or (proxy is None and not scope.labelled_only)
    if service.spec.type == "ExternalName" or not ours:
        return Carried(())
    warnings: list[str] = []
    slices = sorted(slices, key=lambda each: each.metadata.name)
    ports = []
    for address in _addresses(service, scope):
        for port in service.spec.ports or ():
            if port.protocol not in ("TCP", "UDP"):
                warnings.append(f"Service {name}: port {port.port}/{port.protocol} is not carried; use TCP or UDP")
                continue
            found = list(_endpoints(name, address, port, slices, warnings))
            if scope.addresses == "cluster" and service.spec.internal_traffic_policy == "Local":
                found = [each for each in found if each.node_name == scope.node]
            ports.append(_service_port(name, service, Key(address, port.protocol.lower(), port.port), found, scope))
    return Carried(tuple(ports), tuple(dict.fromkeys(warnings)))


def _addresses(service: Service, scope: Scope) -> list[str]:
    """The addresses to carry, canonical; none for a headless Service."""
    if scope.addresses == "load-balancer":
        balancer = service.status.load_balancer
        given = [ingress.ip for ingress in (balancer.ingress if balancer else None) or ()]
    else:
        given = [*service.spec.every_cluster_ip]
    return [str(ipaddress.ip_address(address)) for address in given if address]


class _Found(NamedTuple):
    """An endpoint of a slice that serves a port, before its conditions are looked at."""

    node_name: str | None
    endpoint: ApiEndpoint
    target: Target
    weight: int


def _endpoints(
    name: str, address: str, port: ApiPort, slices: Iterable[EndpointSlice], warnings: list[str]
) -> Iterator[_Found]:
    """The endpoints that serve `port`, each target once."""
    seen: set[Target] = set()
    family = "IPv6" if ":" in address else "IPv4"
    for slice_ in slices:
        number = _port_number(slice_.ports, port)
        if slice_.address_type != family or number is None:
            continue
        weights = _weights(slice_, warnings)
        for endpoint in slice_.endpoints or ():
            if not endpoint.addresses:
                continue
            written, why = canonical_endpoint(endpoint.addresses[0])
            if why:
                warnings.append(f"Service {name}: endpoint {written} is left out: it is {why}")
                continue
            target = Target(written, number)
            if target in seen:
                continue
            seen.add(target)
            weight = weights.get(endpoint.hostname or "", weights.get(target.address, 1))
            yield _Found(endpoint.node_name, endpoint, target, weight)


def _port_number(ports: Iterable[EndpointPort] | None, port: ApiPort) -> int | None:
    for each in ports or ():
        if (each.name or "") == (port.name or "") and (each.protocol or "TCP") == port.protocol:
            return each.port
    return None


def _weights(slice_: EndpointSlice, warnings: list[str]) -> dict[str, int]:
    text = (slice_.metadata.annotations or {}).get(WEIGHTS_ANNOTATION)
    if text is None:
        return {}
    try:
        weights = msgspec.json.decode(text, type=dict[str, int])
        if all(1 <= weight <= 100 for weight in weights.values()):
            return weights
    except msgspec.MsgspecError:
        pass
    warnings.append(
        f"EndpointSlice {slice_.metadata.namespace}/{slice_.metadata.name}: annotation {WEIGHTS_ANNOTATION} "
        'is not an object of name to whole number from 1 to 100, such as {"backend1": 2}; all weigh 1'
    )
    return {}


def _service_port(name: str, service: Service, key: Key, found: list[_Found], scope: Scope) -> ServicePort:
    def condition(each: _Found, which: str, unknown: bool) -> bool:
        value: bool | None = getattr(each.endpoint.conditions, which)
        return unknown if value is None else value

    ready = [each for each in found if condition(each, "ready", True)]
    serving = [each for each in found if condition(each, "serving", True)]
    # A pod that ends often fails its readiness check first, and still answers those whom it has.
    ending = [each for each in found if condition(each, "terminating", False)]
    used = ready or [each for each in ending if condition(each, "serving", True)]
    names = _names(used)
    endpoints = (
        Endpoint(names[each.target], each.target, each.weight, local=each.node_name == scope.node) for each in used
    )
    return ServicePort(
        service=name,
        key=key,
        endpoints=tuple(sorted(endpoints, key=lambda each: each.name)),
        affinity_seconds=_affinity_seconds(service),
        keeps=frozenset(each.target for each in (*serving, *ending)) - {each.target for each in used},
    )


def _names(found: list[_Found]) -> dict[Target, str]:
    """Each endpoint's identity: its hostname where it has one of its own, else its address, else address and port."""
    names = {each.target: each.endpoint.hostname or each.target.address for each in found}
    if len(set(names.values())) == len(names):
        return names
    for least_specific in (lambda target: target.address, lambda target: f"{target.address}:{target.port}"):
        count: dict[str, int] = {}
        for name in names.values():
            count[name] = count.get(name, 0) + 1
        names = {target: name if count[name] == 1 else least_specific(target) for target, name in names.items()}
    return names


def _affinity_seconds(service: Service) -> int:
    if service.spec.session_affinity != "ClientIP":
        return 0
    config = service.spec.session_affinity_config
    client_ip = config.client_ip if config else None
    return (client_ip.timeout_seconds if client_ip else None) or 10800


class Desired:
    """What a node should carry, kept up to date Service by Service.

    Two Services can claim one address and port only by mistake; then the one whose name sorts first has it, and
    the other gets it when the first goes.
    """

    def __init__(self) -> None:
        self.state: NodeState = {}
        self._claims: dict[Key, dict[str, ServicePort]] = {}
        self._keys: dict[str, set[Key]] = {}

    def put(self, service: str, ports: Iterable[ServicePort]) -> set[Key]:
        """Replace what is carried of `service` (`namespace/name`); returns the keys whose state changed."""
        new = {port.key: port for port in ports}
        keys = self._keys.get(service, set()) | set(new)
        changed = set()
        for key in keys:
            claims = self._claims.setdefault(key, {})
            claims.pop(service, None)
            if key in new:
                claims[service] = new[key]
            winner = claims[min(claims)] if claims else None
            if winner != self.state.get(key):
                changed.add(key)
                _set(self.state, key, winner)
            if not claims:
                del self._claims[key]
        if new:
            self._keys[service] = set(new)
        else:
            self._keys.pop(service, None)
        return changed

    def conflicts(self) -> list[str]:
        """A line for each address and port that more than one Service claims."""
        return [
            f"Service {loser}: {key.address} {key.protocol} {key.port} is carried for {min(claims)}; "
            "give one of the two another cluster IP or port"
            for key, claims in self._claims.items()
            for loser in sorted(claims)[1:]
        ]


def _set(state: NodeState, key: Key, port: ServicePort | None) -> None:
    if port is None:
        state.pop(key, None)
    else:
        state[key] = port

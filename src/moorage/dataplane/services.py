"""Turns Kubernetes Services and EndpointSlices into what the node should carry. Pure.

The rules are those of kube-proxy 1.37: endpoints are matched to ports by the port's name and protocol, so a named
target port and a slice whose port differs from `targetPort` both work; only the first address of an endpoint
counts; ready endpoints are used, and if there are none, those that are terminating but still serving (KEP-1669);
an endpoint that is listed more than once counts by its best entry. With `internalTrafficPolicy: Local` only those of
the node count: if there are endpoints, but none of them, connections are dropped.

Whatever the objects hold, the result is well formed: canonical addresses of the right family, ports from 1 to 65535,
and timeouts that Kubernetes allows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import product
from types import MappingProxyType
from typing import Literal, NamedTuple

from msgspec.structs import replace

from moorage.api import contract
from moorage.api.addresses import as_kubernetes_reads
from moorage.api.contract import MooredBy
from moorage.api.core_v1 import Service
from moorage.api.core_v1 import ServicePort as ApiPort
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS
from moorage.api.show import show
from moorage.api.topology import NO_HINTS, usable
from moorage.dataplane.endpoints import NOTHING, FamilySlices, SliceEndpoint, best, by_name, read
from moorage.dataplane.model import (
    Affinity,
    Balanced,
    ByClientIP,
    Endpoint,
    Moored,
    ServiceAddress,
    ServicePort,
    Target,
)

MAX_AFFINITY_SECONDS = 86_400
"""Kubernetes' own limit of `timeoutSeconds`."""
DEFAULT_AFFINITY_SECONDS = 10_800
"""Kubernetes' own default."""

MAX_ENDPOINTS_OF_PORT = 1_000
"""How many endpoints of a port are carried: a table has at most 4,096 slots, and each endpoint should have four."""
MAX_ENDPOINTS_OF_SERVICE = 10_000
"""How many endpoints all ports and addresses of a Service may have together; a port without any counts as one."""
MAX_WARNINGS_OF_SERVICE = 10
"""How many lines there may be about one Service."""

Addresses = Literal["cluster", "load-balancer"]


class Scope(NamedTuple):
    """Which Services a node carries, and on which of their addresses."""

    node: str
    """The node's own name: its endpoints are local, and hints may name it."""
    labelled_only: bool = True
    """Only Services with the label for node agents; otherwise all that name no other proxy."""
    addresses: Addresses = "cluster"
    """Their cluster IPs, or the IPs of their load balancer (the lab's cloud)."""
    zone: str = ""
    """The node's zone, which hints may name; empty: it has none."""


class At(NamedTuple):
    """Where the clients of a node may be, as far as the client of a Service is the node, or its zone."""

    endpoint: str
    """Name of the endpoint."""
    left: str = ""
    """Name of the one that they were moved away from, which keeps none of their flows; empty: it may keep them."""


class Carried(NamedTuple):
    """What a node carries of one Service, and a line with the reason for each thing that it leaves out."""

    ports: tuple[ServicePort, ...]
    warnings: tuple[str, ...] = ()
    moored: MooredBy | None = None
    """How its clients are moored; None: they are not."""
    serving: Mapping[ServiceAddress, Mapping[str, Target]] = MappingProxyType({})
    """Where clients are pods, the endpoints that one can be moored to: for each port, by name."""


def needed(service: Service) -> Service:
    """`service` without labels and annotations that nothing here reads; they may be large."""
    return replace(service, metadata=contract.slim(service.metadata))


def fault(service: Service, scope: Scope) -> str | None:
    """Why `service` cannot be carried at all: the field and what is wrong with it; None if it can.

    kube-apiserver refuses most of this, but a node agent may have another API server.
    """
    if not _is_ours(service, scope):
        return None
    for field, address in _written_addresses(service, scope):
        if as_kubernetes_reads(address) is None:
            return f"{field}: {show(address)} is not an IP address"
    for index, port in enumerate(service.spec.ports or ()):
        if not 1 <= port.port <= 65535:
            return f"spec.ports[{index}].port: {show(port.port)} is not from 1 to 65535"
    seconds = _affinity(service, None).session_seconds
    if seconds is not None and not 1 <= seconds <= MAX_AFFINITY_SECONDS:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        return f"{field}: {show(seconds)} is not from 1 to {MAX_AFFINITY_SECONDS}"
    return None


def carried(service: Service, slices: Iterable[EndpointSlice], scope: Scope, at: Sequence[At] = ()) -> Carried:
    """What the node carries of `service` with the EndpointSlices `slices` (in any order).

    If `service` has a fault, that is nothing, with a warning; a slice with a fault is left out. All clients of this
    node are led to the first of `at` that serves; where none does, to any endpoint.
    """
    name = f"{service.metadata.namespace}/{service.metadata.name}"
    if not _is_ours(service, scope):
        return Carried(())
    if why := fault(service, scope):
        return Carried((), (f"Service {name}: {why}; nothing of it is carried",))
    warnings = dict.fromkeys(contract.decode_service(service.metadata).problems)
    moored = moored_by(service, scope)
    found = read(name, slices, warnings)
    addresses = dict.fromkeys(as_kubernetes_reads(each) or "" for _, each in _written_addresses(service, scope))
    ports: dict[ServiceAddress, ServicePort] = {}
    serving: dict[ServiceAddress, Mapping[str, Target]] = {}
    affinity = _affinity(service, moored)
    room = MAX_ENDPOINTS_OF_SERVICE
    for address, port in product(addresses, service.spec.ports or ()):
        if port.protocol not in ("TCP", "UDP"):
            warnings[f"Service {name}: port {_written(port)} is not carried; use TCP or UDP"] = None
            continue
        if room <= 0:
            warnings[
                f"Service {name}: all its ports together have more than {MAX_ENDPOINTS_OF_SERVICE:,} endpoints; from "
                f"{address} port {_written(port)} on they are left out; spread them over several Services"
            ] = None
            break
        there = found.get("IPv6" if ":" in address else "IPv4", NOTHING)
        endpoints = best(there, (port.name or "", port.protocol))
        room -= max(1, min(len(endpoints), MAX_ENDPOINTS_OF_PORT))
        if len(warnings) <= MAX_WARNINGS_OF_SERVICE:
            warnings |= dict.fromkeys(_port_warnings(name, port, endpoints, there, scope))
        anywhere = False
        if scope.addresses == "cluster" and service.spec.internal_traffic_policy == "Local":
            anywhere = bool(_used(endpoints, scope))
            # Where only the node's own endpoints count, hints do not (KEP-2433).
            endpoints = {
                target: each._replace(hints=NO_HINTS)
                for target, each in endpoints.items()
                if each.node_name == scope.node
            }
        key = ServiceAddress(address, port.protocol.lower(), port.port)
        made = _service_port(name, key, affinity, endpoints, scope, at)
        ports[key] = made = replace(made, ignores=True) if anywhere and not made.endpoints else made
        if isinstance(affinity, Moored):
            known = made.targets | made.keeps
            serving[key] = {name: target for name, target in by_name(endpoints).items() if target in known}
    return Carried(tuple(ports.values()), _first(name, warnings), moored, serving)


def moored_by(service: Service, scope: Scope) -> MooredBy | None:
    """How the clients of `service` are moored, if node agents carry that; None: they do not.

    Where Moorings are carried for kube-proxy, EndpointSlices say it all. A load balancer has clients from anywhere.
    """
    found = contract.decode_service(service.metadata).contract
    return found.moored if found.proxy == contract.PROXY and scope.addresses == "cluster" else None


def _is_ours(service: Service, scope: Scope) -> bool:
    proxy = contract.proxy_of(service.metadata)
    return service.spec.type != "ExternalName" and (
        proxy == contract.PROXY or (proxy is None and not scope.labelled_only)
    )


def _written_addresses(service: Service, scope: Scope) -> list[tuple[str, str]]:
    """Field and address, as written, of everything to carry; none for a headless Service."""
    if scope.addresses == "load-balancer":
        balancer = service.status.load_balancer
        given = [ingress.ip for ingress in (balancer.ingress if balancer else None) or ()]
        return [("status.loadBalancer.ingress", address) for address in given if address]
    return [("spec.clusterIPs", address) for address in service.spec.every_cluster_ip]


def _first(name: str, warnings: Iterable[str]) -> tuple[str, ...]:
    """Cuts warnings to as many as a person reads."""
    all_ = tuple(warnings)
    if len(all_) <= MAX_WARNINGS_OF_SERVICE:
        return all_
    return (*all_[:MAX_WARNINGS_OF_SERVICE], f"Service {name}: there are more warnings, which are not listed")


def _port_warnings(
    name: str, port: ApiPort, found: Mapping[Target, SliceEndpoint], slices: FamilySlices, scope: Scope
) -> Iterator[str]:
    if not slices.empty and (port.name or "", port.protocol) not in slices.ports:
        yield (
            f"Service {name}: port {_written(port)}, {_named(port.name)}: no EndpointSlice has a port of that name "
            f"and protocol, so it has no endpoints; they have {_other_ports(slices)}"
        )
    if len(_used(found, scope)) > MAX_ENDPOINTS_OF_PORT:
        yield (
            f"Service {name}: port {_written(port)} has more than {MAX_ENDPOINTS_OF_PORT:,} endpoints; the first "
            f"{MAX_ENDPOINTS_OF_PORT:,} by name are carried; spread them over several Services"
        )


def _written(port: ApiPort) -> str:
    return f"{port.port}/{show(port.protocol)}"


def _named(name: str | None) -> str:
    return f"named {show(name)}" if name else "without a name"


def _other_ports(slices: FamilySlices) -> str:
    """Some of the existing ports, for a message."""
    some = [f"{protocol} {_named(name)}" for name, protocol in nsmallest(5, slices.ports)]
    return ", ".join(some) + (", ..." if len(slices.ports) > len(some) else "") or "none with a number"


def _used(found: Mapping[Target, SliceEndpoint], scope: Scope) -> dict[Target, SliceEndpoint]:
    """The endpoints that take this node's new connections."""
    there = list(found.items())
    return dict(there[index] for index in usable([each for _, each in there], scope.node, scope.zone))


def _service_port(
    name: str,
    key: ServiceAddress,
    affinity: Affinity,
    found: Mapping[Target, SliceEndpoint],
    scope: Scope,
    at: Sequence[At],
) -> ServicePort:
    used = _used(found, scope)
    # A pod that is ending often fails its readiness check first, but still answers its clients.
    keeps = {target for target, each in found.items() if each.serving or each.terminating}
    serving = by_name(found) if at else {}
    here = next((each for each in at if each.endpoint in serving), None)
    if here:
        target = serving[here.endpoint]
        used = {target: found[target]}
        keeps -= {serving.get(here.left)}
    names = _names(used)
    carried = sorted(used, key=names.__getitem__)[:MAX_ENDPOINTS_OF_PORT]
    return ServicePort(
        service=name,
        key=key,
        endpoints=tuple(
            Endpoint(names[target], target, used[target].weight, local=used[target].node_name == scope.node)
            for target in carried
        ),
        affinity=affinity,
        keeps=frozenset(sorted(keeps.difference(carried))[:MAX_ENDPOINTS_OF_PORT]),
    )


def _names(found: Mapping[Target, SliceEndpoint]) -> dict[Target, str]:
    """Each endpoint's identity: its hostname if unique, else its address if unique, else address and port."""
    names = {target: each.hostname or target.address for target, each in found.items()}
    for less_specific in (lambda target: target.address, lambda target: f"{target.address}:{target.port}"):
        count: dict[str, int] = {}
        for name in names.values():
            count[name] = count.get(name, 0) + 1
        if len(count) == len(names):
            return names
        names = {target: name if count[name] == 1 else less_specific(target) for target, name in names.items()}
    if len(set(names.values())) == len(names):
        return names
    return {target: f"{target.address}:{target.port}" for target in names}


def _affinity(service: Service, moored: MooredBy | None) -> Affinity:
    if service.spec.session_affinity != "ClientIP":
        return Balanced()
    config = service.spec.session_affinity_config
    given = config.client_ip.timeout_seconds if config and config.client_ip else None
    seconds = DEFAULT_AFFINITY_SECONDS if given is None else given
    if moored and moored.client in KINDS_OF_PODS:
        return Moored(seconds, moored.holds)
    return ByClientIP(seconds)

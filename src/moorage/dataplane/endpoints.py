"""Reads the endpoints of a Service's ports from EndpointSlices, whatever these hold. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from moorage.api import contract
from moorage.api.addresses import canonical_endpoint
from moorage.api.discovery_v1 import Endpoint as ApiEndpoint
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.show import show
from moorage.api.topology import NO_HINTS, Hints, decode_hints
from moorage.dataplane.model import Target

MAX_READ_OF_SERVICE = 20_000
"""How many endpoints and ports of a Service's slices are read: all are read again whenever one slice changes."""

PortName = tuple[str, str]
"""Name (may be empty) and protocol (`TCP`, ...): they match the ports of Services with those of slices."""


class SliceEndpoint(NamedTuple):
    """An endpoint of a slice."""

    address: str
    ready: bool
    serving: bool
    terminating: bool
    weight: int
    hostname: str | None
    node_name: str | None
    hints: Hints = NO_HINTS


class FamilySlices(NamedTuple):
    """The slices of one family."""

    ports: dict[PortName, list[tuple[int, list[SliceEndpoint]]]]
    """For each port with a number: number and endpoints, slice by slice, in the order of the slices' names."""
    empty: bool
    """Whether there are no endpoints."""


NOTHING = FamilySlices({}, empty=True)


def needed(slice_: EndpointSlice) -> EndpointSlice:
    """`slice_` without the fields that nothing here reads: a node holds the slices of the whole cluster."""
    kept = replace(contract.slim(slice_.metadata), owner_references=None)
    return replace(slice_, metadata=kept, endpoints=[_needed(each) for each in slice_.endpoints or ()])


def _needed(endpoint: ApiEndpoint) -> ApiEndpoint:
    return ApiEndpoint(
        addresses=endpoint.addresses[:1],
        conditions=endpoint.conditions,
        hostname=endpoint.hostname,
        node_name=endpoint.node_name,
        hints=endpoint.hints,
    )


def fault(slice_: EndpointSlice) -> str | None:
    """Why a slice cannot be used at all: the field and what is wrong with it; None if it can.

    kube-apiserver does not check the range of a slice's ports. A port without a number means all ports, which no
    proxy carries; kube-proxy treats 0 the same way.
    """
    for index, port in enumerate(slice_.ports or ()):
        if port.port is not None and not 0 <= port.port <= 65535:
            return f"ports[{index}].port: {show(port.port)} is not from 1 to 65535"
    return None


def read(service: str, slices: Iterable[EndpointSlice], warnings: dict[str, None]) -> dict[str, FamilySlices]:
    """Reads the slices of `service` (`namespace/name`), by address type, `IPv4` or `IPv6`.

    A line for each thing that is left out is added to `warnings`.
    """
    result: dict[str, FamilySlices] = {}
    room = MAX_READ_OF_SERVICE
    for slice_ in sorted(slices, key=lambda each: each.metadata.name):
        name = f"EndpointSlice {slice_.metadata.namespace}/{slice_.metadata.name}"
        if why := fault(slice_):
            warnings[f"{name}: {why}; nothing of it is carried"] = None
            continue
        if room <= 0:
            most = f"{MAX_READ_OF_SERVICE:,} endpoints and ports of a Service are read"
            warnings[f"{name} and those after it are left out: {most}"] = None
            break
        endpoints = (slice_.endpoints or [])[:room]
        room -= 1 + len(endpoints) + len(slice_.ports or ())
        marks = contract.decode_slice(slice_.metadata)
        warnings |= dict.fromkeys(marks.problems)
        found = []
        for endpoint in endpoints:
            if endpoint.addresses and slice_.address_type in ("IPv4", "IPv6"):
                address, why = _address(endpoint.addresses[0], slice_.address_type)
                if why is None:
                    found.append(_found(address, endpoint, marks.contract.weights))
                else:
                    where = f"EndpointSlice {slice_.metadata.name}"
                    warnings[f"Service {service}: endpoint {show(address)} is left out: it is {why} ({where})"] = None
        known = result.get(slice_.address_type, FamilySlices({}, empty=True))
        for port in slice_.ports or ():
            if port.port:
                known.ports.setdefault((port.name or "", port.protocol or "TCP"), []).append((port.port, found))
        result[slice_.address_type] = known._replace(empty=known.empty and not found)
    return result


def best(slices: FamilySlices, port: PortName) -> dict[Target, SliceEndpoint]:
    """The endpoints that serve a port. An endpoint that is listed more than once counts by its best entry.

    So an old pod that is ending does not hide a new one with the same address.
    """
    found: dict[Target, SliceEndpoint] = {}
    for number, endpoints in slices.ports.get(port, ()):
        for endpoint in endpoints:
            target = Target(endpoint.address, number)
            known = found.get(target)
            if known is None or _readiness(endpoint) > _readiness(known):
                found[target] = endpoint
    return found


def by_name(found: Mapping[Target, SliceEndpoint]) -> dict[str, Target]:
    """Those of the endpoints of a port that serve, by hostname; of several with one the best, and then the lowest."""
    named: dict[str, Target] = {}
    for target, each in found.items():
        if each.hostname and (each.ready or each.serving):
            known = named.get(each.hostname)
            if known is None or (_readiness(each), known) > (_readiness(found[known]), target):
                named[each.hostname] = target
    return named


def _readiness(found: SliceEndpoint) -> tuple[bool, bool, bool]:
    # A terminating endpoint is better than one that is merely not ready: if it serves, it takes new connections
    # when nothing else does, and if not, it keeps the connections that it has.
    return found.ready, found.serving, found.terminating


def _address(written: str, family: str) -> tuple[str, str | None]:
    """An endpoint's address in canonical spelling, and why it cannot be used."""
    address, why = canonical_endpoint(written)
    if why is None and (":" in address) != (family == "IPv6"):
        why = f"not an {family} address, as the addressType says"
    return address, why


def _found(address: str, endpoint: ApiEndpoint, weights: Mapping[str, int]) -> SliceEndpoint:
    ready, serving = endpoint.conditions.ready, endpoint.conditions.serving
    return SliceEndpoint(
        address,
        ready is None or ready,
        serving is None or serving,
        bool(endpoint.conditions.terminating),
        weights.get(endpoint.hostname or "", weights.get(address, 1)),
        endpoint.hostname,
        endpoint.node_name,
        decode_hints(endpoint.hints),
    )

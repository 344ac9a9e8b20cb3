"""Mirrors `Endpoints` as EndpointSlices, like Kubernetes' endpointslicemirroring controller (KEP-752). Pure."""

from collections import defaultdict
from ipaddress import ip_address
from typing import NamedTuple

from moorage.api.core_v1 import EndpointAddress, Endpoints, EndpointSubset, Service
from moorage.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort

SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"


class SliceKey(NamedTuple):
    """What all endpoints of a slice share: `IPv4` or `IPv6`, and the ports."""

    address_type: str
    ports: tuple[EndpointPort, ...]


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Whether these Endpoints are mirrored: their Service exists, has no selector, and no label opts out."""
    meta = endpoints.metadata
    return (
        service is not None
        and not service.spec.selector
        and meta.deletion_timestamp is None
        and (meta.labels or {}).get(SKIP_LABEL) != "true"
        and _LEADER_ANNOTATION not in (meta.annotations or {})
    )


def mirrored(endpoints: Endpoints) -> dict[SliceKey, list[Endpoint]]:
    """The endpoints of the mirrored slices: a group for each family and set of ports, and none without addresses.

    Raises ValueError for text that is not an address.
    """
    groups: dict[SliceKey, list[Endpoint]] = defaultdict(list)
    for subset in endpoints.subsets or ():
        ports = _ports(subset)
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses or ():
                groups[SliceKey(family_of(address.ip), ports)].append(_endpoint(address, ready))
    return dict(groups)


def port_order(port: EndpointPort) -> tuple[str, str, int]:
    """The sort key of a slice's ports: equal sets of ports give equal tuples."""
    return port.name or "", port.protocol or "", port.port or 0


def family_of(address: str) -> str:
    """`IPv4` or `IPv6`. Raises ValueError for anything that is not an address."""
    return f"IPv{ip_address(address).version}"


def _ports(subset: EndpointSubset) -> tuple[EndpointPort, ...]:
    ports = [
        EndpointPort(name=port.name or "", protocol=port.protocol, port=port.port, app_protocol=port.app_protocol)
        for port in subset.ports or ()
    ]
    return tuple(sorted(ports, key=port_order))


def _endpoint(address: EndpointAddress, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=[address.ip],
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname,
        node_name=address.node_name,
        target_ref=address.target_ref,
    )

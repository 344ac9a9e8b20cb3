"""`Endpoints` of Services without selector, mirrored into slices as the endpointslicemirroring controller does."""

from collections import defaultdict

from moorage.api.core_v1 import EndpointAddress, Endpoints, EndpointSubset, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, Endpoint, EndpointConditions, EndpointPort
from moorage.lab.control.slices import MANAGED_BY_LABEL, SliceKey, Wanted, family_of, owner_of, port_order

MANAGED_BY = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Whether these Endpoints belong into slices: their Service is there, has no selector, and nobody opted out."""
    meta = endpoints.metadata
    return (
        service is not None
        and not service.spec.selector
        and meta.deletion_timestamp is None
        and (meta.labels or {}).get(SKIP_LABEL) != "true"
        and _LEADER_ANNOTATION not in (meta.annotations or {})
    )


def wanted(endpoints: Endpoints) -> Wanted:
    """What the mirrored slices hold: one group for each family and set of ports; nothing for no addresses."""
    groups: dict[SliceKey, list[Endpoint]] = defaultdict(list)
    for subset in endpoints.subsets or ():
        ports = _ports(subset)
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses or ():
                groups[SliceKey(family_of(address.ip), ports)].append(_endpoint(address, ready))
    labels = {
        **(endpoints.metadata.labels or {}),
        SERVICE_NAME_LABEL: endpoints.metadata.name,
        MANAGED_BY_LABEL: MANAGED_BY,
    }
    owner = owner_of("v1", "Endpoints", endpoints.metadata)
    return Wanted(owner, endpoints.metadata.namespace or "", labels, groups)


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

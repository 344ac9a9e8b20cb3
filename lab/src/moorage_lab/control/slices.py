"""EndpointSlices of Services with a selector, as Kubernetes' endpointslice controller writes them (KEP-752).

`reconcile` is shared with `mirroring`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from moorage.api.core_v1 import LocalObjectReference, Pod, Service, ServicePort
from moorage.api.discovery_v1 import (
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from moorage.api.meta import ObjectMeta, OwnerReference, labels_match
from moorage.api.mirroring import SliceKey, family_of, port_order
from moorage_lab.control.deployments import is_ready
from moorage_lab.control.names import Suffix, generated

MANAGED_BY = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
MAX_ENDPOINTS = 100
"""Endpoints of one slice (kube-controller-manager's --max-endpoints-per-slice)."""


class Wanted(NamedTuple):
    """The slices of one owner, not yet cut into objects."""

    owner: OwnerReference
    namespace: str
    labels: dict[str, str]
    groups: Mapping[SliceKey, Sequence[Endpoint]]
    """A key without endpoints gets one empty slice."""


class Changes(NamedTuple):
    """Slices to create, to replace (each with the resourceVersion as read) and to delete."""

    create: list[EndpointSlice]
    update: list[EndpointSlice]
    delete: list[EndpointSlice]


def wanted(service: Service, pods: Iterable[Pod]) -> Wanted:
    """The content of the slices of a Service with a selector, given the pods of its namespace."""
    publish = bool(service.spec.publish_not_ready_addresses)
    mine = [pod for pod in pods if labels_match(service.spec.selector, pod.metadata.labels) and _counts(pod)]
    groups: dict[SliceKey, list[Endpoint]] = defaultdict(list)
    for family in service.spec.ip_families or ["IPv4"]:
        for pod in sorted(mine, key=lambda pod: pod.metadata.name):
            address = _address(pod, family)
            if address is not None:
                hostname = pod.spec.hostname if pod.spec.subdomain == service.metadata.name else None
                groups[SliceKey(family, _ports(service, pod))].append(_endpoint(pod, address, hostname, publish))
        if not any(key.address_type == family for key in groups):
            groups[SliceKey(family, ())] = []
    labels = {
        key: value
        for key, value in (service.metadata.labels or {}).items()
        if key not in (SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL)
    }
    labels |= {SERVICE_NAME_LABEL: service.metadata.name, MANAGED_BY_LABEL: MANAGED_BY}
    if service.spec.cluster_ip == "None":
        labels[HEADLESS_LABEL] = ""
    return Wanted(owner_of("v1", "Service", service.metadata), service.metadata.namespace or "", labels, groups)


def reconcile(want: Wanted, existing: Iterable[EndpointSlice], suffix: Suffix) -> Changes:
    """How to get from an owner's `existing` slices to `want` with few writes.

    An endpoint that is still wanted stays in its slice; new ones go first to slices that are written anyway, then to
    unchanged ones with room, then to new slices. Slices are never merged only to have fewer.
    """
    of_key: dict[SliceKey, list[EndpointSlice]] = defaultdict(list)
    changes = Changes([], [], [])
    for slice_ in sorted(existing, key=lambda slice_: slice_.metadata.name):
        key = SliceKey(slice_.address_type, tuple(slice_.ports or ()))
        if key in want.groups:
            of_key[key].append(slice_)
        else:
            changes.delete.append(slice_)
    for key, endpoints in want.groups.items():
        _reconcile_group(want, key, endpoints, of_key[key], suffix, changes)
    return changes


def _reconcile_group(
    want: Wanted,
    key: SliceKey,
    endpoints: Sequence[Endpoint],
    existing: list[EndpointSlice],
    suffix: Suffix,
    changes: Changes,
) -> None:
    missing = {_identity(endpoint): endpoint for endpoint in endpoints}
    kept = []
    for slice_ in existing:
        now = [missing.pop(_identity(one)) for one in slice_.endpoints or () if _identity(one) in missing]
        kept.append((slice_, now))
    kept.sort(key=lambda pair: not _differs(want, pair[0], pair[1]))
    fresh = list(missing.values())
    for _, now in kept:
        room = MAX_ENDPOINTS - len(now)
        now += fresh[:room]
        del fresh[:room]
    kept.sort(key=lambda pair: not pair[1])  # stable: an empty slice stays only if no other one does
    for number, (slice_, now) in enumerate(kept):
        if not now and number > 0:
            changes.delete.append(slice_)
        elif _differs(want, slice_, now):
            meta = replace(slice_.metadata, labels=want.labels, owner_references=[want.owner])
            changes.update.append(replace(slice_, metadata=meta, endpoints=now))
    while fresh or not kept:
        changes.create.append(_slice(want, key, fresh[:MAX_ENDPOINTS], suffix()))
        kept.append((changes.create[-1], []))
        del fresh[:MAX_ENDPOINTS]


def _differs(want: Wanted, slice_: EndpointSlice, endpoints: list[Endpoint]) -> bool:
    meta = slice_.metadata
    return (
        list(slice_.endpoints or ()) != endpoints
        or (meta.labels or {}) != want.labels
        or [owner.uid for owner in meta.owner_references or ()] != [want.owner.uid]
    )


def _slice(want: Wanted, key: SliceKey, endpoints: list[Endpoint], suffix: str) -> EndpointSlice:
    return EndpointSlice(
        api_version="discovery.k8s.io/v1",
        kind="EndpointSlice",
        metadata=ObjectMeta(
            name=generated(want.owner.name, suffix),
            namespace=want.namespace,
            labels=want.labels,
            owner_references=[want.owner],
        ),
        address_type=key.address_type,
        ports=list(key.ports),
        endpoints=endpoints,
    )


def owner_of(api_version: str, kind: str, meta: ObjectMeta) -> OwnerReference:
    """A controller's reference to the object that `meta` was read from."""
    assert meta.uid is not None, "listed objects have a uid"
    return OwnerReference(
        api_version=api_version, kind=kind, name=meta.name, uid=meta.uid, controller=True, block_owner_deletion=True
    )


def _identity(endpoint: Endpoint) -> tuple[str, str | None]:
    return endpoint.addresses[0], endpoint.target_ref.uid if endpoint.target_ref else None


def _counts(pod: Pod) -> bool:
    return not pod.status.finished


def _address(pod: Pod, family: str) -> str | None:
    return next((ip.ip for ip in pod.status.pod_ips or () if family_of(ip.ip) == family), None)


def _endpoint(pod: Pod, address: str, hostname: str | None, publish: bool) -> Endpoint:
    serving, terminating = is_ready(pod) or publish, pod.metadata.deletion_timestamp is not None
    meta = pod.metadata
    return Endpoint(
        addresses=[address],
        conditions=EndpointConditions(
            ready=publish or (serving and not terminating), serving=serving, terminating=terminating
        ),
        hostname=hostname,
        node_name=pod.spec.node_name,
        target_ref=LocalObjectReference(kind="Pod", name=meta.name, namespace=meta.namespace, uid=meta.uid),
    )


def _ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    ports = []
    for port in service.spec.ports or ():
        number = _target(port, pod)
        if number is not None:
            ports.append(
                EndpointPort(
                    name=port.name or "", protocol=port.protocol, port=number, app_protocol=port.app_protocol
                )
            )
    return tuple(sorted(ports, key=port_order))


def _target(port: ServicePort, pod: Pod) -> int | None:
    """The pod's port number; None if the pod has no container port of that name: then it is left out."""
    if not isinstance(port.target_port, str):
        return port.target_port or port.port
    for container in pod.spec.containers:
        for exposed in container.ports or ():
            if exposed.name == port.target_port and exposed.protocol == port.protocol:
                return exposed.container_port
    return None

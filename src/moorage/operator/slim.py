"""What is kept of objects that a large cluster has many of."""

from functools import lru_cache
from sys import intern

from msgspec.structs import replace

from moorage.api import contract
from moorage.api.apps_v1 import ReplicaSet, StatefulSet, StatefulSetSpec
from moorage.api.batch_v1 import Job
from moorage.api.core_v1 import Container, Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object, ObjectKey, ObjectMeta, OwnerReference
from moorage.api.slim import identity, interned
from moorage.api.topology import ZONE_LABEL

OWNER = "ExternalService"
KUBERNETES = ObjectKey("default", "kubernetes")
"""The Service whose endpoints are the API servers."""
_NO_CONTAINERS: list[Container] = []
SHARED = 8192
"""How many sets of labels, and how many owners, are remembered: the pods of one workload have equal ones."""


def slim_pod(pod: Pod) -> Pod:
    """A pod reduced to its addresses, and to what tells which client it is.

    A large cluster has a hundred times more pods than anything else read here, so texts and labels that many of them
    have are held once.
    """
    meta, spec, status = pod.metadata, pod.spec, pod.status
    one_address = [each.ip for each in status.pod_ips or ()] == [status.pod_ip]
    return Pod(
        metadata=replace(
            identity(meta),
            deletion_timestamp=meta.deletion_timestamp,
            labels=_shared_labels(tuple(meta.labels.items())) if meta.labels else None,
            owner_references=_controller(meta),
        ),
        spec=PodSpec(node_name=interned(spec.node_name), host_network=spec.host_network, containers=_NO_CONTAINERS),
        status=PodStatus(
            phase=interned(status.phase),
            pod_ip=status.pod_ip,
            pod_ips=None if one_address else status.pod_ips,
        ),
    )


def slim_node(node: Node) -> Node:
    """A Node reduced to its addresses, ranges and zone."""
    meta, zone = node.metadata, (node.metadata.labels or {}).get(ZONE_LABEL)
    kept = replace(
        identity(meta),
        deletion_timestamp=meta.deletion_timestamp,
        labels={ZONE_LABEL: zone} if zone is not None else None,
    )
    ranges = NodeSpec(pod_cidr=node.spec.pod_cidr, pod_cidrs=node.spec.pod_cidrs)
    return Node(metadata=kept, spec=ranges, status=NodeStatus(addresses=node.status.addresses))


def slim_slice(slice_: EndpointSlice) -> EndpointSlice:
    """The slice. If it is neither ours nor the API servers', with one endpoint only, to show that it has some."""
    if not slice_.endpoints or any(each.kind == OWNER for each in slice_.metadata.owner_references or ()):
        return slice_
    if contract.service_of(slice_.metadata) == KUBERNETES:
        return slice_
    return replace(slice_, endpoints=slice_.endpoints[:1])


def slim_replica_set(obj: ReplicaSet) -> ReplicaSet:
    """A ReplicaSet reduced to what controls it."""
    return ReplicaSet(metadata=_owned(obj))


def slim_job(obj: Job) -> Job:
    """A Job reduced to what controls it."""
    return Job(metadata=_owned(obj))


def slim_stateful_set(obj: StatefulSet) -> StatefulSet:
    """A StatefulSet reduced to the pods that it has."""
    return StatefulSet(
        metadata=identity(obj.metadata), spec=StatefulSetSpec(replicas=obj.spec.replicas, ordinals=obj.spec.ordinals)
    )


def _owned(obj: Object) -> ObjectMeta:
    return replace(identity(obj.metadata), owner_references=_controller(obj.metadata))


@lru_cache(SHARED)
def _shared_labels(labels: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {intern(key): intern(value) for key, value in labels}


def _controller(meta: ObjectMeta) -> list[OwnerReference] | None:
    """Its controller, as the one reference; None: it has none."""
    for each in meta.owner_references or ():
        if each.controller:
            return _shared_owner(each.api_version, each.kind, each.name, each.uid)
    return None


@lru_cache(SHARED)
def _shared_owner(api_version: str, kind: str, name: str, uid: str) -> list[OwnerReference]:
    return [OwnerReference(api_version=api_version, kind=kind, name=name, uid=uid, controller=True)]

"""What is kept of objects: what decisions read, and of what many have, one copy."""

import msgspec
import pytest
from msgspec.structs import replace

from moorage.api.apps_v1 import ReplicaSet, StatefulSet, StatefulSetOrdinals, StatefulSetSpec
from moorage.api.batch_v1 import Job
from moorage.api.core_v1 import (
    Container,
    Node,
    NodeAddress,
    NodeSpec,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
)
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, Endpoint, EndpointSlice
from moorage.api.meta import Object, ObjectMeta, OwnerReference
from moorage.api.topology import ZONE_LABEL
from moorage.core.admission import pod_addresses
from moorage.operator.slim import slim_job, slim_node, slim_pod, slim_replica_set, slim_slice, slim_stateful_set

OWNER = OwnerReference(
    api_version="moorage.dev/v1alpha1", kind="ExternalService", name="backend", uid="2", controller=True
)
BY = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="a-1", uid="3", controller=True)
OTHER = OwnerReference(api_version="v1", kind="ConfigMap", name="a", uid="4")
META = ObjectMeta(
    name="a",
    namespace="default",
    uid="1",
    resource_version="7",
    labels={"app": "a", ZONE_LABEL: "eu-1a"},
    annotations={"example.com/large": "x" * 1000},
    owner_references=[OTHER, BY],
)
TWO = [Endpoint(addresses=["203.0.113.1"]), Endpoint(addresses=["203.0.113.2"])]
POD = Pod(
    metadata=META,
    spec=PodSpec(containers=[Container(name="main")], node_name="node-1", host_network=True),
    status=PodStatus(phase="Running", pod_ip="10.244.0.7", pod_ips=[PodIP(ip="10.244.0.7")], host_ip="192.0.2.1"),
)


def slice_(service: str | None, *owners: OwnerReference) -> EndpointSlice:
    labels = {SERVICE_NAME_LABEL: service} if service else None
    meta = ObjectMeta(name="a", namespace="default", uid="1", labels=labels, owner_references=list(owners))
    return EndpointSlice(metadata=meta, address_type="IPv4", endpoints=TWO)


def test_of_a_pod_it_is_kept_which_client_it_is() -> None:
    slim = slim_pod(replace(POD, metadata=replace(META, deletion_timestamp="2027-01-01T00:00:00Z")))
    meta = slim.metadata
    assert (meta.key, meta.uid, meta.resource_version) == (META.key, "1", "7")
    assert (meta.labels, meta.owner_references) == (META.labels, [BY])
    assert meta.deletion_timestamp == "2027-01-01T00:00:00Z"
    assert (slim.status.phase, slim.spec.host_network, slim.spec.node_name) == ("Running", True, "node-1")
    assert (meta.annotations, slim.spec.containers, slim.status.host_ip) == (None, [], None)


@pytest.mark.parametrize("addresses", [[], ["10.244.0.7"], ["10.244.0.7", "2001:db8::7"], ["2001:db8::7"]])
def test_of_a_pod_all_addresses_are_kept(addresses: list[str]) -> None:
    status = PodStatus(pod_ip="10.244.0.7", pod_ips=[PodIP(ip=each) for each in addresses])
    pod = Pod(metadata=META, status=status)
    assert list(pod_addresses(slim_pod(pod))) == list(pod_addresses(pod))


def test_pods_of_one_workload_share_what_is_the_same_of_them() -> None:
    text = msgspec.json.encode(POD)
    one, other = (slim_pod(msgspec.json.decode(text, type=Pod)) for _ in range(2))
    assert one.metadata.labels is other.metadata.labels
    assert one.metadata.owner_references is other.metadata.owner_references
    assert one.metadata.namespace is other.metadata.namespace
    assert one.spec.node_name is other.spec.node_name


def test_of_a_node_its_addresses_ranges_and_zone_are_kept() -> None:
    addresses = [NodeAddress(type="InternalIP", address="192.0.2.1")]
    status = NodeStatus(addresses=addresses, conditions=[{"type": "Ready"}], node_info={"kernelVersion": "6"})
    spec = NodeSpec(pod_cidrs=["10.244.0.0/24"], taints=[{"key": "example.com/gpu"}])
    slim = slim_node(Node(metadata=META, spec=spec, status=status))
    assert slim.status == NodeStatus(addresses=addresses)
    assert slim.spec == NodeSpec(pod_cidrs=["10.244.0.0/24"])
    assert slim.metadata.labels == {ZONE_LABEL: "eu-1a"}


def test_of_what_makes_pods_it_is_kept_what_controls_it() -> None:
    found: list[Object] = [slim_replica_set(ReplicaSet(metadata=META)), slim_job(Job(metadata=META))]
    for each in found:
        meta = each.metadata
        assert (meta.key, meta.owner_references, meta.labels, meta.annotations) == (META.key, [BY], None, None)


def test_of_a_stateful_set_it_is_kept_which_pods_it_has() -> None:
    spec = StatefulSetSpec(replicas=3, ordinals=StatefulSetOrdinals(start=5))
    slim = slim_stateful_set(StatefulSet(metadata=META, spec=spec))
    assert slim.spec == spec
    assert (slim.metadata.key, slim.metadata.annotations) == (META.key, None)


def test_of_others_slices_it_is_kept_that_they_have_endpoints() -> None:
    assert slim_slice(slice_("backend", OWNER)).endpoints == TWO
    assert slim_slice(slice_("other")).endpoints == TWO[:1]
    assert slim_slice(slice_("kubernetes")).endpoints == TWO

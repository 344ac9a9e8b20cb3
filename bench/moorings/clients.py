"""Who is moored, and to what. Pure.

- Of pods: groups of 8 endpoints, the first of which has weight 3, so three clients of ten are there. The first
  endpoint of the first group has CLOSING_PORT, and fails when nobody listens there any more.
- Of nodes: one group with 5 nodes an endpoint.
"""

from collections.abc import Iterator

from bench.objects import CHECK, CLOSING_PORT, NAMESPACE, PORT, address
from moorage.api.core_v1 import Container, Node, Pod, PodSpec
from moorage.api.meta import LabelSelector, ObjectKey, ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import (
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    MooringConfig,
    SessionAffinityConfig,
)
from moorage.api.mooring_names import mooring_name
from moorage.api.sources_v1alpha1 import MAX_ADDRESSES, EndpointSource, StaticAddress

WEIGHTS = (3, 1, 1, 1, 1, 1, 1, 1)
"""Of a group's endpoints, whose clients are pods."""
PODS_OF_ONE = 50
"""Pods of one ReplicaSet."""
NODES_OF_ONE = 5
"""Nodes of one endpoint."""
OF_NODES = "by-node"
"""The group whose clients are nodes."""
_LABELS = {"app": "client"}


def pods(namespace: str, count: int, called: str = "client") -> Iterator[Pod]:
    """As ReplicaSets make them, not scheduled yet."""
    for number in range(count):
        owner = f"{called}-{number // PODS_OF_ONE}"
        by = OwnerReference(
            api_version="apps/v1", kind="ReplicaSet", name=owner, uid=f"uid-of-{owner}", controller=True
        )
        meta = ObjectMeta(
            name=f"{owner}-{number % PODS_OF_ONE}",
            namespace=namespace,
            labels={**_LABELS, "pod-template-hash": owner},
            owner_references=[by],
        )
        yield Pod(metadata=meta, spec=PodSpec(containers=[Container(name="main", image="example.com/client:1")]))


def nodes(count: int) -> Iterator[Node]:
    for number in range(count):
        yield Node(metadata=ObjectMeta(name=f"node-{number}"))


def group(number: int) -> str:
    """Of pods."""
    return f"by-pod-{number}"


def endpoint(number: int) -> str:
    """Name of an endpoint of any group."""
    return f"e{number}"


def moorings_of(pod: str, groups: int) -> list[ObjectKey]:
    """The Moorings that a pod is to have."""
    return [ObjectKey(NAMESPACE, mooring_name(group(number), "Pod", pod)) for number in range(groups)]


def of_pods(number: int) -> ExternalService:
    """The ExternalService of a group of pods."""
    addresses = [
        StaticAddress(
            name=endpoint(index),
            address=address(number, index, len(WEIGHTS)),
            weight=weight,
            port=CLOSING_PORT if number == index == 0 else None,
        )
        for index, weight in enumerate(WEIGHTS)
    ]
    config = MooringConfig(client="Pod", pod_selector=LabelSelector(match_labels=_LABELS))
    return _external_service(group(number), "moorage", config, addresses)


def of_nodes(endpoints: int) -> ExternalService:
    """The ExternalService whose clients are nodes."""
    addresses = [
        StaticAddress(name=endpoint(index), address=address(0, index, endpoints)) for index in range(endpoints)
    ]
    return _external_service(OF_NODES, "kube-proxy", MooringConfig(client="Node"), addresses)


def config_of(xsvc: ExternalService) -> MooringConfig:
    """What counts as a client of one of these."""
    affinity = xsvc.spec.session_affinity_config
    assert affinity is not None
    assert affinity.mooring is not None
    return affinity.mooring


def _external_service(
    name: str, proxy: str, config: MooringConfig, addresses: list[StaticAddress]
) -> ExternalService:
    spec = ExternalServiceSpec(
        ports=[ExternalServicePort(name="http", port=80, target_port=PORT)],
        endpoints=[
            EndpointSource(addresses=addresses[start : start + MAX_ADDRESSES])
            for start in range(0, len(addresses), MAX_ADDRESSES)
        ],
        health_check=CHECK,
        session_affinity="Mooring",
        session_affinity_config=SessionAffinityConfig(mooring=config),
        proxy=proxy,
    )
    return ExternalService(metadata=ObjectMeta(name=name, namespace=NAMESPACE), spec=spec)

"""What node agents read: Services with endpoints, and on each node a pod that is moored. Pure."""

from collections.abc import Iterator
from typing import Any

from bench.objects import NAMESPACE, address
from moorage.api.contract import MooredBy, ServiceContract, SliceContract, encode_service, encode_slice
from moorage.api.core_v1 import Container, Node, Pod, PodSpec, Service, ServicePort, ServiceSpec
from moorage.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.mooring_names import mooring_name
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec, MooringStatus

ENDPOINTS = 10
"""Of each Service."""
MOORED = 100
"""Pods that have a Mooring: all agents are told of each, whoever's it is."""
_PORT = 80


def node(number: int) -> str:
    return f"node-{number}"


def pod(number: int) -> str:
    """The one of a node."""
    return f"client-{number}"


def mooring(number: int) -> str:
    """Of that pod."""
    return mooring_name(group(0), "Pod", pod(number))


def group(number: int) -> str:
    """The name of a Service, of its group, and of its slice."""
    return f"backend-{number}"


def endpoint(number: int) -> str:
    return f"e{number}"


def nodes(count: int) -> Iterator[Node]:
    for number in range(count):
        yield Node(metadata=ObjectMeta(name=node(number)))


def pods(count: int) -> Iterator[Pod]:
    """They are bound to their nodes, and have no address before `addressed`."""
    for number in range(count):
        meta = ObjectMeta(name=pod(number), namespace=NAMESPACE)
        spec = PodSpec(node_name=node(number), containers=[Container(name="main", image="example.com/client:1")])
        yield Pod(metadata=meta, spec=spec)


def addressed(number: int) -> dict[str, Any]:
    """The change to a pod's status that gives it its address."""
    given = f"10.{244 + number // 65_536}.{number // 256 % 256}.{number % 256}"
    return {"status": {"phase": "Running", "podIP": given, "podIPs": [{"ip": given}]}}


def services(count: int) -> Iterator[Service]:
    """The clients of all are pods."""
    for number in range(count):
        contract = ServiceContract("moorage", MooredBy(group(number), "Pod", pods=LabelSelector()))
        yield Service(
            metadata=encode_service(contract).on(ObjectMeta(name=group(number), namespace=NAMESPACE)),
            spec=ServiceSpec(ports=[ServicePort(port=_PORT)], session_affinity="ClientIP"),
        )


def slices(count: int) -> Iterator[EndpointSlice]:
    for number in range(count):
        contract = SliceContract(group(number), "moorage")
        yield EndpointSlice(
            metadata=encode_slice(contract).on(ObjectMeta(name=group(number), namespace=NAMESPACE)),
            address_type="IPv4",
            ports=[EndpointPort(name="", protocol="TCP", port=_PORT)],
            endpoints=endpoints(number, ready=True),
        )


def endpoints(number: int, *, ready: bool) -> list[Endpoint]:
    """Of a slice. `ready`: the first is."""
    return [
        Endpoint(
            addresses=[address(number, each, ENDPOINTS)],
            hostname=endpoint(each),
            conditions=EndpointConditions(ready=ready or each > 0, serving=ready or each > 0),
        )
        for each in range(ENDPOINTS)
    ]


def moorings(count: int) -> Iterator[Mooring]:
    """Of pods, in the group of the first Service."""
    for number in range(min(count, MOORED)):
        at = endpoint(number % ENDPOINTS)
        yield Mooring(
            api_version="moorage.dev/v1alpha1",
            kind="Mooring",
            metadata=ObjectMeta(name=mooring(number), namespace=NAMESPACE),
            spec=MooringSpec(group=group(0), client=MooringClient(kind="Pod", name=pod(number)), endpoint=at),
            status=MooringStatus(endpoint=at, reason="Assigned", home=at),
        )


def moved(at: str) -> dict[str, Any]:
    """The change to a Mooring that moves its client."""
    return {"spec": {"endpoint": at}, "status": {"endpoint": at, "reason": "Moved"}}

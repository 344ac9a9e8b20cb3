"""What is measured: Services and their endpoints, as a node carries them and as the API has them. Pure.

Addresses: Services in 10.97.0.0/16, endpoints in 198.19.0.0/16, clients that do nothing in 10.128.0.0/9.
"""

import ipaddress
import itertools
from collections.abc import Iterator, Sequence

from moorage.api.contract import PROXY, PROXY_LABEL
from moorage.dataplane.model import (
    ByClientIP,
    ClientTarget,
    Endpoint,
    MooringKey,
    NodeState,
    ServiceAddress,
    ServicePort,
    Target,
)

PORT = 80
AFFINITY_SECONDS = 10800
_SERVICES = int(ipaddress.IPv4Address("10.97.0.1"))
_ENDPOINTS = int(ipaddress.IPv4Address("198.19.0.1"))
_ENDPOINT_ADDRESSES = 60_000


def service_port(address: str, endpoints: Sequence[str]) -> ServicePort:
    """A Service with ClientIP affinity whose port leads to `endpoints` (addresses)."""
    made = sorted((Endpoint(each, Target(each, PORT)) for each in endpoints), key=lambda each: each.name)
    return ServicePort(
        f"bench/s{address}", ServiceAddress(address, "tcp", PORT), tuple(made), ByClientIP(AFFINITY_SECONDS)
    )


def state(services: int, endpoints: int) -> NodeState:
    """That many Services with that many endpoints each."""
    ports = (service_port(service_address(n), endpoint_addresses(n, endpoints)) for n in range(services))
    return {port.key: port for port in ports}


def moorings(port: ServicePort, clients: Sequence[str], count: int) -> NodeState:
    """So many moorings at this port: those of `clients`, the rest of others."""
    first = int(ipaddress.IPv4Address("10.128.0.1"))
    others = (str(ipaddress.IPv4Address(first + number)) for number in range(count - len(clients)))
    targets = [each.target for each in port.endpoints]
    made = (
        ClientTarget(MooringKey(client, port.key), targets[number % len(targets)])
        for number, client in enumerate(itertools.chain(clients, others))
    )
    return {each.key: each for each in made}


def service_address(number: int) -> str:
    return str(ipaddress.IPv4Address(_SERVICES + number))


def endpoint_addresses(service: int, count: int) -> list[str]:
    first = service * count
    return [str(ipaddress.IPv4Address(_ENDPOINTS + (first + n) % _ENDPOINT_ADDRESSES)) for n in range(count)]


def service_objects(services: int) -> Iterator[dict[str, object]]:
    """Services as the API server sends them."""
    for number in range(services):
        address = service_address(number)
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"service-{number}",
                "namespace": "bench",
                "uid": f"00000000-0000-4000-8000-{number:012}",
                "resourceVersion": str(number + 1),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {PROXY_LABEL: PROXY},
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "http", "protocol": "TCP", "port": PORT, "targetPort": PORT}],
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}},
                "internalTrafficPolicy": "Cluster",
            },
            "status": {"loadBalancer": {}},
        }


def slice_object(service: int, addresses: Sequence[str]) -> dict[str, object]:
    """The EndpointSlice of a Service, as the API server sends it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"service-{service}-1",
            "namespace": "bench",
            "uid": f"00000000-0000-4000-8001-{service:012}",
            "resourceVersion": str(service + 1),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"kubernetes.io/service-name": f"service-{service}"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [each], "conditions": {"ready": True, "serving": True, "terminating": False}}
            for each in addresses
        ],
        "ports": [{"name": "http", "protocol": "TCP", "port": PORT}],
    }

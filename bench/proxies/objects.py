"""The Services that kube-proxy and node agents carry on the same nodes, as one writes them to the API. Pure.

Addresses: Services in 10.96.0.0/16, the upper half of which node agents carry, endpoints in 198.18.0.0/15.
"""

import ipaddress
from collections.abc import Sequence
from typing import Literal

from moorage.api.contract import PROXY, PROXY_LABEL
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL

Carrier = Literal["moorage", "kube-proxy"]
CARRIERS: tuple[Carrier, ...] = ("moorage", "kube-proxy")
NAMESPACE = "default"
SERVICES = "10.96.0.0/16"
ENDPOINTS = "198.18.0.0/15"
PORT = 80
"""Of the server that is fast, and of Services."""
TELLING_PORT = 8080
"""Of the server that tells its address; Services lead to it where that matters."""
MAX_SERVICES = 20_000
"""Of each carrier."""
AFFINITY_SECONDS = 10800

_FIRST_SERVICE = {
    "kube-proxy": int(ipaddress.IPv4Address("10.96.16.0")),
    "moorage": int(ipaddress.IPv4Address("10.96.128.0")),
}
_FIRST_ENDPOINT = int(ipaddress.IPv4Address("198.18.0.1"))
_ENDPOINTS = 120_000


def name(carrier: Carrier, number: int) -> str:
    return f"{carrier}-{number}"


def address(carrier: Carrier, number: int) -> str:
    """Of a Service."""
    return str(ipaddress.IPv4Address(_FIRST_SERVICE[carrier] + number))


def endpoints(number: int, count: int) -> list[str]:
    """Addresses of a Service's endpoints, of which it has so many."""
    first = number * count
    return [str(ipaddress.IPv4Address(_FIRST_ENDPOINT + (first + each) % _ENDPOINTS)) for each in range(count)]


def service(carrier: Carrier, number: int) -> dict[str, object]:
    where = address(carrier, number)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name(carrier, number), "namespace": NAMESPACE, "labels": _labels(carrier)},
        "spec": {
            "clusterIP": where,
            "ports": [{"name": "http", "protocol": "TCP", "port": PORT}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}},
        },
    }


def slice_(carrier: Carrier, number: int, addresses: Sequence[str], port: int) -> dict[str, object]:
    """The Service's EndpointSlice; `port`: of the endpoints."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name(carrier, number),
            "namespace": NAMESPACE,
            "labels": {SERVICE_NAME_LABEL: name(carrier, number), **_labels(carrier)},
        },
        "addressType": "IPv4",
        "endpoints": of(addresses),
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
    }


def of(addresses: Sequence[str]) -> list[dict[str, object]]:
    """Ready endpoints."""
    return [{"addresses": [each], "conditions": {"ready": True}} for each in addresses]


def _labels(carrier: Carrier) -> dict[str, str]:
    return {PROXY_LABEL: PROXY} if carrier == "moorage" else {}

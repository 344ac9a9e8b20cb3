"""Services and slices as a person writes them."""

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.cluster.client import Client

SERVICE_ADDRESS = "10.96.0.100"


def service(name: str = "backend", address: str = SERVICE_ADDRESS, affinity: str = "ClientIP") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": address, "sessionAffinity": affinity, "ports": [{"port": 9000}]},
    }


def slice_(*addresses: str, name: str = "backend") -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


async def apply(client: Client, *objects: dict[str, object]) -> None:
    """Server-side apply, as kubectl does it."""
    for each in objects:
        await client.apply(each, field_manager="test")


async def delete(client: Client, name: str = "backend") -> None:
    await client.delete(Service, "default", name)
    await client.delete(EndpointSlice, "default", f"{name}-1")

"""What the suites that run against any API server share: objects, refusals, watches."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from moorage.api.core_v1 import Namespace, Service, ServicePort, ServiceSpec
from moorage.api.discovery_v1 import Endpoint, EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import ApiError, Client, Event

SOON_SECONDS = 30.0
"""Seconds within which what must come has come."""


@pytest.fixture
async def namespace(client: Client) -> AsyncGenerator[str, None]:
    """A namespace of the test's own."""
    name = f"parity-{secrets.token_hex(4)}"
    await client.create(Namespace(metadata=ObjectMeta(name=name)))
    yield name
    await client.delete(Namespace, None, name)


def slice_of(namespace: str, name: str, *addresses: str, **metadata: Any) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, **metadata),
        address_type="IPv4",
        endpoints=[Endpoint(addresses=[address]) for address in addresses],
    )


def service_of(namespace: str, name: str, **spec: Any) -> Service:
    ports = spec.pop("ports", [ServicePort(port=80)])
    return Service(metadata=ObjectMeta(name=name, namespace=namespace), spec=ServiceSpec(ports=ports, **spec))


def deployment_of(namespace: str, name: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }


async def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        await call
    assert caught.value.message
    return caught.value.status, caught.value.reason


class Watch:
    """A watch of slices of one namespace, started, from which events are taken one at a time."""

    def __init__(self, client: Client, namespace: str, version: str, **selectors: Any) -> None:
        self.items = client.watch(
            EndpointSlice, namespace, resource_version=version, idle_timeout=SOON_SECONDS, **selectors
        )

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(SOON_SECONDS):
            async for item in self.items:
                if isinstance(item, Event):
                    self.last = item.object
                    return item.type, item.object.metadata.name
        raise AssertionError("the server ended the watch")

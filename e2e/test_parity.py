"""The real API server passes the very tests that the lab's passes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from e2e.harness.control_plane import ApiServer
from moorage.api.discovery_v1 import EndpointSlice
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from testing.suites.objects import Watch, refused, slice_of
from testing.suites.objects import namespace as namespace  # the suite's own, not that of conftest.py
from testing.suites.parity import *  # noqa: F403
from testing.suites.parity_writes import *  # noqa: F403

pytestmark = pytest.mark.every_kubernetes


@pytest.fixture
async def client(api_server: ApiServer) -> AsyncGenerator[Client, None]:
    async with Client(kubeconfig.load(api_server.kubeconfig)) as client:
        yield client


async def test_a_version_from_before_a_restart_is_gone(client: Client, namespace: str, api_server: ApiServer) -> None:
    # The lab's server is made to forget in tests/cluster/test_reflector_lab.py.
    made = await client.create(slice_of(namespace, "a"))
    for number in range(5):
        await client.patch(EndpointSlice, namespace, "a", {"metadata": {"labels": {"x": str(number)}}})
    await asyncio.to_thread(api_server.restart)
    watch = Watch(client, namespace, made.metadata.resource_version or "")
    status, _ = await refused(watch.next())
    assert status == 410
    listing = await client.list(EndpointSlice, namespace)
    assert [one.metadata.labels for one in listing.items] == [{"x": "4"}]

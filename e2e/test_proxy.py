"""The proxy that makes faults between a client and the real API server."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from e2e.harness import builds
from e2e.harness.control_plane import ApiServer
from e2e.harness.kubectl import Kubectl
from e2e.harness.proxy import Proxy
from e2e.harness.world import wait
from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectMeta
from moorage.cluster import kubeconfig
from moorage.cluster.client import ApiError, Client, Event, UnreachableError


@pytest.fixture
def proxy(api_server: ApiServer, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(api_server, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncGenerator[Client, None]:
    async with Client(kubeconfig.load(proxy.kubeconfig), timeout=20) as client:
        yield client


def secret(namespace: str, name: str = "a") -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace))


async def test_it_passes_on_what_comes_and_remembers_it(client: Client, proxy: Proxy, namespace: str) -> None:
    await client.create(secret(namespace))
    assert (await client.get(Secret, namespace, "a")).metadata.uid
    seen = [(one.method, one.path.rsplit("/", 1)[1], one.status) for one in proxy.requests]
    assert seen == [("POST", "secrets", 201), ("GET", "a", 200)]
    assert [one.path for one in proxy.writes()] == [f"/api/v1/namespaces/{namespace}/secrets"]
    assert proxy.writes(since=time.monotonic()) == []
    assert builds.version(builds.KUBERNETES) in Kubectl(proxy.kubeconfig).kubectl("get", "--raw", "/version")


@pytest.mark.parametrize(("code", "reason"), [(409, "Conflict"), (410, "Expired"), (500, "InternalError")])
async def test_it_answers_chosen_requests_itself(
    client: Client, proxy: Proxy, namespace: str, code: int, reason: str
) -> None:
    proxy.fail(code, method="POST", path=f"/{namespace}/secrets", count=2)
    await client.list(Secret, namespace)
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            await client.create(secret(namespace))
        assert (caught.value.status, caught.value.reason) == (code, reason)
    await client.create(secret(namespace))


async def test_it_can_do_what_is_asked_and_answer_otherwise(client: Client, proxy: Proxy, namespace: str) -> None:
    proxy.fail(0, method="POST", late=True)
    with pytest.raises(UnreachableError):
        await client.create(secret(namespace))
    assert (await client.get(Secret, namespace, "a")).metadata.uid


async def test_it_says_when_to_come_again_and_holds_back(client: Client, proxy: Proxy, namespace: str) -> None:
    proxy.fail(429, retry_after=1)
    proxy.slow(0.5, count=1)
    started = time.monotonic()
    await client.list(Secret, namespace)
    assert time.monotonic() - started >= 1.5
    assert [(one.status, one.faulty) for one in proxy.requests] == [(429, True), (200, False)]


async def test_what_it_holds_back_goes_on_when_it_is_released(client: Client, proxy: Proxy, namespace: str) -> None:
    proxy.slow(3600, count=1)
    answer = asyncio.create_task(client.list(Secret, namespace))
    await asyncio.to_thread(wait, "it is held back", lambda: proxy.held() == 1, 20)
    assert proxy.requests == []
    proxy.release()
    async with asyncio.timeout(20):
        await answer


async def test_it_silences_and_expires_watches(client: Client, proxy: Proxy, namespace: str) -> None:
    version = (await client.list(Secret, namespace)).resource_version
    watch = client.watch(Secret, namespace, resource_version=version, idle_timeout=5)
    async with aclosing(watch), asyncio.timeout(20):
        await anext(watch)
        assert proxy.silence("/secrets") == 1
        await client.create(secret(namespace, "silent"))
        with pytest.raises(UnreachableError, match="no answer for 5 s"):
            await anext(watch)
    later = client.watch(Secret, namespace, resource_version=version)
    async with aclosing(later), asyncio.timeout(20):
        await anext(later)
        event = await anext(later)
        assert isinstance(event, Event)
        assert event.object.metadata.name == "silent"
        assert proxy.open_watches() == 1
        assert proxy.expire() == 1
        with pytest.raises(ApiError) as caught:
            await anext(later)
        assert caught.value.status == 410


async def test_it_cuts_connections_and_is_down_and_up_again(client: Client, proxy: Proxy, namespace: str) -> None:
    version = (await client.list(Secret, namespace)).resource_version
    watch = client.watch(Secret, namespace, resource_version=version)
    async with aclosing(watch), asyncio.timeout(20):
        await anext(watch)
        proxy.cut()
        with pytest.raises(UnreachableError):
            await anext(watch)
    await client.list(Secret, namespace)
    proxy.stop()
    with pytest.raises(UnreachableError, match="Connection refused"):
        await client.list(Secret, namespace)
    proxy.start()
    await client.list(Secret, namespace)

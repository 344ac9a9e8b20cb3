"""Another cluster's server may send what it likes: little of it is kept, and not without bound."""

import asyncio
import json
import ssl
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import trustme
from aiohttp import web

from moorage.api.core_v1 import LoadBalancerIngress, Service
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.cluster.events import Event
from moorage.cluster.kubeconfig import Config
from moorage.cluster.pace import Pace
from moorage.cluster.reading import Listing
from moorage.cluster.reflector import Reflector
from moorage.cluster.room import House, Room
from moorage.discovery import loadbalancers as module
from moorage.discovery import tenant
from moorage.discovery.foreign import MAX_INGRESS, MAX_SERVICES, SERVICES
from moorage.discovery.loadbalancers import EVENTS_PER_SECOND, LoadBalancers, SelectedServices, _Slim
from moorage.discovery.share import Share
from moorage.discovery.tenant import client_of
from testing.eventually import eventually
from tests.support.fake_names import FakeNames
from tests.support.stub_server import Handler, event, service, stream, stub_server
from tests.support.tenants import LOOPBACK_ALLOWED


@asynccontextmanager
async def running(handler: Handler, share: Share | None = None) -> AsyncIterator[LoadBalancers]:
    async with stub_server(handler) as url:
        selected = SelectedServices("frontend", Config(server=url, token="t"), "backend", None)
        made = LoadBalancers(
            selected, share or Share(FakeNames()), lambda: LOOPBACK_ALLOWED, lambda: None, lambda: "T"
        )
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def trouble(balancers: LoadBalancers) -> str:
    async def condition() -> bool:
        return balancers.trouble is not None

    await eventually(condition)
    assert balancers.trouble is not None
    return str(balancers.trouble.error)


def served(items: list[Any], *events: bytes) -> Handler:
    """A server that has these Services, and then says these events."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            response = await stream(request, *events)
            await asyncio.sleep(60)
            return response
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    return answer


async def test_only_what_is_used_of_a_service_is_kept() -> None:
    many = [
        {"ip": f"203.0.113.{number}", "ports": [{"port": 80, "error": "example.com/Taken"}]} for number in range(100)
    ]
    obj = service("backend1", 7, "backend")
    obj["metadata"]["annotations"] = {"large": "x" * 100_000}
    obj["spec"] = {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "x" * 100_000}}
    obj["status"] = {"loadBalancer": {"ingress": many}, "conditions": [{"type": "x" * 100_000}]}
    async with running(served([obj])) as balancers:

        async def condition() -> bool:
            return bool(balancers.services)

        await eventually(condition)
        assert balancers.services is not None
        (kept,) = balancers.services.values()
        assert kept.metadata.resource_version == "7"
        assert kept.status.load_balancer is not None
        assert kept.status.load_balancer.ingress == [
            LoadBalancerIngress(
                ip=f"203.0.113.{number}", ports=[{"port": 80, "protocol": "TCP", "error": "example.com/Taken"}]
            )
            for number in range(MAX_INGRESS)
        ]
        assert len(repr(kept)) < 10_000


def one(metadata: dict[str, Any] = {}, port: dict[str, Any] = {}, ingress: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006
    """A Service with these fields among others."""
    obj = service("backend1", 7, "backend")
    obj["metadata"].update(metadata)
    obj["spec"] = {"type": "LoadBalancer", "ports": [{"port": 80, **port}]}
    obj["status"] = {"loadBalancer": {"ingress": [ingress]}}
    return obj


LONG = "x" * 2**16


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (one({"name": LONG}), "metadata.name"),
        (one({"namespace": LONG}), "metadata.namespace"),
        (one({"uid": LONG}), "metadata.uid"),
        (one({"resourceVersion": LONG}), "metadata.resourceVersion"),
        (one({"deletionTimestamp": LONG}), "metadata.deletionTimestamp"),
        (one(port={"protocol": LONG}), "spec.ports[0].protocol"),
        (one(ingress={"ip": LONG}), "status.loadBalancer.ingress[0].ip"),
        (one(ingress={"hostname": LONG}), "status.loadBalancer.ingress[0].hostname"),
        (one(ingress={"ports": [{"port": 80, "error": LONG}]}), "status.loadBalancer.ingress[0].ports[0].error"),
        ({**one(), "spec": {"type": LONG}}, "spec.type"),
    ],
)
async def test_text_longer_than_any_in_kubernetes_is_refused(obj: dict[str, Any], field: str, watched: bool) -> None:
    async with running(served([], event("ADDED", obj)) if watched else served([obj])) as balancers:
        said = await trouble(balancers)
        assert "not an answer of a Kubernetes API: Expected `str` of length <= " in said
        assert said.endswith(f" - at `$.{'' if watched else 'items[0].'}{field}`")
        assert not balancers.services


async def test_the_longest_host_names_and_addresses_are_taken() -> None:
    ingress = {"hostname": "x." * 126 + "x", "ip": "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"}
    async with running(served([one(ingress=ingress)])) as balancers:

        async def condition() -> bool:
            return bool(balancers.services)

        await eventually(condition)
        assert balancers.trouble is None


async def test_fields_that_are_not_used_are_not_kept() -> None:
    obj = one({"name": "backend1"}, {"name": LONG, "appProtocol": LONG, "targetPort": LONG}, {"ipMode": LONG})
    huge = {**obj["spec"]["ports"][0], "port": 10**4000}
    obj["spec"]["ports"].append(huge)
    async with running(served([], event("ADDED", {**obj, "kind": LONG, "apiVersion": LONG}))) as balancers:

        async def condition() -> bool:
            return bool(balancers.services)

        await eventually(condition)
        assert balancers.services is not None
        assert len(repr(balancers.services)) < 2000


@pytest.mark.parametrize("watched", [False, True])
async def test_a_resource_version_without_end_is_refused(watched: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            response = await stream(request, event("BOOKMARK", {"metadata": {"resourceVersion": LONG}}))
            await asyncio.sleep(60)
            return response
        return web.json_response({"metadata": {"resourceVersion": "1" if watched else LONG}, "items": []})

    async with running(answer) as balancers:
        said = await trouble(balancers)
        assert "resourceVersion has more than 128 characters" in said or "$.metadata.resourceVersion" in said


async def test_a_list_of_too_many_is_refused() -> None:
    async with running(served([service(f"s{number}", 1) for number in range(1001)])) as balancers:
        assert "more than 1000 objects; narrow the selector" in await trouble(balancers)
        assert balancers.services is None


async def test_a_watch_that_adds_too_many_is_refused() -> None:
    events = [event("ADDED", service(f"s{number}", number + 2)) for number in range(1001)]
    async with running(served([], *events)) as balancers:
        assert "more than 1000 Services; narrow the selector" in await trouble(balancers)
        assert balancers.services is not None
        assert len(balancers.services) <= 1000


async def test_a_list_without_end_is_refused() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "1", "continue": "more"}, "items": []})

    async with running(answer) as balancers:
        assert "a list of 0 objects in more than 20 pages" in await trouble(balancers)


@pytest.mark.looptime
@pytest.mark.parametrize("version", ["7", "expired"])
async def test_a_server_that_ends_each_watch_at_once_is_not_asked_without_pause(version: str) -> None:
    class Brief:
        asked = 0

        async def list(self, *_: Any, **__: Any) -> Listing[Service]:
            self.asked += 1
            return Listing([], "1")

        async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[Event[Service], None]:
            self.asked += 1
            yield Event("ADDED", Service(metadata=ObjectMeta(name="a", resource_version=str(self.asked))))
            if version == "expired":
                raise ApiError(410, "Expired", "too old")

    server = Brief()
    reflector = Reflector(_Slim(cast("Client", server)), Service)
    with suppress(TimeoutError):
        async with asyncio.timeout(100):
            await reflector.run()
    assert server.asked <= 105


@pytest.mark.looptime
async def test_a_server_that_says_more_than_is_read_waits() -> None:
    class Talkative:
        said = 0

        async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[Event[Service], None]:
            while True:
                self.said += 1
                yield Event("MODIFIED", Service(metadata=ObjectMeta(name="a", resource_version=str(self.said))))

    server = Talkative()
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            async for _ in _Slim(cast("Client", server)).watch(Service):
                pass
    assert 1000 < server.said <= 1000 + 10 * EVENTS_PER_SECOND + 1


async def test_services_that_come_and_go_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS_PER_SECOND", 1e6)
    events = []
    for number in range(3000):
        one = service(f"s{number}", number + 2)
        events += [event("ADDED", one), event("DELETED", one)]
    events.append(event("ADDED", service("last", 9000)))
    async with running(served([], *events)) as balancers:

        async def condition() -> bool:
            return list(balancers.services or ()) == [("default", "last")]

        await eventually(condition)
        assert balancers.trouble is None


@pytest.mark.parametrize(
    "nonsense",
    [
        b"{",
        b"[]",
        b'{"items": 7}',
        json.dumps({"items": [{"metadata": 7}]}).encode(),
        b'{"x":' + b"[" * 50_000,
        b"\xff",
    ],
)
async def test_nonsense_is_trouble_and_no_crash(nonsense: bytes) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=nonsense)

    async with running(answer) as balancers:
        assert "not an answer of a Kubernetes API" in await trouble(balancers)


FILLED: dict[str, Callable[[list[dict[str, Any]]], dict[str, Any]]] = {
    "managedFields": lambda many: {"metadata": {"name": "a", "managedFields": many}},
    "conditions": lambda many: {"metadata": {"name": "a"}, "status": {"conditions": many}},
    "ingress": lambda many: {"metadata": {"name": "a"}, "status": {"loadBalancer": {"ingress": many}}},
    "finalizers": lambda many: {"metadata": {"name": "a", "finalizers": many}},
    "ports": lambda many: {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}, *many]}},
}


@pytest.mark.parametrize("field", FILLED)
def test_what_is_not_used_takes_no_memory_when_it_is_decoded(field: str) -> None:
    many: list[dict[str, Any]] = [{"port": 1} if field == "ports" else {}] * 200_000
    answer = json.dumps({"metadata": {}, "items": [FILLED[field](many)]}, separators=(",", ":")).encode()
    tracemalloc.start()
    try:
        assert len(SERVICES.page(answer).items) == 1
        assert tracemalloc.get_traced_memory()[1] < len(answer)
    finally:
        tracemalloc.stop()


def test_of_a_list_without_end_no_more_is_decoded_than_shows_that_it_is_too_long() -> None:
    answer = b'{"metadata": {}, "items": [' + b'{"metadata": {}},' * 100_000 + b'{"metadata": {}}]}'
    assert len(SERVICES.page(answer).items) == MAX_SERVICES + 1


async def test_a_list_that_leads_on_with_endless_words_is_refused() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "1", "continue": "x" * 5000}, "items": []})

    async with running(answer) as balancers:
        assert "$.metadata.continue" in await trouble(balancers)


async def test_a_list_of_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant, "MAX_LIST_BYTES", 10_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        page = {"metadata": {"resourceVersion": "1", "continue": "more"}, "items": [], "filler": "x" * 4000}
        return web.json_response(page)

    async with running(answer) as balancers:
        assert "a list of more than 10000 bytes; narrow the selector" in await trouble(balancers)


@pytest.mark.parametrize("watched", [False, True])
async def test_what_a_namespace_holds_at_once_is_bounded(watched: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            filler = "" if watched else "x" * 20_000
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [], "filler": filler})
        response = await stream(request, b"x" * 20_000 if watched else b"")
        await asyncio.sleep(60)
        return response

    share = Share(FakeNames())
    share.room = Room(10_000, House(10_000))
    async with running(answer, share) as balancers:
        assert "more than 10000 bytes at once in the answers to all sources of this namespace" in await trouble(
            balancers
        )


async def test_a_namespace_follows_so_many_clusters_at_once_and_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    share = Share(FakeNames())
    share.clusters = asyncio.Semaphore(1)
    async with running(served([service("backend1", 1)]), share) as first:

        async def found() -> bool:
            return bool(first.services)

        await eventually(found)
        async with running(served([service("backend2", 1)]), share) as second:
            assert "this namespace follows 32 clusters already" in await trouble(second)
            share.clusters.release()

            async def found_too() -> bool:
                return bool(second.services) and second.trouble is None

            await eventually(found_too)


@asynccontextmanager
async def tls_server(handler: Handler, names: int = 0) -> AsyncIterator[Config]:
    """A server whose certificate is also for so many other names."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    others = [f"name-{number:04}-of-this-server.example.com" for number in range(names)]
    authority.issue_cert("127.0.0.1", *others).configure_cert(context)
    async with stub_server(handler, tls=context) as url:
        yield Config(server=url, token="t", ca=authority.cert_pem.bytes().decode())


async def test_a_handshake_that_costs_too_much_is_told_in_words() -> None:
    async with (
        tls_server(served([]), names=1000) as config,
        client_of(config, FakeNames(), lambda: LOOPBACK_ALLOWED) as client,
    ):
        with pytest.raises(UnreachableError, match=r": TLS: the server's certificates are larger than 16 KiB$"):
            await client.list(Service)


async def test_what_handshakes_take_is_waited_for_before_a_namespace_connects_again() -> None:
    share = Share(FakeNames())
    share.handshakes = Pace(1e-9, burst=1)
    async with tls_server(served([service("backend1", 1)])) as config:
        selected = SelectedServices("frontend", config, "backend", None)
        made = LoadBalancers(selected, share, lambda: LOOPBACK_ALLOWED, lambda: None, lambda: "T")
        task = asyncio.create_task(made.run())

        async def charged() -> bool:
            return share.handshakes.wait() > 60

        await eventually(charged)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await _Slim(cast("Client", None), share.handshakes).list(Service)

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from aiohttp import web

from moorage.api.core_v1 import Namespace, Service, ServicePort, ServiceSpec
from moorage.api.meta import ObjectMeta
from moorage.cluster import client as client_module
from moorage.cluster import tokens
from moorage.cluster.client import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, Client
from moorage.cluster.errors import AnswerError, ApiError, SilentError, UnreachableError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.kubeconfig import Config
from moorage.cluster.reading import Unreadable
from moorage.errors import MoorageError
from tests.support.still_clock import still_clock
from tests.support.stub_server import event, refuse, service, status, stream, stub_client, stub_server


class Recorder:
    """Answers every request with the next of its answers and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = await request.read()
        self.bodies.append(json.loads(body) if body else None)
        answer = self.answers.pop(0)
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


async def take(watch: AsyncGenerator[Event[Service] | Bookmark | Unreadable, None]) -> list[str]:
    """All of a watch in short: `ADDED a`, `BOOKMARK 7`."""
    got = []
    async with aclosing(watch) as events:
        async for item in events:
            match item:
                case Bookmark(resource_version):
                    got.append(f"BOOKMARK {resource_version}")
                case Event(type_, obj):
                    got.append(f"{type_} {obj.metadata.name}")
    return got


# --- requests ----------------------------------------------------------------------------------------------------


async def test_an_object_is_read_into_its_type_and_unknown_fields_are_ignored() -> None:
    answers = Recorder({**service("a", 3), "spec": {"clusterIP": "10.96.0.7", "fromTheFuture": [1]}, "new": None})
    async with stub_client(answers) as client:
        got = await client.get(Service, "default", "a")
    assert got.spec.cluster_ip == "10.96.0.7"
    assert answers.requests[0].path == "/api/v1/namespaces/default/services/a"


async def test_kinds_without_namespace_have_none_in_the_path() -> None:
    answers = Recorder({"metadata": {"name": "n"}})
    async with stub_client(answers) as client:
        await client.get(Namespace, None, "n")
    assert answers.requests[0].path == "/api/v1/namespaces/n"


async def test_a_path_in_the_server_url_is_kept() -> None:
    answers = Recorder(service("a", 3))
    async with stub_server(answers) as url, Client(Config(server=f"{url}/k8s/clusters/c-1")) as client:
        await client.get(Service, "default", "a")
    assert answers.requests[0].path == "/k8s/clusters/c-1/api/v1/namespaces/default/services/a"


async def test_what_is_created_carries_its_type_and_only_what_is_set() -> None:
    answers = Recorder(service("a", 3))
    new = Service(metadata=ObjectMeta(name="a", namespace="default"), spec=ServiceSpec(ports=[ServicePort(port=80)]))
    async with stub_client(answers) as client:
        await client.create(new)
    assert (answers.requests[0].method, answers.requests[0].path) == ("POST", "/api/v1/namespaces/default/services")
    assert answers.bodies == [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"ports": [{"port": 80}]},
        }
    ]


async def test_replace_sends_the_resource_version_it_read() -> None:
    answers = Recorder(service("a", 3), service("a", 4))
    async with stub_client(answers) as client:
        await client.replace(await client.get(Service, "default", "a"), "status")
    assert answers.requests[1].method == "PUT"
    assert answers.requests[1].path.endswith("/services/a/status")
    assert answers.bodies[1]["metadata"]["resourceVersion"] == "3"


@pytest.mark.parametrize("content_type", [JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH])
async def test_a_patch_is_sent_with_its_content_type(content_type: str) -> None:
    answers = Recorder(service("a", 3))
    async with stub_client(answers) as client:
        await client.patch(Service, "default", "a", {"spec": {}}, content_type=content_type, field_manager="m")
    request = answers.requests[0]
    assert (request.method, request.content_type, dict(request.query)) == (
        "PATCH",
        content_type,
        {"fieldManager": "m"},
    )


async def test_apply_sends_the_manifest_as_an_apply_patch() -> None:
    answers = Recorder({"kind": "Service"})
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}}
    async with stub_client(answers) as client:
        await client.apply(manifest, field_manager="m", force=True)
    request = answers.requests[0]
    assert (request.method, request.content_type) == ("PATCH", APPLY_PATCH)
    assert dict(request.query) == {"fieldManager": "m", "force": "true"}
    assert answers.bodies == [manifest]


async def test_warnings_that_come_with_an_answer_are_handed_on() -> None:
    async def answers(request: web.Request) -> web.Response:
        return web.json_response(service("a", 3), headers=[("Warning", '299 - "one"'), ("Warning", '299 - "two"')])

    said: list[str] = []
    async with stub_server(answers) as url, Client(Config(server=url), on_warning=said.append) as client:
        await client.get(Service, "default", "a")
    assert said == ["one", "two"]


async def test_delete_sends_its_preconditions() -> None:
    answers = Recorder(status(200, ""))
    async with stub_client(answers) as client:
        await client.delete(
            Service, "n", "a", uid="u", resource_version="7", propagation="Foreground", grace_period_seconds=0
        )
    assert answers.bodies == [
        {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": "u", "resourceVersion": "7"},
            "propagationPolicy": "Foreground",
            "gracePeriodSeconds": 0,
        }
    ]


async def test_a_name_that_would_hit_the_collection_is_never_sent() -> None:
    answers = Recorder()
    async with stub_client(answers) as client:
        for name in ("", ".", "..", "a/b", "a%2fb", "a?b"):
            with pytest.raises(MoorageError, match=r"metadata\.name"):
                await client.delete(Service, "n", name)
        with pytest.raises(MoorageError, match=r"metadata\.namespace: is missing"):
            await client.create(Service(metadata=ObjectMeta(name="a")))
    assert answers.requests == []


async def test_a_refusal_carries_status_reason_and_the_servers_words() -> None:
    async with stub_client(Recorder(refuse(404, "NotFound", 'services "a" not found'))) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(Service, "default", "a")
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert str(caught.value) == 'services "a" not found (404 NotFound)'


async def test_a_refusal_by_something_in_between_is_told_in_one_line() -> None:
    async with stub_client(Recorder(web.Response(status=502, text="<h1>Bad\nGateway</h1>\x1b[31m"))) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(Service, "default", "a")
    assert str(caught.value) == "<h1>Bad Gateway</h1> [31m (502 BadGateway)"


async def test_a_redirect_is_not_followed() -> None:
    answers = Recorder(web.Response(status=302, headers={"Location": "http://192.0.2.1/"}))
    async with stub_client(answers, token="t") as client:
        with pytest.raises(ApiError) as caught:
            await client.get(Service, "default", "a")
    assert caught.value.status == 302


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"metadata": {"name": 5}}', "\xff"])
async def test_an_answer_that_makes_no_sense_is_an_answer_error(body: str) -> None:
    async with stub_client(Recorder(web.Response(text=body, charset="latin-1"))) as client:
        with pytest.raises(AnswerError, match="not an answer of a Kubernetes API"):
            await client.get(Service, "default", "a")


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with Client(Config(server=url)) as client:
            with pytest.raises(
                UnreachableError, match=f"^{url}: cannot connect: Connection refused; is the server running"
            ):
                await client.list(Service)


async def test_a_connection_whose_packets_are_lost_is_begun_anew_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet that is sent again goes where the first one went: astray, until kube-proxy has its rules."""
    monkeypatch.setattr("moorage.cluster.client.CONNECT_SECONDS", 0.1)
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # The kernel drops what comes while as many wait to be accepted: one more than that.
        first.connect(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with Client(Config(server=url), timeout=3600) as client:
            with pytest.raises(UnreachableError, match=r"no connection within 0\.1 s"):
                await client.list(Service)
            with pytest.raises(UnreachableError, match=r"no connection within 0\.1 s"):
                await take(client.watch(Service, resource_version="5"))


async def test_a_server_that_does_not_answer_in_time_is_given_up() -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with stub_client(never, answer_within=0.1) as client:
        with pytest.raises(UnreachableError, match=r"GET /api/v1/services: no answer for 0\.1 s"):
            await client.list(Service)


async def test_an_answer_that_breaks_off_is_unreachable() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"items"')
        assert request.transport is not None
        request.transport.close()
        return response

    async with stub_client(half) as client:
        with pytest.raises(UnreachableError, match="the connection broke"):
            await client.list(Service)


# --- too many requests -------------------------------------------------------------------------------------------


async def test_after_429_the_request_is_sent_again_when_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    answers = Recorder(refuse(429, "TooManyRequests", retry_after=2), service("a", 3))
    async with stub_client(answers) as client:
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", sleep)
            got = await client.create(Service(metadata=ObjectMeta(name="a", namespace="n")))
    assert got.metadata.resource_version == "3"
    [seconds] = slept
    assert 2 <= seconds <= 2.5
    assert answers.bodies[0] == answers.bodies[1]


async def test_after_enough_429s_the_request_fails() -> None:
    answers = Recorder(*(refuse(429, "TooManyRequests", retry_after=0) for _ in range(9)))
    async with stub_client(answers) as client:
        with pytest.raises(ApiError, match="429"):
            await client.get(Service, "n", "a")
    assert len(answers.requests) == client_module.MAX_RETRIES + 1


@pytest.mark.parametrize(("code", "retry_after"), [(429, 3600), (429, None), (503, 1)])
async def test_a_long_wait_and_other_refusals_are_the_callers_matter(code: int, retry_after: int | None) -> None:
    async with stub_client(Recorder(refuse(code, "x", retry_after=retry_after))) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(Service, "n", "a")
    assert (caught.value.status, caught.value.retry_after) == (code, retry_after)


# --- lists -------------------------------------------------------------------------------------------------------


def page(*items: dict[str, Any], version: int, more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


async def test_text_is_read_as_it_is_and_that_of_a_refusal_is_its_message() -> None:
    async with stub_client(Recorder(web.Response(text="ok\n"), web.Response(text="not yet\n", status=503))) as client:
        assert await client.text("/readyz") == "ok\n"
        with pytest.raises(ApiError) as caught:
            await client.text("/readyz")
    assert (caught.value.status, caught.value.message) == (503, "not yet")


async def test_a_list_is_fetched_page_by_page() -> None:
    answers = Recorder(page(service("a", 1), version=9, more="x"), page(service("b", 2), version=9))
    async with stub_client(answers) as client:
        got = await client.list(Service, "default", label_selector="app in (a, b)", resource_version="5")
    assert ([obj.metadata.name for obj in got.items], got.resource_version) == (["a", "b"], "9")
    first, second = (dict(request.query) for request in answers.requests)
    assert first == {"labelSelector": "app in (a, b)", "limit": "500", "resourceVersion": "5"}
    assert second == {"labelSelector": "app in (a, b)", "limit": "500", "continue": "x"}


async def test_a_list_whose_pages_expire_is_fetched_in_one_piece() -> None:
    answers = Recorder(
        page(service("a", 1), version=9, more="x"),
        refuse(410, "Expired"),
        page(service("b", 11), service("c", 12), version=12),
    )
    async with stub_client(answers) as client:
        got = await client.list(Service)
    assert ([obj.metadata.name for obj in got.items], got.resource_version) == (["b", "c"], "12")
    assert dict(answers.requests[2].query) == {}


async def test_of_many_objects_the_metadata_alone_can_be_asked_for() -> None:
    answers = Recorder(page(service("a", 1), version=9, more="x"), page(version=9))
    async with stub_client(answers) as client:
        await client.list(Service, metadata_only=True)
    asked = [request.headers["Accept"] for request in answers.requests]
    wanted = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"
    assert asked == [wanted.format("List")] * 2
    asked.clear()

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["Accept"])
        return await stream(request)

    async with stub_client(serve) as client:
        await take(client.watch(Service, resource_version="5", metadata_only=True))
    assert asked == [wanted.format("")]


async def test_a_list_without_items_is_empty() -> None:
    async with stub_client(Recorder({"metadata": {"resourceVersion": "1"}, "items": None})) as client:
        assert (await client.list(Service)).items == []


# --- watches -----------------------------------------------------------------------------------------------------


async def test_a_watch_gives_events_in_order_until_the_server_ends_it() -> None:
    asked: list[dict[str, str]] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        added, changed = event("ADDED", service("a", 6)), event("MODIFIED", service("a", 7))
        bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "9"}, "spec": {"ports": 1}})
        # Chunks need not end where lines do.
        return await stream(request, added[:10], added[10:] + changed[:-1], b"\n" + bookmark, b"\n")

    async with stub_client(serve) as client:
        got = await take(client.watch(Service, resource_version="5", label_selector="a=b"))
    assert got == ["BOOKMARK 5", "ADDED a", "MODIFIED a", "BOOKMARK 9"]
    assert asked == [
        {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "5", "labelSelector": "a=b"},
    ]


async def test_an_event_of_megabytes_arrives_whole() -> None:
    big = {**service("a", 6)}
    big["metadata"]["annotations"] = {"x": "y" * 3_000_000}

    async def serve(request: web.Request) -> web.StreamResponse:
        return await stream(request, event("ADDED", big))

    async with stub_client(serve) as client:
        assert await take(client.watch(Service, resource_version="5")) == ["BOOKMARK 5", "ADDED a"]


async def test_a_version_that_is_gone_raises_410_from_status_and_from_the_stream() -> None:
    async def in_stream(request: web.Request) -> web.StreamResponse:
        return await stream(request, event("ERROR", status(410, "Expired", "too old resource version: 5 (9)")))

    for serve in (in_stream, Recorder(refuse(410, "Expired"))):
        async with stub_client(serve) as client:
            with pytest.raises(ApiError) as caught:
                await take(client.watch(Service, resource_version="5"))
        assert (caught.value.status, caught.value.reason) == (410, "Expired")


async def test_a_connection_that_breaks_within_a_watch_is_unreachable() -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = await stream(request, event("ADDED", service("a", 6)) + b'{"type": "ADD')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with stub_client(serve) as client:
        watch = client.watch(Service, resource_version="5")
        with pytest.raises(UnreachableError, match="watch of /api/v1/services: the connection broke"):
            await take(watch)


async def test_a_silent_watch_ends_after_the_idle_time_out() -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = await stream(request, event("ADDED", service("a", 6)))
        await asyncio.Event().wait()
        return response

    async with stub_client(serve) as client:
        watch = client.watch(Service, resource_version="5", idle_timeout=10)
        with still_clock() as let_pass:
            while not isinstance(await anext(watch), Event):
                pass
            let_pass(10)
            with pytest.raises(SilentError, match="watch of /api/v1/services: no answer for 10 s"):
                await anext(watch)


async def test_a_watch_that_is_not_even_begun_in_time_is_a_failure() -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with stub_client(serve) as client:
        with pytest.raises(UnreachableError, match=r"no answer for 0\.1 s") as caught:
            await take(client.watch(Service, resource_version="5", idle_timeout=0.1))
        assert not isinstance(caught.value, SilentError)


async def test_a_watch_that_keeps_talking_outlives_both_time_outs() -> None:
    heard = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        for version in range(10, 20):
            await heard.wait()
            heard.clear()
            await response.write(event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}}))
        return response

    async with stub_client(serve, answer_within=20) as client:
        got = 0
        with still_clock() as let_pass:
            async for _ in client.watch(Service, resource_version="5", idle_timeout=30):
                got += 1
                let_pass(29)
                heard.set()
        assert got == 11


@pytest.mark.parametrize(
    "line",
    [b"<html>\n", b"{}\n", b"\xff\xfe\n", event("NONSENSE", {}), event("ADDED", {"metadata": {"name": 5}})],
)
async def test_garbage_in_a_watch_is_an_answer_error(line: bytes) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await stream(request, line)

    async with stub_client(serve) as client:
        with pytest.raises(AnswerError, match=r"^http://127\.0\.0\.1:\d+: watch of /api/v1/services: not an answer"):
            await take(client.watch(Service, resource_version="5"))


async def test_hundreds_of_watches_do_not_hold_up_a_request() -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response(service("a", 3))
        response = await stream(request)
        await asyncio.Event().wait()
        return response

    async with stub_client(serve, answer_within=20) as client:
        watches = [client.watch(Service, resource_version="5") for _ in range(150)]
        await asyncio.gather(*(anext(watch) for watch in watches))
        await client.get(Service, "default", "a")
        for watch in watches:
            await watch.aclose()


# --- who we are --------------------------------------------------------------------------------------------------


async def test_the_token_is_sent() -> None:
    answers = Recorder(service("a", 3))
    async with stub_client(answers, token="secret") as client:
        await client.get(Service, "default", "a")
    assert answers.requests[0].headers["Authorization"] == "Bearer secret"


async def test_a_rotated_token_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Recorder(service("a", 3), service("a", 3), service("a", 3))
    file = tmp_path / "token"
    file.write_text("one\n")
    async with stub_client(answers, token_file=str(file)) as client:
        await client.get(Service, "default", "a")
        file.write_text("two\n")
        await client.get(Service, "default", "a")
        monkeypatch.setattr(tokens, "TOKEN_LIFE_SECONDS", -1.0)
        await client.get(Service, "default", "a")
    assert [request.headers["Authorization"] for request in answers.requests] == [
        "Bearer one",
        "Bearer one",
        "Bearer two",
    ]


async def test_a_token_that_is_refused_is_replaced_at_once_by_the_one_in_the_file(tmp_path: Path) -> None:
    answers = Recorder(
        service("a", 3), refuse(401, "Unauthorized"), service("a", 3), refuse(401, "Unauthorized"), service("a", 3)
    )
    file = tmp_path / "token"
    file.write_text("one\n")
    async with stub_client(answers, token_file=str(file)) as client:
        await client.get(Service, "default", "a")
        file.write_text("two\n")
        await client.get(Service, "default", "a")
        with pytest.raises(ApiError, match="401"):
            await client.get(Service, "default", "a")
    sent = [request.headers["Authorization"] for request in answers.requests]
    assert sent == ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]


async def test_all_requests_that_were_under_way_with_a_refused_token_are_sent_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    under_way = asyncio.Barrier(3)

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer two":
            return web.json_response(service("a", 3))
        await under_way.wait()
        file.write_text("two\n")
        return refuse(401, "Unauthorized")

    async with stub_client(serve, token_file=str(file)) as client:
        got = await asyncio.gather(*(client.get(Service, "default", "a") for _ in range(3)))
    assert [each.metadata.name for each in got] == ["a", "a", "a"]


async def test_a_token_without_file_is_refused_once(tmp_path: Path) -> None:
    answers = Recorder(refuse(401, "Unauthorized"), service("a", 3))
    async with stub_client(answers, token="old") as client:
        with pytest.raises(ApiError, match="401"):
            await client.get(Service, "default", "a")
    assert len(answers.requests) == 1


async def test_tls_with_client_certificate_and_a_foreign_authority_is_refused() -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    me = authority.issue_cert("me@example.com")

    async def serve(request: web.Request) -> web.StreamResponse:
        return web.json_response(service("a", 3))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        config = Config(
            server=f"https://127.0.0.1:{runner.addresses[0][1]}",
            ca=authority.cert_pem.bytes().decode(),
            client_certificate=me.cert_chain_pems[0].bytes().decode(),
            client_key=me.private_key_pem.bytes().decode(),
        )
        async with Client(config) as client:
            assert (await client.get(Service, "default", "a")).metadata.name == "a"
        wrong = Config(server=config.server, ca=other.cert_pem.bytes().decode())
        async with Client(wrong) as client:
            with pytest.raises(UnreachableError, match=r"TLS: .*check certificate-authority"):
                await client.get(Service, "default", "a")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("field", ["ca", "client_certificate"])
def test_a_certificate_that_is_none_is_refused(field: str) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(MoorageError, match=r"^https://192\.0\.2\.1: (certificate-authority|client-certificate)"):
        Client(msgspec.structs.replace(Config(server="https://192.0.2.1", client_key=pem), **{field: pem}))

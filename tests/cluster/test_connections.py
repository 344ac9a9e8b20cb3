"""A guarded client connects only where it may, and reads only so much."""

import asyncio
import gzip
import socket
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from moorage.api.core_v1 import Service
from moorage.cluster.client import Client
from moorage.cluster.connections import BUFFER_BYTES, READ_COST_BYTES, Guard, _Connection, keepalive_socket
from moorage.cluster.errors import AnswerError, UnreachableError
from moorage.cluster.kubeconfig import Config
from moorage.cluster.pace import Pace
from tests.support.stub_server import event, service, stream, stub_server

LOOPBACK_ONLY = Guard(refusal=lambda address: None if address.startswith("127.") else "not on this machine")
NOTHING = Guard(refusal=lambda address: "refused here")


class Names(AbstractResolver):
    """Answers one address after the other, as a hostile name server does."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = iter(addresses)

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        answer = next(self._addresses)
        return [ResolveResult(hostname=host, host=answer, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


async def services(request: web.Request) -> web.StreamResponse:
    return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [service("a", 1), service("b", 1)]})


async def test_an_address_is_asked_about_when_the_connection_is_opened() -> None:
    async with stub_server(services) as url:
        async with Client(Config(server=url), guard=LOOPBACK_ONLY) as client:
            assert len((await client.list(Service)).items) == 2
        async with Client(Config(server=url), guard=NOTHING) as client:
            with pytest.raises(UnreachableError, match=r"cannot connect: 127\.0\.0\.1 is refused here$"):
                await client.list(Service)


async def test_a_name_that_leads_elsewhere_the_next_time_does_not_get_around_the_guard() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = await services(request)
        response.force_close()
        return response

    async with stub_server(broken) as url:
        port = url.rpartition(":")[2]
        guard = Guard(refusal=lambda address: "inside" if address == "127.0.0.2" else None)
        guard = guard._replace(resolver=Names("127.0.0.1", "127.0.0.2"))
        async with Client(Config(server=f"http://api.example.com:{port}"), guard=guard) as client:
            client._session._connector._use_dns_cache = False  # type: ignore[union-attr]
            await client.list(Service)
            with pytest.raises(UnreachableError, match=r"127\.0\.0\.2 is inside"):
                await client.list(Service)


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = await stream(request, b'{"metadata": {}, "items": [')
        try:
            for _ in range(10_000):
                await response.write(b" " * 10_000)
        except ConnectionError:
            pass
        return response

    async with (
        stub_server(endless) as url,
        Client(Config(server=url), guard=Guard(max_answer_bytes=50_000)) as client,
    ):
        with pytest.raises(AnswerError, match="an answer of more than 50000 bytes"):
            await client.list(Service)


async def test_nothing_is_decompressed() -> None:
    async def compressed(request: web.Request) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"})

    guard = Guard(max_answer_bytes=50_000)
    async with stub_server(compressed) as url, Client(Config(server=url), guard=guard) as client:
        with pytest.raises(AnswerError, match="not an answer of a Kubernetes API"):
            await client.list(Service)


async def test_a_list_of_too_many_objects_is_refused() -> None:
    async with stub_server(services) as url, Client(Config(server=url), guard=Guard(max_objects=1)) as client:
        with pytest.raises(AnswerError, match="more than 1 objects; narrow the selector"):
            await client.list(Service)


@pytest.mark.parametrize(
    ("guard", "count", "why"),
    [
        (Guard(max_objects=3, page=1), 1, "more than 3 objects; narrow the selector"),
        (Guard(max_objects=3, page=1), 0, "a list of 0 objects in more than 6 pages"),
        (Guard(max_list_bytes=5_000), 1, "a list of more than 5000 bytes; narrow the selector"),
        (Guard(max_list_bytes=50), 1, "a list of more than 50 bytes; narrow the selector"),
    ],
)
async def test_a_list_that_goes_on_without_end_is_refused(guard: Guard, count: int, why: str) -> None:
    pages = 0

    async def page(request: web.Request) -> web.StreamResponse:
        nonlocal pages
        pages += 1
        items = [service(f"s{pages}-{number}", 1) for number in range(count)]
        return web.json_response({"metadata": {"resourceVersion": "1", "continue": str(pages)}, "items": items})

    async with stub_server(page) as url, Client(Config(server=url), guard=guard) as client:
        async with asyncio.timeout(20):
            with pytest.raises(AnswerError, match=why):
                await client.list(Service)
    assert pages <= 100


def test_a_peer_that_disappears_is_noticed_though_nothing_is_sent() -> None:
    with keepalive_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval, probes = (
            made.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
    assert idle + interval * probes <= 30


async def test_a_long_event_ends_the_watch() -> None:
    async def watch(request: web.Request) -> web.StreamResponse:
        return await stream(request, event("ADDED", service("a", 2)), b'{"type":"' + b"x" * 60_000)

    async with stub_server(watch) as url, Client(Config(server=url), guard=Guard(max_answer_bytes=50_000)) as client:
        seen = client.watch(Service, resource_version="1")
        await anext(seen)
        await anext(seen)
        with pytest.raises(AnswerError, match="an event of more than 50000 bytes"):
            await anext(seen)


class Counting(Pace):
    """Holds nothing back, and counts."""

    def __init__(self) -> None:
        super().__init__(1.0, 1.0)
        self.taken = 0.0

    def take(self, number: float = 1.0) -> float:
        self.taken += number
        return 0.0


async def test_all_that_is_read_is_held_to_the_pace() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return await services(request)
        return await stream(request, event("ADDED", service("a", 2)), b"\n" * 60_000)

    pace = Counting()
    guard = Guard(max_answer_bytes=100_000, pace=pace)
    async with stub_server(answer) as url, Client(Config(server=url), guard=guard) as client:
        await client.list(Service)
        listed, pace.taken = pace.taken, 0.0
        assert listed > READ_COST_BYTES
        assert len([each async for each in client.watch(Service, resource_version="1")]) == 2
        assert pace.taken > READ_COST_BYTES + 60_000


class Transport(asyncio.Transport):
    """Says whether it is read from."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@pytest.mark.looptime
async def test_a_server_that_sends_single_bytes_is_held_back_as_if_they_were_many() -> None:
    guard = Guard(pace=Pace(READ_COST_BYTES + 1, burst=READ_COST_BYTES + 1))
    connection, transport = _Connection(asyncio.get_running_loop(), guard, set()), Transport()
    connection.connection_made(transport)
    connection.data_received(b"x")
    assert transport.reading
    connection.data_received(b"x")
    connection.data_received(b"x")
    assert not transport.reading
    connection.resume_reading()
    assert not transport.reading, "whoever reads the body has room again, but it is not the server's turn yet"
    await asyncio.sleep(2.1)
    assert transport.reading


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 7000,
    ],
    ids=["interim answers", "chunk extensions"],
)
async def test_what_never_becomes_part_of_an_answer_is_held_to_the_pace_too(noise: bytes) -> None:
    async def noisy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(noise)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(noisy, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    pace = Counting()
    async with server, Client(Config(server=url), timeout=5.0, guard=Guard(pace=pace)) as client:
        with pytest.raises(UnreachableError):
            await client.list(Service)
    assert pace.taken > len(noise)


class Ending(asyncio.Transport):
    """Says how it was ended, and how much it may hold."""

    ended = ""
    limit = 0

    def close(self) -> None:
        self.ended = "in order"

    def abort(self) -> None:
        self.ended = "at once"

    def set_read_buffer_limits(self, high: int) -> None:
        self.limit = high


@pytest.mark.parametrize(("longest", "ended", "limit"), [(None, "in order", 0), (1000, "at once", BUFFER_BYTES)])
async def test_a_server_that_others_chose_cannot_draw_out_the_end_of_a_connection(
    longest: int | None, ended: str, limit: int
) -> None:
    connection, transport = _Connection(asyncio.get_running_loop(), Guard(max_answer_bytes=longest), set()), Ending()
    connection.connection_made(transport)
    connection.close()
    assert (transport.ended, transport.limit) == (ended, limit)


async def test_open_connections_to_an_address_that_comes_to_be_refused_are_closed() -> None:
    refused: set[str] = set()
    guard = Guard(refusal=lambda address: "inside" if address in refused else None)

    async def watch(request: web.Request) -> web.StreamResponse:
        response = await stream(request, event("ADDED", service("a", 2)))
        await asyncio.sleep(60)
        return response

    async with stub_server(watch) as url, Client(Config(server=url), guard=guard) as client:
        seen = client.watch(Service, resource_version="1")
        await anext(seen)
        await anext(seen)
        client.hang_up()
        refused.add("127.0.0.1")
        client.hang_up()
        with pytest.raises(UnreachableError, match="the connection broke"):
            await anext(seen)
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 is inside"):
            await client.list(Service)


async def test_no_request_is_sent_over_a_connection_to_an_address_that_is_refused_by_now() -> None:
    refused: set[str] = set()
    guard = Guard(refusal=lambda address: "inside" if address in refused else None)
    asked = 0

    async def listing(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async with stub_server(listing) as url, Client(Config(server=url), guard=guard) as client:
        await client.list(Service)
        refused.add("127.0.0.1")
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 is inside"):
            await client.list(Service)
    assert asked == 1


async def test_interim_answers_without_end_are_no_answer() -> None:
    async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)

    server = await asyncio.start_server(interim, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client(Config(server=url), timeout=0.2) as client:
        with pytest.raises(UnreachableError, match=r"no answer for 0\.2 s"):
            await anext(client.watch(Service, resource_version="1", idle_timeout=100.0))


async def test_an_answer_that_is_nested_too_deep_is_no_answer() -> None:
    async def deep(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b'{"x":' + b"[" * 100_000)

    async with stub_server(deep) as url, Client(Config(server=url)) as client:
        with pytest.raises(AnswerError, match="not an answer of a Kubernetes API"):
            await client.list(Service)


@pytest.mark.parametrize("headers", [{"x": "x" * 5000}, {f"x-{number}": "x" for number in range(100)}])
async def test_headers_that_are_many_or_long_are_no_answer(headers: dict[str, str]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = await services(request)
        response.headers.update(headers)
        return response

    async with stub_server(answer) as url, Client(Config(server=url), guard=Guard(max_answer_bytes=50_000)) as client:
        with pytest.raises(UnreachableError):
            await client.list(Service)
    async with stub_server(answer) as url, Client(Config(server=url)) as client:
        assert len((await client.list(Service)).items) == 2

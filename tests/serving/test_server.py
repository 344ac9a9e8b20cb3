"""The small HTTP server: what it answers, and that nobody who connects can keep others out or fill it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moorage.errors import MoorageError
from moorage.serving import server as module
from moorage.serving.server import MAX_CONNECTIONS, MAX_HEAD_BYTES, Page, serving
from testing.eventually import eventually

HEAD = b"GET /page HTTP/1.1\r\nHost: example.com\r\n"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    # No connection ends only because it is old.
    monkeypatch.setattr(module, "MAX_CONNECTION_SECONDS", 3600.0)
    async with serving(("127.0.0.1", 0), {"/page": lambda: Page(b"text\n"), "/mistake": mistake}) as port:
        yield port


def mistake() -> Page:
    raise ValueError("secret")


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The status line and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    return head.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 "), body


@asynccontextmanager
async def strangers(port: int, count: int, source: str = "127.0.0.2") -> AsyncIterator[list[Opened]]:
    """Connections from another address that say nothing."""
    opened = [await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def ended(opened: Opened) -> bool:
    """Whether the server has closed this connection."""
    try:
        return await asyncio.wait_for(opened[0].read(1), 20) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (HEAD + b"\r\n", b"200 OK", b"text\n"),
        (b"GET /page?a=b HTTP/1.0\r\n\r\n", b"200 OK", b"text\n"),
        (b"HEAD /page HTTP/1.1\r\n\r\n", b"200 OK", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found", b"404 Not Found\n"),
        (b"GET /p\xff HTTP/1.1\r\n\r\n", b"404 Not Found", b"404 Not Found\n"),
        (b"POST /page HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", b"405 Method Not Allowed\n"),
        (b"GET /page\r\n\r\n", b"400 Bad Request", b"400 Bad Request\n"),
        (b"\r\n\r\n", b"400 Bad Request", b"400 Bad Request\n"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request", b"400 Bad Request\n"),
        (b"GET /mistake HTTP/1.1\r\n\r\n", b"500 Internal Server Error", b"500 Internal Server Error\n"),
    ],
)
async def test_a_request_is_answered(port: int, request_: bytes, status: bytes, body: bytes) -> None:
    assert await ask(port, request_) == (status, body)


async def test_a_head_that_comes_in_pieces_is_read(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in (HEAD[:9], HEAD[9:], b"\r", b"\n"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.read()).endswith(b"\r\n\r\ntext\n")
    writer.close()


async def test_a_head_is_read_up_to_its_limit(port: int) -> None:
    longest = HEAD + b"X: ".ljust(MAX_HEAD_BYTES - len(HEAD), b"x")
    assert await ask(port, longest + b"\r\n\r\n") == (b"200 OK", b"text\n")
    refused = b"431 Request Header Fields Too Large"
    assert await ask(port, longest + b"x") == (refused, refused + b"\n")


async def test_who_may_not_post_is_told_what_may_be_done(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"http://127.0.0.1:{port}/page") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        async with session.get(f"http://127.0.0.1:{port}/page") as response:
            assert "Allow" not in response.headers


async def test_a_client_of_the_usual_kind_gets_its_page(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(f"http://127.0.0.1:{port}/page") as response:
                assert (response.status, await response.text()) == (HTTPStatus.OK, "text\n")


async def test_who_does_not_end_a_request_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTION_SECONDS", 0.05)
    async with strangers(port, 2) as opened:
        opened[1][1].write(HEAD)
        assert [await ended(each) for each in opened] == [True, True]
    assert await ask(port, HEAD + b"\r\n") == (b"200 OK", b"text\n")


async def test_a_page_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTION_SECONDS", 0.05)
    async with serving(("127.0.0.1", 0), {"/page": lambda: Page(b"x" * 2**26)}) as port:
        # A stream's reader takes 128 KiB and then reads no more by itself.
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\n")
        await eventually(lambda: all_closed(port))
        writer.close()


async def all_closed(port: int) -> bool:
    """Whether the server holds no connection any more, by the kernel's table."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]  # noqa: ASYNC240  # in memory
    return not any(line[1] == f"0100007F:{port:04X}" and line[3] == "01" for line in lines)


async def test_however_many_connections_one_client_holds_another_is_answered(port: int) -> None:
    async with strangers(port, MAX_CONNECTIONS * 3) as opened:
        for _ in range(3):
            assert await ask(port, HEAD + b"\r\n") == (b"200 OK", b"text\n")
        assert all([await ended(each) for each in opened[: 2 * MAX_CONNECTIONS]])
        newest = opened[-1]
        newest[1].write(HEAD + b"\r\n")
        assert (await newest[0].read()).endswith(b"text\n")


async def test_who_has_few_keeps_them_and_who_has_most_gives_up_its_oldest(port: int) -> None:
    async with strangers(port, 1) as [early], strangers(port, MAX_CONNECTIONS, "127.0.0.3") as many:
        assert await ended(many[0])
        for each in (early, many[1]):
            each[1].write(HEAD + b"\r\n")
            assert (await each[0].read()).endswith(b"text\n")


async def test_nothing_is_planned_any_more_for_a_connection_that_has_ended(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    call_later, planned = loop.call_later, list[asyncio.TimerHandle]()

    def noted(*arguments: Any) -> asyncio.TimerHandle:
        planned.append(call_later(*arguments))
        return planned[-1]

    async def cancelled() -> bool:
        return all(each.cancelled() for each in planned)

    monkeypatch.setattr(loop, "call_later", noted)
    assert await ask(port, HEAD + b"\r\n") == (b"200 OK", b"text\n")
    assert planned
    await eventually(cancelled)


async def test_connections_end_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTION_SECONDS", 3600.0)
    async with serving(("127.0.0.1", 0), {}) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ended((reader, writer))
    writer.close()


async def test_a_port_that_is_taken_is_said_in_one_line(port: int) -> None:
    with pytest.raises(MoorageError, match=rf"127.0.0.1:{port}: cannot listen: .*; choose another --listen"):
        async with serving(("127.0.0.1", port), {}):
            pass

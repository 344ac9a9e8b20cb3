"""One question to one name server: what counts as its answer, and that nothing is left of it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from moorage.discovery.asking import Server, ask_by_tcp, ask_by_udp
from moorage.discovery.wire import MalformedError, Message, question
from testing.eventually import eventually

ANSWER = bytes([0, 7, 0x81, 0x80]) + question(7, b"\x02db", 1, edns=False)[4:]


def fits(data: bytes) -> Message | None:
    return Message(data) if data == ANSWER else None


@asynccontextmanager
async def datagrams(*answers: bytes) -> AsyncIterator[Server]:
    """A server that answers each question with these."""

    class Answering(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            for each in answers:
                self.transport.sendto(each, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")
    finally:
        transport.close()


@asynccontextmanager
async def stream(answer: bytes, *, closes: bool = False) -> AsyncIterator[tuple[Server, asyncio.Event]]:
    """A server of one question that then waits for its client's end, unless it `closes`; and whether that came."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        writer.write(answer)
        try:
            if not closes and await reader.read(1) == b"":
                ended.set()
        except ConnectionError:
            ended.set()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname(), ended


def counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def as_many_files_as(before: int) -> None:
    async def so_many() -> bool:
        return open_files() <= before

    await eventually(so_many)


async def test_a_datagram_that_is_no_answer_to_the_question_is_passed_over() -> None:
    async with datagrams(b"forged", ANSWER, ANSWER) as server:
        assert (await ask_by_udp(server, b"question", fits)).id == 7


async def test_a_port_where_nobody_listens_is_told_at_once() -> None:
    async with datagrams() as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(ask_by_udp(server, b"question", fits), 10)


async def test_no_file_is_left_open_after_a_datagram() -> None:
    async with datagrams(ANSWER) as server:
        before = open_files()
        for _ in range(3):
            await ask_by_udp(server, b"question", fits)
        await as_many_files_as(before)


async def test_an_answer_over_a_stream_is_as_long_as_it_says() -> None:
    async with stream(counted(ANSWER) + b"more") as (server, _):
        assert (await ask_by_tcp(server, b"question", fits)).id == 7


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (counted(b"to something else"), lambda: pytest.raises(MalformedError)),
        (counted(ANSWER)[:-1], lambda: pytest.raises(ConnectionError, match=r"^the connection was closed$")),
        (b"", lambda: pytest.raises(ConnectionError, match=r"^the connection was closed$")),
    ],
    ids=["to something else", "cut off", "none"],
)
async def test_what_is_no_answer_over_a_stream_is_an_error(answer: bytes, error: Callable[[], Any]) -> None:
    async with stream(answer, closes=True) as (server, _):
        with error():
            await asyncio.wait_for(ask_by_tcp(server, b"question", fits), 10)


async def test_a_connection_ends_with_the_answer_although_the_server_keeps_it() -> None:
    async with stream(counted(ANSWER)) as (server, ended):
        await ask_by_tcp(server, b"question", fits)
        await asyncio.wait_for(ended.wait(), 20)


async def test_a_connection_ends_with_an_error_although_somebody_keeps_that() -> None:
    async with stream(counted(b"to something else")) as (server, ended):
        with pytest.raises(MalformedError) as kept:
            await ask_by_tcp(server, b"question", fits)
        await asyncio.wait_for(ended.wait(), 20)
        assert kept.traceback, "which refers to all that the question used"

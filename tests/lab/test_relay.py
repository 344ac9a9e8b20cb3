"""The relay's part in TCP: bytes, ends of stream one by one, resets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from moorage_lab.relay import TcpRelay

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def relayed(handler: Handler) -> AsyncIterator[int]:
    """The port of a relay to a server that handles connections so."""
    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        listener = socket.create_server(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        relay = TcpRelay(listener, "127.0.0.1", server.sockets[0].getsockname()[1])
        await relay.start()
        yield port
        await relay.close()


async def test_an_answer_comes_back_after_the_client_has_ended_its_half() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        everything = await reader.read()
        writer.write(everything[::-1])
        writer.close()

    async with relayed(handler) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = bytes(range(256)) * 8192
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == sent[::-1]
        writer.close()


async def test_the_client_can_go_on_sending_after_the_server_has_ended_its_half() -> None:
    received = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first")
        writer.write_eof()
        received.set_result(await reader.read())
        writer.close()

    async with relayed(handler) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 10) == b"first"
        writer.write(b"second")
        writer.write_eof()
        assert await asyncio.wait_for(received, 10) == b"second"
        writer.close()


async def test_a_reset_is_passed_on() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with relayed(handler) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()


async def test_where_nobody_listens_the_client_is_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    listener = socket.create_server(("127.0.0.1", 0))
    relay = TcpRelay(listener, "127.0.0.1", nobody)
    await relay.start()
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await relay.close()


async def test_closing_breaks_connections_and_refuses_new_ones() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await reader.read()
        writer.close()

    async with relayed(handler) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readexactly(1)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)

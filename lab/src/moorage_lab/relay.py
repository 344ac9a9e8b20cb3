"""Relays TCP from a listening socket on the machine to an address in the lab."""

import asyncio
import socket
import struct
from collections.abc import Callable

from moorage.log import get_logger

log = get_logger("moorage_lab.relay")

_CHUNK = 1 << 16


class TcpRelay:
    """Relays every connection of one listening socket to one address; passes on the end of each stream separately."""

    def __init__(self, listener: socket.socket, host: str, port: int) -> None:
        self._listener = listener
        self.target = (host, port)
        """Where the next connection goes; it may be changed."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def close(self) -> None:
        """Stop listening, and break open connections."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._relay(reader, writer)
        except asyncio.CancelledError:
            _reset(writer)
        finally:
            self._connections.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(*self.target)
        except OSError as error:
            log.debug("cannot connect", target=self.target, why=str(error))
            _reset(writer)
            return
        end: Callable[[asyncio.StreamWriter], None] = _reset
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(_pump(reader, other_writer))
                directions.create_task(_pump(other_reader, writer))
            end = asyncio.StreamWriter.close
        except* OSError as errors:
            log.debug("a connection broke", target=self.target, why=str(errors.exceptions[0]))
        finally:
            end(writer)
            end(other_writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset (socket(7), SO_LINGER), because the other side has ended that way."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end of the stream, and pass the end on."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()

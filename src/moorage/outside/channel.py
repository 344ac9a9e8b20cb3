"""Messages over a stream socket: each as MessagePack after its length in four bytes."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)

MAX_MESSAGE_BYTES = 64 * 2**20
HIGH_WATER_BYTES = 2**20
"""With more than this waiting to be sent, `ready` waits until they are gone."""


class Channel(Protocol[M_co]):
    """One end of a channel. Incoming messages are of type `M_co`."""

    @property
    def full(self) -> bool:
        """Whether too much is waiting to be sent."""

    async def receive(self) -> M_co | None:
        """The next message; None once the other end has closed."""

    def send(self, message: object) -> None:
        """Send a message soon. It is kept until the other end takes it; see `ready`."""

    async def ready(self) -> None:
        """Wait until there is room for more. Raises ConnectionError once the other end has closed."""

    def close(self) -> None: ...


class SocketChannel(Generic[M]):
    """A Channel over a stream socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: type[M] | Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        writer.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    @classmethod
    async def over(cls, sock: socket.socket, incoming: type[M] | Any) -> "SocketChannel[M]":
        """A channel over a connected stream socket. It closes the socket at the end."""
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer, incoming)

    async def receive(self) -> M | None:
        """The next message; None once the other end has closed.

        Raises msgspec.DecodeError for anything but a message, and ValueError for more than `MAX_MESSAGE_BYTES`.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(4))
            if length > MAX_MESSAGE_BYTES:
                raise ValueError(f"a message of {length} bytes, more than {MAX_MESSAGE_BYTES}")
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def send(self, message: object) -> None:
        data = self._encoder.encode(message)
        self._writer.write(len(data).to_bytes(4) + data)

    async def ready(self) -> None:
        await self._writer.drain()

    @property
    def full(self) -> bool:
        return self._writer.transport.get_write_buffer_size() > HIGH_WATER_BYTES

    def close(self) -> None:
        self._writer.close()


class Coalesced:
    """Calls `work` once for all calls within `seconds`, so that one message reports on all of them.

    `work` returns whether everything was sent. If the other end takes no more, it is called again after a second.
    """

    def __init__(self, work: Callable[[], bool], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._due = False

    def __call__(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(self._seconds, self._do)

    def _do(self) -> None:
        self._due = False
        if not self._work():
            self._due = True
            asyncio.get_running_loop().call_later(1.0, self._do)

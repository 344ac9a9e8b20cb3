"""The connection of one HTTP check, with limits on what the server may send, and how slowly."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from moorage.api.show import show
from moorage.errors import MoorageError
from moorage.probe.check import Target
from moorage.probe.threads import Threads, Turn
from moorage.probe.trust import Trust

T = TypeVar("T")

MAX_ANSWER_BYTES = 128 * 2**10
"""Read from one connection: enough for a handshake, headers, and 64 KiB of the answer's body."""
FREE_READS = 4
"""Reads without a wait. Each further one waits first, STEP_SECONDS longer than the one before: a read costs the same
however little it brings, and after a wait it brings more of an answer that comes byte by byte."""
STEP_SECONDS = 0.001
_READ_BYTES = 16 * 2**10
_CLOSE_IN_ORDER = struct.pack("ii", 0, 0)


class Connection(Protocol):
    """A connection. All methods raise OSError, ssl.SSLError, or MoorageError with a text for people."""

    @property
    def waits(self) -> bool:
        """Whether it is waiting for other connections of this process, and not for the server."""

    async def open(self, target: Target) -> None: ...

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """The next bytes; empty at the end of the stream."""

    async def finish(self) -> None:
        """Reads until the server closes, then closes normally. Without this, `close` resets the connection."""


class Plain:
    """TCP, over a non-blocking socket."""

    waits = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._left = MAX_ANSWER_BYTES
        self._reads = 0

    async def open(self, target: Target) -> None:
        await self._loop.sock_connect(self._sock, tuple(target))

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        if not self._left:
            raise MoorageError(f"more than {MAX_ANSWER_BYTES // 1024} KiB and no answer")
        if self._reads >= FREE_READS:
            await asyncio.sleep(STEP_SECONDS * (self._reads - FREE_READS + 1))
        data = await self._loop.sock_recv(self._sock, min(_READ_BYTES, self._left))
        self._reads += 1
        self._left -= len(data)
        return data

    async def finish(self) -> None:
        while await self.receive():
            pass
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_IN_ORDER)


class Encrypted:
    """TLS in memory, because the event loop's own TLS takes a buffer of 256 KiB for each connection.

    Everything that depends on the server's data runs in `threads`, when it is the turn of `namespace`, and so does
    making the context. `trust` may raise MoorageError.
    """

    def __init__(
        self,
        sock: socket.socket,
        server_name: str,
        trust: Callable[[], Trust],
        threads: Threads,
        namespace: str,
    ) -> None:
        self._plain = Plain(sock)
        self._server_name = server_name
        self._trust = trust
        self._threads = threads
        self._namespace = namespace
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._turn: Turn[Any] | None = None
        self._ended = False

    @property
    def waits(self) -> bool:
        return self._turn is not None and not self._turn.begun

    async def open(self, target: Target) -> None:
        trust = self._trust()
        context = trust.context() if trust.made else await self._in_turn(trust.context)
        try:
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=self._server_name)
        except (ValueError, TypeError):
            raise MoorageError(f"{show(self._server_name)} is not a name that TLS can ask a server for") from None
        await self._plain.open(target)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        await self._flush()
        await self._read_until(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        return b"" if self._ended else await self._read_until(self._decrypt)

    async def finish(self) -> None:
        while await self.receive():
            pass
        with suppress(ssl.SSLError):  # the server has closed without saying so in TLS
            self._tls.unwrap()
        await self._flush()
        await self._plain.finish()

    def _decrypt(self) -> bytes:
        """All plaintext that can be read so far."""
        parts = []
        try:
            while data := self._tls.read(_READ_BYTES):
                parts.append(data)
            self._ended = True
        except ssl.SSLEOFError:
            self._ended = True
        except ssl.SSLWantReadError:
            if not parts:
                raise
        return b"".join(parts)

    async def _read_until(self, done: Callable[[], T]) -> T:
        """Reads until `done` needs no more data. Returns its result."""
        while True:
            if not self._in.pending:
                data = await self._plain.receive()
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            try:
                result = await self._in_turn(done)
            except ssl.SSLWantReadError:
                await self._flush()
            else:
                await self._flush()
                return result

    async def _in_turn(self, step: Callable[[], T]) -> T:
        self._turn = turn = self._threads.begin(self._namespace, step)
        try:
            return await turn.result
        finally:
            self._turn = None
            self._threads.abandon(turn)
            del turn  # because the error that ends it refers to this frame

    async def _flush(self) -> None:
        if self._out.pending:
            await self._plain.send(self._out.read())

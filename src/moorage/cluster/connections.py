"""How a client connects, and the limits for servers that somebody else chose."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from moorage.cluster.errors import AnswerError
from moorage.cluster.events import MAX_LINE_BYTES
from moorage.cluster.handshake import bounded
from moorage.cluster.pace import Pace
from moorage.cluster.room import Hold, Room

PAGE_OBJECTS = 500
"""In one page of a list, by default."""
READ_COST_BYTES = 4096
"""Counted for each read besides what it brings, which may be a single byte: as long as a read takes, so many bytes
could be handled."""
READ_AHEAD_BYTES = 16 * 2**10
"""Of a body, in aiohttp's buffer."""
BUFFER_BYTES = 64 * 2**10
"""For one read, and for what waits in the kernel and in TLS: a server can fill each of these and leave it full."""
MAX_HEADERS, MAX_HEADER_BYTES = 64, 2048
"""A watch keeps the headers of its answer as long as it lasts. kube-apiserver sends about ten."""


class RefusedAddressError(OSError):
    """The guard of a client refuses the address."""


class Guard(NamedTuple):
    """The limits of a client. By default there are none: whoever started Moorage chose the server."""

    refusal: Callable[[str], str | None] = lambda address: None
    """Asked right before each connection to an address: why not, to be read after "is"; None where it may be made."""
    resolver: AbstractResolver | None = None
    """Looks names up; the client closes it. None: the machine's own resolver."""
    max_answer_bytes: int | None = None
    """Of an answer, or of one event of a watch; a longer one is an AnswerError. If it is set, nothing is decompressed
    and TLS handshakes are bounded, too."""
    max_list_bytes: int | None = None
    """Of all pages of a list together."""
    max_objects: int | None = None
    """In a list; more are an AnswerError."""
    page: int = PAGE_OBJECTS
    """Objects in one page of a list. A list with `max_objects` may have twice as many pages as that takes."""
    max_connections: int = 0
    """Open at once; 0: no limit. Every watch has one."""
    pace: Pace | None = None
    """Limits the bytes that are read from its connections. What the server sends beyond that waits on its side."""
    room: Room | None = None
    """Limits the bytes that are held until they have been decoded."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of each request."""
        return {} if self.max_answer_bytes is None else {"Accept-Encoding": "identity"}

    @property
    def sizes(self) -> dict[str, Any]:
        """Limits on what is held of one answer besides its body, as arguments of a ClientSession."""
        if self.max_answer_bytes is None:
            return {}
        return {
            "read_bufsize": READ_AHEAD_BYTES,
            "max_headers": MAX_HEADERS,
            "max_line_size": MAX_HEADER_BYTES,
            "max_field_size": MAX_HEADER_BYTES,
        }

    @property
    def max_line_bytes(self) -> int:
        """Of one event of a watch."""
        return MAX_LINE_BYTES if self.max_answer_bytes is None else self.max_answer_bytes

    def socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """An unconnected socket for `address`; RefusedAddressError if it is refused.

        The check is here and not in the look-up: a name may have another address the next time (DNS rebinding).
        """
        where = str(address[4][0])
        if why := self.refusal(where):
            raise RefusedAddressError(f"{where} is {why}")
        made = keepalive_socket(address)
        if self.max_answer_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        return made

    def holding(self) -> AbstractContextManager[Hold]:
        """Counts what is held of one answer until the block ends."""
        return nullcontext(lambda size: None) if self.room is None else self.room.holding()

    async def read(self, response: aiohttp.ClientResponse, hold: Hold) -> bytes | bytearray:
        """The body of a response. Raises AnswerError as soon as it is too long."""
        if self.max_answer_bytes is None:
            return await response.read()
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            hold(len(body))
            if len(body) > self.max_answer_bytes:
                raise AnswerError(f"an answer of more than {self.max_answer_bytes} bytes")
        return body

    def check(self, objects: int, pages: int, size: int) -> None:
        """Raises AnswerError if a list has too many objects, or comes in too many pages or bytes."""
        if self.max_list_bytes is not None and size > self.max_list_bytes:
            raise AnswerError(f"a list of more than {self.max_list_bytes} bytes; narrow the selector")
        if self.max_objects is None:
            return
        if objects > self.max_objects:
            raise AnswerError(f"more than {self.max_objects} objects; narrow the selector")
        # A server may go on saying that there is more.
        if pages > (most := 2 * -(-self.max_objects // self.page)):
            raise AnswerError(f"a list of {objects} objects in more than {most} pages")


class Connections:
    """A client's open connections, within the limits of its guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._open: set[_Connection] = set()

    def connector(self, tls: ssl.SSLContext | None) -> aiohttp.TCPConnector:
        if tls is not None and self._guard.max_answer_bytes is not None:
            tls = bounded(tls)
        made = aiohttp.TCPConnector(
            limit=self._guard.max_connections,
            ssl=tls if tls is not None else True,
            socket_factory=self._guard.socket,
            resolver=self._guard.resolver,
        )
        # There is no public API below HTTP. A test checks that this way works.
        made._factory = cast(
            "partial[ResponseHandler]",
            partial(_Connection, asyncio.get_running_loop(), self._guard, self._open),
        )
        return made

    def hang_up(self) -> None:
        """Close connections to addresses that are now refused."""
        for each in tuple(self._open):
            each.hang_up_if_refused()


class _Connection(ResponseHandler):
    """aiohttp's end of a connection. It sees every byte that a server sends, even those that never become part of an
    answer: interim answers (RFC 9110, 15.2) and chunk extensions (RFC 9112, 7.1.1)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: Guard, open: "set[_Connection]") -> None:
        super().__init__(loop)
        self._guard = guard
        self._open = open
        self._waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open.add(self)
        # Only the transport of TLS has a buffer of its own.
        limit = getattr(transport, "set_read_buffer_limits", None)
        if limit is not None and self._guard.max_answer_bytes is not None:
            limit(BUFFER_BYTES)
        self.hang_up_if_refused()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._open.discard(self)
        if self._waits is not None:
            self._waits.cancel()
        super().connection_lost(exc)

    def hang_up_if_refused(self) -> None:
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        if self.transport is not None and peer and self._guard.refusal(peer[0]):
            self.transport.abort()

    def close(self) -> None:
        # Not a normal close: the server could draw that out and go on sending.
        self.abort() if self._guard.max_answer_bytes is not None else super().close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._exception is not None:
            self.close()
        if not data or self._guard.pace is None:
            return
        seconds = self._guard.pace.take(READ_COST_BYTES + len(data))
        if seconds > 0 and self._waits is None:
            self._pause_transport_reading()
            self._waits = self._loop.call_later(seconds, self._waited)

    def _waited(self) -> None:
        self._waits = None
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if self._waits is None:
            super()._resume_transport_reading()


def keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices a dead peer after 15 s of silence and 3 probes 5 s apart."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection

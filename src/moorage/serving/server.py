"""A small HTTP server for a few pages. Anybody may ask for them, and the cost is bounded.

Not aiohttp's server: that keeps every silent connection, and limits neither their number nor their age.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from moorage.errors import MoorageError
from moorage.log import get_logger

log = get_logger("moorage.serving")

MAX_CONNECTIONS = 128
"""If there is one more, the client with the most connections loses its oldest, so no client can lock others out."""
MAX_HEAD_BYTES = 8192
"""The request line and headers."""
MAX_CONNECTION_SECONDS = 10.0
"""How long a connection lives, whatever the client does."""


class Page(NamedTuple):
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Page]]
"""Pages by path. They are called on the event loop, so they must be quick."""


@contextlib.asynccontextmanager
async def serving(listen: tuple[str | None, int], pages: Pages) -> AsyncIterator[int]:
    """Answer GET and HEAD at this address while the block runs; yields the port. One request per connection.

    Raises MoorageError if it cannot listen on that address.
    """
    host, port = listen
    connections = _Connections()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: _Connection(pages, connections), host, port, backlog=MAX_CONNECTIONS
        )
    except OSError as error:
        raise MoorageError(
            f"{host or ''}:{port}: cannot listen: {error.strerror or error}; choose another --listen"
        ) from None
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        connections.end()
        await server.wait_closed()


class _Connections:
    """The open connections, the oldest first."""

    def __init__(self) -> None:
        self._clients: dict[_Connection, str] = {}

    def add(self, client: str, connection: "_Connection") -> None:
        self._clients[connection] = client
        if len(self._clients) > MAX_CONNECTIONS:
            [(most, _)] = Counter(self._clients.values()).most_common(1)
            next(each for each, whose in self._clients.items() if whose == most).end()

    def remove(self, connection: "_Connection") -> None:
        self._clients.pop(connection, None)

    def end(self) -> None:
        for connection in [*self._clients]:
            connection.end()


class _Connection(asyncio.Protocol):
    def __init__(self, pages: Pages, connections: _Connections) -> None:
        self._pages = pages
        self._connections = connections
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        client = str((transport.get_extra_info("peername") or [""])[0])
        self._timer = asyncio.get_running_loop().call_later(MAX_CONNECTION_SECONDS, transport.abort)
        self._connections.add(client, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._connections.remove(self)

    def end(self) -> None:
        """Close at once. It stops counting now, although the event loop reports its end only later."""
        self._connections.remove(self)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES:
            self._answer(_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        elif end:
            method, _, rest = bytes(head.partition(b"\r\n")[0]).partition(b" ")
            target, _, version = rest.partition(b" ")
            self._answer(_page(self._pages, method, target, version), body=method != b"HEAD")

    def _answer(self, page: Page, *, body: bool = True) -> None:
        lines = [
            f"HTTP/1.1 {page.status.value} {page.status.phrase}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Connection: close",
        ]
        if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        self._transport.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + page.body * body)
        self._transport.close()


def _page(pages: Pages, method: bytes, target: bytes, version: bytes) -> Page:
    if not version.startswith(b"HTTP/1.") or not target.startswith(b"/"):
        return _error(HTTPStatus.BAD_REQUEST)
    if method not in (b"GET", b"HEAD"):
        return _error(HTTPStatus.METHOD_NOT_ALLOWED)
    make = pages.get(target.partition(b"?")[0].decode("latin-1"))
    if make is None:
        return _error(HTTPStatus.NOT_FOUND)
    try:
        return make()
    except Exception:
        log.exception("a page could not be made because of a bug in Moorage", path=target.decode("latin-1"))
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR)


def _error(status: HTTPStatus) -> Page:
    return Page(f"{status.value} {status.phrase}\n".encode(), status)

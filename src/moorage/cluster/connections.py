"""How a client connects, and what it is held to where somebody else chose the server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sized
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver

from moorage.cluster.errors import AnswerError
from moorage.cluster.events import LONGEST_LINE
from moorage.cluster.pace import Pace

MOST_PAGES = 10
"""Of a list of a bounded number of objects: a server may say without end that there is more."""
READING = 4096
"""What it costs to take what has come, in bytes that could be read meanwhile: it may be a single one."""


class RefusedAddressError(OSError):
    """A guard did not let its client connect."""


class Guard(NamedTuple):
    """What a client is held to; the default is nothing, for a server that whoever started Moorage chose."""

    refusal: Callable[[str], str | None] = lambda address: None
    """Asked for every address just before a connection is opened to it: why not, to be read after "is"."""
    resolver: AbstractResolver | None = None
    """How names become addresses; the client closes it. None: the machine's way."""
    longest_answer: int | None = None
    """Bytes of an answer, or of an event of a watch; a longer one is an AnswerError. Nothing is decompressed then."""
    most_objects: int | None = None
    """Objects of a list; more are an AnswerError."""
    pace: Pace | None = None
    """Of bytes, of all answers together. What the server sends beyond that waits on its side."""

    @property
    def headers(self) -> dict[str, str]:
        """What to tell the server."""
        return {} if self.longest_answer is None else {"Accept-Encoding": "identity"}

    @property
    def longest_line(self) -> int:
        """Bytes of one event of a watch."""
        return LONGEST_LINE if self.longest_answer is None else self.longest_answer

    def socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """An unconnected socket for `address`; RefusedAddressError where it is refused.

        Here, not where a name is looked up: a name may lead elsewhere the next time (DNS rebinding).
        """
        where = str(address[4][0])
        if why := self.refusal(where):
            raise RefusedAddressError(f"{where} is {why}")
        return keepalive_socket(address)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of a response; AnswerError as soon as it is too long."""
        if self.longest_answer is None:
            return await response.read()
        body = bytearray()
        async for chunk in self.chunks(response):
            body += chunk
            if len(body) > self.longest_answer:
                raise AnswerError(f"an answer of more than {self.longest_answer} bytes")
        return bytes(body)

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body as it comes, held to the pace."""
        async for chunk in response.content.iter_any():
            yield chunk
            if self.pace is not None:
                await asyncio.sleep(self.pace.take(READING + len(chunk)))

    def check(self, items: Sized, pages: int) -> None:
        """AnswerError where a list has too many objects, or comes in too many pages."""
        if self.most_objects is None:
            return
        if len(items) > self.most_objects:
            raise AnswerError(f"more than {self.most_objects} objects; narrow the selector")
        if pages > MOST_PAGES:
            raise AnswerError(f"a list of {len(items)} objects in more than {MOST_PAGES} pages")


def keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose peer's disappearance is noticed after 15 s of silence and 3 probes 5 s apart."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection

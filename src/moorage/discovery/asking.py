"""Asks one name server a question, over UDP or TCP (RFC 7766)."""

import asyncio
from collections.abc import Awaitable, Callable

from moorage.discovery.wire import MalformedError, Message

Server = tuple[str, int]
"""Address and port."""
Fits = Callable[[bytes], Message | None]
"""Parses a message; None if it does not answer the question."""
Ask = Callable[[Server, bytes, Fits], Awaitable[Message]]
"""Asks one question. Raises OSError. The caller sets the time-out."""


async def ask_by_udp(server: Server, question: bytes, fits: Fits) -> Message:
    """Over UDP. Answers to other questions are ignored: anybody can send a datagram in the server's name."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(fits), remote_addr=server)
    try:
        transport.sendto(question)
        return await protocol.answer
    finally:
        transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, fits: Fits) -> None:
        self.answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._fits = fits

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and (message := self._fits(data)) is not None:
            self.answer.set_result(message)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def ask_by_tcp(server: Server, question: bytes, fits: Fits) -> Message:
    """Over TCP. Also raises MalformedError, for an answer to another question, too."""
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        length = int.from_bytes(await reader.readexactly(2), "big")
        message = fits(await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        raise ConnectionError("the connection was closed") from None
    finally:
        writer.transport.abort()
    if message is None:
        raise MalformedError
    return message

"""A name server with large answers, over TCP, of which one record answers the question: `names ADDRESS`."""

import asyncio
import struct
import sys
from typing import cast

_RECORDS = 4200
"""Of 15 bytes each, which nearly fill the 64 KiB of a message."""
_TRUNCATED, _ANSWER = 0x8780, 0x8580
"""Flags (RFC 1035, 4.1.1): an authoritative answer to a question that wanted recursion, which is there."""
_A, _IN = 1, 1
_FILL = b"".join(
    b"\0" + struct.pack("!HHIH4B", _A, _IN, 1, 4, 198, 19, 4 + number // 250, number % 250 + 1)
    for number in range(_RECORDS)
)


def answer(query: bytes, *, stream: bool) -> bytes:
    """By datagram: "ask by TCP". By TCP: an address of the name, where A is asked for, and thousands of the root."""
    end = query.index(b"\0", 12) + 5
    question = query[12:end]
    if not stream:
        return query[:2] + struct.pack("!5H", _TRUNCATED, 1, 0, 0, 0) + question
    asked = struct.unpack("!H", question[-4:-2])[0]
    own = b"\xc0\x0c" + struct.pack("!HHIH4B", _A, _IN, 1, 4, 198, 19, 3, query[1] % 250 + 1) if asked == _A else b""
    count = _RECORDS + bool(own)
    return query[:2] + struct.pack("!5H", _ANSWER, 1, count, 0, 0) + question + own + _FILL


class _Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self._transport.sendto(answer(data, stream=False), source)


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            said = answer(await reader.readexactly(length), stream=True)
            writer.write(struct.pack("!H", len(said)) + said)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(address: str) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(_Datagrams, (address, 53))
    server = await asyncio.start_server(_stream, address, 53, backlog=1000)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

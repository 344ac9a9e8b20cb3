"""An API server that answers so that clients suffer: `api CHAIN KEY PORT`.

How is said by the namespace that is asked for, up to its first dash:

- `fat`: pages without end, each of 8 MiB that decode to 25 times as much.
- `endless`: small pages without end.
- `token`: pages without end, whose `continue` is 7 MiB long.
- `chunked`: a chunk extension (RFC 9112, 7.1.1) without end.
- `early`: informational responses (RFC 9110, 15.2) without end.
- `watched`: an empty list, and a watch with 1,000 events a second.
"""

import asyncio
import re
import ssl
import sys
from pathlib import Path

_MIB = 2**20
_PAGE_BYTES = 8 * _MIB - 400
_TOKEN_BYTES = 7 * _MIB
_EVENTS, _EVERY = 100, 0.1
"""So many events each so many seconds."""
_FILL = (b"{}," * (_PAGE_BYTES // 3))[:-1]
_WORD = b"x" * 4096


def page(behaviour: str, number: int) -> bytes:
    """The body of an answer to a list."""
    if behaviour == "watched":
        return b'{"metadata":{"resourceVersion":"1"},"items":[]}'
    token = b"t" * _TOKEN_BYTES if behaviour == "token" else b"t"
    fields = b"[%s]" % _FILL if behaviour == "fat" else b"[]"
    return (
        b'{"metadata":{"resourceVersion":"1","continue":"%d-%s"},'
        b'"items":[{"metadata":{"name":"s%d","managedFields":%s},"spec":{"type":"LoadBalancer"}}]}'
    ) % (number, token, number, fields)


def events(first: int) -> bytes:
    """Some lines of a watch: one Service that changes."""
    one = (
        b'{"type":"MODIFIED","object":{"metadata":{"name":"s%d","resourceVersion":"%d","labels":{"a":"%d"}},'
        b'"spec":{"type":"LoadBalancer","ports":[{"name":"main","port":80}]},'
        b'"status":{"loadBalancer":{"ingress":[{"ip":"198.19.3.%d"}]}}}}\n'
    )
    return b"".join(one % (n % 50, n + 2, n, n % 250 + 1) for n in range(first, first + _EVENTS))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        number = 0
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            found = re.search(r"/namespaces/([a-z]+)-", path)
            number += 1
            await _behave(found[1] if found else "endless", "watch=" in path, number, writer)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def _behave(behaviour: str, watch: bool, number: int, writer: asyncio.StreamWriter) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    if behaviour == "early":
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 100)
            await writer.drain()
    if behaviour == "chunked":
        writer.write(start + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            # One byte each, with an extension about it.
            writer.write(b"".join(b"1;e=%s\r\n{\r\n" % _WORD for _ in range(10)))
            await writer.drain()
    if watch:
        writer.write(start + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            data = events(number)
            number += _EVENTS
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(_EVERY)
    body = page(behaviour, number)
    writer.write(start + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


async def main(chain: str, key: str, port: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(chain), Path(key))
    server = await asyncio.start_server(_answer, "0.0.0.0", int(port), ssl=context, backlog=1000)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

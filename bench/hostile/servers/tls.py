"""TLS servers that answer every request with 200, on all addresses: `tls KEY PORT CHAIN [PORT CHAIN]...`."""

import asyncio
import ssl
import sys
from pathlib import Path


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(key: str, *where: str) -> None:
    servers = []
    for port, chain in zip(where[::2], where[1::2], strict=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(chain), Path(key))
        servers.append(await asyncio.start_server(_answer, "0.0.0.0", int(port), ssl=context, backlog=1000))
    print("listening", flush=True)
    await asyncio.gather(*(each.serve_forever() for each in servers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A program for a network namespace: endpoints that say who they are.

Every address given listens for TCP and UDP on the port and answers each connection, and then each piece of data and
each datagram, with its own address and a newline. `ready` is printed once all listen; it ends with standard input.
"""

import asyncio
import sys
from functools import partial
from typing import cast


async def serve(port: int, addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for address in addresses:
        await asyncio.start_server(_greet, address, port)
        await loop.create_datagram_endpoint(partial(_Datagrams, address), local_addr=(address, port))
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = writer.get_extra_info("sockname")[0]
    try:
        while True:
            writer.write(f"{name}\n".encode())
            await writer.drain()
            if not await reader.read(100):
                break
    except ConnectionError:
        pass
    finally:
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(f"{self._name}\n".encode(), addr)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))

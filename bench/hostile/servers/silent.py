"""Clients of the metrics port that say nothing, and some that ask without end: `silent ADDRESS PORT COUNT`.

Who is shown the door comes back, up to 500 a second.
"""

import asyncio
import contextlib
import resource
import sys

_CONNECTIONS_PER_SECOND = 500
_ASKING_CLIENTS = 10


async def _hold(address: str, port: int, count: int) -> None:
    """Keep `count` connections open."""
    held: set[asyncio.Task[None]] = set()
    while True:
        for _ in range(min(_CONNECTIONS_PER_SECOND // 10, count - len(held))):
            task = asyncio.create_task(_one(address, port))
            held.add(task)
            task.add_done_callback(held.discard)
        await asyncio.sleep(0.1)


async def _one(address: str, port: int) -> None:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(address, port)
        await reader.read()
        writer.close()


async def _ask(address: str, port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
        await asyncio.sleep(0.05)


async def main(address: str, port: str, count: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("listening", flush=True)
    await asyncio.gather(
        _hold(address, int(port), int(count)), *(_ask(address, int(port)) for _ in range(_ASKING_CLIENTS))
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

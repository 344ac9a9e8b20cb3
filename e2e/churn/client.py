"""A client that makes one connection after the other, started by path in a pod. Standard library only.

client.py DIRECTORY POD SHORT LONG SERVICE=ADDRESS:PORT...

To each Service so many workers connect for a moment, and so many for some seconds. What they meet goes to a file of
the directory, a line each, as `history` describes it.
"""

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CONNECT_SECONDS = 10.0
"""More than a pod is held while its mooring is not known."""
_ANSWER_SECONDS = 10.0
_PAUSE_SECONDS = (0.1, 0.4)
"""Between two connections of a worker."""
_HELD_SECONDS = (5.0, 30.0)
_ASK_SECONDS = 0.2
_NOTE_SECONDS = 1.0
"""How often a connection is noted as open."""


class Client:
    """One process of a pod."""

    def __init__(self, directory: str, pod: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._pod = pod
        self._process = f"{pod}/{time.monotonic():.3f}"
        self._file = os.open(f"{directory}/{pod}.jsonl", flags, 0o644)
        self._numbers = itertools.count(1)

    def note(self, event: str, **fields: object) -> None:
        record = {"event": event, "at": time.monotonic(), **fields}
        os.write(self._file, json.dumps(record).encode() + b"\n")

    @asynccontextmanager
    async def connection(
        self, worker: str, service: str, address: str, port: int
    ) -> AsyncIterator[tuple[str, asyncio.StreamReader, asyncio.StreamWriter] | None]:
        """One that an endpoint has answered, with its id; None, and noted, if there is none."""
        made = {"pod": self._pod, "worker": worker, "service": service, "start": time.monotonic()}
        writer = None
        try:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(address, port)
                async with asyncio.timeout(_ANSWER_SECONDS):
                    endpoint = (await reader.readline()).decode().strip()
                if not endpoint:
                    raise ConnectionError("ended without an answer")
            except OSError as error:  # TimeoutError is one
                self.note("failed", error=str(error) or type(error).__name__, **made)
                yield None
                return
            id = f"{self._process}/{next(self._numbers)}"
            self.note("connected", id=id, endpoint=endpoint, **made)
            yield id, reader, writer
        finally:
            if writer is not None:
                writer.close()

    async def shortly(self, worker: str, service: str, address: str, port: int) -> None:
        """Make connections that end at once."""
        while True:
            async with self.connection(worker, service, address, port) as made:
                if made:
                    self.note("ended", id=made[0], how="closed")
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))

    async def long(self, worker: str, service: str, address: str, port: int) -> None:
        """Make connections that last."""
        while True:
            async with self.connection(worker, service, address, port) as made:
                if made:
                    self.note("ended", id=made[0], how=await self._hold(*made))
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))

    async def _hold(self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Ask again and again; in what way it ended."""
        noted = time.monotonic()
        end = noted + random.uniform(*_HELD_SECONDS)
        try:
            while time.monotonic() < end:
                await asyncio.sleep(_ASK_SECONDS)
                writer.write(b"\n")
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if not await reader.readline():
                        return "ended by the other side"
                if time.monotonic() >= noted + _NOTE_SECONDS:
                    noted = time.monotonic()
                    self.note("open", id=id)
        except OSError as error:
            return str(error) or type(error).__name__
        return "closed"


async def main(directory: str, pod: str, short: str, long: str, *services: str) -> None:
    client = Client(directory, pod)
    async with asyncio.TaskGroup() as tasks:
        for service, _, where in (each.partition("=") for each in services):
            address, _, port = where.rpartition(":")
            for number in range(int(short)):
                tasks.create_task(client.shortly(f"short {number}", service, address, int(port)))
            for number in range(int(long)):
                tasks.create_task(client.long(f"long {number}", service, address, int(port)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

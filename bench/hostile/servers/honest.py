"""The honest tenant's endpoints, which write down when they were checked: `honest CHAIN KEY CONTROL`.

They listen on every address, at the ports of `bench.hostile.objects`. On the port CONTROL of 127.0.0.1 one line is
one command, and its answer is a line of JSON:

- `read`: the times of each check since the last `read`, of the monotonic clock, by `ADDRESS:PORT`.
- `close`, `open`: what listens at CLOSING.
"""

import asyncio
import socket
import ssl
import sys
import time
from collections import defaultdict
from pathlib import Path

import msgspec

from bench.hostile.objects import CLOSING, TCP, TLS

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class _Http(asyncio.Protocol):
    """Answers the first request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received and self._transport is not None:
            self._transport.write(_ANSWER)
            self._transport.close()


class Endpoints:
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._arrivals: defaultdict[str, list[float]] = defaultdict(list)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing: socket.socket | None = None
        for port in (TCP, TLS):
            self._listen(port)
        self.open()

    def open(self) -> None:
        if self._closing is None:
            self._closing = self._listen(CLOSING)

    def close(self) -> None:
        if self._closing is not None:
            self._loop.remove_reader(self._closing)
            self._closing.close()
            self._closing = None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Commands, until the client has no more."""
        while line := await reader.readline():
            said: object = None
            match line.decode().strip():
                case "read":
                    said = dict(self._arrivals)
                case "close":
                    self.close()
                case "open":
                    self.open()
            writer.write(msgspec.json.encode(said) + b"\n")
            if said is not None:
                self._arrivals.clear()
            await writer.drain()
        writer.close()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("0.0.0.0", port), backlog=4096)
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept, listener, port)
        return listener

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._arrivals[f"{connection.getsockname()[0]}:{port}"].append(time.monotonic())
            if port != TLS:
                connection.close()
                continue
            serving = self._loop.connect_accepted_socket(_Http, connection, ssl=self._context)
            task = asyncio.ensure_future(serving)
            self._tasks.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # A client that does not go on with its handshake is none of our business.


async def main(chain: str, key: str, control: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(chain), Path(key))
    endpoints = Endpoints(context)
    server = await asyncio.start_server(endpoints.answer, "127.0.0.1", int(control))
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

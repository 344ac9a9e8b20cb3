"""The worker: keeps one connection open, and says what becomes of it."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from yarl import URL

from moorage.apps import worker
from testing.eventually import eventually
from tests.support.programs import BOUND_SECONDS, MOORAGE, free_port


class Backend:
    """Answers each request with its name, and can reset or end its connections."""

    def __init__(self) -> None:
        self.name = "one"
        self.head = "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        self.ends = False
        """In place of answering. What comes then is read: a request to a closed socket would be reset."""
        self.requests = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                if self.ends:
                    writer.write_eof()
                    await reader.read()
                    break
                body = f"backend[{self.name}]\n"
                writer.write((self.head.format(length=len(body)) + body).encode())
        writer.close()

    def reset(self) -> None:
        self.writers[-1].get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writers[-1].transport.abort()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[URL]:
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            yield URL.build(scheme="http", host="127.0.0.1", port=server.sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def working(url: URL) -> AsyncIterator[list[str]]:
    """What a worker says, which goes on meanwhile."""
    said: list[str] = []
    task = asyncio.create_task(worker.work("w", url, said.append))
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "INTERVAL_SECONDS", 0.001)


async def until(condition: Callable[[], object]) -> None:
    async def holds() -> bool:
        return bool(condition())

    await eventually(holds, every=0.005)


def asked(backend: Backend, times: int) -> Callable[[], bool]:
    return lambda: backend.requests >= times


async def test_many_requests_go_over_one_connection_and_the_answer_is_said_once() -> None:
    backend = Backend()
    async with backend.running() as url, working(url) as said:
        await until(asked(backend, 5))
        assert said == ["worker[w] -> backend[one]"]
        assert len(backend.writers) == 1


async def test_it_says_why_its_connection_has_ended_and_goes_on_over_another() -> None:
    backend = Backend()
    async with backend.running() as url, working(url) as said:
        await until(asked(backend, 3))
        backend.name = "two"
        backend.reset()
        await until(lambda: len(said) >= 3)
        assert said[1].startswith("worker[w] lost its connection after ")
        assert said[1].endswith(" answers: Connection reset by peer")
        assert said[2] == "worker[w] -> backend[two]"
        backend.ends = True
        await until(lambda: len(said) >= 4)
        assert said[3].endswith(" answers: closed by the other side, or not HTTP")


async def test_a_backend_that_is_not_there_is_said_once_and_found_when_it_comes() -> None:
    backend, port = Backend(), free_port()
    async with working(URL.build(scheme="http", host="127.0.0.1", port=port)) as said:
        await until(lambda: bool(said))
        async with await asyncio.start_server(backend.serve, "127.0.0.1", port):
            await until(lambda: len(said) >= 2)
    assert said == ["worker[w] cannot connect: Connection refused", "worker[w] -> backend[one]"]


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: {length}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "what?\r\n\r\n",
        "what?" * 20_000,
    ],
)
async def test_what_is_no_answer_ends_the_connection(head: str) -> None:
    backend = Backend()
    backend.head = head
    async with backend.running() as url, working(url) as said:
        await until(lambda: bool(said))
        assert said == ["worker[w] cannot connect: closed by the other side, or not HTTP"]


async def test_a_name_without_an_address_is_said() -> None:
    async with working(URL("http://nowhere.invalid:1/")) as said:
        await until(lambda: bool(said))
    assert said[0].startswith("worker[w] cannot connect: nowhere.invalid has no address: ")


async def test_silence_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with working(URL.build(scheme="http", host="127.0.0.1", port=silent.getsockname()[1])) as said:
            await until(lambda: bool(said))
    assert said == ["worker[w] cannot connect: no answer in time"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_program_prints_at_once_and_ends_in_silence_on_a_signal(number: signal.Signals) -> None:
    backend = Backend()
    async with backend.running() as url:
        process = await asyncio.create_subprocess_exec(
            *MOORAGE,
            *("app", "worker"),
            env={**os.environ, "BACKEND_HOST": url.host or "", "BACKEND_PORT": str(url.port)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), BOUND_SECONDS)
            assert line.decode() == f"worker[{socket.gethostname()}] -> backend[one]\n"
            process.send_signal(number)
            assert await asyncio.wait_for(process.communicate(), BOUND_SECONDS) == (b"", b"")
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

"""The frontend: asks the backend anew for every request."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import RawTestServer

from moorage.apps import frontend
from moorage.apps.server import SettingError
from testing.eventually import eventually
from tests.support.programs import free_port, moorage_in_a_copy, server

HOSTNAME = socket.gethostname()


class Backend:
    """A backend in this process that counts what reaches it. It answers once `open` is set."""

    def __init__(self, name: str = "one", status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.name = name
        self.status = status
        self.headers = headers
        self.connections: list[object] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        assert request.transport
        self.connections.append(request.transport.get_extra_info("peername"))
        self.asked.set()
        await self.open.wait()
        return web.Response(status=self.status, text=f"backend[{self.name}]\n", headers=self.headers)

    @contextlib.asynccontextmanager
    async def running(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        async with RawTestServer(self.answer, host=host, port=port or free_port()) as listening:
            assert listening.port
            yield listening.port


async def asked(host: str, port: int, limits: aiohttp.ClientTimeout = frontend.TIMEOUT, times: int = 1) -> list[str]:
    url = frontend.backend_url({"BACKEND_HOST": host, "BACKEND_PORT": str(port)})
    async with frontend.new_session(limits) as session:
        return [await frontend.ask(session, url) for _ in range(times)]


async def why_unavailable(host: str, port: int, limits: aiohttp.ClientTimeout = frontend.TIMEOUT) -> str:
    with pytest.raises(frontend.UnavailableError) as caught:
        await asked(host, port, limits)
    return str(caught.value)


async def test_answers_with_its_own_name_and_the_backend_s_line() -> None:
    async with (
        Backend().running() as port,
        server("app", "frontend", environment={"BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(port)}) as program,
        aiohttp.ClientSession() as session,
    ):
        for host in ("127.0.0.1", "[::1]"):
            async with session.get(f"http://{host}:{program.port}/any/path") as response:
                assert (response.status, await response.text()) == (200, f"frontend[{HOSTNAME}] -> backend[one]\n")


async def test_answers_500_and_why_where_the_backend_cannot_be_reached() -> None:
    port = free_port()
    async with (
        server("app", "frontend", environment={"BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(port)}) as program,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{program.port}/") as response,
    ):
        assert response.status == 500
        assert await response.text() == (
            f"Backend not available: cannot connect to 127.0.0.1:{port}: Connection refused\n"
        )


async def test_opens_a_new_connection_for_every_request() -> None:
    backend = Backend()
    async with backend.running() as port:
        await asked("127.0.0.1", port, times=5)
    assert len(set(backend.connections)) == 5


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_reaches_a_backend_given_as_an_ipv6_address(host: str) -> None:
    async with Backend().running("::1") as port:
        assert await asked(host, port) == ["backend[one]\n"]


async def test_resolves_the_name_again_for_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["127.0.0.1", "127.0.0.2"]

    def resolve(_host: str, port: int, *_hints: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (answers.pop(0), port))]

    port = free_port()
    async with Backend("one").running("127.0.0.1", port), Backend("two").running("127.0.0.2", port):
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert await asked("backend.test", port, times=2) == ["backend[one]\n", "backend[two]\n"]


async def test_says_that_a_name_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_arguments: object, **_hints: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert await why_unavailable("backend.test", 80) == "backend.test has no address: Name or service not known"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EHOSTUNREACH, ""), "No route to host"),
        (OSError("no way there"), "no way there"),
        (OSError(), "OSError"),
    ],
)
async def test_says_why_it_cannot_connect(error: OSError, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_arguments: object, **_options: object) -> None:
        raise aiohttp.ClientConnectorError(ConnectionKey("127.0.0.1", 81, False, True, None, None, None), error)

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)
    assert await why_unavailable("127.0.0.1", 81) == f"cannot connect to 127.0.0.1:81: {why}"


async def test_does_not_wait_for_ever_for_an_answer() -> None:
    backend = Backend()
    backend.open.clear()
    async with backend.running() as port:
        reason = await why_unavailable("127.0.0.1", port, aiohttp.ClientTimeout(sock_read=0.1))
        assert reason == f"127.0.0.1:{port} did not answer in time"
        backend.open.set()


def test_every_wait_has_a_bound() -> None:
    assert frontend.TIMEOUT.total
    assert frontend.TIMEOUT.connect
    assert frontend.TIMEOUT.sock_read


async def test_says_that_the_backend_answered_with_an_error() -> None:
    async with Backend(status=503).running() as port:
        assert await why_unavailable("127.0.0.1", port) == f"127.0.0.1:{port} answered 503 Service Unavailable"


async def test_asks_nobody_else_where_the_backend_sends_it_on() -> None:
    async with (
        Backend("two").running() as other,
        Backend(status=302, headers={"Location": f"http://127.0.0.1:{other}/"}).running() as port,
    ):
        assert await why_unavailable("127.0.0.1", port) == f"127.0.0.1:{port} answered 302 Found"


async def test_requests_do_not_wait_for_each_other() -> None:
    async def all_asked() -> bool:
        return len(backend.connections) == 10

    backend = Backend()
    backend.open.clear()
    async with backend.running() as port, frontend.new_session() as session:
        url = frontend.backend_url({"BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(port)})
        asking = asyncio.gather(*(frontend.ask(session, url) for _ in range(10)))
        await eventually(all_asked)
        backend.open.set()
        assert await asking == ["backend[one]\n"] * 10


async def test_says_that_the_backend_is_no_http_server() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert (await why_unavailable("127.0.0.1", port)).startswith(f"127.0.0.1:{port}: ")


async def test_answers_the_requests_in_flight_after_sigterm_and_no_others() -> None:
    backend = Backend()
    backend.open.clear()
    async with (
        backend.running() as port,
        server("app", "frontend", environment={"BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(port)}) as program,
        aiohttp.ClientSession() as session,
    ):
        in_flight = asyncio.create_task(session.get(f"http://127.0.0.1:{program.port}/"))
        await asyncio.wait_for(backend.asked.wait(), 10)
        program.send(signal.SIGTERM)
        await asyncio.wait_for(refused(program.port), 10)
        # Passes without this pause too; a program that does not wait for its requests would have ended by then.
        assert not (await asyncio.wait([in_flight], timeout=0.3))[0]
        backend.open.set()
        async with await in_flight as response:
            assert (response.status, await response.text()) == (200, f"frontend[{HOSTNAME}] -> backend[one]\n")
        assert await program.end() == (0, "", "")


async def refused(port: int) -> None:
    while True:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:  # Refused, or reset where the listener closes within the handshake.
            return
        writer.close()
        await asyncio.sleep(0.02)


async def test_a_second_signal_ends_it_at_once() -> None:
    backend = Backend()
    backend.open.clear()
    async with (
        backend.running() as port,
        server("app", "frontend", environment={"BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(port)}) as program,
        aiohttp.ClientSession() as session,
    ):
        in_flight = asyncio.create_task(session.get(f"http://127.0.0.1:{program.port}/"))
        await asyncio.wait_for(backend.asked.wait(), 10)
        program.send(signal.SIGTERM)
        await asyncio.wait_for(refused(program.port), 10)
        program.send(signal.SIGTERM)
        assert (await program.end()).status == -signal.SIGTERM
        backend.open.set()
        with pytest.raises(aiohttp.ClientError):
            await in_flight


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", "::zz", "http://backend"])
def test_a_backend_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(SettingError, match=r"^environment variable BACKEND_HOST: .*; set it to "):
        frontend.backend_url({"BACKEND_HOST": host})


def test_the_backend_s_port_is_8080_where_none_is_set() -> None:
    assert str(frontend.backend_url({"BACKEND_HOST": "backend"})) == "http://backend:8080/"


def test_a_backend_host_that_is_not_set_is_one_line() -> None:
    done = moorage_in_a_copy(["app", "frontend"], {**os.environ, "BACKEND_HOST": ""})
    reason = "environment variable BACKEND_HOST: not set; set it to the backend's name or address"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"moorage: frontend: {reason}\n")

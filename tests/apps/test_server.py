"""What the two programs share: settings, the listening socket."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from moorage.apps.server import SettingError, listen, port_setting, serve
from tests.support.programs import free_port, moorage_in_a_copy


def test_the_port_is_8080_where_none_is_set() -> None:
    assert port_setting({}, "PORT") == 8080
    assert port_setting({"PORT": ""}, "PORT") == 8080


@pytest.mark.parametrize("port", [1, 9000, 65535])
def test_the_port_is_the_one_that_is_set(port: int) -> None:
    assert port_setting({"PORT": str(port)}, "PORT") == port


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "80.5", "1e3", "٨٠"])
def test_a_port_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(SettingError, match=r"^environment variable PORT: .* is not a port; set it to a number"):
        port_setting({"PORT": text}, "PORT")


def test_listens_on_ipv4_and_ipv6() -> None:
    with listen(free_port()) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_listens_on_ipv4_where_the_machine_has_no_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    create_server, port = socket.create_server, free_port()

    def without_ipv6(address: tuple[str, int], *, family: int = socket.AF_INET, **rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return create_server(address, family=family, **rest)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listen(port) as listener:
        assert listener.family == socket.AF_INET


async def nothing(_request: web.BaseRequest) -> web.Response:
    return web.Response()


@pytest.mark.looptime
async def test_without_a_request_in_flight_it_ends_at_once() -> None:
    time = asyncio.get_running_loop().time
    serving = asyncio.create_task(serve(nothing, listen(free_port())))
    await asyncio.sleep(1)
    told = time()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    assert time() - told < 0.5


@contextlib.asynccontextmanager
async def told_to_end(turns: int) -> AsyncIterator[int]:
    """A server's port, so many turns of the event loop after SIGTERM. After the block it ends, at once."""
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # else asyncio does not say that a connection could not be set up
    loop.set_exception_handler(lambda _, context: failures.append(context))
    port = free_port()
    serving = asyncio.create_task(serve(nothing, listen(port)))

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.0 200 OK"), "it serves, and handles signals"
    writer.close()
    told = loop.time()
    os.kill(os.getpid(), signal.SIGTERM)
    # After one, the event loop has read that there is a signal, and will accept before it handles that.
    for _ in range(turns):
        await asyncio.sleep(0)
    yield port
    await serving
    assert loop.time() - told < 0.5
    assert failures == []


@pytest.mark.looptime
@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_connection_that_comes_with_the_signal_is_no_failure_and_holds_nothing_up(turns: int) -> None:
    with contextlib.ExitStack() as stack:
        async with told_to_end(turns) as port:
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))


@pytest.mark.looptime
@pytest.mark.parametrize("turns", [0, 1])
async def test_a_request_that_comes_with_the_signal_is_answered(turns: int) -> None:
    with contextlib.ExitStack() as stack:
        async with told_to_end(turns) as port:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200 OK")


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = taken.getsockname()[1]
        done = backend(str(port))
    reason = f"cannot listen on port {port}: Address already in use; set PORT to a free one"
    assert done == (1, "", f"moorage: backend: {reason}\n")


def test_a_port_that_is_none_is_one_line() -> None:
    reason = "environment variable PORT: 'abc' is not a port; set it to a number from 1 to 65535"
    assert backend("abc") == (1, "", f"moorage: backend: {reason}\n")


def backend(port: str) -> tuple[int, str, str]:
    """How a backend with this PORT ends: status, standard output and error."""
    done = moorage_in_a_copy(["app", "backend"], {**os.environ, "PORT": port})
    return done.returncode, done.stdout, done.stderr

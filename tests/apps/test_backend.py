"""The backend: answers every GET with its own name."""

import signal
import socket

import aiohttp
import pytest
from yarl import URL

from tests.support.programs import server

PATHS = ["", "/", "/a/b?c=d", "//", "/%0a", "/../x", "/%2e%2e"]


async def test_answers_a_get_on_any_path_over_ipv4_and_ipv6() -> None:
    async with server("app", "backend") as backend, aiohttp.ClientSession() as session:
        for host in ("127.0.0.1", "[::1]"):
            for path in PATHS:
                url = URL(f"http://{host}:{backend.port}{path}", encoded=True)
                async with session.get(url) as response:
                    assert (response.status, await response.text()) == (200, f"backend[{socket.gethostname()}]\n")


async def test_refuses_what_is_not_a_get() -> None:
    async with (
        server("app", "backend") as backend,
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{backend.port}/") as response,
    ):
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_ends_in_silence_on_a_signal_while_a_client_is_connected(number: signal.Signals) -> None:
    async with server("app", "backend") as backend, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{backend.port}/") as response:
            await response.read()
        backend.send(number)
        assert await backend.end() == (0, "", "")

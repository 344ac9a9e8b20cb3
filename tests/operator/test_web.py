"""What is answered over HTTP: alive, ready, metrics."""

import aiohttp
import pytest

from moorage.errors import MoorageError
from moorage.operator.metrics import Metrics
from moorage.operator.web import parse_listen, serving


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_alive_is_not_ready_and_what_is_missing_is_said() -> None:
    missing: list[str | None] = ["the API server has not answered yet"]
    async with serving(("127.0.0.1", 0), Metrics(), lambda: missing[0]) as port:
        assert await get(port, "/healthz") == (200, "ok\n")
        assert await get(port, "/readyz") == (503, "the API server has not answered yet\n")
        missing[0] = None
        assert await get(port, "/readyz") == (200, "ok\n")
        status, text = await get(port, "/metrics")
        assert status == 200
        assert "moorage_leader 0.0" in text


async def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    async with serving(("127.0.0.1", 0), Metrics(), lambda: None) as port:
        with pytest.raises(MoorageError, match=rf"127.0.0.1:{port}: cannot listen: .*; choose another --listen"):
            async with serving(("127.0.0.1", port), Metrics(), lambda: None):
                pass


@pytest.mark.parametrize(
    ("text", "listen"),
    [(":8080", (None, 8080)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80))],
)
def test_where_to_listen_is_read(text: str, listen: tuple[str | None, int]) -> None:
    assert parse_listen(text) == listen


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:http", "host:70000"])
def test_what_is_no_place_to_listen_is_refused(text: str) -> None:
    with pytest.raises(MoorageError, match="write HOST:PORT"):
        parse_listen(text)

"""What is answered over HTTP: alive, ready, metrics."""

import asyncio

import aiohttp
import pytest

from moorage.errors import MoorageError
from moorage.serving.metrics import ProcessMetrics
from moorage.serving.pages import FRESH_SECONDS, pages, parse_listen
from moorage.serving.server import serving


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_alive_is_not_ready_and_what_is_missing_is_said() -> None:
    missing: list[str | None] = ["the API server has not answered yet"]
    async with serving(("127.0.0.1", 0), pages(ProcessMetrics(), lambda: missing[0])) as port:
        assert await get(port, "/healthz") == (200, "ok\n")
        assert await get(port, "/readyz") == (503, "the API server has not answered yet\n")
        missing[0] = None
        assert await get(port, "/readyz") == (200, "ok\n")
        status, text = await get(port, "/metrics")
        assert status == 200
        assert "moorage_loop_lag_seconds_count 0.0" in text


@pytest.mark.looptime
async def test_an_exposition_is_made_once_a_second_at_most() -> None:
    made: list[int] = []

    metrics = ProcessMetrics()
    metrics.refresh = lambda: made.append(1)
    page = pages(metrics, lambda: None)["/metrics"]
    await asyncio.sleep(10 * FRESH_SECONDS)
    assert len({page().body for _ in range(100)}) == 1
    assert len(made) == 1
    await asyncio.sleep(FRESH_SECONDS)
    page()
    assert len(made) == 2


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        (":8080", (None, 8080)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        (":65535", (None, 65535)),
    ],
)
def test_where_to_listen_is_read(text: str, listen: tuple[str | None, int]) -> None:
    assert parse_listen(text) == listen


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:http", "host:65536"])
def test_what_is_no_place_to_listen_is_refused(text: str) -> None:
    with pytest.raises(MoorageError, match="write HOST:PORT"):
        parse_listen(text)

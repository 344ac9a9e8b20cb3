"""What is answered over HTTP: alive, ready, metrics."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from moorage.errors import MoorageError
from moorage.operator.metrics import Metrics
from moorage.operator.serving import Page
from moorage.operator.web import FRESH, parse_listen, serving


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


@pytest.mark.looptime
async def test_an_exposition_is_made_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def text(metrics: Metrics) -> bytes:
        made.append(metrics)
        return b"x 1\n"

    monkeypatch.setattr(Metrics, "text", text)
    pages: dict[str, Callable[[], Page]] = {}
    monkeypatch.setattr("moorage.operator.serving.serving", lambda listen, given: pages.update(given))
    serving(("127.0.0.1", 0), Metrics(), lambda: None)
    assert [pages["/metrics"]().body for _ in range(100)] == [b"x 1\n"] * 100
    assert len(made) == 1
    await asyncio.sleep(FRESH)
    pages["/metrics"]()
    assert len(made) == 2


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

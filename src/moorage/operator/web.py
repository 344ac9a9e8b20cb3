"""`/healthz`, `/readyz` and `/metrics`."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus

from moorage.errors import MoorageError
from moorage.operator import serving as server
from moorage.operator.metrics import CONTENT_TYPE, Metrics
from moorage.operator.serving import Page

FRESH = 1.0
"""Seconds for which one exposition is given to all who ask: to make it takes milliseconds in which nothing else is
done."""


def parse_listen(text: str) -> tuple[str | None, int]:
    """Host and port of `HOST:PORT`, and of `:PORT`, whose host None stands for all addresses; else MoorageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise MoorageError(f"--listen {text}: write HOST:PORT, such as 127.0.0.1:8080, or :8080 for all addresses")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def serving(
    listen: tuple[str | None, int], metrics: Metrics, ready: Callable[[], str | None]
) -> AbstractAsyncContextManager[int]:
    """Answer there while the block runs; the port is yielded. `ready` says what is missing, None: nothing.

    Raises MoorageError where that address cannot be listened on.
    """
    made: list[tuple[float, Page]] = []

    def readyz() -> Page:
        missing = ready()
        return Page(f"{missing}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE) if missing else Page(b"ok\n")

    def exposition() -> Page:
        now = asyncio.get_running_loop().time()
        if not made or now - made[0][0] >= FRESH:
            made[:] = [(now, Page(metrics.text(), content_type=CONTENT_TYPE))]
        return made[0][1]

    return server.serving(listen, {"/healthz": lambda: Page(b"ok\n"), "/readyz": readyz, "/metrics": exposition})

"""`/healthz`, `/readyz` and `/metrics`."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from moorage.errors import MoorageError
from moorage.serving.metrics import CONTENT_TYPE, ProcessMetrics
from moorage.serving.server import Page, Pages

FRESH_SECONDS = 1.0
"""How long one exposition is reused: making one holds up the event loop for milliseconds."""


def parse_listen(text: str) -> tuple[str | None, int]:
    """Host and port of `HOST:PORT` or `:PORT`; None: all addresses. Raises MoorageError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise MoorageError(f"--listen {text}: write HOST:PORT, such as 127.0.0.1:8080, or :8080 for all addresses")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def pages(metrics: ProcessMetrics, missing: Callable[[], str | None]) -> Pages:
    """The pages of a process. `missing` says why it is not ready; None if it is."""
    made: list[tuple[float, Page]] = []

    def readyz() -> Page:
        lacks = missing()
        return Page(f"{lacks}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE) if lacks else Page(b"ok\n")

    def exposition() -> Page:
        now = asyncio.get_running_loop().time()
        if not made or now - made[0][0] >= FRESH_SECONDS:
            made[:] = [(now, Page(metrics.text(), content_type=CONTENT_TYPE))]
        return made[0][1]

    return {"/healthz": lambda: Page(b"ok\n"), "/readyz": readyz, "/metrics": exposition}

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


def pages(
    metrics: ProcessMetrics, missing: Callable[[], str | None], ailing: Callable[[], str | None] = lambda: None
) -> Pages:
    """The pages of a process.

    `missing` says why it is not ready; None if it is. `ailing` says why it should be started anew; None if it should
    not.
    """
    made: list[tuple[float, Page]] = []

    def exposition() -> Page:
        now = asyncio.get_running_loop().time()
        if not made or now - made[0][0] >= FRESH_SECONDS:
            made[:] = [(now, Page(metrics.text(), content_type=CONTENT_TYPE))]
        return made[0][1]

    return {
        "/healthz": lambda: _ok_unless(ailing()),
        "/readyz": lambda: _ok_unless(missing()),
        "/metrics": exposition,
    }


def _ok_unless(why_not: str | None) -> Page:
    return Page(f"{why_not}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE) if why_not else Page(b"ok\n")

"""`/healthz`, `/readyz` and `/metrics`."""

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from moorage.errors import MoorageError
from moorage.operator.metrics import CONTENT_TYPE, Metrics


def parse_listen(text: str) -> tuple[str | None, int]:
    """Host and port of `HOST:PORT`, and of `:PORT`, whose host None stands for all addresses; else MoorageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise MoorageError(f"--listen {text}: write HOST:PORT, such as 127.0.0.1:8080, or :8080 for all addresses")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


@contextlib.asynccontextmanager
async def serving(
    listen: tuple[str | None, int], metrics: Metrics, ready: Callable[[], str | None]
) -> AsyncIterator[int]:
    """Answer there while the block runs; the port is yielded. `ready` says what is missing, None: nothing.

    Raises MoorageError where that address cannot be listened on.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        missing = ready()
        return web.Response(status=503, text=f"{missing}\n") if missing else web.Response(text="ok\n")

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", exposition)],
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, port = listen
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise MoorageError(
                f"{host or ''}:{port}: cannot listen: {error.strerror or error}; choose another --listen"
            ) from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()

"""The demo's backend: answers every GET with its own name."""

import socket
from collections.abc import Mapping

from aiohttp import web

from moorage.apps.server import Handler, listen, port_setting, serve


def handler(hostname: str) -> Handler:
    """Answers `backend[<hostname>]` and a newline."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text=f"backend[{hostname}]\n")

    return answer


async def run(environment: Mapping[str, str]) -> None:
    """Serve on `PORT` until SIGTERM or SIGINT. Raises SettingError."""
    await serve(handler(socket.gethostname()), listen(port_setting(environment, "PORT")))

"""What the programs share: settings from the environment, a listening socket, and a clean shutdown."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

DEFAULT_PORT = 8080
MAX_BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""
SHUTDOWN_SECONDS = 25.0
"""How long requests in flight may take after SIGTERM: less than Kubernetes' 30 s of grace before SIGKILL."""
SET_UP_TURNS = 3
"""Turns of the event loop from accepting a connection to reading from it: two, and one to spare."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class SettingError(Exception):
    """The program cannot start because of its environment or the machine; the message is one line."""


def port_setting(environment: Mapping[str, str], name: str) -> int:
    """The TCP port in the variable `name`, DEFAULT_PORT if it is unset or empty.

    Raises SettingError unless it is a decimal number from 1 to 65535.
    """
    text = environment.get(name, "").strip()
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise SettingError(f"environment variable {name}: {text!r} is not a port; set it to a number from 1 to 65535")
    return int(text)


def listen(port: int) -> socket.socket:
    """A socket that accepts IPv4 and IPv6 on all addresses, or only IPv4 if the machine has no IPv6.

    Raises SettingError if the port is taken or not permitted.
    """
    try:
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=MAX_BACKLOG, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return socket.create_server(("", port), backlog=MAX_BACKLOG)
    except OSError as error:
        raise SettingError(
            f"cannot listen on port {port}: {os.strerror(error.errno or 0)}; set PORT to a free one"
        ) from None


async def serve(handler: Handler, listener: socket.socket) -> None:
    """Answer GET requests on any path with `handler` until SIGTERM or SIGINT, then finish those in flight.

    A second signal has its usual effect: it ends the program at once.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    # The low-level server passes on every path as it is; a router would refuse some.
    runner = web.ServerRunner(web.Server(_only_get(handler)), shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=MAX_BACKLOG).start()
    try:
        await stop.wait()
        # Stop accepting, and let connections that were just accepted be set up: asyncio fails on one that is still
        # being set up when the server is closed (python/cpython issue 109564), and aiohttp does not read from one
        # whose handler starts after that, but waits for it.
        loop.remove_reader(listener)
        for _ in range(SET_UP_TURNS):
            await asyncio.sleep(0)
    finally:
        await runner.cleanup()


def _only_get(handler: Handler) -> Handler:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="only GET is answered\n")
        return await handler(request)

    return answer

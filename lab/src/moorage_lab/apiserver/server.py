"""The running server: its state, and the sockets that it listens on."""

import random
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Self

from aiohttp import web

from moorage.api.kinds import KINDS, Kind
from moorage.errors import MoorageError
from moorage_lab.apiserver.addresses import ClusterIPs
from moorage_lab.apiserver.faults import Faults
from moorage_lab.apiserver.handlers import Handlers
from moorage_lab.apiserver.registry import Registry
from moorage_lab.apiserver.store import Store

SERVICE_RANGES = ("10.96.0.0/12",)
_MAX_BODY_BYTES = 3 * 1024 * 1024
"""kube-apiserver's own limit."""


class ApiServer:
    """One cluster's API server. An async context manager; it listens nowhere until `listen`."""

    def __init__(
        self,
        *,
        token: str | None = None,
        service_ranges: Sequence[str] = SERVICE_RANGES,
        kinds: tuple[Kind, ...] = KINDS,
        history: int = 20_000,
        bookmark_interval: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        names: random.Random | None = None,
        cluster: str = "lab",
    ) -> None:
        """`token`: the required bearer token; None lets everybody in. `history`: how many writes are kept for
        watches. `bookmark_interval`: seconds. `names`: source of uids and generated names. `cluster`: what the lab
        calls this cluster, for the commands that answers name.

        Raises MoorageError for invalid service ranges.
        """
        self.store = Store(history)
        self.registry = Registry(self.store, ClusterIPs(service_ranges), kinds, now=now, names=names)
        self.faults = Faults()
        self._handlers = Handlers(self.registry, self.faults, token, bookmark_interval, cluster)
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handlers.handle)
        # So that a watch whose client is gone ends although it has nothing to write; a write never awaits.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._handlers.closing.set()
        await self._runner.cleanup()

    async def listen(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen on an address; returns the port, which the kernel chooses for 0. Raises MoorageError."""
        try:
            # With a socket of our own we know which port the kernel chose.
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.create_server((address, port), family=family, backlog=128)
        except OSError as error:
            raise MoorageError(
                f"API server: cannot listen on {address} port {port}: {error.strerror or error}; "
                "choose another address or port"
            ) from None
        await self.listen_on(listener, tls)
        return int(listener.getsockname()[1])

    async def listen_on(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a socket that is already bound; the server owns it from now on."""
        await web.SockSite(self._runner, listener, ssl_context=tls).start()

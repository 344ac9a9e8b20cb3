"""Limits what a TLS handshake may cost the client.

The server chooses its certificates. OpenSSL accepts 100 KiB of them, with keys that take 7 ms for each signature:
half a second, at every handshake, in which nothing else in the process runs.
"""

import builtins
import ssl
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Self

MAX_HANDSHAKE_BYTES = 16 * 2**10
"""From a server, until the handshake is over. Most send 2 to 4 KiB; five certificates with RSA-4096, one of them for
100 names, take 12.3 KiB."""
MAX_CPU_SECONDS = 0.05
"""Processor time of one handshake. With ordinary keys it takes 1 to 4 ms."""

MAX_OVERHEAD_BYTES = 2**20
"""From a server after the handshake, in addition to twice its data. Session tickets and new keys (RFC 8446, 4.6) are
not data, so no limit on data covers them; each record adds 22 bytes."""

account: ContextVar[Callable[[float], None] | None] = ContextVar("account", default=None)
"""Called after each step of a handshake with the seconds of processor time that it took. Set it in the task that
connects."""


class TooCostlyError(ssl.SSLError):
    """The handshake was stopped because it costs too much. The text is for people."""

    def __str__(self) -> str:
        return str(self.args[1])


class Handshake(ssl.SSLObject):
    """TLS of a connection. Its handshake ends with TooCostlyError beyond MAX_HANDSHAKE_BYTES or MAX_CPU_SECONDS.

    A step that has begun cannot be stopped: it may take longer than MAX_CPU_SECONDS, but certificates of
    MAX_HANDSHAKE_BYTES limit that, too. `do_handshake` may be called in a thread; other steps need not wait for it.
    """

    _incoming: ssl.MemoryBIO
    _account: Callable[[float], None] | None
    _bytes = 0
    _seconds = 0.0
    _overhead = 0

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, *args: Any, **named: Any) -> Self:
        # The only way to see incoming bytes; SSLContext.wrap_bio calls it in all versions of Python since 3.7.
        self: Self = super()._create(incoming, *args, **named)  # type: ignore[misc]
        self._incoming = incoming
        self._account = account.get()
        return self

    def do_handshake(self) -> None:
        if self._bytes + self._incoming.pending > MAX_HANDSHAKE_BYTES:
            raise TooCostlyError(1, f"the server's certificates are larger than {MAX_HANDSHAKE_BYTES // 1024} KiB")
        self._check_time()
        pending, began = self._incoming.pending, time.thread_time()
        try:
            super().do_handshake()
        finally:
            seconds = time.thread_time() - began
            self._bytes += pending - self._incoming.pending
            self._seconds += seconds
            if self._account is not None:
                self._account(seconds)
        self._check_time()

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        pending, data = self._incoming.pending, 0
        try:
            # Its type depends on whether there is a buffer: bytes, or how many.
            found: Any = super().read(len, buffer) if buffer is not None else super().read(len)
            data = found if isinstance(found, int) else builtins.len(found)
            return found
        finally:
            self._overhead = max(0, self._overhead + pending - self._incoming.pending - 2 * data)
            if self._overhead > MAX_OVERHEAD_BYTES:
                raise TooCostlyError(1, "the server sends too much besides data")

    def _check_time(self) -> None:
        if self._seconds > MAX_CPU_SECONDS:
            raise TooCostlyError(
                1,
                f"the handshake took {1000 * self._seconds:.0f} ms of processor time, more than "
                f"{1000 * MAX_CPU_SECONDS:.0f}; give the server certificates with ordinary keys",
            )


def bounded(context: ssl.SSLContext) -> ssl.SSLContext:
    """Applies these limits to all future connections of the context, asyncio's too. Returns the same context."""
    context.sslobject_class = Handshake
    return context

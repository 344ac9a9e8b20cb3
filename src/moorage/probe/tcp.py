"""Opens TCP connections only to see whether that is possible.

Thousands of checks a second go through here. So they share one epoll instance, which the event loop watches as one
file: that takes a fifth of the processor time that a task and a transport for each would take.
"""

import asyncio
import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_OPENING = (0, errno.EINPROGRESS)
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL})
_OPEN = frozenset({errno.ECONNRESET, errno.EPIPE})
"""An open connection may be reset before we look at it; a reset before it is open means refused (RFC 9293)."""
_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "no answer",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EADDRNOTAVAIL: "the operator's pod has no IPv6 address",
    errno.EPERM: "not permitted by a network policy or firewall on the operator's side",
    errno.EACCES: "not permitted by a network policy or firewall on the operator's side",
}


def is_local_failure(error: OSError, address: str) -> bool:
    """Whether an error is about this process or machine (no more files, ports or memory), not about the endpoint.

    connect(2) to an IPv6 `address` also fails with EADDRNOTAVAIL if IPv6 is disabled. That does not pass by itself,
    and like any endpoint that cannot be reached, this one is unhealthy.
    """
    return error.errno in _OURS and not (error.errno == errno.EADDRNOTAVAIL and ":" in address)


def words(number: int) -> str:
    """An errno in words."""
    return _WORDS.get(number) or os.strerror(number).lower()


def new_socket(address: str) -> socket.socket:
    """A non-blocking socket for an IP address. Raises OSError if there are no more sockets, and for a name.

    Closing it resets the connection (socket(7), SO_LINGER with 0), so that it stays in TIME-WAIT on neither side:
    that would hold a port here and memory on both sides for a minute after each check.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.inet_pton(family, address)  # connect would look up a name, and block
    sock = socket.socket(family, _KIND)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return sock


class Connector(Generic[T]):
    """Connections that are being opened, each with a tag of the caller's.

    `ended(tag, failure)` is called with None when a connection is open, or with the reason when it cannot be opened,
    but never from within `begin`. By then the connection is closed. One without any answer stays until `abort`.
    """

    def __init__(self, ended: Callable[[T, str | None], None]) -> None:
        self._tell = ended
        self._loop = asyncio.get_running_loop()
        self._opening: dict[int, tuple[socket.socket, T]] = {}
        self._files: dict[T, int] = {}
        self._ended: dict[T, str | None] = {}
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self.poll)

    def begin(self, tag: T, address: str, port: int) -> None:
        """Opens a connection. Raises OSError if this process or machine has run out of something."""
        sock = new_socket(address)
        number = sock.connect_ex((address, port))
        if number in _OPENING:
            try:
                self._epoll.register(sock, select.EPOLLOUT)
            except OSError:
                sock.close()
                raise
            self._files[tag] = sock.fileno()
            self._opening[sock.fileno()] = sock, tag
            return
        sock.close()
        error = OSError(number, os.strerror(number))
        if is_local_failure(error, address):
            raise error
        self._ended[tag] = words(number)
        self._loop.call_soon(self.poll)

    def abort(self, tag: T) -> None:
        """Ends the connection with this `tag`, if it is not over, without calling `ended`."""
        self._ended.pop(tag, None)
        file = self._files.pop(tag, None)
        if file is not None:
            self._opening.pop(file)[0].close()  # which also takes it out of the epoll instance

    def poll(self) -> None:
        """Calls `ended` for connections that have ended by now."""
        for file, event in self._epoll.poll(0) if self._opening else ():
            sock, tag = self._opening.pop(file)
            del self._files[tag]
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if event != select.EPOLLOUT else 0
            sock.close()
            self._ended[tag] = words(number) if number and number not in _OPEN else None
        # `ended` may begin and abort others, which may reuse the file numbers above.
        while self._ended:
            tag = next(iter(self._ended))
            self._tell(tag, self._ended.pop(tag))

    def close(self) -> None:
        """Ends all connections, without calling `ended`."""
        for sock, _ in self._opening.values():
            sock.close()
        self._opening.clear()
        self._files.clear()
        self._ended.clear()
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

"""TCP connections that are opened only to see whether that is possible.

Thousands of checks a second go through here. So they share one epoll instance, which the event loop watches as one
file: that takes a fifth of the processor time of a task and a transport for each.
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
"""What has been opened may be reset before it is looked at; what is reset before it is open is refused (RFC 9293)."""
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
    """Whether it is about this process or machine (no more files, ports or memory), and not about the endpoint.

    EADDRNOTAVAIL is also what connect(2) to an IPv6 `address` says where IPv6 is disabled: that does not pass, and as
    any endpoint that cannot be reached, this one is unhealthy.
    """
    return error.errno in _OURS and not (error.errno == errno.EADDRNOTAVAIL and ":" in address)


def words(number: int) -> str:
    """An errno in words."""
    return _WORDS.get(number) or os.strerror(number).lower()


def new_socket(address: str) -> socket.socket:
    """A socket that does not block, for an IP address. Raises OSError where there are no more, or for a name.

    It resets its connection when it is closed (socket(7), SO_LINGER with 0): neither side is left with one in
    TIME-WAIT, which would hold a port here and memory on both sides for a minute after each check.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.inet_pton(family, address)  # connect would look up what is no address, and block
    sock = socket.socket(family, _KIND)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return sock


class Connector(Generic[T]):
    """Connections that are being opened, each under a tag of the caller's.

    `ended(tag, failure)` is called when one is open, with None, or when it cannot be opened, with the reason; never
    from within `begin`. Either way the connection is closed by then. One that is not answered is there until `abort`.
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
        """Opens a connection. Raises OSError where this process or machine has no more of something."""
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
        """Ends what was begun under `tag`, if it is not over, without a call of `ended`."""
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
        # Who is told may begin and abort others, and the numbers of the files above may be used again.
        while self._ended:
            tag = next(iter(self._ended))
            self._tell(tag, self._ended.pop(tag))

    def close(self) -> None:
        """Ends all connections, without a call of `ended`."""
        for sock, _ in self._opening.values():
            sock.close()
        self._opening.clear()
        self._files.clear()
        self._ended.clear()
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

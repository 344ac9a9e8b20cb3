"""HTTP(S) checks: one GET on a connection of its own, of whose answer only the status counts.

Not aiohttp, which keeps the headers: whoever runs a server that is checked would decide how much memory the operator
takes, a megabyte or more a check. Nothing is kept here but the status line, a redirect is a status like any other,
and no name is looked up.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, TypeVar

from moorage.api.show import show
from moorage.cluster.handshake import TooCostlyError, bounded
from moorage.cluster.tls import client_context
from moorage.errors import MoorageError
from moorage.probe.check import Http, Target, Tls
from moorage.probe.tcp import is_ours, new_socket, words

T = TypeVar("T")

LONGEST_STATUS_LINE = 1024
"""Bytes."""
LONGEST_HEADERS = 16 * 2**10
"""Bytes, with the status lines of interim answers."""
MOST_LINES = 200
"""Of these. They are read one by one, at every check."""
LONGEST_ANSWER = 2**20
"""Bytes that are read from one connection. TLS has messages of its own, and a server may send them without end."""
_READ = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: [^\r\n]*)?")
_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH = 62, 64
"""OpenSSL's X509_V_ERR_*."""
_PLAIN = "does the port speak plain HTTP?"
"""Releases of OpenSSL from 3.2.1 to 3.5.4 have other words for it than those before and after them."""
_HINTS = {
    "wrong version number": _PLAIN,
    "record layer failure": _PLAIN,
    "sslv3 alert handshake failure": "does the server take ECDHE with P-256?",
}


async def get(target: Target, http: Http) -> str | None:
    """None if the answer has an expected status, else one line that says why not. It takes as long as the server.

    Raises OSError where this process or machine has no more files, ports or memory.
    """
    try:
        status = await _status(target, http)
    except ssl.SSLCertVerificationError as error:
        return f"certificate: {_distrust(error, _server_name(target, http))}"
    except ssl.SSLError as error:
        return f"TLS: {_tls_words(error)}"
    except OSError as error:
        if is_ours(error, target.address):
            raise
        return words(error.errno or 0) if error.errno else str(error)
    except MoorageError as error:
        return str(error)
    if any(first <= status <= last for first, last in http.statuses):
        return None
    return f"status {status}, expected {', '.join(_range(*each) for each in http.statuses)}"


def request(target: Target, http: Http) -> bytes:
    """The request, as bytes (RFC 9112)."""
    host = http.host or _authority(target, 443 if http.tls else 80)
    lines = (f"GET {http.path} HTTP/1.1", f"Host: {host}", "User-Agent: moorage", "Accept: */*", "Connection: close")
    return "\r\n".join((*lines, "", "")).encode("ascii")


class Reading:
    """An answer's status, from its bytes as they come. Keeps one line at most."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._status: int | None = None
        self._size = 0
        self._lines = 0

    def feed(self, data: bytes) -> int | None:
        """The status once the headers are complete; None: there is more to come.

        Interim answers (1xx, RFC 9110 15.2) are passed over. Raises MoorageError for what is not HTTP/1, and for
        headers that are too long or too many.
        """
        self._size += len(data)
        lines = data.split(b"\n")
        for number, part in enumerate(lines):
            if len(self._line) < LONGEST_STATUS_LINE:
                self._line += part[:LONGEST_STATUS_LINE]
            if self._status is None and not b"HTTP/1.".startswith(self._line[:7]):
                raise MoorageError("not an HTTP/1 answer")
            if number == len(lines) - 1:
                break
            self._lines += 1
            if self._lines > MOST_LINES:
                raise MoorageError(f"headers of more than {MOST_LINES} lines")
            if self._ends():
                assert self._status is not None
                return self._status
        if self._status is None and len(self._line) >= LONGEST_STATUS_LINE:
            raise MoorageError("not an HTTP/1 answer")
        if self._size > LONGEST_HEADERS:
            raise MoorageError(f"headers of more than {LONGEST_HEADERS // 1024} KiB")
        return None

    def _ends(self) -> bool:
        """Takes the line that is complete; whether it ends the headers of a final answer."""
        line = bytes(self._line).rstrip(b"\r")
        self._line.clear()
        if self._status is None:
            match = _STATUS_LINE.fullmatch(line)
            if match is None:
                raise MoorageError("not an HTTP/1 answer")
            self._status = int(match[1])
            return False
        if line:
            return False
        if 100 <= self._status <= 199 and self._status != 101:
            self._status = None
            return False
        return True


async def _status(target: Target, http: Http) -> int:
    loop = asyncio.get_running_loop()
    with new_socket(target.address) as sock:
        await loop.sock_connect(sock, tuple(target))
        stream = (
            _Plain(sock) if http.tls is None else await _Encrypted.over(sock, http.tls, _server_name(target, http))
        )
        await stream.send(request(target, http))
        reading = Reading()
        while data := await stream.receive():
            status = reading.feed(data)
            if status is not None:
                return status
    raise MoorageError("the connection was closed before an answer")


class _Stream(Protocol):
    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """What comes next; empty at the end."""


class _Plain:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._left = LONGEST_ANSWER

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        if self._left <= 0:
            raise MoorageError(f"more than {LONGEST_ANSWER // 1024} KiB and no answer")
        data = await self._loop.sock_recv(self._sock, _READ)
        self._left -= len(data)
        return data


class _Encrypted:
    """TLS in memory: the event loop's own takes a buffer of 256 KiB for each connection."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._plain = _Plain(sock)
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        except ValueError:
            raise MoorageError(f"{show(server_name)} is no name that a server can be asked for by TLS") from None

    @classmethod
    async def over(cls, sock: socket.socket, tls: Tls, server_name: str) -> "_Encrypted":
        stream = cls(sock, _context(tls.ca, tls.verify), server_name)
        await stream._turn(stream._tls.do_handshake)
        return stream

    async def send(self, data: bytes) -> None:
        await self._turn(lambda: self._tls.write(data))

    async def receive(self) -> bytes:
        try:
            return await self._turn(lambda: self._tls.read(_READ))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def _turn(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
            else:
                await self._flush()
                return done
            data = await self._plain.receive()
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()

    async def _flush(self) -> None:
        if self._out.pending:
            await self._plain.send(self._out.read())


@lru_cache(maxsize=1024)
def _context(ca: str | None, verify: bool) -> ssl.SSLContext:
    try:
        context = bounded(client_context(ca))
    except MoorageError as error:
        raise MoorageError(f"spec.healthCheck.http.tls.caSecretRef: not PEM certificates: {error}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _server_name(target: Target, http: Http) -> str:
    if http.tls is not None and http.tls.server_name:
        return http.tls.server_name
    if http.host is None:
        return target.address
    name, colon, port = http.host.rpartition(":")
    bare = name if colon and port.isdigit() and (name.endswith("]") or ":" not in name) else http.host
    return bare.removeprefix("[").removesuffix("]")


def _authority(target: Target, default: int) -> str:
    host = f"[{target.address}]" if ":" in target.address else target.address
    return host if target.port == default else f"{host}:{target.port}"


def _distrust(error: ssl.SSLCertVerificationError, expected: str) -> str:
    if error.verify_code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        return f"it is for another name; expected {expected}"
    return error.verify_message or _tls_words(error)


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "the connection was closed during the handshake"
    if isinstance(error, TooCostlyError):
        return str(error)
    said: str = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
    return f"{said}; {_HINTS[said]}" if said in _HINTS else said


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"

"""HTTP(S) checks: one GET on a connection of its own. Only the status of the answer counts.

Not aiohttp, which keeps the headers: whoever runs a checked server would decide how much memory the operator takes,
a megabyte or more for each check. Here only the status line is kept, a redirect is a status like any other, and no
name is looked up.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

from moorage.cluster.handshake import TooCostlyError
from moorage.errors import MoorageError
from moorage.probe.check import Http, Target
from moorage.probe.connection import Connection, Plain
from moorage.probe.tcp import is_local_failure, new_socket, words

MAX_STATUS_LINE_BYTES = 1024
MAX_HEADERS_BYTES = 16 * 2**10
"""Includes the status lines of interim answers."""
MAX_HEADER_LINES = 200
"""They are read one after the other, at every check."""
FINISHING_SECONDS = 1.0
"""How long reading the rest of an answer may take."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: [^\r\n]*)?")
_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH = 62, 64
"""OpenSSL's X509_V_ERR_*."""
_PLAIN = "does the port speak plain HTTP?"
"""OpenSSL 3.2.1 to 3.5.4 has other words for it than earlier and later releases."""
_HINTS = {
    "wrong version number": _PLAIN,
    "record layer failure": _PLAIN,
    "sslv3 alert handshake failure": "does the server take ECDHE with P-256?",
}


async def finish(connection: Connection, seconds: float = FINISHING_SECONDS) -> None:
    """Reads the rest of an answer, so that the server sees a normal end of the connection.

    If that takes too long or fails, the connection is reset.
    """
    with suppress(OSError, MoorageError):
        async with asyncio.timeout(seconds):
            await connection.finish()


async def get(
    target: Target,
    http: Http,
    connect: Callable[[socket.socket], Connection] = Plain,
    then: Callable[[Connection, str | None], Awaitable[None]] = lambda connection, _: finish(connection),
) -> str | None:
    """None if the answer has an expected status, else a line that says why not. It takes as long as the server does.

    Once there is a status, `then` gets the same result and the connection, which is closed when `then` returns.
    Raises OSError if this process or machine has no more files, ports or memory.
    """
    with new_socket(target.address) as sock:
        connection = connect(sock)
        try:
            status = await _status(connection, target, http)
        except ssl.SSLCertVerificationError as error:
            return f"certificate: {_distrust(error, server_name(target, http))}"
        except ssl.SSLError as error:
            return f"TLS: {_tls_words(error)}"
        except OSError as error:
            if is_local_failure(error, target.address):
                raise
            return words(error.errno or 0) if error.errno else str(error)
        except MoorageError as error:
            return str(error)
        expected = any(first <= status <= last for first, last in http.statuses)
        ranges = ", ".join(_range(*each) for each in http.statuses)
        result = None if expected else f"status {status}, expected {ranges}"
        await then(connection, result)
        return result


def request(target: Target, http: Http) -> bytes:
    """The request, as bytes (RFC 9112)."""
    host = http.host or _authority(target, 443 if http.tls else 80)
    lines = (f"GET {http.path} HTTP/1.1", f"Host: {host}", "User-Agent: moorage", "Accept: */*", "Connection: close")
    return "\r\n".join((*lines, "", "")).encode("ascii")


class Reading:
    """Finds the status of an answer in its bytes as they come. Keeps at most one line."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._status: int | None = None
        self._size = 0
        self._lines = 0

    def feed(self, data: bytes) -> int | None:
        """The status once the headers are complete; None before that.

        Interim answers (1xx, RFC 9110 15.2) are skipped. Raises MoorageError for anything but HTTP/1, and for headers
        that are too long or too many.
        """
        self._size += len(data)
        lines = data.split(b"\n")
        for number, part in enumerate(lines):
            if len(self._line) < MAX_STATUS_LINE_BYTES:
                self._line += part[:MAX_STATUS_LINE_BYTES]
            if self._status is None and not b"HTTP/1.".startswith(self._line[:7]):
                raise MoorageError("not an HTTP/1 answer")
            if number == len(lines) - 1:
                break
            self._lines += 1
            if self._lines > MAX_HEADER_LINES:
                raise MoorageError(f"headers of more than {MAX_HEADER_LINES} lines")
            if self._ends():
                assert self._status is not None
                return self._status
        if self._status is None and len(self._line) >= MAX_STATUS_LINE_BYTES:
            raise MoorageError("not an HTTP/1 answer")
        if self._size > MAX_HEADERS_BYTES:
            raise MoorageError(f"headers of more than {MAX_HEADERS_BYTES // 1024} KiB")
        return None

    def _ends(self) -> bool:
        """Takes a complete line. Returns whether it ends the headers of a final answer."""
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


async def _status(connection: Connection, target: Target, http: Http) -> int:
    await connection.open(target)
    await connection.send(request(target, http))
    reading = Reading()
    while data := await connection.receive():
        status = reading.feed(data)
        if status is not None:
            return status
    raise MoorageError("the connection was closed before an answer")


def server_name(target: Target, http: Http) -> str:
    """The name that TLS asks the server for, and that its certificate must have."""
    if http.tls is not None and http.tls.server_name:
        return http.tls.server_name
    if http.host is None:
        return target.address
    name, colon, port = http.host.rpartition(":")
    bare = name if colon and port.isdigit() and (name.endswith("]") or ":" not in name) else http.host
    # A dot at the end makes a name absolute in DNS; certificates and SNI (RFC 6066) have no such dot.
    return bare.removeprefix("[").removesuffix("]").removesuffix(".")


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

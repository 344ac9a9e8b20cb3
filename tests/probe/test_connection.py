"""What servers see and may do on the connection of a check, over loopback."""

import asyncio
import socket
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from moorage.errors import MoorageError
from moorage.probe.check import Http, Target, Tls
from moorage.probe.connection import FREE_READS, MAX_ANSWER_BYTES, Connection, Encrypted, Plain
from moorage.probe.http import FINISHING_SECONDS, finish, get
from moorage.probe.tcp import new_socket
from moorage.probe.threads import Threads
from moorage.probe.trust import Trust
from testing.eventually import eventually

RESET = ("ConnectionResetError", "BrokenPipeError", "SSLEOFError")
HEADERS = b"HTTP/1.1 200 OK\r\n"
Serve = Callable[[socket.socket], str]
"""Returns what it saw at the end."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS 1.2", "TLS 1.3"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def serving(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[tuple[Target, "Future[str]"]]:
    """A server of one connection that blocks, in a thread, as servers do."""
    seen: Future[str] = Future()

    def run() -> None:
        try:
            with listening.accept()[0] as accepted:
                accepted.settimeout(10)
                if context is None:
                    seen.set_result(serve(accepted))
                    return
                with context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as encrypted:
                    seen.set_result(serve(encrypted))
        except OSError as error:
            seen.set_result(type(error).__name__)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Target(*listening.getsockname()), seen
        finally:
            thread.join(20)


def server(authority: trustme.CA, way: str) -> ssl.SSLContext | None:
    if way == "plain":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if way == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
    return context


Connect = Callable[[socket.socket], Connection]


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


@pytest.fixture
def connect(authority: trustme.CA, way: str, threads: Threads) -> Connect:
    return Plain if way == "plain" else lambda sock: encrypted(sock, authority, threads)


def encrypted(sock: socket.socket, authority: trustme.CA, threads: Threads, name: str = "127.0.0.1") -> Encrypted:
    trust = Trust(Tls(ca=authority.cert_pem.bytes().decode()))
    return Encrypted(sock, name, lambda: trust, threads, "frontend")


async def check(target: Target, connect: Connect, finishing: float = FINISHING_SECONDS) -> str | None:
    async with asyncio.timeout(20 + finishing):
        return await get(target, Http(), connect, lambda connection, _: finish(connection, finishing))


# --- the end ------------------------------------------------------------------------------------------------------


def answering(body: int) -> Serve:
    def serve(sock: socket.socket) -> str:
        sock.recv(1000)
        sock.sendall(HEADERS + b"\r\n")
        for _ in range(body // 1024):
            sock.sendall(b"x" * 1024)
        if isinstance(sock, ssl.SSLSocket):
            sock = sock.unwrap()  # which waits for the other side's close_notify
        sock.shutdown(socket.SHUT_WR)
        return repr(sock.recv(1000))

    return serve


@pytest.mark.parametrize("body", [0, 64 * 2**10])
async def test_the_server_sees_the_connection_end_in_order(
    authority: trustme.CA, way: str, connect: Connect, body: int
) -> None:
    ports = []

    def serve(sock: socket.socket) -> str:
        ports.append(sock.getpeername()[1])
        return answering(body)(sock)

    with serving(serve, server(authority, way)) as (target, seen):
        assert await check(target, connect, finishing=20.0) is None
        assert await asyncio.wrap_future(seen) == "b''"
        assert not time_waits(ports[0], target), "the port is kept for a minute"


def time_waits(port: int, target: Target) -> bool:
    """Whether the connection from `port` to `target` does. Those of other programs may have had one of the two."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [
        (int(each[1].rpartition(":")[2], 16), int(each[2].rpartition(":")[2], 16))
        for each in lines
        if each[3] == "06"
    ]
    return (port, target.port) in ends


async def test_a_server_that_sends_more_is_reset(authority: trustme.CA, way: str, connect: Connect) -> None:
    with serving(answering(4 * MAX_ANSWER_BYTES), server(authority, way)) as (target, seen):
        assert await check(target, connect) is None
        assert await asyncio.wrap_future(seen) in RESET


async def test_a_server_that_does_not_close_is_reset(authority: trustme.CA, way: str, connect: Connect) -> None:
    def serve(sock: socket.socket) -> str:
        sock.recv(1000)
        sock.sendall(HEADERS + b"\r\n")
        return repr(sock.recv(1000))

    with serving(serve, server(authority, way)) as (target, seen):
        assert await check(target, connect) is None
        assert await asyncio.wrap_future(seen) in RESET


@pytest.mark.usefixtures("uncollected")
async def test_nothing_of_a_handshake_that_failed_waits_for_the_garbage_collector(
    authority: trustme.CA, threads: Threads
) -> None:
    def serve(sock: socket.socket) -> str:
        sock.recv(1000)
        sock.sendall(b"no TLS at all\r\n")
        return ""

    def noted(sock: socket.socket) -> Connection:
        connection = encrypted(sock, authority, threads)
        made.append(weakref.ref(connection))
        return connection

    async def gone() -> bool:
        return [each() for each in made] == [None]

    made: list[weakref.ref[Connection]] = []
    with serving(serve) as (target, _):
        assert (await check(target, noted) or "").startswith("TLS: ")
        await eventually(gone, every=0.001)


# --- what comes ---------------------------------------------------------------------------------------------------


def serve_pieces(sock: socket.socket) -> str:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pause = threading.Event()
    for _ in range(300):
        sock.sendall(b"x")
        pause.wait(0.001)
    return "sent all"


async def test_what_comes_byte_after_byte_is_not_read_so(authority: trustme.CA, way: str, connect: Connect) -> None:
    with serving(serve_pieces, server(authority, way)) as (target, seen), new_socket("127.0.0.1") as sock:
        connection = connect(sock)
        await connection.open(target)
        pieces: list[bytes] = []
        while sum(len(each) for each in pieces) < 300:
            pieces.append(await connection.receive())
        assert await asyncio.wrap_future(seen) == "sent all"
    assert len(pieces) < 75


async def test_the_first_pieces_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    waited: list[float] = []
    with serving(serve_pieces) as (target, _), new_socket("127.0.0.1") as sock:
        plain = Plain(sock)
        await plain.open(target)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        for _ in range(FREE_READS):
            await plain.receive()
        assert waited == []
        for _ in range(3):
            await plain.receive()
    assert waited == pytest.approx([0.001, 0.002, 0.003])


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64 + ".example.com", "a\0b", "\u202e", "\ud800"])
async def test_a_name_that_cannot_be_asked_for_is_told_in_words(
    authority: trustme.CA, threads: Threads, name: str
) -> None:
    with new_socket("127.0.0.1") as sock:
        connection = encrypted(sock, authority, threads, name)
        with pytest.raises(MoorageError, match=r"is not a name that TLS can ask a server for$"):
            await connection.open(Target("127.0.0.1", 1))

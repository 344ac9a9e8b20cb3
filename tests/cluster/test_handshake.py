"""Handshakes in memory, and with a real server through asyncio."""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import trustme

from moorage.cluster.handshake import MAX_HANDSHAKE_BYTES, MAX_OVERHEAD_BYTES, TooCostlyError, account, bounded
from moorage.cluster.tls import client_context

NAME = "db.example.com"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server(authority: trustme.CA, names: int = 0) -> ssl.SSLContext:
    """Of a server whose certificate is also for so many other names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    others = [f"name-{number:04}-of-this-server.example.com" for number in range(names)]
    authority.issue_cert(NAME, *others).configure_cert(context)
    return context


def client(authority: trustme.CA) -> ssl.SSLContext:
    return bounded(client_context(authority.cert_pem.bytes().decode()))


def shake(client: ssl.SSLContext, server: ssl.SSLContext, piece: int = 2**20) -> None:
    """Until the client has done; it gets the server's bytes in such pieces."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, sent := ssl.MemoryBIO(), server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname=NAME)
    while True:
        try:
            ours.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            return
        if not sent.pending:
            with suppress(ssl.SSLWantReadError):
                theirs.do_handshake()
        to_client.write(sent.read(piece))


def test_an_ordinary_handshake_is_done(authority: trustme.CA) -> None:
    shake(client(authority), server(authority))


@pytest.mark.parametrize("piece", [2**20, 1000])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificates_that_are_too_large_are_refused_in_words(
    authority: trustme.CA, version: ssl.TLSVersion, piece: int
) -> None:
    # Each name is 38 bytes.
    theirs = server(authority, names=MAX_HANDSHAKE_BYTES // 30)
    theirs.maximum_version = version
    with pytest.raises(TooCostlyError) as caught:
        shake(client(authority), theirs, piece)
    assert str(caught.value) == "the server's certificates are larger than 16 KiB"


@pytest.mark.parametrize("piece", [2**20, 100])
def test_a_handshake_that_takes_too_much_time_is_refused_in_words_as_soon_as_it_does(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    clock = iter(0.02 * number for number in range(100))
    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    shake(client(authority), server(authority))
    clock = iter(0.03 * number for number in range(100))
    with pytest.raises(TooCostlyError) as caught:
        shake(client(authority), server(authority), piece)
    assert str(caught.value) == (
        "the handshake took 60 ms of processor time, more than 50; give the server certificates with ordinary keys"
    )


async def test_connections_of_asyncio_are_bounded_and_their_time_is_charged(authority: trustme.CA) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def connect(theirs: ssl.SSLContext) -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0, ssl=theirs) as listening:
            port = listening.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(authority), server_hostname=NAME)
            writer.close()

    charged: list[float] = []
    token = account.set(charged.append)
    try:
        await connect(server(authority))
    finally:
        account.reset(token)
    assert len(charged) >= 2
    assert min(charged) > 0
    with pytest.raises(TooCostlyError):
        await connect(server(authority, names=MAX_HANDSHAKE_BYTES // 30))


@pytest.mark.parametrize("into_buffer", [False, True])
def test_a_server_that_sends_much_that_is_no_data_is_left(authority: trustme.CA, into_buffer: bool) -> None:
    to_client, to_server, sent = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client(authority).wrap_bio(to_client, to_server, server_hostname=NAME)
    context = server(authority)
    context.num_tickets = 10_000
    theirs = context.wrap_bio(to_server, sent, server_side=True)

    def take() -> None:
        while sent.pending:
            to_client.write(sent.read(16_000))
            with suppress(ssl.SSLWantReadError):
                ours.read(1000, bytearray(1000)) if into_buffer else ours.read(1000)

    for _ in range(2):
        for step in (ours.do_handshake, theirs.do_handshake):
            with suppress(ssl.SSLWantReadError):
                step()
            if step == theirs.do_handshake:
                to_client.write(sent.read(8000))
    theirs.write(b"x" * 100)
    assert sent.pending > MAX_OVERHEAD_BYTES
    with pytest.raises(TooCostlyError, match="the server sends too much besides data"):
        take()


def connected(authority: trustme.CA) -> tuple[ssl.SSLObject, Callable[[int], None]]:
    """A client's end, and what sends it a record with so many bytes of data."""
    to_client, to_server, sent = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client(authority).wrap_bio(to_client, to_server, server_hostname=NAME)
    theirs = server(authority).wrap_bio(to_server, sent, server_side=True)
    for _ in range(2):
        for step in (ours.do_handshake, theirs.do_handshake):
            with suppress(ssl.SSLWantReadError):
                step()
            to_client.write(sent.read())

    def send(size: int) -> None:
        theirs.write(b"x" * size)
        to_client.write(sent.read())

    return ours, send


def test_data_in_small_records_are_read(authority: trustme.CA) -> None:
    ours, send = connected(authority)
    for _ in range(2 * MAX_OVERHEAD_BYTES // 22):
        send(25)
        assert ours.read(100) == b"x" * 25


def test_records_that_are_mostly_no_data_are_read_up_to_a_bound(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.cluster.handshake.MAX_OVERHEAD_BYTES", 12_000)
    ours, send = connected(authority)

    def take() -> None:
        for _ in range(2_000):  # each has 22 bytes around 10 of data, of which 20 are made up for
            send(10)
            ours.read(100)

    with pytest.raises(TooCostlyError, match="the server sends too much besides data"):
        take()

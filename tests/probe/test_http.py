"""Against real servers on loopback, good ones and hostile ones."""

import asyncio
import os
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.meta import ObjectKey
from moorage.errors import MoorageError
from moorage.probe.check import Check, Http, Target, Tls
from moorage.probe.http import MAX_HEADERS_BYTES, Reading, request
from moorage.probe.kinds import HttpChecks, Result

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUT = 5.0
"""Seconds that an answer may take that is to come."""


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, EOFError, asyncio.CancelledError):
            pass  # as checks do, and the end of a test
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])


def saying(answer: bytes, *, seen: list[bytes] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(answer)
        await writer.drain()

    return handler


PLAIN = Http()


KEY = ObjectKey("frontend", "backend")


@dataclass(eq=False)
class Endpoint:
    target: Target
    check: Check
    key: ObjectKey = KEY


def endpoint(target: Target, http: Http = PLAIN) -> Endpoint:
    return Endpoint(target, Check(timeout=TIMEOUT, http=http))


async def check(target: Target, http: Http = PLAIN) -> str | None:
    told: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def tell(job: Endpoint, result: Result) -> None:
        if isinstance(result, Exception):
            told.set_exception(result)
        else:
            told.set_result(result)

    checks: HttpChecks[Endpoint] = HttpChecks(tell)
    checks.begin(endpoint(target, http))
    try:
        async with asyncio.timeout(TIMEOUT):
            return await told
    finally:
        checks.close()


# --- what is asked, and what counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "http", "host"),
    [
        (Target("203.0.113.11", 80), Http(), "203.0.113.11"),
        (Target("203.0.113.11", 8080), Http(), "203.0.113.11:8080"),
        (Target("2001:db8::11", 80), Http(), "[2001:db8::11]"),
        (Target("203.0.113.11", 443), Http(tls=Tls()), "203.0.113.11"),
        (Target("203.0.113.11", 80), Http(host="db.example.com"), "db.example.com"),
    ],
)
def test_the_host_header_is_the_given_one_or_the_address(target: Target, http: Http, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in request(target, http)


async def test_a_get_of_the_path_is_sent_and_the_connection_is_not_kept() -> None:
    seen: list[bytes] = []
    async with serving(saying(OK, seen=seen)) as target:
        assert await check(target, Http(path="/healthz?full=1")) is None
    assert seen[0].startswith(b"GET /healthz?full=1 HTTP/1.1\r\n")
    assert b"\r\nConnection: close\r\n" in seen[0]


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        (((200, 399),), "status 503, expected 200-399"),
        (((204, 204), (300, 308)), "status 503, expected 204, 300-308"),
        (((500, 599),), None),
        (((503, 503),), None),
    ],
)
async def test_the_status_has_to_be_an_expected_one(
    statuses: tuple[tuple[int, int], ...], message: str | None
) -> None:
    async with serving(saying(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")) as target:
        assert await check(target, Http(statuses=statuses)) == message


async def test_a_redirect_is_not_followed() -> None:
    elsewhere: list[bytes] = []
    async with serving(saying(OK, seen=elsewhere)) as other:
        answer = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other.port}/\r\n\r\n".encode()
        async with serving(saying(answer)) as target:
            assert await check(target, Http(statuses=((200, 299),))) == "status 302, expected 200-299"
    assert elsewhere == []


async def test_the_body_is_not_waited_for() -> None:
    async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        await reader.read()

    async with serving(never_ends) as target:
        assert await check(target) is None


async def test_interim_answers_are_passed_over() -> None:
    async with serving(saying(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)) as target:
        assert await check(target) is None


# --- servers that fail --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "the connection was closed before an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "the connection was closed before an answer"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not an HTTP/1 answer"),
        (b"HTTP/2 200\r\n\r\n", "not an HTTP/1 answer"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "not an HTTP/1 answer"),
        (b"HTTP/1.1 0200 OK\r\n\r\n", "not an HTTP/1 answer"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "not an HTTP/1 answer"),
        (b"HTTP/1.1 200 " + b"a" * 100_000, "not an HTTP/1 answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 30_000, "headers of more than 16 KiB"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 250, "headers of more than 200 lines"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 150, "headers of more than 200 lines"),
    ],
)
async def test_what_is_no_answer_is_told(answer: bytes, message: str) -> None:
    async with serving(saying(answer)) as target:
        assert await check(target) == message


async def test_a_closed_port_is_told() -> None:
    async with serving(saying(OK)) as target:
        pass
    assert await check(target) == "connection refused"


async def test_endless_headers_end_the_check_and_are_not_kept() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: " + b"a" * 1000 + b"\r\n")
            await writer.drain()

    async with serving(endless) as target:
        assert await check(target) == "headers of more than 16 KiB"


@pytest.mark.parametrize("drip", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: "])
async def test_a_drip_is_ended_by_who_waits_and_leaves_no_file(drip: bytes) -> None:
    waiting = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(drip)
        waiting.set()
        await reader.read()

    async with serving(slow) as target:
        told: list[Result] = []
        checks: HttpChecks[Endpoint] = HttpChecks(lambda job, result: told.append(result))
        checks.begin(job := endpoint(target))
        await waiting.wait()
        opened = connections(target)
        checks.abort(job)
        await asyncio.sleep(0)
        assert (opened, connections(target), told) == (1, 0, [])


def connections(target: Target) -> int:
    """Of this process to the target: sockets in /proc/net/tcp that one of its files is."""
    inodes = set()
    for file in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(os.readlink(file))
        except FileNotFoundError:
            continue
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[2].endswith(f":{target.port:04X}") and f"socket:[{fields[9]}]" in inodes for fields in lines)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40)))
def test_any_bytes_are_read_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    def outcome(parts: list[bytes]) -> object:
        reading = Reading()
        try:
            return next((status for part in parts if (status := reading.feed(part)) is not None), None)
        except MoorageError as error:
            return str(error)

    for whole in (data, OK[:20] + data, OK.replace(b"ok", data)):
        parts, rest = [], whole
        for cut in cuts:
            parts.append(rest[:cut])
            rest = rest[cut:]
        assert outcome([*parts, rest]) == outcome([whole])


def test_of_headers_one_line_is_kept_at_most() -> None:
    reading = Reading()
    reading.feed(b"HTTP/1.1 200 OK\r\nX: ")
    tracemalloc.start()
    try:
        for _ in range(MAX_HEADERS_BYTES // 4096 - 1):
            assert reading.feed(b"a" * 4096) is None
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < MAX_HEADERS_BYTES / 4


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_endless_messages_of_tls_end_the_check(authority: trustme.CA) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    context = certified(authority, "127.0.0.1")
    context.num_tickets = 6000  # some 1.5 MB
    async with serving(silent, context) as target:
        assert await check(target, Http(tls=Tls(ca=pem(authority)))) == "more than 128 KiB and no answer"


async def test_a_certificate_of_the_given_authority_is_taken(authority: trustme.CA) -> None:
    async with serving(saying(OK), certified(authority, "127.0.0.1")) as target:
        assert await check(target, Http(tls=Tls(ca=pem(authority)))) is None


@pytest.mark.parametrize(
    ("host", "server_name", "expected"),
    [
        ("db.example.com", None, "db.example.com"),
        ("db.example.com:8443", None, "db.example.com"),
        ("db.example.com.", None, "db.example.com"),
        ("db.example.com.:8443", None, "db.example.com"),
        ("elsewhere.example.com", "db.example.com", "db.example.com"),
    ],
)
async def test_the_server_name_is_asked_for_and_verified(
    authority: trustme.CA, host: str, server_name: str | None, expected: str
) -> None:
    asked: list[str | None] = []
    context = certified(authority, "db.example.com")

    def ask(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = ask
    async with serving(saying(OK), context) as target:
        http = Http(host=host, tls=Tls(server_name, ca=pem(authority)))
        assert await check(target, http) is None
    assert asked == [expected]


@pytest.mark.parametrize(
    ("http", "message"),
    [
        (Http(host="other.example.com"), "certificate: it is for another name; expected other.example.com"),
        (Http(), "certificate: it is for another name; expected 127.0.0.1"),
    ],
)
async def test_a_certificate_for_another_name_is_told(authority: trustme.CA, http: Http, message: str) -> None:
    async with serving(saying(OK), certified(authority, "db.example.com")) as target:
        assert await check(target, http._replace(tls=Tls(ca=pem(authority)))) == message


async def test_another_authority_is_told_and_taken_only_when_asked(authority: trustme.CA) -> None:
    other = pem(trustme.CA())
    async with serving(saying(OK), certified(authority, "127.0.0.1")) as target:
        assert await check(target, Http(tls=Tls(ca=other))) == "certificate: unable to get local issuer certificate"
        assert await check(target, Http(tls=Tls())) == "certificate: unable to get local issuer certificate"
        assert await check(target, Http(tls=Tls(ca=other, verify=False))) is None


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\xff\xff" + b"\x00" * 70_000, b"\x00" * 100, b""])
async def test_what_is_no_tls_is_told(authority: trustme.CA, garbage: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(garbage)
        await writer.drain()

    async with serving(handler) as target:
        message = await check(target, Http(tls=Tls(ca=pem(authority))))
    assert message is not None
    assert message.startswith("TLS: ")
    assert "\n" not in message


async def test_a_plain_server_is_told(authority: trustme.CA) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(plain) as target:
        message = await check(target, Http(tls=Tls(ca=pem(authority))))
    # OpenSSL's words have not always been the same.
    said = ("wrong version number", "record layer failure")
    assert message in [f"TLS: {words}; does the port speak plain HTTP?" for words in said]


async def test_a_server_that_would_have_the_event_loop_calculate_for_long_is_not_agreed_with(
    authority: trustme.CA,
) -> None:
    context = certified(authority, "127.0.0.1")
    context.set_ecdh_curve("ffdhe8192")
    async with serving(saying(OK), context) as target:
        for tls in (Tls(ca=pem(authority)), Tls(verify=False)):
            message = await check(target, Http(tls=tls))
            assert message == "TLS: the connection was closed during the handshake"


async def test_a_server_whose_certificates_are_too_large_is_told(authority: trustme.CA) -> None:
    context = certified(authority, "127.0.0.1", *(f"name-{number:04}.example.com" for number in range(1000)))
    async with serving(saying(OK), context) as target:
        message = await check(target, Http(tls=Tls(ca=pem(authority))))
    assert message == "TLS: the server's certificates are larger than 16 KiB"


async def test_a_server_that_takes_nothing_of_what_it_is_offered_is_told() -> None:
    async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake_failure (RFC 8446, 6.2)
        await reader.read()

    async with serving(alert) as target:
        message = await check(target, Http(tls=Tls(verify=False)))
    assert message == "TLS: sslv3 alert handshake failure; does the server take ECDHE with P-256?"


async def test_a_secret_without_certificates_is_told() -> None:
    async with serving(saying(OK)) as target:
        message = await check(target, Http(tls=Tls(ca="certainly not")))
    assert message is not None
    assert message.startswith("spec.healthCheck.http.tls.caSecretRef: holds no certificates; ")


async def test_a_name_that_cannot_be_asked_for_is_told() -> None:
    async with serving(saying(OK)) as target:
        message = await check(target, Http(tls=Tls(server_name=".example.com")))
    assert message == ".example.com is not a name that TLS can ask a server for"

"""HTTP checks as the prober drives them, against a server on loopback."""

import asyncio
import errno
import gc
import ssl
import threading
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from moorage.api.meta import ObjectKey
from moorage.cluster.tls import client_context
from moorage.probe import kinds
from moorage.probe.check import Check, Http, Target, Tls
from moorage.probe.connection import Encrypted
from moorage.probe.kinds import WAITED, HttpChecks, Result
from testing.eventually import eventually

KEY = ObjectKey("frontend", "backend")


@dataclass(eq=False)
class Endpoint:
    target: Target
    check: Check
    key: ObjectKey = KEY


class Server:
    """Answers at once, and ends the answer when it is told to."""

    target: Target

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.ended: list[str] = []
        """How each connection did."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await self.end.wait()
            writer.write(b"the rest")
            writer.write_eof()
            self.ended.append(repr(await reader.read()))
        except ConnectionError as error:
            self.ended.append(type(error).__name__)
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0) as listening:
        server.target = Target(*listening.sockets[0].getsockname())
        yield server


class Results(list[Result]):
    def __init__(self) -> None:
        self.checks: HttpChecks[Endpoint] = HttpChecks(lambda job, result: self.append(result))

    async def of(self, number: int) -> None:
        async def told() -> bool:
            return len(self) == number

        await eventually(told)


@pytest.fixture
async def told() -> AsyncIterator[Results]:
    told = Results()
    yield told
    told.checks.close()


def endpoint(target: Target, tls: Tls | None = None, namespace: str = "frontend") -> Endpoint:
    return Endpoint(target, Check(timeout=60.0, http=Http(tls=tls)), ObjectKey(namespace, "backend"))


async def test_the_outcome_is_told_before_the_rest_of_the_answer_is_read(server: Server, told: Results) -> None:
    told.checks.begin(endpoint(server.target))
    await told.of(1)
    assert (told, server.ended) == ([None], [])
    server.end.set()

    async def ended() -> bool:
        return bool(server.ended)

    await eventually(ended)
    assert server.ended == ["b''"]


async def test_of_those_whose_answers_do_not_end_few_are_kept(
    server: Server, told: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.probe.http.FINISHING_SECONDS", 60.0)
    monkeypatch.setattr(kinds, "FINISHING_SECONDS", 60.0)
    greedy = kinds.MAX_FINISHING // 4
    for _ in range(greedy + 5):
        told.checks.begin(endpoint(server.target))
    await told.of(greedy + 5)
    told.checks.begin(endpoint(server.target, namespace="modest"))
    await told.of(greedy + 6)
    server.end.set()

    async def ended() -> bool:
        return len(server.ended) == greedy + 6

    await eventually(ended)
    assert server.ended.count("b''") == greedy + 1


async def test_one_that_waits_for_others_says_so_when_it_is_ended(told: Results) -> None:
    def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"something")

    async def waits() -> bool:
        connection = told.checks._running[job].connection
        return connection is not None and connection.waits

    free = threading.Event()
    try:
        for namespace in ("frontend", "elsewhere"):
            told.checks._threads.begin(namespace, free.wait)
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as listening:
            target = Target(*listening.sockets[0].getsockname())
            job = endpoint(target, Tls(verify=False))
            told.checks.begin(job)
            assert told.checks.abort(job) is None
            told.checks.begin(job)
            await eventually(waits)
            assert told.checks.abort(job) == WAITED
    finally:
        free.set()
    assert told == []


async def test_authorities_are_read_beside_the_event_loop_and_once(
    told: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noting(ca: str | None) -> ssl.SSLContext:
        made.append(threading.get_ident())
        return client_context(ca)

    made: list[int] = []
    monkeypatch.setattr("moorage.probe.trust.client_context", noting)
    job = endpoint(Target("127.0.0.1", 1), Tls(verify=False))
    for number in range(1, 4):
        told.checks.begin(job)
        await told.of(number)
    assert len(made) == 1
    assert made[0] != threading.get_ident()


@pytest.mark.parametrize("answer", [b"something", b"\x16\x03\x03\x00\x7a\x02"], ids=["no TLS", "half of a record"])
async def test_nothing_of_a_check_waits_for_the_garbage_collector(told: Results, answer: bytes) -> None:
    held: list[asyncio.StreamWriter] = []

    def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)  # From Python 3.13 on, one that nobody holds closes its connection.
        writer.write(answer)

    async def wants_more() -> bool:
        connection = running.connection
        return isinstance(connection, Encrypted) and connection._plain._reads > 0 and connection._turn is None

    async def gone() -> bool:
        return kept() is None

    gc.disable()
    try:
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as listening:
            job = endpoint(Target(*listening.sockets[0].getsockname()), Tls(verify=False))
            kept = weakref.ref(job)
            told.checks.begin(job)
            running = told.checks._running[job]
            if answer == b"something":
                await told.of(1)
            else:
                await eventually(wants_more)
                told.checks.abort(job)
            del job
            await eventually(gone)
    finally:
        gc.enable()


async def test_that_a_check_could_not_be_made_is_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[Result] = []
    error = OSError(errno.EMFILE, "too many open files")

    async def without_files(*_: object) -> None:
        raise error

    async def told() -> bool:
        return bool(results)

    monkeypatch.setattr(kinds, "get", without_files)
    checks: HttpChecks[Endpoint] = HttpChecks(lambda job, result: results.append(result))
    checks.begin(Endpoint(Target("127.0.0.1", 1), Check(http=Http())))
    await eventually(told)
    checks.close()
    assert results == [error]

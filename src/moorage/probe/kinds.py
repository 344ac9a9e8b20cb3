"""The kinds of checks, as the prober uses them: begin, result, abort."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from moorage.api.meta import ObjectKey
from moorage.probe.check import Check, Target, Tls
from moorage.probe.connection import Connection, Encrypted, Plain
from moorage.probe.http import FINISHING_SECONDS, finish, get, server_name
from moorage.probe.slots import Slots
from moorage.probe.tcp import Connector
from moorage.probe.threads import Threads
from moorage.probe.trust import Trust, TrustStore

MAX_FINISHING = 128
WAITED = "it waited for its turn, after TLS handshakes that take long"


class Job(Protocol):
    """An endpoint to check. Equal only to itself."""

    @property
    def key(self) -> ObjectKey: ...

    @property
    def target(self) -> Target: ...

    @property
    def check(self) -> Check: ...


J = TypeVar("J", bound=Job)
J_contra = TypeVar("J_contra", bound=Job, contravariant=True)

Result = str | Exception | None
"""None: success. Text: the endpoint failed. Exception: the check could not be made, or has a bug."""
Ended = Callable[[J, Result], None]


class Checks(Protocol[J_contra]):
    """Checks of one kind. Each has one result, unless it is aborted. The result never comes from within `begin`."""

    def begin(self, job: J_contra) -> None:
        """Begin a check. It may raise; then the check is over without a result."""

    def abort(self, job: J_contra) -> str | None:
        """End a check without a result. Returns what it was doing, unless it was waiting for the endpoint."""

    def poll(self) -> None:
        """Report results now and not in the event loop's next turn."""

    def close(self) -> None: ...


class TcpChecks(Generic[J]):
    """Checks that a TCP connection can be opened."""

    def __init__(self, ended: Ended[J]) -> None:
        self._connects: Connector[J] = Connector(ended)
        self.poll = self._connects.poll
        self.close = self._connects.close

    def begin(self, job: J) -> None:
        self._connects.begin(job, *job.target)

    def abort(self, job: J) -> None:
        self._connects.abort(job)


class HttpChecks(Generic[J]):
    """Checks that a GET is answered with an expected status.

    The result is reported as soon as it is known. Then the rest of the answer is read, so that the server sees a
    normal end: within the check's time-out, and on at most MAX_FINISHING connections at once. Others are reset.
    """

    def __init__(self, ended: Ended[J]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._running: dict[J, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Tasks of running checks, and of those that are reading the rest."""
        self._places: Slots[_Running] = Slots(MAX_FINISHING, MAX_FINISHING // 4)
        self._threads = Threads()
        self._trusted = TrustStore()
        self._trust: WeakKeyDictionary[J, Trust] = WeakKeyDictionary()
        """Kept as long as the job: otherwise each check would read the certificates again."""

    def begin(self, job: J) -> None:
        running = self._running[job] = _Running()
        running.task = self._loop.create_task(self._check(job, running))
        self._tasks.add(running.task)
        running.task.add_done_callback(self._tasks.discard)

    def abort(self, job: J) -> str | None:
        running = self._running.pop(job, None)
        if running is None or running.task is None:
            return None
        waited = running.connection is not None and running.connection.waits
        running.task.cancel()
        return WAITED if waited else None

    def poll(self) -> None:
        """Tasks report by themselves."""

    def close(self) -> None:
        self._running.clear()
        for task in self._tasks:
            task.cancel()
        self._threads.close()

    async def _check(self, job: J, running: "_Running") -> None:
        assert job.check.http is not None
        until = self._loop.time() + job.check.timeout

        def connect(sock: socket.socket) -> Connection:
            running.connection = self._connection(job, sock)
            return running.connection

        async def then(connection: Connection, result: str | None) -> None:
            self._tell(job, running, result)
            if self._places.take(job.key, running):
                try:
                    await finish(connection, min(FINISHING_SECONDS, until - self._loop.time()))
                finally:
                    self._places.give_back(job.key)
            else:
                self._places.withdraw(job.key, running)

        try:
            self._tell(job, running, await get(job.target, job.check.http, connect, then))
        except Exception as error:
            if self._running.get(job) is not running:
                raise
            self._tell(job, running, error)
        finally:
            running.task = running.connection = None

    def _connection(self, job: J, sock: socket.socket) -> Connection:
        http = job.check.http
        if http is None or http.tls is None:
            return Plain(sock)
        trust = partial(self._trust_of, job, http.tls)
        return Encrypted(sock, server_name(job.target, http), trust, self._threads, job.key.namespace)

    def _trust_of(self, job: J, tls: Tls) -> Trust:
        if job not in self._trust:
            self._trust[job] = self._trusted.of(job.key.namespace, tls)
        return self._trust[job]

    def _tell(self, job: J, running: "_Running", result: Result) -> None:
        if self._running.get(job) is running:
            del self._running[job]
            self._ended(job, result)


class _Running:
    task: asyncio.Task[None] | None = None
    connection: Connection | None = None

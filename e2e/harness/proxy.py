"""A TLS proxy in front of a real API server, that makes trouble when a test asks for it.

    with Proxy(api_server, directory) as proxy:
        start_the_operator(proxy.kubeconfig)
        proxy.fail(409, method="PATCH", path="/endpointslices/", count=3)

It has a thread of its own, so that blocking and asynchronous tests can use it alike: every method here is blocking
and short. HTTP/1.1 only, and no `kubectl exec`.
"""

import asyncio
import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import aiohttp
import trustme
from aiohttp import web

from e2e.harness.certificates import kubeconfig
from e2e.harness.control_plane import ApiServer, free_port

T = TypeVar("T")

WRITES = ("POST", "PUT", "PATCH", "DELETE")
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_PORT = 6444
"""In a network namespace of a cluster, where nothing else has it."""
# Of one connection only (RFC 9110, 7.6.1), and what aiohttp sets anew.
_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length", "date", "server"}


class Request(NamedTuple):
    """One request that came to the proxy."""

    method: str
    path: str
    query: str
    status: int
    """What was answered; 0: the connection was cut, or the client went away."""
    faulty: bool
    """The answer was the proxy's own."""
    at: float
    """When it came, `time.monotonic`."""

    @property
    def watches(self) -> bool:
        return "watch=true" in self.query


@dataclass
class _Fault:
    code: int
    """Status to answer with; -1: the request is held back, and then done."""
    method: str
    path: re.Pattern[str]
    left: int | None
    seconds: float = 0.0
    retry_after: int | None = None
    late: bool = False

    def takes(self, request: web.BaseRequest) -> bool:
        """Whether this fault happens to this request. If so, one less is left."""
        if self.left == 0 or self.method not in ("", request.method) or not self.path.search(request.path_qs):
            return False
        if self.left is not None:
            self.left -= 1
        return True


class _Watch:
    def __init__(self, path: str, answer: web.StreamResponse, transport: asyncio.Transport | None) -> None:
        self.path, self.answer, self.transport = path, answer, transport
        self.silent = False


class Proxy:
    """A context manager; it listens on loopback, in the API server's network namespace. Faults come in the order in
    which they were asked for."""

    def __init__(self, upstream: ApiServer, directory: Path) -> None:
        """`directory`: where `kubeconfig`, an administrator's, is written."""
        self._upstream = upstream
        self._port = free_port() if upstream.network is None else _PORT
        self._authority = trustme.CA(organization_name="Moorage e2e proxy")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self.server = f"https://127.0.0.1:{self._port}"
        self._directory = directory
        self.kubeconfig = self.kubeconfig_of(upstream.token)
        self.requests: list[Request] = []
        """All that have been answered; watches as soon as their answer has begun."""
        self._faults: list[_Fault] = []
        self._held = 0
        self._released = asyncio.Event()
        self._watches: set[_Watch] = set()
        self._transports: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="proxy", daemon=True)

    def kubeconfig_of(self, token: str, name: str = "proxy.kubeconfig") -> Path:
        """Write a kubeconfig for the user with this token."""
        path = self._directory / name
        path.write_text(kubeconfig(self.server, token, self._authority.cert_pem.bytes().decode()))
        path.chmod(0o600)
        return path

    # --- trouble -------------------------------------------------------------------------------------------------

    def fail(
        self,
        code: int,
        *,
        method: str = "",
        path: str = "",
        count: int | None = 1,
        retry_after: int | None = None,
        late: bool = False,
    ) -> None:
        """Answer the next `count` requests of `method` whose path and query match `path` (regexp) with an error.

        Code 0: no answer, the connection is cut. `count` None: until `clear`. `late`: what was asked for is done, and
        only then the answer is another.
        """
        self._add(_Fault(code, method, re.compile(path), count, retry_after=retry_after, late=late))

    def slow(self, seconds: float, *, method: str = "", path: str = "", count: int | None = None) -> None:
        """Hold matching requests back for so long, or until `release`, then do them."""
        self._add(_Fault(-1, method, re.compile(path), count, seconds))

    def release(self) -> None:
        """Let the requests go on that are held back now."""
        self._do(self._release)

    def clear(self) -> None:
        """Forget all faults that were asked for. Watches that were silenced stay silent."""
        self._do(self._faults.clear)

    def silence(self, path: str = "") -> int:
        """Pass nothing more on to the open watches whose path matches; how many. Later ones work."""

        def silence() -> int:
            found = [watch for watch in self._watches if re.search(path, watch.path)]
            for watch in found:
                watch.silent = True
            return len(found)

        return self._do(silence)

    def expire(self, path: str = "") -> int:
        """Tell matching watches that their version is gone (an ERROR event of 410), and end them; how many."""
        return self._run(self._expire(path))

    def cut(self) -> None:
        """Break every connection that is open."""

        def cut() -> None:
            for transport in self._transports:
                transport.abort()

        self._do(cut)

    def stop(self) -> None:
        """Refuse connections, as a server that is down; those that are open break. `start` ends it."""
        self._run(self._stop())

    def start(self) -> None:
        """Listen again."""
        self._run(self._start())

    # --- what came -----------------------------------------------------------------------------------------------

    def writes(self, since: float = 0.0, but: str = "/leases/") -> list[Request]:
        """Requests since then (`time.monotonic`) that may change something, but for those whose path matches."""
        return [
            one
            for one in list(self.requests)
            if one.method in WRITES and one.at >= since and not (but and re.search(but, one.path))
        ]

    def held(self) -> int:
        """How many requests are being held back."""
        return self._held

    def open_watches(self) -> int:
        """How many watches are open and not silenced."""
        return self._do(lambda: sum(not watch.silent for watch in self._watches))

    # --- the thread ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._set_up())
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._tear_down())
        finally:
            self._end_thread()

    def _work(self) -> None:
        if self._upstream.network is not None:
            self._upstream.world.enter(self._upstream.network)
        self._loop.run_forever()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _do(self, work: Callable[[], T]) -> T:
        async def call() -> T:
            return work()

        return self._run(call())

    def _add(self, fault: _Fault) -> None:
        self._do(lambda: self._faults.append(fault))

    async def _set_up(self) -> None:
        context = ssl.create_default_context(cadata=self._upstream.credentials.ca)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._runner = web.ServerRunner(
            web.Server(self._answer, handler_cancellation=True), handle_signals=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        self._site: web.TCPSite | None = None
        await self._start()

    async def _tear_down(self) -> None:
        await self._stop()
        await self._runner.cleanup()
        await self._session.close()

    async def _start(self) -> None:
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
            await self._site.start()

    async def _stop(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        for transport in list(self._transports):
            transport.abort()

    async def _expire(self, path: str) -> int:
        found = [watch for watch in self._watches if re.search(path, watch.path) and not watch.silent]
        for watch in found:
            gone = _status(410, "too old resource version")
            with contextlib.suppress(OSError):
                await watch.answer.write(b'{"type":"ERROR","object":' + gone + b"}\n")
                await watch.answer.write_eof()
            if watch.transport is not None:
                watch.transport.close()
        return len(found)

    def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    # --- a request -----------------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            self._transports.add(transport)
        try:
            return await self._deal_with(request)
        except asyncio.CancelledError:
            self._note(request, 0, False, time.monotonic())
            raise
        finally:
            if transport is not None and transport.is_closing():
                self._transports.discard(transport)

    async def _deal_with(self, request: web.BaseRequest) -> web.StreamResponse:
        at = time.monotonic()
        fault = next((fault for fault in self._faults if fault.takes(request)), None)
        body = await request.read()
        if fault is not None:
            self._held += 1
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._released.wait(), fault.seconds)
            finally:
                self._held -= 1
        if fault is None or fault.code < 0:
            return await self._forward(request, body, at)
        if fault.late:
            with contextlib.suppress(aiohttp.ClientError):
                async with self._send(request, body) as answer:
                    await answer.read()
        self._note(request, fault.code, True, at)
        if fault.code == 0:
            return self._cut(request)
        headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
        text = _status(fault.code, "the proxy says so", fault.retry_after)
        return web.Response(status=fault.code, body=text, headers=headers, content_type="application/json")

    async def _forward(self, request: web.BaseRequest, body: bytes, at: float) -> web.StreamResponse:
        try:
            async with self._send(request, body) as got:
                answer = web.StreamResponse(status=got.status, headers=_passed_on(list(got.headers.items())))
                self._note(request, got.status, False, at)
                if "watch=true" in request.query_string and got.status == 200:
                    return await self._stream(request, answer, got)
                answer.content_length = len(content := await got.read())
                await answer.prepare(request)
                await answer.write(content)
                return answer
        except aiohttp.ClientError:
            # The server is down, or ended in the middle: so does this connection.
            self._note(request, 0, False, at)
            return self._cut(request)

    async def _stream(
        self, request: web.BaseRequest, answer: web.StreamResponse, got: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        await answer.prepare(request)
        watch = _Watch(request.path_qs, answer, request.transport)
        self._watches.add(watch)
        try:
            async for chunk in got.content.iter_any():
                if watch.silent:
                    # Until the client gives up, which cancels this.
                    await asyncio.Event().wait()
                await answer.write(chunk)
        except (ConnectionError, OSError):
            pass
        finally:
            self._watches.discard(watch)
        return answer

    def _send(self, request: web.BaseRequest, body: bytes) -> "aiohttp.client._RequestContextManager":
        return self._session.request(
            request.method,
            f"{self._upstream.server}{request.path_qs}",
            data=body or None,
            headers=_passed_on(list(request.headers.items())),
            allow_redirects=False,
        )

    def _cut(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _note(self, request: web.BaseRequest, status: int, faulty: bool, at: float) -> None:
        self.requests.append(Request(request.method, request.path, request.query_string, status, faulty, at))


def _passed_on(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP]


def _status(code: int, message: str, retry_after: int | None = None) -> bytes:
    details = f',"details":{{"retryAfterSeconds":{retry_after}}}' if retry_after is not None else ""
    text = (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        f'"message":"{message}","reason":"{_REASONS.get(code, "Unknown")}","code":{code}{details}}}'
    )
    return text.encode()

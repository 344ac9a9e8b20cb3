"""The client for the Kubernetes API: typed reads and small writes over aiohttp and msgspec.

Our own, because lightkube (as of 1.0.1) sends `delete` without a body and so without preconditions, starts every
watch without `allowWatchBookmarks` and with its read time-out switched off, so that a dead connection is never
noticed, and brings a second HTTP stack.
"""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from moorage import __version__
from moorage.api.kinds import kind_of
from moorage.api.meta import Object
from moorage.cluster.connections import Connections, Guard
from moorage.cluster.errors import AnswerError, ApiError, SilentError, UnreachableError, from_answer, one_line
from moorage.cluster.events import Bookmark, Event, lines, read_event
from moorage.cluster.handshake import TooCostlyError
from moorage.cluster.kubeconfig import Config
from moorage.cluster.paths import collection_path, creation_path, manifest_path, object_path, with_type
from moorage.cluster.reading import Listing, Page, Reading, Unreadable, Whole
from moorage.cluster.tls import ssl_context
from moorage.cluster.tokens import Token
from moorage.cluster.warnings import warnings

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "AnswerError",
    "ApiError",
    "Bookmark",
    "Client",
    "Event",
    "UnreachableError",
]

T = TypeVar("T", bound=Object)
D = TypeVar("D")

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"
"""Where a server cannot leave out the rest of an object, it sends that too."""

CONNECT_SECONDS = 5.0
"""Until a connection is there. conntrack decides at the first packet where one goes: what is begun before kube-proxy
has its rules goes astray, however often its packets are sent again."""
MAX_RETRY_AFTER_SECONDS = 10.0
"""A 429 that asks for a longer wait is an error at once."""
MAX_RETRIES = 4
"""How often a request is sent again after a 429."""


class _Request(NamedTuple):
    method: str
    path: str
    params: Mapping[str, str | None] = MappingProxyType({})
    """Parameters that are None are left out."""
    body: object = None
    content_type: str = JSON
    accept: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Client:
    """One API server. An async context manager; usable from one event loop.

    Requests raise ApiError if the server refuses, UnreachableError if no connection is made within `CONNECT_SECONDS`
    or no answer comes within `timeout` seconds, and AnswerError if the answer makes no sense. One that gets a 429 is
    sent again after the time that the answer asks for, at most `MAX_RETRIES` times, `MAX_RETRY_AFTER_SECONDS` each.
    One that gets a 401 is sent again once, if the token file has another token by now. Nothing else is sent again.
    """

    def __init__(
        self,
        config: Config,
        *,
        timeout: float = 30.0,
        guard: Guard = Guard(),  # noqa: B008
        on_warning: Callable[[str], object] = lambda text: None,
    ) -> None:
        """`on_warning` is called with the text of each warning in an answer (KEP-1693)."""
        self.config = config
        self._on_warning = on_warning
        self._timeout = timeout
        self._connect_timeout = min(timeout, CONNECT_SECONDS)
        self._guard = guard
        self._connections = Connections(guard)
        self._session: aiohttp.ClientSession | None = None
        self._tls = ssl_context(config)
        self._token = Token(config)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=self._connections.connector(self._tls),
            headers={"User-Agent": f"moorage/{__version__}", **self._guard.headers},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=self._guard.max_answer_bytes is None,
            **self._guard.sizes,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def hang_up(self) -> None:
        """Close connections to addresses that the guard now refuses."""
        self._connections.hang_up()

    async def get(self, kind: type[T], namespace: str | None, name: str) -> T:
        """One object. `namespace` is None for kinds that have no namespace."""
        return await self._call(kind, _Request("GET", object_path(kind_of(kind), namespace, name)))

    async def list(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        reading: Reading[T] | None = None,
        metadata_only: bool = False,
    ) -> Listing[T]:
        """All objects of a kind in one namespace or in all, fetched in pages of one resource version.

        `resource_version` None asks for the newest state, a version for a state that is not older. A list whose pages
        expire while they are fetched (410) is fetched again in one piece. `reading` None reads all fields of `kind`.
        `metadata_only` asks for `metadata` and nothing else.
        """
        path = collection_path(kind_of(kind), namespace)
        accept = _METADATA.format("List") if metadata_only else JSON
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        first = {**selectors, "resourceVersion": resource_version}
        limit, read, size = {"limit": str(self._guard.page)}, (reading or Whole(kind)).page, 0

        def counted(answer: bytes | bytearray) -> Page[T]:
            nonlocal size
            size += len(answer)
            return read(answer)

        page = await self._request(_Request("GET", path, {**first, **limit}, accept=accept), counted)
        items, version, pages, unreadable = page.items, page.resource_version, 1, page.unreadable
        self._guard.check(len(items), pages, size)
        while page.more:
            more = {**selectors, **limit, "continue": page.more}
            try:
                page = await self._request(_Request("GET", path, more, accept=accept), counted)
            except ApiError as error:
                if error.status != 410:
                    raise
                page = await self._request(_Request("GET", path, first, accept=accept), counted)
                items, version, unreadable = [], page.resource_version, ()
            items += page.items
            unreadable += page.unreadable
            pages += 1
            self._guard.check(len(items), pages, size)
        return Listing(items, version, unreadable)

    async def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        idle_timeout: float = 100.0,
        reading: Reading[T] | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Event[T] | Bookmark | Unreadable, None]:
        """The changes after `resource_version`, in the server's order, until the server ends the watch.

        The first item comes when the server has accepted the watch: a Bookmark of `resource_version` itself. Close it
        with `contextlib.aclosing`. Raises ApiError with status 410 if the server no longer has that version (list
        again), UnreachableError if the connection breaks, and its subclass SilentError if it is silent for
        `idle_timeout` seconds. kube-apiserver sends a bookmark about every minute, but only for collections in which
        something has changed since it started: silence alone does not show that a connection is dead.
        """
        path = collection_path(kind_of(kind), namespace)
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
        }
        accept = _METADATA.format("") if metadata_only else JSON
        read = (reading or Whole(kind)).one
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._timeout, sock_connect=self._connect_timeout, sock_read=idle_timeout
        )
        begun_within, stands = min(self._timeout, idle_timeout), False
        try:
            # A server can send interim answers (1xx) without end, each of them in time.
            async with asyncio.timeout(begun_within):
                response = await self._send(
                    _Request("GET", path, params, accept=accept), self._token.bearer(), timeout
                )
            with self._guard.holding() as hold:
                async with response:
                    if response.status != 200:
                        answer = await self._guard.read(response, hold)
                        raise from_answer(answer, response.status, response.headers.get("Retry-After"))
                    stands = True
                    yield Bookmark(resource_version)
                    async for line in lines(response.content.iter_any(), self._guard.max_line_bytes, hold):
                        yield read_event(line, read)
        except (aiohttp.ClientError, OSError) as error:
            failure = self._unreachable(error, f"watch of {path}", idle_timeout if stands else begun_within)
            if stands and isinstance(error, TimeoutError):
                failure = SilentError(str(failure))
            raise failure from None
        except AnswerError as error:
            raise self._nonsense(f"watch of {path}", error) from None

    async def create(self, obj: T) -> T:
        """POST. Returns the object as the server stored it; ApiError 409 `AlreadyExists` if the object exists."""
        path = creation_path(kind_of(type(obj)), obj.metadata.namespace)
        return await self._call(type(obj), _Request("POST", path, body=with_type(obj)))

    async def replace(self, obj: T, subresource: str | None = None) -> T:
        """PUT. The object's resourceVersion, if it has one, is a precondition (409 `Conflict`).

        Fields that the struct does not know are lost, so use it only for objects that Moorage wrote, or for
        subresources.
        """
        path = object_path(kind_of(type(obj)), obj.metadata.namespace, obj.metadata.name, subresource)
        return await self._call(type(obj), _Request("PUT", path, body=with_type(obj)))

    async def patch(
        self,
        kind: type[T],
        namespace: str | None,
        name: str,
        body: object,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> T:
        """PATCH with any of the four content types. Returns the object, also for the status subresource.

        `metadata.resourceVersion` in a merge patch is a precondition (409 `Conflict`); a patch with `metadata.uid` is
        refused if the object is another one by now (422 `Invalid`).
        """
        path = object_path(kind_of(kind), namespace, name, subresource)
        return await self._call(kind, _Request("PATCH", path, {"fieldManager": field_manager}, body, content_type))

    async def apply(self, obj: dict[str, Any], *, field_manager: str, force: bool = False) -> dict[str, Any]:
        """Server-side apply of an unstructured object (KEP-555).

        Raises ApiError 409 if another manager owns one of the fields with another value, unless `force`.
        """
        params = {"fieldManager": field_manager, "force": "true" if force else None}
        return await self.raw("PATCH", manifest_path(obj), params=params, body=obj, content_type=APPLY_PATCH)

    async def delete(
        self,
        kind: type[T],
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Foreground", "Background", "Orphan"] | None = None,
        grace_period_seconds: int | None = None,
    ) -> None:
        """Delete one object. `uid` and `resource_version` are preconditions if given (409 `Conflict`).

        An object with finalizers stays, with a deletionTimestamp, until they are gone.
        """
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v is not None}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if preconditions:
            options["preconditions"] = preconditions
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        request = _Request("DELETE", object_path(kind_of(kind), namespace, name), body=options)
        await self._request(request, lambda answer: None)

    async def raw(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | None] = MappingProxyType({}),
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """Send any request, and return the decoded JSON. Parameters that are None are left out."""
        request = _Request(method, path, params, body, content_type, accept)
        return await self._request(request, msgspec.json.Decoder(dict[str, Any]).decode)

    async def text(self, path: str) -> str:
        """GET, with an answer that is text: of a pod, for example, through the API server's proxy."""
        return await self._request(_Request("GET", path, accept="*/*"), lambda answer: bytes(answer).decode())

    async def _call(self, kind: type[T], request: _Request) -> T:
        return await self._request(request, msgspec.json.Decoder(kind).decode)

    async def _request(self, request: _Request, read: Callable[[bytes | bytearray], D]) -> D:
        """Send a request, and return what `read` makes of the answer."""
        timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=self._connect_timeout)
        for attempt in range(MAX_RETRIES + 1):
            token = self._token.bearer()
            try:
                with self._guard.holding() as hold:
                    async with self._send(request, token, timeout) as response:
                        answer = await self._guard.read(response, hold)
                    for text in warnings(response.headers.getall("Warning", ())):
                        self._on_warning(text)
                    if 200 <= response.status < 300:
                        return read(answer)
                    refusal = from_answer(answer, response.status, response.headers.get("Retry-After"))
                    del answer
            except (aiohttp.ClientError, OSError) as error:
                raise self._unreachable(error, str(request), self._timeout) from None
            except (AnswerError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self._nonsense(str(request), error) from None
            if response.status == 401 and attempt == 0 and self._token.refused(token):
                continue
            wait = refusal.retry_after
            if response.status != 429 or attempt == MAX_RETRIES or wait is None or wait > MAX_RETRY_AFTER_SECONDS:
                raise refusal
            # With jitter, or requests that were refused together would come back together.
            await asyncio.sleep(wait * (1 + random.random() / 4))
        raise AssertionError("the last attempt returns or raises")

    def _send(
        self, request: _Request, token: str | None, timeout: aiohttp.ClientTimeout
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            raise RuntimeError("the client is used outside its context manager")
        self._connections.hang_up()  # or a connection that was opened when its address was admitted would be reused
        headers = {"Accept": request.accept}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if token:
            headers["Authorization"] = f"Bearer {token}"
        params = {name: value for name, value in request.params.items() if value is not None}
        return self._session.request(
            request.method,
            URL(self.config.server + request.path).update_query(params),
            data=msgspec.json.encode(request.body) if request.body is not None else None,
            headers=headers,
            timeout=timeout,
            # The token must not follow a redirect to somebody else.
            allow_redirects=False,
            server_hostname=self.config.tls_server_name,
        )

    def _unreachable(self, error: Exception, what: str, seconds: float) -> UnreachableError:
        server = self.config.server
        match error:
            case aiohttp.ConnectionTimeoutError():
                why = f"no connection within {self._connect_timeout:g} s; is the server running?"
            case TimeoutError():
                why = f"{what}: no answer for {seconds:g} s"
            case aiohttp.ClientConnectorSSLError(os_error=TooCostlyError() as costly):
                why = f"TLS: {costly}"
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                why = f"TLS: {one_line(str(error))}; check certificate-authority"
            case aiohttp.ClientConnectorDNSError():
                why = f"cannot look up its name: {one_line(str(error.os_error))}"
            case aiohttp.ClientConnectorError() if not error.os_error.errno:
                why = f"cannot connect: {one_line(str(error.os_error))}"
            case aiohttp.ClientConnectorError():
                number = error.os_error.errno
                words = os.strerror(number) if number and number > 0 else str(error.os_error)
                why = f"cannot connect: {words}; is the server running?"
            case _:
                why = f"{what}: the connection broke: {one_line(str(error)) or type(error).__name__}"
        return UnreachableError(f"{server}: {why}")

    def _nonsense(self, what: str, error: Exception) -> AnswerError:
        return AnswerError(f"{self.config.server}: {what}: not an answer of a Kubernetes API: {one_line(str(error))}")

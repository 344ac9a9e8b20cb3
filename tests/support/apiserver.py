"""The lab's API server in this process, on loopback."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from moorage.api.kinds import KINDS, Kind
from moorage.cluster.kubeconfig import Config
from moorage_lab.apiserver import credentials
from moorage_lab.apiserver.faults import Faults
from moorage_lab.apiserver.server import ApiServer
from moorage_lab.apiserver.store import Store

Json = dict[str, Any]


def kind(name: str) -> Kind:
    """The kind with this name."""
    return next(one for one in KINDS if one.kind == name)


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class RunningApiServer:
    """A server that answers.

    `store.compact()` makes older watches expire; `faults` has the other failures: `fail(requests, code=...,
    retry_after=..., method=..., path=...)`, `slow(requests, seconds=...)`, `hold(requests, ...)`, `drop_watches()`,
    `silence_watches()`.
    """

    def __init__(self, server: ApiServer, config: Config, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.config = config
        self._session = session

    @property
    def store(self) -> Store:
        return self.server.store

    @property
    def faults(self) -> Faults:
        return self.server.faults

    def kubeconfig(self, path: Path) -> Path:
        """A file for `kubectl`."""
        path.write_text(credentials.kubeconfig(self.config.server, self.config.token, self.config.ca))
        return path

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        **more: str,
    ) -> Answer:
        """One request with plain JSON, for what a client library would hide. Plain HTTP only."""
        sent = {"Authorization": f"Bearer {self.config.token}", "Content-Type": content_type, **(headers or {})}
        data = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        url = self.config.server + path
        async with self._session.request(
            method, url, params={**(query or {}), **more}, data=data, headers=sent
        ) as response:
            raw = await response.read()
            parsed = json.loads(raw) if response.content_type == "application/json" else raw
            return Answer(response.status, parsed, dict(response.headers))

    async def create(self, path: str, body: Json) -> Json:
        """The object that was created; asserts that it was."""
        answer = await self.call("POST", path, body)
        assert answer.status == 201, answer
        created: Json = answer.body
        return created

    @contextlib.asynccontextmanager
    async def watch(self, path: str, *, accept: str = "application/json", **query: str) -> AsyncIterator["Events"]:
        """The stream of a watch request."""
        headers = {"Authorization": f"Bearer {self.config.token}", "Accept": accept}
        url = self.config.server + path
        async with self._session.get(url, params={"watch": "true", **query}, headers=headers) as response:
            yield Events(response)


class Events:
    """The events of one watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> Json | None:
        """The next event, None at the stream's end; at most 10 s."""
        async with _bound():
            line = await self._response.content.readline()
        event: Json | None = json.loads(line) if line else None
        return event

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Type and name of the next events."""
        taken = []
        for _ in range(count):
            event = await self.next()
            assert event is not None
            taken.append((event["type"], event["object"]["metadata"].get("name", "")))
        return taken


@contextlib.asynccontextmanager
async def api_server(
    *, tls: bool = False, token: str | None = "test", **options: Any
) -> AsyncIterator[RunningApiServer]:
    """A server on a free port of 127.0.0.1, over plain HTTP unless `tls`. `options` are those of `ApiServer`."""
    async with ApiServer(token=token, **options) as server, aiohttp.ClientSession() as session:
        if tls:
            issued = credentials.issue()
            with _files(issued) as (certificate, key):
                context = credentials.server_context(certificate, key)
            port = await server.listen("127.0.0.1", 0, context)
            config = Config(server=f"https://127.0.0.1:{port}", token=token, ca=issued.ca)
        else:
            port = await server.listen("127.0.0.1", 0)
            config = Config(server=f"http://127.0.0.1:{port}", token=token)
        yield RunningApiServer(server, config, session)


@contextlib.contextmanager
def _files(issued: credentials.Certificates) -> Iterator[tuple[Path, Path]]:
    """The certificate as files, because `ssl` reads nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory) / "tls.crt", Path(directory) / "tls.key"
        certificate.write_text(issued.certificate)
        key.write_text(issued.key)
        yield certificate, key


def _bound() -> asyncio.Timeout:
    return asyncio.timeout(10)

"""The reflector through a real connection to the lab's API server, which can be made to fail."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from moorage.api.core_v1 import Namespace
from moorage.api.kinds import kind_of
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change
from tests.support.apiserver import RunningApiServer, api_server

NAMES = ("a", "b", "c")


class Watched:
    """A reflector of namespaces at work, and what it reported: `+a` and `-a`."""

    def __init__(self, client: Client) -> None:
        self.changes: list[str] = []
        self._changed = asyncio.Event()
        self.reflector = Reflector(client, Namespace, label_selector="test", on_change=self._on_change)

    def _on_change(self, change: Change[Namespace]) -> None:
        self.changes.append(("+" if change.new else "-") + change.key.name)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def namespace(name: str) -> Namespace:
    return Namespace(metadata=ObjectMeta(name=name, labels={"test": "yes"}))


@pytest.fixture
async def server() -> AsyncGenerator[RunningApiServer, None]:
    async with api_server(tls=True) as server:
        yield server


@pytest.fixture
async def client(server: RunningApiServer) -> AsyncGenerator[Client, None]:
    async with Client(server.config) as client:
        for name in NAMES:
            await client.create(namespace(name))
        yield client


@pytest.fixture
async def watched(client: Client) -> AsyncGenerator[Watched, None]:
    watched = Watched(client)
    task = asyncio.create_task(watched.reflector.run())
    await watched.until(lambda: len(watched.changes) == len(NAMES))
    yield watched
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_dropped_watch_misses_nothing(client: Client, server: RunningApiServer, watched: Watched) -> None:
    server.faults.drop_watches()
    server.store.remove(kind_of(Namespace), "", "b")
    await client.create(namespace("d"))
    await watched.until(lambda: len(watched.changes) == 5)
    assert watched.changes == ["+a", "+b", "+c", "-b", "+d"]


async def test_what_went_while_the_history_was_lost_is_reported(
    client: Client, server: RunningApiServer, watched: Watched
) -> None:
    server.store.remove(kind_of(Namespace), "", "b")
    server.store.compact()
    server.faults.drop_watches()
    await client.create(namespace("d"))
    await watched.until(lambda: len(watched.changes) == 5)
    assert watched.changes == ["+a", "+b", "+c", "-b", "+d"]


async def test_a_server_that_is_overloaded_is_asked_again(
    client: Client, server: RunningApiServer, watched: Watched
) -> None:
    server.store.remove(kind_of(Namespace), "", "b")
    server.store.compact()
    server.faults.fail(2, code=429, retry_after=0, path="/namespaces")
    server.faults.fail(1, code=500, path="/namespaces")
    server.faults.drop_watches()
    await watched.until(lambda: "-b" in watched.changes)
    assert watched.changes == ["+a", "+b", "+c", "-b"]
    await client.create(namespace("d"))
    await watched.until(lambda: "+d" in watched.changes)
    assert watched.reflector.error is None

"""Watches on the wire."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.apiserver import Json, RunningApiServer, api_server

SERVICES = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with api_server(bookmark_interval=0.05) as running:
        yield running


async def create(server: RunningApiServer, name: str, **labels: str) -> Json:
    body = {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}]}}
    return await server.create(SERVICES, body)


async def label(server: RunningApiServer, name: str, **labels: str) -> None:
    patch = {"metadata": {"labels": labels}}
    assert (await server.call("PATCH", f"{SERVICES}/{name}", patch, content_type=MERGE)).status == 200


async def test_without_a_version_the_present_objects_come_first(server: RunningApiServer) -> None:
    await create(server, "a")
    async with server.watch(SERVICES) as events:
        assert await events.take(1) == [("ADDED", "a")]
        await create(server, "b")
        await server.call("DELETE", f"{SERVICES}/a")
        assert await events.take(2) == [("ADDED", "b"), ("DELETED", "a")]


async def test_from_a_version_only_later_changes_come(server: RunningApiServer) -> None:
    version = (await create(server, "a"))["metadata"]["resourceVersion"]
    await label(server, "a", x="1")
    await server.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
    async with server.watch("/api/v1/services", resourceVersion=version) as events:
        assert await events.take(1) == [("MODIFIED", "a")]
        await create(server, "b")
        assert await events.take(1) == [("ADDED", "b")]


async def test_an_object_that_leaves_the_selection_is_deleted_to_its_watcher(server: RunningApiServer) -> None:
    await create(server, "a", x="1")
    await create(server, "b")
    async with server.watch(SERVICES, labelSelector="x=1") as events:
        assert await events.take(1) == [("ADDED", "a")]
        await label(server, "b", x="1")
        await label(server, "a", x="2")
        assert await events.take(2) == [("ADDED", "b"), ("DELETED", "a")]


async def test_a_version_that_is_no_longer_kept_is_gone(server: RunningApiServer) -> None:
    version = (await create(server, "a"))["metadata"]["resourceVersion"]
    await create(server, "b")
    server.store.compact()
    async with server.watch(SERVICES, resourceVersion=version) as events:
        event = await events.next()
        assert event is not None
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        assert await events.next() is None


async def test_bookmarks_come_only_where_allowed_and_carry_the_version(server: RunningApiServer) -> None:
    async with server.watch(SERVICES, allowWatchBookmarks="true") as events:
        await server.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
        while True:
            event = await events.next()
            assert event is not None
            assert event["type"] == "BOOKMARK"
            if event["object"]["metadata"]["resourceVersion"] == str(server.store.version):
                break
    async with server.watch(SERVICES, timeoutSeconds="1") as events:
        assert await events.next() is None


async def test_the_end_of_the_initial_objects_is_marked_where_asked(server: RunningApiServer) -> None:
    await create(server, "a")
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    async with server.watch(SERVICES, **query) as events:
        assert await events.take(1) == [("ADDED", "a")]
        event = await events.next()
        assert event is not None
        assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_as_table_sends_the_columns_once(server: RunningApiServer) -> None:
    await create(server, "a")
    await create(server, "b")
    async with server.watch(SERVICES, accept="application/json;as=Table;v=v1;g=meta.k8s.io") as events:
        first, second = await events.next(), await events.next()
        assert first is not None
        assert second is not None
        assert first["object"]["columnDefinitions"][0]["name"] == "Name"
        assert second["object"]["columnDefinitions"] is None
        assert second["object"]["rows"][0]["cells"][0] == "b"


async def test_a_watch_of_metadata_sends_nothing_else(server: RunningApiServer) -> None:
    await create(server, "a")
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    async with server.watch(SERVICES, accept=accept, allowWatchBookmarks="true") as events:
        seen = [await events.next(), await events.next()]
        assert [(each["type"], each["object"].keys()) for each in seen if each] == [
            ("ADDED", {"kind", "apiVersion", "metadata"}),
            ("BOOKMARK", {"kind", "apiVersion", "metadata"}),
        ]
        assert {each["object"]["kind"] for each in seen if each} == {"PartialObjectMetadata"}


async def test_dropped_watches_break_and_later_ones_work(server: RunningApiServer) -> None:
    async with server.watch(SERVICES) as events:
        server.faults.drop_watches()
        with pytest.raises(aiohttp.ClientError):
            await events.next()
    async with server.watch(SERVICES) as events:
        await create(server, "a")
        assert await events.take(1) == [("ADDED", "a")]


async def test_silenced_watches_say_nothing_more_and_later_ones_do() -> None:
    async with api_server() as server:
        async with server.watch(SERVICES) as silenced:
            server.faults.silence_watches()
            await create(server, "a")
            async with server.watch(SERVICES) as events:
                assert await events.take(1) == [("ADDED", "a")]
                await create(server, "b")
                assert await events.take(1) == [("ADDED", "b")]
            closing = asyncio.create_task(server.server.__aexit__())
            assert await silenced.next() is None
        await asyncio.wait_for(closing, 5)


async def test_a_server_that_closes_ends_its_watches() -> None:
    async with api_server() as server:
        async with server.watch(SERVICES) as events:
            closing = asyncio.create_task(server.server.__aexit__())
            assert await events.next() is None
        await asyncio.wait_for(closing, 5)


async def test_a_watch_sees_every_write_once_and_in_order(server: RunningApiServer) -> None:
    async with server.watch(SERVICES) as events:
        await asyncio.gather(*(create(server, f"s{index}") for index in range(20)))
        versions = []
        for _ in range(20):
            event = await events.next()
            assert event is not None
            versions.append(int(event["object"]["metadata"]["resourceVersion"]))
    assert versions == sorted(set(versions))

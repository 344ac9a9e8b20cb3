"""Whatever happens on the way, a reflector ends with what the server has, and has told of it."""

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.core_v1 import Service
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.cluster.errors import ApiError, SilentError, UnreachableError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.reading import Listing
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index

pytestmark = pytest.mark.looptime(noop_cycles=1)

BAD = "bad"


def label(obj: Service) -> list[str]:
    return list((obj.metadata.labels or {}).values())


BY_LABEL = Index(label)


class Server:
    """Services that come, change and go; a history that is forgotten; answers that fail by `chance`."""

    def __init__(self, chance: random.Random) -> None:
        self.objects: dict[ObjectKey, Service] = {}
        self.faulty = True
        self._chance = chance
        self._history: list[tuple[int, Event[Service]]] = []
        self._version = 1
        self._forgotten = 0
        self._news = asyncio.Event()

    def happen(self) -> None:
        """Something changes."""
        key = ObjectKey("n", self._chance.choice("abcd"))
        old = self.objects.get(key)
        self._version += 1
        match self._chance.choice(["put", "put", "delete", "remake", "forget"]):
            case "forget":
                self._forgotten = self._version
            case "put":
                uid = old.metadata.uid if old is not None else f"uid-{self._version}"
                self._put(key, uid, "ADDED" if old is None else "MODIFIED")
            case "delete" if old is not None:
                self._delete(key)
            case "remake" if old is not None:
                self._delete(key)
                self._version += 1
                self._put(key, f"uid-{self._version}", "ADDED")
        self._news.set()
        self._news = asyncio.Event()

    def _put(self, key: ObjectKey, uid: str | None, type: Any) -> None:
        labels = {"of": self._chance.choice(["one", "two", BAD])}
        version = str(self._version)
        metadata = ObjectMeta(namespace=key[0], name=key[1], uid=uid, resource_version=version, labels=labels)
        self.objects[key] = Service(metadata=metadata)
        self._history.append((self._version, Event(type, self.objects[key])))

    def _delete(self, key: ObjectKey) -> None:
        meta = self.objects.pop(key).metadata
        metadata = ObjectMeta(namespace=key[0], name=key[1], uid=meta.uid, resource_version=str(self._version))
        self._history.append((self._version, Event("DELETED", Service(metadata=metadata))))

    def _strike(self, often: float) -> None:
        if self.faulty and self._chance.random() < often:
            raise self._chance.choice(
                [
                    UnreachableError("down"),
                    SilentError("silent"),
                    ApiError(410, "Expired", "gone"),
                    ApiError(429, "TooManyRequests", "later", 1),
                    ApiError(500, "InternalError", "broken"),
                ]
            )

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        self._strike(0.3)
        answer = Listing(list(self.objects.values()), str(self._version))
        await asyncio.sleep(self._chance.choice([0, 0.5]))
        return answer

    async def watch(
        self, kind: type[Any], namespace: str | None = None, *, resource_version: str, **selectors: Any
    ) -> AsyncGenerator[Any, None]:
        self._strike(0.3)
        if int(resource_version) < self._forgotten:
            raise ApiError(410, "Expired", "too old resource version")
        yield Bookmark(resource_version)
        sent = int(resource_version)
        while True:
            news = self._news
            for version, event in [one for one in self._history if one[0] > sent]:
                self._strike(0.1)
                yield event
                sent = version
            if self.faulty and self._chance.random() < 0.1:
                return
            if all(version <= sent for version, _ in self._history) and self._chance.random() < 0.2:
                sent = self._version
                yield Bookmark(str(sent))
            else:
                await news.wait()


@settings(max_examples=60)
@given(st.integers(0, 2**32))
async def test_it_ends_with_what_the_server_has_and_has_told_of_it(seed: int) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    told: dict[ObjectKey, Service] = {}
    wrong: list[AssertionError] = []

    def on_change(change: Change[Service]) -> None:
        try:
            check(change.key, change.new)
        except AssertionError as error:
            wrong.append(error)  # a reflector goes on whatever its callback raises

    def check(key: ObjectKey, obj: Service | None) -> None:
        if obj is None:
            assert told.pop(key, None) is not None, f"{key} was told to be gone, and nobody had heard of it"
        else:
            before = told.get(key)
            assert before is None or before.metadata.uid == obj.metadata.uid, f"{key} was made again unnoticed"
            assert before is None or int(before.metadata.resource_version or 0) < int(
                obj.metadata.resource_version or 0
            ), f"{key} went back in time"
            told[key] = obj

    reflector = Reflector(server, Service, on_change=on_change, jitter=chance.random)
    task = asyncio.create_task(reflector.run())
    for _ in range(60):
        server.happen()
        await asyncio.sleep(chance.choice([0, 0.1, 3]))
    server.faulty = False
    server.happen()
    # The longest back-off there is, and what the server may ask for on top.
    await asyncio.sleep(100)
    assert not task.done()
    assert reflector.store == server.objects
    assert told == server.objects
    assert wrong == []
    assert reflector.error is None
    task.cancel()


@settings(max_examples=60)
@given(st.integers(0, 2**32))
async def test_its_indexes_say_at_any_time_what_is_in_the_store(seed: int) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    changes: list[Change[Service]] = []
    # Some objects have a fault, so their last good state stays, and is what an index finds.
    reflector = Reflector(
        server,
        Service,
        on_change=changes.append,
        fault=lambda obj: BAD if BAD in label(obj) else None,
        indexes=[BY_LABEL],
        jitter=chance.random,
    )
    task = asyncio.create_task(reflector.run())
    touched: set[str] = set()
    before: dict[str, list[Service]] = {}
    for _ in range(60):
        server.happen()
        await asyncio.sleep(chance.choice([0, 0.1, 3]))
        now = {each: reflector.store.by(BY_LABEL, each) for each in ("one", "two", BAD)}
        for each, found in now.items():
            computed = [obj for _, obj in sorted(reflector.store.items()) if each in label(obj)]
            assert found == computed
        touched = {each for change in changes for each in BY_LABEL.touched(change)}
        assert touched >= {each for each in now if specs(now[each]) != specs(before.get(each, []))}
        before, changes[:] = now, []
    assert before[BAD] == []
    assert not task.done()
    task.cancel()


def specs(found: list[Service]) -> list[tuple[ObjectKey, str | None]]:
    return [(each.metadata.key, each.metadata.uid) for each in found]

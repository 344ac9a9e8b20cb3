"""What is asked about ReplicaSets and Jobs, and how often."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from moorage.api.apps_v1 import ReplicaSet
from moorage.api.batch_v1 import Job
from moorage.api.core_v1 import Pod
from moorage.api.meta import ObjectMeta, OwnerReference
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.node import controllers as module
from moorage.node.controllers import Controllers

pytestmark = pytest.mark.looptime


def made_by(kind: str, name: str, api_version: str = "apps/v1") -> OwnerReference:
    return OwnerReference(api_version=api_version, kind=kind, name=name, uid=f"uid-{name}", controller=True)


DEPLOYMENT, CRON_JOB = made_by("Deployment", "web"), made_by("CronJob", "nightly", "batch/v1")
REPLICAS, JOB = made_by("ReplicaSet", "web-1"), made_by("Job", "nightly-1", "batch/v1")


def pod(by: OwnerReference | None) -> Pod:
    return Pod(metadata=ObjectMeta(name="p", namespace="frontend", owner_references=[by] if by else None))


class Server:
    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None, str]] = []
        self.wrong: list[Exception] = []

    def has(self, kind: type[Any], by: OwnerReference, owner: OwnerReference | None, uid: str = "") -> None:
        meta = ObjectMeta(name=by.name, uid=uid or by.uid, owner_references=[owner] if owner else None)
        self.objects[by.name] = kind(metadata=meta)

    async def get(self, kind: type[Any], namespace: str | None, name: str) -> Any:
        self.asked.append((kind.__name__, namespace, name))
        if self.wrong:
            raise self.wrong.pop(0)
        if name not in self.objects:
            raise ApiError(404, "NotFound", "not found")
        return self.objects[name]


class Fixture:
    def __init__(self) -> None:
        self.server = Server()
        self.known: list[str] = []
        self.controllers = Controllers(cast("Client", self.server), self.known.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.controllers.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def owners(self, *by: OwnerReference | None) -> dict[tuple[str, str], OwnerReference | None]:
        """What is known a while after it was asked for."""
        self.controllers.owners(map(pod, by))
        await asyncio.sleep(1)
        return dict(self.controllers.owners(map(pod, by)).controllers)


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


async def test_each_is_asked_for_once_and_whoever_waits_for_it_is_told(fixture: Fixture) -> None:
    fixture.server.has(ReplicaSet, REPLICAS, DEPLOYMENT)
    fixture.server.has(Job, JOB, CRON_JOB)
    async with fixture.running():
        assert fixture.controllers.owners([pod(REPLICAS)]).controllers == {}
        found = await fixture.owners(REPLICAS, REPLICAS, JOB)
        assert found == {("ReplicaSet", "web-1"): DEPLOYMENT, ("Job", "nightly-1"): CRON_JOB}
        await fixture.owners(REPLICAS, JOB)
    assert sorted(fixture.server.asked) == [("Job", "frontend", "nightly-1"), ("ReplicaSet", "frontend", "web-1")]
    assert fixture.known == ["frontend", "frontend"]


async def test_one_that_nothing_controls_is_known_as_that(fixture: Fixture) -> None:
    fixture.server.has(ReplicaSet, REPLICAS, None)
    async with fixture.running():
        assert await fixture.owners(REPLICAS) == {("ReplicaSet", "web-1"): None}


async def test_other_kinds_are_not_asked_for(fixture: Fixture) -> None:
    others = [None, made_by("StatefulSet", "db"), made_by("ReplicaSet", "x", "example.com/v1")]
    async with fixture.running():
        assert await fixture.owners(*others) == {}
    assert fixture.server.asked == []


@pytest.mark.parametrize("uid", ["", "another"])
async def test_one_that_is_gone_stays_unknown_and_is_not_asked_for_again(fixture: Fixture, uid: str) -> None:
    if uid:
        fixture.server.has(ReplicaSet, REPLICAS, DEPLOYMENT, uid)
    async with fixture.running():
        for _ in range(3):
            assert await fixture.owners(REPLICAS) == {}
    assert len(fixture.server.asked) == 1
    assert fixture.known == []


async def test_one_that_no_answer_came_to_is_asked_for_again(fixture: Fixture) -> None:
    fixture.server.has(ReplicaSet, REPLICAS, DEPLOYMENT)
    fixture.server.wrong = [UnreachableError("away"), ApiError(500, "InternalError", "ill")]
    async with fixture.running():
        await fixture.owners(REPLICAS)
        await asyncio.sleep(60)
        assert await fixture.owners(REPLICAS) == {("ReplicaSet", "web-1"): DEPLOYMENT}
    assert len(fixture.server.asked) == 3


async def test_no_more_are_remembered_than_a_node_can_have(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    many = [made_by("ReplicaSet", f"web-{n}") for n in range(10)]
    for each in many[::2]:
        fixture.server.has(ReplicaSet, each, DEPLOYMENT)
    async with fixture.running():
        for each in many:
            await fixture.owners(each)
        assert len(fixture.controllers._answers) == 3
        assert len(fixture.controllers._gone) <= 3
        assert await fixture.owners(many[8]) == {("ReplicaSet", "web-8"): DEPLOYMENT}
    assert len(fixture.server.asked) == 10

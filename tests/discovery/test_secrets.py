"""Secrets are read one by one, and what is missing is said with what to do."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import Namespace, Secret
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.discovery.secrets import MAX_VALUE_BYTES, SecretKey, WatchedSecret
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.tenants import encoded, secret

KEY = SecretKey("frontend", "cluster-a", "kubeconfig")


class Fixture:
    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.problems: list[str] = []
        self.watched = WatchedSecret(KEY, client, self._changed, lambda: "T", "moorage-system:moorage-operator")

    def _changed(self) -> None:
        if self.watched.problem:
            self.problems.append(self.watched.problem.reason)

    async def until(self, reason: str | None, content: str | None = None) -> None:
        async def condition() -> bool:
            problem, found = self.watched.problem, self.watched.secret
            return (problem.reason if problem else None) == reason and (found.data if found else None) == (
                secret(content).data if content is not None else None
            )

        await eventually(condition)


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with api_server() as server, Client(server.config) as client:
        await client.create(Namespace(metadata=ObjectMeta(name="frontend")))
        made = Fixture(server, client)
        task = asyncio.create_task(made.watched.run())
        yield made
        task.cancel()


async def test_a_secret_is_followed_as_it_comes_changes_and_goes(fixture: Fixture) -> None:
    await fixture.until("SecretMissing")
    assert fixture.watched.problem is not None
    assert fixture.watched.problem.message == "Secret frontend/cluster-a does not exist; create it"
    await fixture.client.create(secret("one"))
    await fixture.until(None, "one")
    await fixture.client.create(secret("other", name="other"))
    await fixture.client.patch(Secret, "frontend", "cluster-a", {"data": secret("two").data})
    await fixture.until(None, "two")
    await fixture.client.delete(Secret, "frontend", "cluster-a")
    await fixture.until("SecretMissing")
    assert fixture.problems == ["SecretMissing", "SecretMissing"]


async def test_of_a_secret_only_what_is_used_is_kept(fixture: Fixture) -> None:
    given = secret("x" * 100_000)
    assert given.data is not None
    others = {f"{number:02}": encoded("x" * 1000) for number in range(100)}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 100_000}
    meta = ObjectMeta(name="cluster-a", namespace="frontend", annotations=annotations)
    await fixture.client.create(replace(given, metadata=meta, data={**given.data, **others}))

    async def condition() -> bool:
        return fixture.watched.secret is not None

    await eventually(condition)
    kept = fixture.watched.secret
    assert kept is not None
    assert kept.metadata.uid
    assert kept.data is not None
    value = kept.data.pop("kubeconfig")
    assert MAX_VALUE_BYTES < len(base64.b64decode(value)) < MAX_VALUE_BYTES + 4
    assert kept.data == dict.fromkeys(["00", "01", "02", "03", "04"], "")
    assert len(repr(kept)) < 1000


async def test_a_right_that_is_missing_is_said_with_the_commands_that_give_it(fixture: Fixture) -> None:
    await fixture.client.create(secret("one"))
    await fixture.until(None, "one")
    fixture.server.faults.fail(20, code=403, path="/secrets")
    fixture.server.faults.drop_watches()
    await fixture.until("SecretNotReadable")
    assert fixture.watched.problem is not None
    assert fixture.watched.problem.message == (
        "Secret frontend/cluster-a may not be read by the operator; grant it: kubectl -n frontend create role "
        "moorage-cluster-a --verb=get,list,watch --resource=secrets --resource-name=cluster-a && kubectl -n frontend "
        "create rolebinding moorage-cluster-a --role=moorage-cluster-a "
        "--serviceaccount=moorage-system:moorage-operator"
    )
    fixture.server.faults.clear()
    await fixture.until(None, "one")


async def test_what_is_made_of_a_secret_is_made_once_for_each_state_of_it(fixture: Fixture) -> None:
    made: list[str] = []

    def make(found: Secret, key: str) -> int:
        made.append((found.data or {})[key])
        return len(made)

    await fixture.client.create(secret("one"))
    await fixture.until(None, "one")
    assert [fixture.watched.once(make), fixture.watched.once(make)] == [1, 1]
    await fixture.client.patch(Secret, "frontend", "cluster-a", {"data": secret("two").data})
    await fixture.until(None, "two")
    assert [fixture.watched.once(make), fixture.watched.once(make)] == [2, 2]
    assert made == [encoded("one"), encoded("two")]


async def test_a_secret_stays_known_while_the_api_is_away(fixture: Fixture) -> None:
    await fixture.client.create(secret("one"))
    await fixture.until(None, "one")
    fixture.problems.clear()
    fixture.server.faults.fail(3, code=503, method="GET", path="/secrets")
    fixture.server.faults.drop_watches()
    await fixture.client.patch(Secret, "frontend", "cluster-a", {"data": secret("two").data})
    await fixture.until(None, "two")
    assert not fixture.problems

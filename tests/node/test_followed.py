"""Which Moorings an agent has copies of, for how long, and which it asks for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec, MooringStatus
from moorage.cluster.client import Client
from moorage.cluster.errors import AnswerError, ApiError, SilentError, UnreachableError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.reading import Listing
from moorage.core.mooring_model import ClientKey
from moorage.node.followed import ASK_AGAIN_SECONDS, LINGER_SECONDS, FollowedMoorings, Source, needed
from moorage.node.moorings import GroupClient

pytestmark = pytest.mark.looptime

A, B = (GroupClient("backend", ClientKey("Pod", name)) for name in "ab")
FRONTEND, OTHER = Source("frontend"), Source("other")


def mooring(name: str = "a", endpoint: str = "e1", version: int = 1, uid: str = "1", **status: Any) -> Mooring:
    return Mooring(
        metadata=ObjectMeta(
            name=f"backend.{name}", namespace="frontend", uid=uid, resource_version=str(version), labels={"x": "y"}
        ),
        spec=MooringSpec(group="backend", client=MooringClient(kind="Pod", name=name), endpoint=endpoint),
        status=MooringStatus(endpoint=endpoint, **status),
    )


class Server:
    """What there is, and what the watches show of it, which may be less."""

    def __init__(self) -> None:
        self.objects: dict[str, Mooring] = {}
        self.wrong: Exception | None = None
        """What is raised for whoever asks for one."""
        self.listed: list[str | None] = []
        """Namespaces whose Moorings were listed."""
        self.watching: dict[str | None, asyncio.Queue[Any]] = {}
        self.asked: list[str] = []

    async def list(self, kind: type[Any], namespace: str | None = None, **how: Any) -> Listing[Any]:
        self.listed.append(namespace)
        return Listing([each for each in self.objects.values() if each.metadata.namespace == namespace], "7")

    async def watch(self, kind: type[Any], namespace: str | None = None, **how: Any) -> AsyncGenerator[Any, None]:
        yield Bookmark("7")
        events: asyncio.Queue[Any] = asyncio.Queue()
        self.watching[namespace] = events
        try:
            while True:
                try:
                    async with asyncio.timeout(how["idle_timeout"]):
                        yield await events.get()
                except TimeoutError:
                    raise SilentError("silent") from None
        finally:
            if self.watching.get(namespace) is events:
                del self.watching[namespace]

    async def get(self, kind: type[Any], namespace: str | None, name: str) -> Any:
        self.asked.append(name)
        if self.wrong:
            raise self.wrong
        if name not in self.objects:
            raise ApiError(404, "NotFound", "not found")
        return self.objects[name]

    def put(self, one: Mooring, *, shown: bool = True) -> None:
        self.objects[one.metadata.name] = one
        if shown:
            self.watching["frontend"].put_nowait(Event("MODIFIED", one))

    def remove(self, one: Mooring, *, shown: bool = True) -> None:
        del self.objects[one.metadata.name]
        if shown:
            self.watching["frontend"].put_nowait(Event("DELETED", one))


class Fixture:
    def __init__(self) -> None:
        self.server = Server()
        self.touched: list[tuple[str, GroupClient]] = []
        self.moorings = FollowedMoorings(cast("Client", self.server), lambda *what: self.touched.append(what))

    @asynccontextmanager
    async def running(self, *sources: Source) -> AsyncIterator[None]:
        task = asyncio.create_task(self.moorings.run())
        self.moorings.follow(sources)
        await asyncio.sleep(1)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def at(self, client: GroupClient = A) -> list[str | None]:
        return [each.status.endpoint for each in self.moorings.of("frontend", client)]

    async def ask(self, name: str = "backend.a") -> None:
        self.moorings.ask(ObjectKey("frontend", name))
        await asyncio.sleep(0.1)


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


async def test_moorings_of_followed_namespaces_are_found_by_their_client(fixture: Fixture) -> None:
    fixture.server.objects = {"backend.a": mooring()}
    async with fixture.running(FRONTEND):
        assert fixture.at() == ["e1"]
        assert fixture.at(B) == []
        fixture.server.put(mooring("b", "e2", 2))
        await asyncio.sleep(1)
        assert fixture.at(B) == ["e2"]
        assert fixture.touched == [("frontend", A), ("frontend", B)]
        assert fixture.moorings.knows(FRONTEND)
        assert not fixture.moorings.knows(OTHER)


async def test_only_what_tells_where_a_client_is_touches_it(fixture: Fixture) -> None:
    async with fixture.running(FRONTEND):
        fixture.server.put(mooring())
        fixture.server.put(mooring(version=2, message="a wish", moves=[]))
        await asyncio.sleep(1)
        assert len(fixture.touched) == 1
        fixture.server.put(mooring(version=3, reason="Moved", previous="e2"))
        await asyncio.sleep(1)
        assert len(fixture.touched) == 3, "before and after"
        edited = MooringStatus(endpoint="e1")
        fixture.server.put(replace(mooring(endpoint="e2", version=4), status=edited))
        refused = replace(edited, message="refused for a reason")
        fixture.server.put(replace(mooring(endpoint="e2", version=5), status=refused))
        await asyncio.sleep(1)
        assert len(fixture.touched) == 7
        again = replace(edited, message="refused for another reason")
        fixture.server.put(replace(mooring(endpoint="e2", version=6), status=again))
        await asyncio.sleep(1)
        assert len(fixture.touched) == 7


async def test_a_namespace_that_nobody_needs_is_followed_a_while_and_then_no_more(fixture: Fixture) -> None:
    fixture.server.objects = {"backend.a": mooring()}
    async with fixture.running(FRONTEND, OTHER):
        fixture.moorings.follow([OTHER])
        await asyncio.sleep(LINGER_SECONDS - 10)
        assert fixture.at() == ["e1"]
        fixture.moorings.follow([FRONTEND, OTHER])
        await asyncio.sleep(2 * LINGER_SECONDS)
        fixture.moorings.follow([OTHER])
        await asyncio.sleep(LINGER_SECONDS - 10)
        assert fixture.at() == ["e1"]
        fixture.touched.clear()
        await asyncio.sleep(20)
        assert fixture.at() == []
        assert fixture.touched == [("frontend", A)]
        assert set(fixture.server.watching) == {"other"}
        assert sorted(filter(None, fixture.server.listed)) == ["frontend", "other"]
        fixture.moorings.follow([FRONTEND, OTHER])
        await asyncio.sleep(1)
        assert fixture.at() == ["e1"]


async def test_each_namespace_is_followed_until_its_own_time_is_over(fixture: Fixture) -> None:
    async with fixture.running(FRONTEND, OTHER):
        fixture.moorings.follow([OTHER])
        await asyncio.sleep(LINGER_SECONDS / 2)
        fixture.moorings.follow([])
        await asyncio.sleep(LINGER_SECONDS / 2 + 1)
        assert set(fixture.server.watching) == {"other"}
        await asyncio.sleep(LINGER_SECONDS / 2)
        assert fixture.server.watching == {}


async def test_one_that_a_silent_watch_does_not_show_is_got_by_its_name(fixture: Fixture) -> None:
    async with fixture.running(FRONTEND):
        fixture.server.put(mooring(), shown=False)
        await fixture.ask()
        await asyncio.sleep(ASK_AGAIN_SECONDS)
        assert (fixture.at(), fixture.touched) == (["e1"], [("frontend", A)])
        fixture.server.put(mooring(endpoint="e2", version=2), shown=False)
        await asyncio.sleep(ASK_AGAIN_SECONDS)
        assert fixture.at() == ["e2"], "as long as only the answer says it, it is asked for again"
        fixture.server.remove(mooring(), shown=False)
        await asyncio.sleep(ASK_AGAIN_SECONDS)
        assert fixture.at() == []
        count = len(fixture.server.asked)
        await asyncio.sleep(10 * ASK_AGAIN_SECONDS)
        assert len(fixture.server.asked) == count


async def test_what_the_watch_shows_later_counts_and_what_it_shows_too_late_does_not(fixture: Fixture) -> None:
    async with fixture.running(FRONTEND):
        fixture.server.put(mooring(endpoint="e3", version=3), shown=False)
        await fixture.ask()
        fixture.server.watching["frontend"].put_nowait(Event("ADDED", mooring(endpoint="e1", version=1)))
        await asyncio.sleep(1)
        assert fixture.at() == ["e3"]
        fixture.server.watching["frontend"].put_nowait(Event("MODIFIED", mooring(endpoint="e3", version=3)))
        fixture.server.put(mooring(endpoint="e2", version=4))
        await asyncio.sleep(1)
        assert fixture.at() == ["e2"]
        await asyncio.sleep(2 * ASK_AGAIN_SECONDS)
        assert len(fixture.server.asked) <= 2


async def test_a_deletion_that_the_watch_shows_ends_an_answer(fixture: Fixture) -> None:
    fixture.server.objects = {"backend.a": mooring()}
    async with fixture.running(FRONTEND):
        fixture.server.put(mooring(endpoint="e2", version=2), shown=False)
        await fixture.ask()
        assert fixture.at() == ["e2"]
        fixture.server.remove(mooring(version=3))
        await asyncio.sleep(1)
        assert fixture.at() == []


async def test_an_answer_that_says_what_is_known_is_nothing_new(fixture: Fixture) -> None:
    fixture.server.objects = {"backend.a": mooring()}
    async with fixture.running(FRONTEND):
        before = list(fixture.touched)
        await fixture.ask()
        await asyncio.sleep(2 * ASK_AGAIN_SECONDS)
        assert (fixture.touched, fixture.server.asked) == (before, ["backend.a"])


@pytest.mark.parametrize("wrong", [ApiError(403, "Forbidden", "no"), AnswerError("nonsense")])
async def test_what_may_not_be_read_is_not_asked_for_again(fixture: Fixture, wrong: Exception) -> None:
    fixture.server.wrong = wrong
    async with fixture.running(FRONTEND):
        with capture_logs() as logs:
            await fixture.ask()
            await asyncio.sleep(3600)
        assert fixture.server.asked == ["backend.a"]
        assert len([each for each in logs if each["log_level"] in ("warning", "error")]) <= 1


async def test_what_no_answer_came_to_is_asked_for_again_and_what_is_known_stays(fixture: Fixture) -> None:
    async with fixture.running(FRONTEND):
        fixture.server.put(mooring(), shown=False)
        await fixture.ask()
        fixture.server.wrong = UnreachableError("away")
        await asyncio.sleep(1000)
        assert fixture.at() == ["e1"]
        assert len(fixture.server.asked) > 3
        fixture.server.wrong = None
        fixture.server.put(mooring(endpoint="e2", version=2), shown=False)
        await asyncio.sleep(60)
        assert fixture.at() == ["e2"]


async def test_nothing_is_asked_about_a_namespace_that_nobody_needs(fixture: Fixture) -> None:
    fixture.server.objects = {"backend.a": mooring()}
    async with fixture.running(OTHER):
        await fixture.ask()
        assert fixture.server.asked == []
        assert fixture.at() == []


def test_of_a_mooring_little_is_held() -> None:
    one = needed(mooring(reason="Moved", previous="e2", message="long", moves=[], since="t", home="e1"))
    assert one.metadata.labels is None
    assert one.status == MooringStatus(endpoint="e1", reason="Moved", previous="e2")

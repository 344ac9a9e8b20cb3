"""When the agent tries again what failed, when it asks the kernel, and what it says of that."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.cluster.client import Bookmark, Client
from moorage.cluster.errors import UnreachableError
from moorage.cluster.events import Event
from moorage.cluster.reading import Listing
from moorage.dataplane.crowding import Crowding
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import ServiceAddress, ServicePort
from moorage.dataplane.nft import NftError
from moorage.dataplane.refusals import Refused
from moorage.dataplane.services import Carried, Scope
from moorage.dataplane.sync import Synced, Synchronizer
from moorage.node import wanted
from moorage.node.agent import MAX_RETRY_SECONDS, UNNOTICED, Agent, Observer
from moorage.node.main import MAX_BEHIND_SECONDS, ailing, missing
from tests.support.objects import service, slice_

pytestmark = pytest.mark.looptime

NO_MEMORY = NftError("nft: Cannot allocate memory")


class Cluster:
    """A client of a cluster with one Service, whose slice changes when the test says so."""

    def __init__(self) -> None:
        self._slices: asyncio.Queue[EndpointSlice] = asyncio.Queue()
        self._version = 7
        self.down = False

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        if self.down:
            raise UnreachableError("https://192.0.2.1:6443: no answer")
        there: dict[type[Any], list[Any]] = {
            Service: [msgspec.convert(service(), Service)],
            EndpointSlice: [self._slice(1)],
        }
        listed = there.get(kind, [])
        return Listing([replace(each, metadata=replace(each.metadata, uid="1")) for each in listed], "7")

    async def watch(self, kind: type[Any], namespace: str | None = None, **how: Any) -> AsyncGenerator[Any, None]:
        yield Bookmark("7")
        while kind is EndpointSlice:
            yield Event("MODIFIED", await self._slices.get())
        await asyncio.Event().wait()

    def change(self) -> None:
        """Another endpoint."""
        self._version += 1
        self._slices.put_nowait(self._slice(self._version))

    def _slice(self, number: int) -> EndpointSlice:
        found = msgspec.convert(slice_(f"203.0.113.{number}"), EndpointSlice)
        return replace(found, metadata=replace(found.metadata, uid="1", resource_version=str(number)))


class Kernel:
    """In place of a synchronizer: what is asked of it, and when."""

    def __init__(self) -> None:
        self.synced: list[float] = []
        self.asked: list[float] = []
        """When it was looked whether the kernel still has what was programmed."""
        self.takes = 0.0
        """Seconds."""
        self.wrong: list[Exception] = []
        """What is raised next."""
        self.refuses = False
        """Whether nft refuses every port that is wanted."""
        self.refused: Mapping[ServiceAddress, Refused] = {}
        self.unfinished = False
        self.is_intact = True
        self.crowding = Crowding(FakeNft(lambda: 0.0), families=())

    async def sync(
        self,
        desired: Mapping[ServiceAddress, ServicePort],
        changed: Collection[ServiceAddress],
        ended: Collection[str],
    ) -> Synced:
        self.synced.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        if self.wrong:
            raise self.wrong.pop(0)
        refused = {key: Refused(port, None, "nft: Value too large") for key, port in desired.items()}
        self.refused = refused if self.refuses else {}
        self.is_intact = True
        return Synced()

    async def intact(self) -> bool:
        self.asked.append(asyncio.get_running_loop().time())
        return self.is_intact

    def retry_refused(self) -> set[ServiceAddress]:
        again = set(self.refused)
        self.refused = {}
        return again

    def waits(self) -> list[float]:
        """Between one sync and the next."""
        return [round(later - earlier, 3) for earlier, later in pairwise(self.synced)]


class Told(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def done(self, synced: Synced, seconds: float) -> None:
        self.words.append(f"done in {seconds:.0f} s")

    def failed(self) -> None:
        self.words.append("failed")


class Node:
    """An agent, its cluster and its kernel."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.kernel = Kernel()
        self.told = Told()
        self.agent = Agent(
            cast("Client", self.cluster),
            cast("Synchronizer", self.kernel),
            Scope("node-1", labelled_only=False),
            self.told,
            self._deleted,
        )
        self.deletions: asyncio.Queue[OSError | None] = asyncio.Queue()
        """What the kernel tells: that the table may be gone, or an error."""

    async def _deleted(self) -> None:
        if (error := await self.deletions.get()) is not None:
            raise error

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.agent.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorage.node.agent.random.random", lambda: 0.0)


async def test_a_sync_that_fails_is_tried_again_ever_later_and_soon_again_after_a_success() -> None:
    node = Node()
    node.kernel.wrong = [NO_MEMORY] * 3
    async with node.running():
        await asyncio.sleep(20)
        first, second, third = node.kernel.waits()
        assert first > 0
        assert (second, third) == (2 * first, 4 * first)
        node.kernel.wrong = [NO_MEMORY]
        node.cluster.change()
        await asyncio.sleep(5)
        assert node.kernel.waits()[4:] == [first]


async def test_a_failure_is_said_with_nfts_words_and_a_mistake_as_one_with_where_it_is() -> None:
    node = Node()
    node.kernel.wrong = [NO_MEMORY, KeyError("nobody thought of this")]
    with capture_logs() as logs:
        async with node.running():
            await asyncio.sleep(5)
    failure, mistake = (each for each in logs if each["log_level"] == "error")
    assert (failure["event"], failure["error"]) == ("the kernel keeps its last good state", str(NO_MEMORY))
    assert "exc_info" not in failure
    assert mistake["event"] == "the kernel keeps its last good state because of a bug in Moorage"
    assert isinstance(mistake["exc_info"], KeyError)


async def test_a_mistake_over_a_service_is_logged_once_with_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> Carried:
        raise KeyError("nobody thought of this")

    monkeypatch.setattr(wanted, "carried", mistaken)
    node = Node()
    with capture_logs() as logs:
        async with node.running():
            for _ in range(3):
                await asyncio.sleep(1)
                node.cluster.change()
            await asyncio.sleep(1)
    [mistake] = [each for each in logs if each["event"] == "the mistake"]
    assert isinstance(mistake["exc_info"], KeyError)


async def test_what_nft_refuses_is_tried_again_ever_later_and_soon_again_after_it_was_taken() -> None:
    node = Node()
    node.kernel.refuses = True
    async with node.running():
        await asyncio.sleep(3600)
        first, second, third, *_, last = node.kernel.waits()
        assert first > 0
        assert (second, third) == (2 * first, 4 * first)
        assert last == MAX_RETRY_SECONDS
        node.kernel.refuses = False
        await asyncio.sleep(2 * MAX_RETRY_SECONDS)
        count = len(node.kernel.synced)
        await asyncio.sleep(3600)
        assert len(node.kernel.synced) == count
        node.kernel.refuses = True
        node.cluster.change()
        await asyncio.sleep(10)
        assert node.kernel.waits()[count:][:2] == [first, second]


async def test_what_nft_refuses_is_not_put_off_by_what_else_changes() -> None:
    node = Node()
    node.kernel.refuses = True
    async with node.running():
        await asyncio.sleep(100)
        before = node.kernel.synced[:]
        due = before[-1] + 2 * (before[-1] - before[-2])
        while (now := asyncio.get_running_loop().time()) < due - 1.1:
            node.cluster.change()
            await asyncio.sleep(min(20, max(0.1, due - 1.2 - now)))
        count = len(node.kernel.synced)
        await asyncio.sleep(2)
        assert node.kernel.synced[count:] == [pytest.approx(due)]


async def test_the_kernel_is_asked_now_and_then_and_programmed_again_only_if_somebody_changed_it() -> None:
    node = Node()
    async with node.running():
        await asyncio.sleep(10 * Agent.CHECK_SECONDS + 1)
        asked, synced = len(node.kernel.asked), len(node.kernel.synced)
        assert 10 <= asked <= 11
        assert synced == 1
        node.kernel.is_intact = False
        await asyncio.sleep(Agent.CHECK_SECONDS)
        assert len(node.kernel.synced) == 2


async def test_sessions_that_could_not_be_corrected_are_tried_again_when_the_kernel_is_asked_next() -> None:
    node = Node()
    async with node.running():
        await asyncio.sleep(1)
        node.kernel.unfinished = True
        await asyncio.sleep(2 * Agent.CHECK_SECONDS)
        assert node.kernel.waits() == [Agent.CHECK_SECONDS, Agent.CHECK_SECONDS]


async def test_each_sync_is_told_with_how_long_it_took() -> None:
    node = Node()
    node.kernel.wrong = [NO_MEMORY] * 2
    node.kernel.takes = 3.0
    async with node.running():
        await asyncio.sleep(20)
        assert node.told.words == ["failed", "failed", "done in 3 s"]


async def test_an_agent_is_ready_once_the_kernel_was_brought_up_to_date_and_stays_so() -> None:
    node = Node()
    node.kernel.wrong = [NO_MEMORY]
    assert missing(node.agent)
    async with node.running():
        await asyncio.sleep(0.05)
        assert missing(node.agent)
        await asyncio.sleep(20)
        assert missing(node.agent) is None
        node.kernel.wrong = [NO_MEMORY] * 10
        node.cluster.change()
        await asyncio.sleep(20)
        assert missing(node.agent) is None


async def test_an_agent_whose_syncs_all_fail_is_to_be_started_anew_after_some_minutes_and_not_before() -> None:
    node = Node()
    async with node.running():
        await asyncio.sleep(3600)
        assert node.agent.behind_seconds == 0
        node.kernel.wrong = [NO_MEMORY] * 1000
        node.cluster.change()
        await asyncio.sleep(MAX_BEHIND_SECONDS - 1)
        assert ailing(node.agent) is None
        await asyncio.sleep(2)
        assert str(ailing(node.agent)).startswith("the kernel could not be brought up to date for 30")
        node.kernel.wrong.clear()
        await asyncio.sleep(60)
        assert ailing(node.agent) is None
        assert node.agent.behind_seconds == 0


async def test_an_agent_with_a_sync_that_does_not_end_is_to_be_started_anew() -> None:
    node = Node()
    node.kernel.takes = math.inf
    async with node.running():
        await asyncio.sleep(MAX_BEHIND_SECONDS + 1)
        assert ailing(node.agent)


async def test_an_agent_that_does_not_reach_the_api_server_is_left_alone() -> None:
    node = Node()
    node.cluster.down = True
    async with node.running():
        await asyncio.sleep(10 * MAX_BEHIND_SECONDS)
        assert ailing(node.agent) is None
        assert missing(node.agent)


async def test_a_table_that_somebody_deletes_is_programmed_again_at_once() -> None:
    node = Node()
    async with node.running():
        await asyncio.sleep(1)
        node.kernel.is_intact = False
        node.deletions.put_nowait(None)
        await asyncio.sleep(0.01)
        assert node.kernel.asked[-1] == 1
        assert node.kernel.synced[-1] == 1
        node.deletions.put_nowait(None)
        await asyncio.sleep(1)
        assert node.kernel.asked[-1] == pytest.approx(1.01)
        assert node.kernel.synced[-1] == pytest.approx(1.01), "nothing was to be done"


async def test_without_notices_the_kernel_is_asked_now_and_then_as_before() -> None:
    node = Node()
    with capture_logs() as logs:
        async with node.running():
            await asyncio.sleep(1)
            node.deletions.put_nowait(OSError("Bad file descriptor"))
            node.kernel.is_intact = False
            await asyncio.sleep(Agent.CHECK_SECONDS)
            assert node.kernel.is_intact, "it was programmed again"
    assert next(each["event"] for each in logs if each["log_level"] == "warning") == UNNOTICED

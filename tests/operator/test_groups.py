"""The loop for one group: when it decides, how long members wait for it, and what they are told.

What is decided is the test's to say here; tests/operator/test_moorings.py has both together.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from moorage.api.core_v1 import Node
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec, MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec, MooringStatus
from moorage.cluster.errors import ApiError, UnreachableError
from moorage.core.clients import Owners, clients_of
from moorage.core.model import Create, Write
from moorage.core.mooring_model import (
    Client,
    ClientKey,
    GroupDecision,
    Member,
    MemberEndpoint,
    Moored,
    Move,
)
from moorage.core.roster import Roster
from moorage.core.snapshot import GroupSnapshot
from moorage.operator.apart import Apart
from moorage.operator.groups import (
    COUNTS_SECONDS,
    DECISION_SECONDS,
    GATHERING_SECONDS,
    MEMBERS_FIRST_SECONDS,
    MOORINGS_FIRST_SECONDS,
    Groups,
)
from moorage.operator.metrics import Metrics
from moorage.operator.mooring_writes import Attempt
from moorage.operator.refusals import Refusals
from moorage.operator.writer import StaleError

GROUP = ObjectKey("default", "backend")
KEY, OTHER = ObjectKey("default", "backend"), ObjectKey("default", "backend-udp")
NOBODY = Moored("Node", {})


def member(key: ObjectKey = KEY, *endpoints: str, client: str = "Node", previous: str = "") -> Member:
    return Member(
        key=key,
        created=f"2027-01-01T00:00:0{int(key != KEY)}Z",
        config=MooringConfig(client=client),
        by_kube_proxy=True,
        counts=True,
        panic_threshold_percent=0,
        endpoints=tuple(MemberEndpoint(each, True, True) for each in endpoints or ("one",)),
        previous_group=previous,
    )


def mooring(client: str, endpoint: str = "one", group: str = "backend") -> Mooring:
    return Mooring(
        metadata=ObjectMeta(name=f"{group}.node.{client}", namespace="default"),
        spec=MooringSpec(group=group, client=MooringClient(kind="Node", name=client), endpoint=endpoint),
        status=MooringStatus(endpoint=endpoint),
    )


def moves(*clients: str, previous: str = "") -> GroupDecision:
    """A decision that moors these nodes to `one`."""
    return GroupDecision(
        tuple(Create(mooring(each)) for each in clients),
        tuple(Move(Client(ClientKey("Node", each)), "one", previous, "Assigned", "it is new") for each in clients),
        Moored("Node", {"one": clients} if clients else {}),
        None,
    )


class World:
    """What groups need of the world, as the test says it is."""

    def __init__(self) -> None:
        self.clients: Any = self
        self.there: list[ExternalService] = []
        self.unknown = False
        self.known = True
        self.all_moorings: dict[ObjectKey, list[Mooring]] = {}
        self.all_nodes: list[Node] = []
        self.wanted: dict[ObjectKey, MooringConfig | None] = {}

    def members(self, group: ObjectKey) -> list[ExternalService]:
        return self.there

    def has_unknown(self, namespace: str) -> bool:
        return self.unknown

    def want(self, group: ObjectKey, config: MooringConfig | None) -> None:
        self.wanted[group] = config

    def knows(self, config: MooringConfig) -> bool:
        return self.known

    async def until_indexed(self, group: ObjectKey) -> None:
        pass

    def roster(self, group: ObjectKey) -> Roster:
        config = self.wanted.get(group)
        present = clients_of(config, group.namespace, (), self.all_nodes, Owners()).present if config else {}
        return Roster.of(present, self.moorings(group))

    def expected(self, group: ObjectKey) -> frozenset[ClientKey]:
        return frozenset()

    def moorings(self, group: ObjectKey) -> list[Mooring]:
        return self.all_moorings.get(group, [])


class Fixture:
    def __init__(self) -> None:
        self.world = World()
        self.decision: GroupDecision | Exception = moves()
        self.decision_seconds = 0.0
        """Of a processor, that a decision takes."""
        self.snapshots: list[GroupSnapshot] = []
        self.attempts: list[Attempt] = []
        """What comes of the next ones; else everything is done."""
        self.written: list[Sequence[Write]] = []
        self.touched: list[tuple[ObjectKey, float]] = []
        self.told: list[list[Move]] = []
        self.metrics = Metrics()
        world: Any = self.world
        writer: Any = self
        self.groups = Groups(
            world,
            writer,
            self._decide,
            Apart(),
            self.metrics,
            lambda key, seconds: self.touched.append((key, seconds)),
            lambda group, moves: self.told.append(moves),
            lambda: "2027-01-01T00:00:00Z",
            300,
        )

    def _decide(self, snapshot: GroupSnapshot) -> GroupDecision:
        self.snapshots.append(snapshot)
        began = time.thread_time()
        while time.thread_time() - began < self.decision_seconds:
            pass
        if isinstance(self.decision, Exception):
            raise self.decision
        return self.decision

    async def attempt(self, group: ObjectKey, writes: Sequence[Write], refusals: Refusals, seconds: float) -> Attempt:
        self.written.append(writes)
        return self.attempts.pop(0) if self.attempts else Attempt(done=set(range(len(writes))))

    async def look(self) -> float | None:
        self.touched.clear()
        return await self.groups(GROUP)

    def there(self, *keys: ObjectKey) -> None:
        self.world.there = [
            ExternalService(metadata=ObjectMeta(name=key.name, namespace=key.namespace), spec=ExternalServiceSpec())
            for key in keys
        ]


@pytest.fixture
async def fixture() -> Fixture:
    return Fixture()


# --- Members --------------------------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_a_member_waits_for_the_moorings_that_follow_from_its_change_and_then_no_more(fixture: Fixture) -> None:
    groups = fixture.groups
    assert groups.offer(KEY, GROUP, member()) == MOORINGS_FIRST_SECONDS
    assert await groups.queue.take() == GROUP
    fixture.decision = moves("n1")
    await fixture.look()
    assert fixture.touched == [(KEY, 0.0), (KEY, 0.0)]
    assert groups.offer(KEY, GROUP, member()) is None
    assert groups.moored(KEY) == Moored("Node", {"one": ("n1",)})
    assert groups.offer(KEY, GROUP, member(KEY, "one", "two")) == MOORINGS_FIRST_SECONDS


@pytest.mark.looptime
async def test_however_often_a_member_changes_it_waits_only_so_long(fixture: Fixture) -> None:
    fixture.attempts = [Attempt(left=True)] * 10
    fixture.decision = moves("n1")
    for number in range(4):
        assert fixture.groups.offer(KEY, GROUP, member(KEY, f"e{number}")) is not None
        await fixture.look()
        await asyncio.sleep(MOORINGS_FIRST_SECONDS / 4)
    assert fixture.groups.offer(KEY, GROUP, member(KEY, "last")) is None


@pytest.mark.looptime
async def test_a_change_while_the_group_is_dealt_with_is_not_settled_by_that(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    original = fixture.attempt

    async def meanwhile(*args: Any) -> Attempt:
        fixture.groups.offer(KEY, GROUP, member(KEY, "two"))
        return await original(*args)

    fixture.attempt = meanwhile  # type: ignore[method-assign, assignment]
    await fixture.look()
    assert fixture.groups.offer(KEY, GROUP, member(KEY, "two")) == MOORINGS_FIRST_SECONDS


async def test_one_that_changes_its_group_leaves_the_other_and_both_are_looked_at(fixture: Fixture) -> None:
    groups, new = fixture.groups, ObjectKey("default", "new")
    groups.offer(KEY, GROUP, member())
    groups.offer(OTHER, GROUP, member(OTHER, client="Zone"))
    assert fixture.world.wanted == {GROUP: MooringConfig(client="Node")}
    groups.offer(KEY, new, member())
    assert fixture.world.wanted == {GROUP: MooringConfig(client="Zone"), new: MooringConfig(client="Node")}
    groups.withdraw(OTHER)
    assert fixture.world.wanted[GROUP] is None
    assert {await groups.queue.take(), await groups.queue.take()} == {GROUP, new}


async def test_clients_keep_their_endpoints_from_the_group_that_a_member_was_in(fixture: Fixture) -> None:
    fixture.world.all_moorings = {ObjectKey("default", "old"): [mooring("n1", group="old")]}
    fixture.groups.offer(KEY, GROUP, member(previous="old"))
    await fixture.look()
    assert fixture.snapshots[0].past == [mooring("n1", group="old")]


@pytest.mark.looptime
async def test_nothing_is_decided_before_all_members_have_been_looked_at_but_for_some_time_only(
    fixture: Fixture,
) -> None:
    fixture.there(KEY, OTHER)
    fixture.groups.offer(KEY, GROUP, member())
    assert await fixture.look() == MEMBERS_FIRST_SECONDS
    assert fixture.snapshots == []
    await asyncio.sleep(MEMBERS_FIRST_SECONDS)
    await fixture.look()
    assert [each.key for each in fixture.snapshots[0].members] == [KEY]
    fixture.groups.offer(OTHER, GROUP, member(OTHER))
    await fixture.look()
    assert [each.key for each in fixture.snapshots[1].members] == [KEY, OTHER]


async def test_nothing_is_decided_before_everything_has_been_read(fixture: Fixture) -> None:
    fixture.world.known = False
    fixture.groups.offer(KEY, GROUP, member())
    assert await fixture.look() is None
    assert fixture.snapshots == []
    assert fixture.groups.moored(KEY) is None


async def test_moorings_that_nobody_wants_are_decided_about_too(fixture: Fixture) -> None:
    fixture.world.all_moorings = {GROUP: [mooring("n1")]}
    await fixture.look()
    assert (list(fixture.snapshots[0].members), dict(fixture.snapshots[0].absent)) == (
        [],
        {ClientKey("Node", "n1"): "2027-01-01T00:00:00Z"},
    )


async def test_but_not_while_some_external_service_cannot_be_read_which_may_be_the_one(fixture: Fixture) -> None:
    fixture.world.all_moorings = {GROUP: [mooring("n1")]}
    fixture.world.unknown = True
    assert await fixture.look() == MEMBERS_FIRST_SECONDS
    assert fixture.snapshots == []


@pytest.mark.looptime
async def test_the_first_of_many_clients_is_decided_about_at_once_and_the_others_together(fixture: Fixture) -> None:
    groups = fixture.groups
    groups.offer(KEY, GROUP, member())
    await groups.queue.take()
    await fixture.look()
    groups.queue.done(GROUP)
    await asyncio.sleep(GATHERING_SECONDS)
    began = asyncio.get_running_loop().time()
    groups.touch(GROUP)
    assert len(groups.queue) == 1
    await groups.queue.take()
    await fixture.look()
    groups.queue.done(GROUP)
    for _ in range(3):
        groups.touch(GROUP)
        await asyncio.sleep(0.01)
    assert len(groups.queue) == 0
    assert await groups.queue.take() == GROUP
    assert asyncio.get_running_loop().time() - began == pytest.approx(GATHERING_SECONDS)


# --- First checks ---------------------------------------------------------------------------------------------------


async def waits(fixture: Fixture, **fields: Any) -> tuple[float, bool]:
    """How long clients wait for KEY, once this is how it sees its endpoints, and whether new ones do."""
    fixture.groups.offer(KEY, GROUP, member()._replace(**fields))
    await fixture.look()
    first = fixture.snapshots[-1].members[0]
    return first.awaited_seconds, first.beginning


@pytest.mark.looptime
async def test_clients_wait_for_first_checks_until_their_time_is_over(fixture: Fixture) -> None:
    assert await waits(fixture, awaited_seconds=3.0) == (3.0, True)
    await asyncio.sleep(2)
    assert await waits(fixture, awaited_seconds=3.0, panic=True) == (1.0, True)
    await asyncio.sleep(1)
    assert await waits(fixture, awaited_seconds=3.0, panic=True) == (0.0, True)


@pytest.mark.looptime
async def test_new_clients_do_not_wait_for_an_endpoint_that_is_added_later(fixture: Fixture) -> None:
    assert await waits(fixture, awaited_seconds=3.0) == (3.0, True)
    await asyncio.sleep(2)
    assert await waits(fixture) == (0.0, False)
    assert await waits(fixture, awaited_seconds=3.0) == (3.0, False)


@pytest.mark.looptime
async def test_they_wait_again_after_a_time_in_which_nothing_was_known_of_any_endpoint(fixture: Fixture) -> None:
    assert await waits(fixture) == (0.0, False)
    await waits(fixture, awaited_seconds=3.0, counts=False)
    await asyncio.sleep(60)
    assert await waits(fixture, awaited_seconds=3.0) == (3.0, True)


@pytest.mark.looptime
async def test_and_when_a_member_has_joined_anew(fixture: Fixture) -> None:
    fixture.groups.offer(OTHER, GROUP, member(OTHER))
    assert await waits(fixture, awaited_seconds=3.0) == (3.0, True)
    assert await waits(fixture) == (0.0, False)
    fixture.groups.withdraw(KEY)
    await asyncio.sleep(60)
    assert await waits(fixture, awaited_seconds=3.0) == (3.0, True)
    assert not fixture.snapshots[-1].members[1].beginning


# --- What has been written ------------------------------------------------------------------------------------------


async def test_members_are_told_what_is_written_and_not_what_was_only_decided(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1", "n2", "n3", previous="two")
    fixture.attempts = [Attempt(done={0, 2}, left=True)]
    await fixture.look()
    assert fixture.groups.moored(KEY) == Moored("Node", {"one": ("n1", "n3"), "two": ("n2",)})


@pytest.mark.looptime
async def test_what_is_left_is_gone_on_with_at_once(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    await fixture.groups.queue.take()
    fixture.attempts = [Attempt(left=True)]
    await fixture.look()
    fixture.groups.queue.done(GROUP)
    assert len(fixture.groups.queue) == 1
    assert fixture.groups.offer(KEY, GROUP, member()) is not None


@pytest.mark.looptime
async def test_what_is_left_is_written_from_the_same_decision_unless_something_has_happened(fixture: Fixture) -> None:
    groups = fixture.groups
    groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1", "n2", "n3")
    fixture.attempts = [Attempt(done={1}, left=True), Attempt(done={0}, left=True)]
    for _ in range(3):
        await fixture.look()
    assert len(fixture.snapshots) == 1
    assert [len(each) for each in fixture.written] == [3, 2, 1]
    assert groups.moored(KEY) == Moored("Node", {"one": ("n1", "n2", "n3")})
    happens: list[Callable[[], object]] = [
        lambda: groups.touch(GROUP),
        lambda: groups.offer(KEY, GROUP, member(KEY, "two")),
        lambda: groups.withdraw(KEY),
    ]
    for each in happens:
        fixture.attempts = [Attempt(done={1}, left=True)]
        await fixture.look()
        before = len(fixture.snapshots)
        each()
        await fixture.look()
        assert len(fixture.snapshots) == before + 1


@pytest.mark.looptime
async def test_but_not_for_ever(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1", "n2")
    fixture.attempts = [Attempt(done={0}, left=True)]
    await fixture.look()
    await asyncio.sleep(DECISION_SECONDS)
    await fixture.look()
    assert len(fixture.snapshots) == 2


async def test_a_conflict_is_decided_again_soon(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.attempts = [Attempt(stale=StaleError("it has changed"))]
    wait = await fixture.look()
    assert wait is not None
    assert wait <= 0.05
    assert fixture.groups.offer(KEY, GROUP, member()) is not None


async def test_a_refusal_settles_the_group_and_is_told_to_its_members(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1")

    async def refuses(group: ObjectKey, writes: Any, refusals: Refusals, seconds: float) -> Attempt:
        refusals.add("backend.node.n1", "no", asyncio.get_running_loop().time())
        return Attempt(refused={0})

    fixture.attempt = refuses  # type: ignore[method-assign]
    wait = await fixture.look()
    assert wait is not None
    assert 1.0 <= wait <= 2.0
    moored = fixture.groups.moored(KEY)
    assert moored is not None
    assert (moored.at, [each.reason for each in moored.problems]) == ({}, ["WriteRefused"])
    assert fixture.groups.offer(KEY, GROUP, member()) is None


async def test_without_an_api_server_it_is_tried_again_with_back_off_and_said_once(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.attempts = [Attempt(error=UnreachableError("no answer")) for _ in range(9)]
    waits = [await fixture.look() for _ in range(9)]
    assert max(each for each in waits if each is not None) > 2.0
    fixture.attempts = [Attempt(error=ApiError(503, "ServiceUnavailable", "not now"))]
    with pytest.raises(ApiError):
        await fixture.look()


async def test_a_mistake_in_a_decision_is_counted_and_members_go_on(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await fixture.look()
    assert fixture.metrics.failed_decisions._value.get() == 1
    assert fixture.groups.moored(KEY) is None


async def test_moves_are_counted_and_told_once_all_are_written(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1", "n2")
    fixture.attempts = [Attempt(done={0}, left=True)]
    await fixture.look()
    assert fixture.told == []
    fixture.decision = moves("n2")
    await fixture.look()
    assert [[str(each.client.key) for each in told] for told in fixture.told] == [["Node n1", "Node n2"]]
    assert fixture.metrics.moves.labels("Assigned")._value.get() == 2


async def test_members_are_not_hurried_for_numbers_of_pods(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves()._replace(moored=Moored("Pod", {"one": ("a",)}))
    await fixture.look()
    fixture.decision = moves()._replace(moored=Moored("Pod", {"one": ("a", "b")}))
    await fixture.look()
    assert fixture.touched == [(KEY, COUNTS_SECONDS)]
    fixture.decision = moves()._replace(moored=Moored("Pod", {"one": ("a", "b"), "two": ("c",)}))
    await fixture.look()
    assert fixture.touched == [(KEY, 0.0)]
    fixture.decision = moves()._replace(moored=Moored("Pod", {"one": ("a", "b"), "two": ("c",)}, pending="They wait"))
    await fixture.look()
    assert fixture.touched == [(KEY, 0.0)]
    await fixture.look()
    assert fixture.touched == []


# --- Time -----------------------------------------------------------------------------------------------------------


async def test_absence_is_remembered_from_when_it_was_first_seen_until_the_client_is_back(fixture: Fixture) -> None:
    times = iter(["1", "2", "3", "4"])
    fixture.groups._now = lambda: next(times)
    fixture.world.all_moorings = {GROUP: [mooring("n1"), mooring("n2")]}
    there, gone = Node(metadata=ObjectMeta(name="n1")), [Node(metadata=ObjectMeta(name="n2"))]
    fixture.groups.offer(KEY, GROUP, member())
    seen = []
    for fixture.world.all_nodes in ([there, *gone], [there], [there], [there, *gone]):
        await fixture.look()
        seen.append(dict(fixture.snapshots[-1].absent))
    assert seen == [{}, {ClientKey("Node", "n2"): "2"}, {ClientKey("Node", "n2"): "2"}, {}]


async def test_a_group_is_looked_at_again_when_its_decision_says_so(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves()._replace(again_seconds=17.0)
    assert await fixture.look() == 17.0


@pytest.mark.looptime
async def test_one_that_is_never_at_rest_has_its_share_and_no_more(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1")
    for _ in range(100):
        await fixture.look()
    assert len(fixture.written) < 30
    await asyncio.sleep(10)
    before = len(fixture.written)
    for _ in range(100):
        await fixture.look()
    assert 5 < len(fixture.written) - before < 20


@pytest.mark.looptime
async def test_but_a_change_of_a_member_does_not_wait_for_that(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    fixture.decision = moves("n1")
    for _ in range(100):
        await fixture.look()
    before = len(fixture.written)
    fixture.groups.offer(KEY, GROUP, member(KEY, "two"))
    await fixture.look()
    await fixture.look()
    assert len(fixture.written) == before + 1


async def test_of_a_group_that_is_gone_nothing_is_kept(fixture: Fixture) -> None:
    fixture.groups.offer(KEY, GROUP, member())
    await fixture.look()
    fixture.groups.withdraw(KEY)
    await fixture.look()
    assert fixture.groups._records == {}

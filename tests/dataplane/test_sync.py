"""The synchronizer: little work for little change, and no harm from what fails."""

from collections.abc import Awaitable, Collection, Iterable
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane import sync as sync_module
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.changes import Ledger
from moorage.dataplane.conntrack import FakeConntrack, Flow
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import Moored, NodeState, ServiceAddress
from moorage.dataplane.nft import NftError
from moorage.dataplane.sync import MAX_NARROWED, Synced, Synchronizer
from moorage.errors import MoorageError
from tests.support.states import BOTH, ReadingNft, content, mooring, node_state, port, programmed, states

KEY = ServiceAddress("10.96.0.1", "tcp", 80)
OTHER = ServiceAddress("10.96.0.1", "tcp", 81)
LONE = ServiceAddress("10.96.0.9", "tcp", 80)
LONE_UDP = ServiceAddress("10.96.0.8", "udp", 80)
KEY6 = ServiceAddress("fd00:10:96::1", "tcp", 80)


class BreakingNft(FakeNft):
    """Fails at the transaction with this number, counted from here."""

    fails_at = 0

    async def run(self, script: str) -> None:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise NftError("nft: No buffer space available")
        await super().run(script)


def flow(target: str, key: ServiceAddress = KEY, source_port: int = 4000) -> Flow:
    return Flow(
        4, key.protocol, "10.244.1.2", source_port, key.address, key.port, target, 80, "10.244.1.2", source_port
    )


@pytest.fixture
def nft() -> BreakingNft:
    return BreakingNft(lambda: 0.0)


def synchronizer(nft: FakeNft, conntrack: FakeConntrack | None = None) -> Synchronizer:
    return Synchronizer(nft, conntrack or FakeConntrack(), Capabilities(large_transactions=False))


async def same(nft: FakeNft, state: NodeState) -> bool:
    fresh, _ = await programmed(state)
    return await content(nft) == await content(fresh)


async def test_a_small_change_is_one_transaction(nft: BreakingNft) -> None:
    sync = synchronizer(nft)
    await sync.sync({KEY: port(KEY, [1, 2], 60), OTHER: port(OTHER, [1], 60)}, {KEY, OTHER})
    done = await sync.sync({KEY: port(KEY, [1], 60), OTHER: port(OTHER, [1], 60)}, {KEY})
    assert done.transactions == 1
    assert await same(nft, {KEY: port(KEY, [1], 60), OTHER: port(OTHER, [1], 60)})


async def test_nothing_changed_is_no_transaction(nft: BreakingNft) -> None:
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    assert await sync.sync(state, state.keys()) == (0, 0, 0)
    assert await sync.sync(state, set()) == (0, 0, 0)


@pytest.mark.parametrize("fails_at", range(1, 12))
async def test_wherever_a_sync_fails_the_next_one_makes_it_good(nft: BreakingNft, fails_at: int) -> None:
    keys = [ServiceAddress(f"10.96.1.{number}", "tcp", 80) for number in range(120)]
    old: NodeState = {key: port(key, [1, 2, 3], 60) for key in keys[:100]}
    new: NodeState = {key: port(key, [2, 3, 4, 5, 6, 7]) for key in keys[20:]}
    sync = synchronizer(nft)
    await sync.sync(old, old.keys())
    nft.fails_at = fails_at
    try:
        await sync.sync(new, old.keys() | new.keys())
    except NftError:
        await sync.sync(new, set())
    assert await same(nft, new)


async def test_after_a_start_only_what_changed_meanwhile_is_written_and_no_slot_is_read() -> None:
    nft = ReadingNft()
    state: NodeState = {key: port(key, [1, 2], 60) for key in (KEY, OTHER, LONE)}
    await synchronizer(nft).sync(state, state.keys())
    nft.listed.clear()
    changed: NodeState = {KEY: state[KEY], OTHER: port(OTHER, [2, 3], 60)}
    written = await recorded(nft, synchronizer(nft).sync(changed, set()))
    assert not any(each.startswith(("slots", "services")) for each in nft.listed)
    assert "10.96.0.1 . 80 . " not in written
    assert await same(nft, changed)


async def recorded(nft: FakeNft, syncing: Awaitable[object]) -> str:
    """The scripts that were run meanwhile."""
    scripts, run = [], nft.run

    async def record(script: str) -> None:
        scripts.append(script)
        await run(script)

    nft.run = record  # type: ignore[method-assign]
    await syncing
    return "".join(scripts)


@given(states(), states(), states(), st.integers(0, 30), st.sampled_from([3, 1000]))
async def test_a_process_that_was_killed_anywhere_is_followed_by_one_that_makes_it_good(
    old: NodeState, new: NodeState, then: NodeState, steps: int, limit: int
) -> None:
    nft = FakeNft(lambda: 0.0)
    await synchronizer(nft).sync({}, set())
    ledger = Ledger({}, BOTH, limit)
    for transaction in ledger.change_to(dict(old)):
        await nft.run(transaction.script)
    changed = {key: new.get(key) for key in old.keys() | new.keys()}
    for _, transaction in zip(range(steps), ledger.change_to(changed), strict=False):
        await nft.run(transaction.script)
    await synchronizer(nft).sync(then, set())
    assert await same(nft, then)


class BreakingReadingNft(BreakingNft, ReadingNft):
    def __init__(self) -> None:
        ReadingNft.__init__(self)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("before", "all_is_read"),
    [(["fails"], False), (["fails", "fails"], True), (["fails", "succeeds", "fails"], False)],
)
async def test_digests_are_believed_until_a_second_sync_in_a_row_has_failed(
    before: list[str], all_is_read: bool, restarted: bool
) -> None:
    nft = BreakingReadingNft()
    state: NodeState = {key: port(key, [1, 2], 60) for key in (KEY, OTHER)}
    sync = synchronizer(nft)
    await sync.sync(state, state.keys())
    sync = synchronizer(nft) if restarted else sync
    for number, each in enumerate(before):
        state = state | {OTHER: port(OTHER, [2, 3 + number], 60)}
        nft.fails_at = int(each == "fails")
        with pytest.raises(NftError) if each == "fails" else nullcontext():
            await sync.sync(state, {OTHER})
    nft.listed.clear()
    await sync.sync(state, {OTHER})
    assert any(each.startswith("slots") for each in nft.listed) == all_is_read
    assert await same(nft, state)


async def test_what_somebody_else_changed_is_found_when_transactions_fail_over_it(nft: BreakingNft) -> None:
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    await nft.run("flush map inet moorage slots-tcp4\n")
    state[KEY] = port(KEY, [1], 60)
    for _ in range(2):
        with pytest.raises(NftError):
            await sync.sync(state, {KEY})
    await sync.sync(state, {KEY})
    assert await same(nft, state)


@pytest.mark.parametrize("fails_at", range(1, 5))
async def test_killed_again_while_it_makes_good_a_divided_change_it_leaves_nothing_behind(
    nft: BreakingNft, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    monkeypatch.setattr(sync_module, "MAX_ELEMENTS_SMALL", 40)
    large, small = (
        ServiceAddress("10.96.2.1", "tcp", 80),
        [ServiceAddress(f"10.96.1.{number}", "tcp", 80) for number in range(20)],
    )
    state: NodeState = {large: port(large, [1, 2], 60)}
    await synchronizer(nft).sync(state, state)
    wanted: NodeState = state | {key: port(key, [1]) for key in small}
    larger: NodeState = {large: port(large, range(1, 8), 60)}
    for each, fails in ((larger, 3), (wanted, fails_at), (wanted, 0)):
        nft.fails_at = fails
        with suppress(NftError):
            await synchronizer(nft).sync(each, set())
    assert await same(nft, wanted)


async def test_killed_after_the_rules_were_replaced_it_is_made_good_with_all_that_they_need(nft: BreakingNft) -> None:
    """A newer nft learns IPv6 sessions: the same Services need more elements."""
    state: NodeState = {KEY6: port(KEY6, [1, 2], 60)}
    await Synchronizer(nft, FakeConntrack(), Capabilities(learn6=False)).sync(state, state)
    nft.fails_at = 2
    with pytest.raises(NftError):
        await synchronizer(nft).sync(state, set())
    await synchronizer(nft).sync(state, set())
    assert await same(nft, state)


async def test_flows_to_endpoints_that_are_gone_are_ended_and_no_others(nft: BreakingNft) -> None:
    kept = [flow("203.0.113.2"), flow("203.0.113.1", OTHER), flow("203.0.113.1", LONE)]
    conntrack = FakeConntrack([flow("203.0.113.1", source_port=4001), *kept])
    sync = synchronizer(nft, conntrack)
    state: NodeState = {KEY: port(KEY, [1, 2]), OTHER: port(OTHER, [1])}
    await sync.sync(state, state.keys())
    assert conntrack.deleted == []
    await sync.sync(state | {KEY: port(KEY, [2])}, {KEY})
    assert conntrack.deleted == [flow("203.0.113.1", source_port=4001)]


class Narrowed(FakeConntrack):
    """Notes whose flows were asked for."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        super().__init__(flows)
        self.asked: list[str | None] = []

    async def flows(self, family: int, source: str | None = None) -> list[Flow]:
        self.asked.append(source)
        return await super().flows(family, source)


def of_client(client: str, target: str, key: ServiceAddress = KEY) -> Flow:
    return flow(target, key)._replace(source=client, reply_destination=client)


async def moved(nft: FakeNft, clients: list[str], conntrack: FakeConntrack) -> Synced:
    """The clients are moored to the first endpoint, and then moved to the second."""
    sync = synchronizer(nft, conntrack)
    state = node_state([port(KEY, [1, 2], Moored(60)), *(mooring(client, KEY, 1) for client in clients)])
    await sync.sync(state, state)
    changed = node_state(mooring(client, KEY, 2) for client in clients)
    done = await sync.sync(state | changed, changed)
    assert await same(nft, state | changed)
    return done


async def test_a_move_ends_the_clients_flows_to_the_old_endpoint_and_no_others(nft: BreakingNft) -> None:
    client = "10.244.1.2"
    kept = [of_client(client, "203.0.113.2"), of_client("10.244.1.3", "203.0.113.1")]
    conntrack = FakeConntrack([of_client(client, "203.0.113.1"), *kept])
    assert await moved(nft, [client], conntrack) == (1, 0, 1)
    assert conntrack.tracked == set(kept)


@pytest.mark.parametrize("clients", [1, MAX_NARROWED, MAX_NARROWED + 1])
async def test_of_few_clients_that_move_only_their_own_flows_are_read(nft: BreakingNft, clients: int) -> None:
    names = [f"10.244.1.{number}" for number in range(2, 2 + clients)]
    conntrack = Narrowed([of_client(each, "203.0.113.1") for each in names])
    assert (await moved(nft, names, conntrack)).flows == clients
    assert conntrack.tracked == set()
    start, *rest = conntrack.asked
    assert start is None
    assert set(rest) == (set(names) if clients <= MAX_NARROWED else {None})


async def test_a_move_is_not_forgotten_when_the_sync_fails_over_conntrack(nft: BreakingNft) -> None:
    class Failing(FakeConntrack):
        fails = False

        async def flows(self, family: int, source: str | None = None) -> list[Flow]:
            if self.fails:
                raise MoorageError("conntrack -L: no memory")
            return await super().flows(family, source)

    client = "10.244.1.2"
    conntrack = Failing([of_client(client, f"203.0.113.{number}") for number in (1, 2, 3)])
    sync = synchronizer(nft, conntrack)
    state = node_state([port(KEY, [1, 2, 3], Moored(60)), mooring(client, KEY, 1)])
    await sync.sync(state, state)
    conntrack.fails = True
    for number in (2, 3):
        changed = node_state([mooring(client, KEY, number)])
        with pytest.raises(MoorageError):
            await sync.sync(state | changed, changed)
    conntrack.fails = False
    assert (await sync.sync(state | changed, set())).flows == 2
    assert conntrack.tracked == {of_client(client, "203.0.113.3")}
    conntrack.tracked.add(of_client(client, "203.0.113.1"))
    assert await sync.sync(state | changed, changed) == (0, 0, 0), "what is done is forgotten"


async def test_flows_that_packets_under_way_make_to_the_old_endpoint_of_a_move_are_ended_too(
    nft: BreakingNft,
) -> None:
    client = "10.244.1.2"
    late = of_client(client, "203.0.113.1")._replace(source_port=4001)
    conntrack = LateConntrack([of_client(client, "203.0.113.1")], [late])
    assert (await moved(nft, [client], conntrack)).flows == 2
    assert not conntrack.tracked


async def test_a_mooring_that_comes_or_goes_reads_neither_sessions_nor_flows() -> None:
    nft, conntrack = ReadingNft(), Narrowed([of_client("10.244.1.2", "203.0.113.1")])
    sync = synchronizer(nft, conntrack)
    state = node_state([port(KEY, [1, 2], Moored(60))])
    await sync.sync(state, state)
    conntrack.asked.clear()
    nft.listed.clear()
    comes = node_state([mooring("10.244.1.2", KEY, 2)])
    assert await sync.sync(state | comes, comes) == (1, 0, 0)
    assert await sync.sync(state, comes) == (1, 0, 0)
    assert conntrack.asked == []
    assert not any(each.startswith("sessions") for each in nft.listed)


async def test_a_client_keeps_its_flows_where_it_is_moored_even_if_its_port_cannot_name_that_endpoint(
    nft: BreakingNft,
) -> None:
    client = "10.244.1.2"
    conntrack = FakeConntrack([of_client(client, "203.0.113.7"), of_client("10.244.1.3", "203.0.113.7")])
    sync = synchronizer(nft, conntrack)
    state = node_state([port(KEY, [1, 2], Moored(60)), mooring(client, KEY, 7)])
    await sync.sync(state, state)
    assert conntrack.tracked == {of_client(client, "203.0.113.7")}


async def test_flows_to_an_endpoint_that_goes_with_the_moorings_to_it_are_ended(nft: BreakingNft) -> None:
    client = "10.244.1.2"
    conntrack = FakeConntrack([of_client(client, "203.0.113.1")])
    sync = synchronizer(nft, conntrack)
    state = node_state([port(KEY, [1, 2], Moored(60)), mooring(client, KEY, 1)])
    await sync.sync(state, state)
    for units in ([mooring(client, KEY, 2)], []):
        conntrack.tracked.add(of_client(client, "203.0.113.1"))
        await sync.sync(state, state)
        after = node_state([port(KEY, [2], Moored(60)), *units])
        assert (await sync.sync(after, state)).flows == 1
        assert await same(nft, after)


async def test_after_a_start_who_was_moved_meanwhile_is_known_from_the_elements(nft: BreakingNft) -> None:
    client, neighbour = "10.244.1.2", "10.244.1.3"
    state = node_state([port(KEY, [1, 2], Moored(60)), mooring(client, KEY, 1), mooring(neighbour, KEY, 1)])
    await synchronizer(nft).sync(state, state)
    conntrack = FakeConntrack([of_client(each, "203.0.113.1") for each in (client, neighbour)])
    moved_ = node_state([mooring(client, KEY, 2)])
    assert await synchronizer(nft, conntrack).sync(state | moved_, set()) == (1, 0, 1)
    assert conntrack.tracked == {of_client(neighbour, "203.0.113.1")}


class LateConntrack(FakeConntrack):
    """Packets that were under way make flows to the old endpoint while others are ended."""

    def __init__(self, flows: list[Flow], late: list[Flow]) -> None:
        super().__init__(flows)
        self._late = late

    async def delete(self, flows: Collection[Flow]) -> int:
        count = await super().delete(flows)
        if self._late:
            self.tracked.add(self._late.pop())
        return count


async def test_flows_that_packets_under_way_make_meanwhile_are_ended_too(nft: BreakingNft) -> None:
    late = LateConntrack([flow("203.0.113.1")], [flow("203.0.113.1", source_port=4001)])
    sync = synchronizer(nft, late)
    await sync.sync({KEY: port(KEY, [1, 2])}, {KEY})
    done = await sync.sync({KEY: port(KEY, [2])}, {KEY})
    assert done.flows == 2
    assert not late.tracked


async def test_tcp_flows_of_a_service_that_is_gone_altogether_stay_as_nothing_would_reset_them(
    nft: BreakingNft,
) -> None:
    conntrack = FakeConntrack([flow("203.0.113.1", LONE), flow("203.0.113.1", OTHER)])
    sync = synchronizer(nft, conntrack)
    state: NodeState = {key: port(key, [1]) for key in (KEY, OTHER, LONE)}
    await sync.sync(state, state.keys())
    await sync.sync({KEY: state[KEY]}, {OTHER, LONE})
    assert conntrack.deleted == [flow("203.0.113.1", OTHER)]


async def test_udp_flows_of_a_service_that_is_gone_altogether_end(nft: BreakingNft) -> None:
    conntrack = FakeConntrack([flow("203.0.113.1", LONE_UDP), flow("203.0.113.1", KEY)])
    sync = synchronizer(nft, conntrack)
    state: NodeState = {key: port(key, [1]) for key in (KEY, LONE_UDP)}
    await sync.sync(state, state.keys())
    done = await sync.sync({KEY: state[KEY]}, {LONE_UDP})
    assert conntrack.deleted == [flow("203.0.113.1", LONE_UDP)]
    assert done.flows == 1


async def test_udp_flows_of_a_service_that_went_while_no_agent_ran_end_at_start(nft: BreakingNft) -> None:
    state: NodeState = {key: port(key, [1]) for key in (KEY, LONE, LONE_UDP)}
    await synchronizer(nft).sync(state, state.keys())
    conntrack = FakeConntrack([flow("203.0.113.1", each) for each in (KEY, LONE, LONE_UDP)])
    await synchronizer(nft, conntrack).sync({KEY: state[KEY]}, set())
    assert conntrack.deleted == [flow("203.0.113.1", LONE_UDP)]


async def test_at_start_flows_and_sessions_of_endpoints_that_went_meanwhile_are_ended(nft: BreakingNft) -> None:
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await synchronizer(nft).sync(state, state.keys())
    session = "10.244.1.2 . 10.96.0.1 . tcp . 80"
    await nft.run(f"add element inet moorage sessions4 {{ {session} timeout 60s : 203.0.113.1 . 80 }}\n")
    conntrack = FakeConntrack([flow("203.0.113.1")])
    done = await synchronizer(nft, conntrack).sync({KEY: port(KEY, [2], 60)}, set())
    assert (done.sessions, done.flows) == (1, 1)
    assert await nft.elements("sessions4") == []


async def test_flows_of_a_port_that_went_just_before_a_kill_are_ended_at_start(nft: BreakingNft) -> None:
    """The digest says that nothing is to do, and no state knows the port any more."""
    state: NodeState = {KEY: port(KEY, [1]), OTHER: port(OTHER, [1])}
    first = synchronizer(nft)
    await first.sync(state, state.keys())
    await first.sync({KEY: state[KEY]}, {OTHER})
    conntrack = FakeConntrack([flow("203.0.113.1", OTHER), flow("203.0.113.1"), flow("203.0.113.1", LONE)])
    done = await synchronizer(nft, conntrack).sync({KEY: state[KEY]}, set())
    assert done == (0, 0, 1)
    assert conntrack.deleted == [flow("203.0.113.1", OTHER)]


async def test_sessions_that_change_while_they_are_corrected_are_read_again(nft: BreakingNft) -> None:
    """A client that is pinned anew between reading and deleting makes the deletion fail."""
    session = "10.244.1.2 . 10.96.0.1 . tcp . 80"

    async def pin(target: int) -> None:
        await nft.run(f"add element inet moorage sessions4 {{ {session} timeout 60s : 203.0.113.{target} . 80 }}\n")

    class Racing(BreakingNft):
        raced = False

        async def run(self, script: str) -> None:
            if "delete element inet moorage sessions4" in script and not self.raced:
                self.raced = True
                await super().run(f"delete element inet moorage sessions4 {{ {session} }}\n")
                await pin(2)
            await super().run(script)

    nft = Racing(lambda: 0.0)
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    await pin(1)
    await sync.sync({KEY: port(KEY, [2], 60)}, {KEY})
    assert nft.raced
    assert [each.value for each in await nft.elements("sessions4")] == [("203.0.113.2", 80)]


async def test_sessions_that_go_on_changing_are_left_for_later_and_nobody_waits_for_them() -> None:
    class Changing(BreakingNft):
        changing = True

        async def run(self, script: str) -> None:
            if "delete element inet moorage sessions4" in script and self.changing:
                raise NftError("nft: File exists")
            await super().run(script)

    nft = Changing(lambda: 0.0)
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    session = "10.244.1.2 . 10.96.0.1 . tcp . 80"
    await nft.run(f"add element inet moorage sessions4 {{ {session} timeout 60s : 203.0.113.1 . 80 }}\n")
    state = {KEY: port(KEY, [2], 60), OTHER: port(OTHER, [1])}
    assert (await sync.sync(state, state.keys())).sessions == 0
    assert await same(nft, state)
    assert sync.unfinished
    nft.changing = False
    done = await sync.sync(state, set())
    assert done == (0, 1, 0)
    assert not sync.unfinished
    assert await nft.elements("sessions4") == []


@pytest.mark.parametrize("large", [False, True])
async def test_a_session_that_goes_on_changing_holds_up_no_others(large: bool) -> None:
    changing = "10.244.1.9 . 10.96.0.1 . tcp . 80"

    class Changing(BreakingNft):
        async def run(self, script: str) -> None:
            if f"delete element inet moorage sessions4 {{ {changing}" in script or f", {changing}" in script:
                raise NftError("nft: File exists")
            await super().run(script)

    nft = Changing(lambda: 0.0)
    sync = Synchronizer(nft, FakeConntrack(), Capabilities(large_transactions=large))
    await sync.sync({KEY: port(KEY, [1, 2], 60)}, {KEY})
    clients = [f"10.244.1.{number}" for number in range(1, 30)]
    elements = [f"{client} . 10.96.0.1 . tcp . 80 timeout 60s : 203.0.113.1 . 80" for client in clients]
    await FakeNft.run(nft, f"add element inet moorage sessions4 {{ {', '.join(elements)} }}\n")
    await sync.sync({KEY: port(KEY, [2], 60)}, {KEY})
    assert sync.unfinished
    assert [each.key[0] for each in await nft.elements("sessions4")] == ["10.244.1.9"]


async def test_sessions_are_read_only_where_some_may_be_wrong() -> None:
    nft = ReadingNft()
    sync = synchronizer(nft)
    await sync.sync({}, set())
    for unit, reads in (
        (port(KEY, [1, 2], 60), 0),
        (port(KEY, [1, 2, 3], 60), 0),
        (port(KEY, [1, 2], 60), 2),
        (port(KEY, [1, 2]), 2),
        (port(KEY, [1]), 0),
    ):
        nft.listed.clear()
        await sync.sync({KEY: unit}, {KEY})
        assert sum(each.startswith("sessions") for each in nft.listed) == reads, unit


async def test_a_refusal_is_told_in_nfts_own_words_and_harms_nothing(nft: BreakingNft) -> None:
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    nft.fails_at = 1
    with pytest.raises(MoorageError, match="No buffer space available"):
        await sync.sync({KEY: port(KEY, [1], 60)}, {KEY})
    assert await same(nft, state)


async def test_it_notices_that_somebody_else_changed_the_table(nft: BreakingNft) -> None:
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    assert await sync.intact()
    await nft.run("delete table inet moorage\n")
    assert not await sync.intact()
    await sync.sync(state, set())
    assert await same(nft, state)


async def test_where_somebody_else_removed_the_digest_no_other_digest_is_believed(nft: BreakingNft) -> None:
    sync = synchronizer(nft)
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    await sync.sync(state, state.keys())
    await nft.run("flush set inet moorage digest\nflush map inet moorage slots-tcp4\n")
    assert not await sync.intact()
    await sync.sync(state, set())
    assert await same(nft, state)


async def test_a_table_that_was_deleted_is_made_again_and_nothing_of_it_is_read() -> None:
    nft = ReadingNft()
    sync = synchronizer(nft)
    state: NodeState = {key: port(key, [1, 2], 60) for key in (KEY, OTHER, LONE)}
    await sync.sync(state, state.keys())
    await nft.run("delete table inet moorage\n")
    assert not await sync.intact()
    nft.listed.clear()
    await sync.sync(state, set())
    assert set(nft.listed) == {"sessions4", "sessions6"}
    assert await same(nft, state)


@pytest.mark.parametrize("fails_at", range(1, 8))
async def test_killed_while_it_makes_a_new_table_it_is_made_good(
    nft: BreakingNft, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    monkeypatch.setattr(sync_module, "MAX_ELEMENTS_SMALL", 40)
    large = ServiceAddress("10.96.0.0", "tcp", 80)
    state: NodeState = {key: port(key, [1, 2], 60) for key in (KEY, OTHER, LONE)}
    nft.fails_at = fails_at
    with pytest.raises(NftError):
        await synchronizer(nft).sync(state | {large: port(large, range(1, 8), 60)}, set())
    then: NodeState = {KEY: state[KEY], OTHER: port(OTHER, [2, 3], 60), large: port(large, range(1, 4), 60)}
    await synchronizer(nft).sync(then, set())
    assert await same(nft, then)


async def test_a_table_without_chains_is_none_of_ours_and_its_elements_are_not_believed(nft: BreakingNft) -> None:
    state: NodeState = {KEY: port(KEY, [1, 2], 60)}
    set_ = "add set inet moorage addresses4 { typeof ip daddr; }\n"
    await nft.run(f"add table inet moorage\n{set_}add element inet moorage addresses4 {{ 10.96.0.7 }}\n")
    await synchronizer(nft).sync(state, set())
    assert await same(nft, state)

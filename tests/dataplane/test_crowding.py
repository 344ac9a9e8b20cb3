"""When clients choose by their address alone, because their sessions nearly fill the map."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane import schema
from moorage.dataplane.crowding import Crowding, is_crowded
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.schema import OF_FAMILY
from tests.support.network import CLIENTS
from tests.support.states import port
from tests.support.world import kernel_world

KEY = ServiceAddress("10.96.0.1", "tcp", 9000)
ROOMS = st.integers(1, 1_000_000)


@pytest.mark.parametrize(
    ("taken", "before", "now"),
    [
        (0, False, False),
        (0, True, False),
        (89, False, False),
        (90, False, True),
        (100, False, True),
        (89, True, True),
        (75, True, True),
        (74, True, False),
    ],
)
def test_it_begins_at_90_percent_and_ends_below_75(taken: int, before: bool, now: bool) -> None:
    assert is_crowded(taken, 100, before) is now
    assert is_crowded(taken * 2621, 262_100, before) is now


@given(ROOMS.flatmap(lambda room: st.tuples(st.integers(0, room), st.just(room))), st.booleans())
def test_what_was_decided_stays_as_long_as_the_sessions_do(sessions: tuple[int, int], before: bool) -> None:
    taken, room = sessions
    now = is_crowded(taken, room, before)
    assert is_crowded(taken, room, now) is now
    assert is_crowded(room, room, before)
    assert not is_crowded(0, room, before)


async def crowded(nft: FakeNft) -> list[tuple[object, ...]]:
    return [each.key for each in await nft.elements(OF_FAMILY[4].crowded.name)]


class Counted(FakeNft):
    """A kernel with as many sessions as a test says."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.taken = 0

    async def learned_count(self, name: str) -> int:
        return self.taken


@pytest.fixture
async def nft(monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setattr(schema, "MAX_SESSIONS", 1000)
    nft = Counted()
    await nft.run(f"add table inet moorage\n{OF_FAMILY[4].crowded.declaration}\n")
    return nft


async def test_the_rules_are_told_only_when_it_changes_and_somebody_hears_of_it(nft: Counted) -> None:
    crowding, told = Crowding(nft, [4]), len(nft.scripts)
    for count, is_so in [
        (899, False),
        (900, True),
        (950, True),
        (760, True),
        (749, False),
        (800, False),
        (901, True),
    ]:
        nft.taken = count
        lines = await crowding.look()
        assert (bool(lines), bool(await crowded(nft)), crowding.crowded == {4}) == (is_so,) * 3, count
        assert crowding.sessions == {4: count}
        assert all(f"IPv4: {count} of 1,000 sessions are taken" in line for line in lines)
    assert len(nft.scripts) - told == 3


async def test_a_restarted_agent_goes_on_with_what_the_kernel_has(nft: Counted) -> None:
    nft.taken = 900
    await Crowding(nft, [4]).look()
    nft.taken = 800
    assert await Crowding(nft, [4]).look(), "not yet below 75 percent"
    nft.taken = 700
    assert await Crowding(nft, [4]).look() == []
    assert await crowded(nft) == []


async def test_a_table_that_somebody_deletes_is_not_crowded(nft: Counted) -> None:
    crowding = Crowding(nft, [4])
    nft.taken = 900
    await crowding.look()
    await nft.run("delete table inet moorage\n")
    nft.taken = 0
    assert await crowding.look() == []
    assert crowding.crowded == set()


async def test_families_whose_sessions_cannot_be_learned_are_not_looked_at(nft: Counted) -> None:
    crowding = Crowding(nft, [])
    nft.taken = 1000
    assert await crowding.look() == []
    assert crowding.sessions == {}


async def test_with_a_full_map_clients_without_a_session_keep_their_endpoint_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema, "MAX_SESSIONS", 10)
    async with kernel_world() as world:
        await world.carry([port(KEY, range(1, 10), 100)])
        crowding, rest = Crowding(world.nft, [4]), CLIENTS[10:]
        assert await crowding.look() == []
        pinned = {client: await world.connect(client, KEY) for client in CLIENTS[:9]}
        assert len(await crowding.look()) == 1
        assert crowding.sessions == {4: 9}
        await world.connect(CLIENTS[9], KEY)
        by_address = {client: await world.connect(client, KEY) for client in rest}
        assert {client: await world.connect(client, KEY) for client in pinned} == pinned
        await world.expire()  # takes more than a second: another one of the day
        assert {client: await world.connect(client, KEY) for client in rest} == by_address
        await world.expire()
        async with asyncio.timeout(30):
            while await crowding.look():  # noqa: ASYNC110  # expired ones count until the kernel clears them up
                await asyncio.sleep(0.1)
        assert {client: await world.connect(client, KEY) for client in rest} != by_address

"""An agent takes over the table of an older version: no client loses its endpoint, and nothing of the old is left.

Each table is what a version carried out for the same ports. `older_table.nft` is of the version before descriptors:
it declares the hairpin sets by `type`, and its digests of the ports are others. `table_before_moorings.nft` is of the
version before moorings, `table_before_new_choices.nft` of the last one whose clients chose by their address alone.
"""

from pathlib import Path

import pytest

from moorage.dataplane import sessions
from moorage.dataplane.audit import audit
from moorage.dataplane.model import Moored, NodeState, ServiceAddress
from tests.support.network import CLIENTS
from tests.support.states import mooring, node_state, port, prefix
from tests.support.world import KernelWorld, kernel_world

TCP, UDP = ServiceAddress("10.96.0.1", "tcp", 9000), ServiceAddress("10.96.0.1", "udp", 9000)
STATE: NodeState = {TCP: port(TCP, [1, 2, 3], 10800), UDP: port(UDP, [1, 2])}
TABLES = pytest.mark.parametrize(
    "table", ["older_table.nft", "table_before_moorings.nft", "table_before_new_choices.nft"]
)


async def make(world: KernelWorld, table: str) -> None:
    await world.nft.run(Path(__file__).with_name(table).read_text())


async def audited(world: KernelWorld, state: NodeState) -> bool:
    """Whether the kernel has what it should."""
    return await audit(world.nft, state, frozenset({4, 6} if world.capabilities.learn6 else {4})) == []


async def learned(world: KernelWorld) -> set[tuple[str, str]]:
    """Each client, and the endpoint that it has a session with."""
    return {(each.client, each.target.address) for each in await sessions.read(world.nft)}


@TABLES
async def test_sessions_and_connections_live_on_and_the_table_is_as_a_new_one(table: str) -> None:
    async with kernel_world() as world:
        await make(world, table)
        first = {client: await world.connect(client, TCP) for client in CLIENTS}
        assert await world.open("kept", CLIENTS[0], TCP) == first[CLIENTS[0]]
        before = await learned(world)
        assert len(before) == len(CLIENTS)
        done = await world.carry(STATE.values())
        assert (done.sessions, done.flows) == (0, 0)
        assert await learned(world) == before
        assert await world.say("kept") == first[CLIENTS[0]]
        assert {client: await world.connect(client, TCP) for client in CLIENTS} == first
        assert await audited(world, STATE)
        world.restart()
        assert await world.carry(STATE.values()) == (0, 0, 0)


@TABLES
async def test_sessions_that_expire_after_the_upgrade_are_followed_by_new_choices(table: str) -> None:
    async with kernel_world() as world:
        await make(world, table)
        first = {client: await world.connect(client, TCP) for client in CLIENTS}
        await world.carry(STATE.values())
        await world.expire()
        second = {client: await world.connect(client, TCP) for client in CLIENTS}
        # Two thirds of 40 choose another, with a standard deviation of 3; 6 of them are 18.
        assert sum(first[client] != second[client] for client in CLIENTS) > 8


@TABLES
async def test_what_went_while_the_agent_was_replaced_goes(table: str) -> None:
    async with kernel_world() as world:
        await make(world, table)
        for client in CLIENTS:
            await world.connect(client, TCP)
        await world.carry([port(TCP, [3], 10800)])
        assert {await world.connect(client, TCP) for client in CLIENTS} == {"203.0.113.3"}
        assert await audited(world, {TCP: port(TCP, [3], 10800)})


@TABLES
async def test_a_service_that_is_moored_from_then_on_keeps_its_sessions_and_connections(table: str) -> None:
    async with kernel_world() as world:
        await make(world, table)
        first = {client: await world.connect(client, TCP) for client in CLIENTS}
        moored = CLIENTS[0]
        assert await world.open("kept", moored, TCP) == first[moored]
        elsewhere = next(number for number in (1, 2, 3) if f"203.0.113.{number}" != first[moored])
        before = await learned(world)
        state = node_state(
            [
                port(TCP, [1, 2, 3], Moored(10800, holds=True)),
                port(UDP, [1, 2]),
                mooring(moored, TCP, elsewhere),
                prefix("10.244.1.0/24"),
            ]
        )
        done = await world.carry(state.values())
        assert (done.sessions, done.flows) == (0, 0)
        assert await learned(world) == before
        assert await world.say("kept") == first[moored]
        wanted = first | {moored: f"203.0.113.{elsewhere}"}
        assert {client: await world.connect(client, TCP) for client in CLIENTS} == wanted
        assert await world.nft.elements("waited4") == [], "who has a session need not wait"
        assert await audited(world, state)
        world.restart()
        assert await world.carry(state.values()) == (0, 0, 0)

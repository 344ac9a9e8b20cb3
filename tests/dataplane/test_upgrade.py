"""An agent takes over the table of an older version: no client loses its endpoint, and nothing of the old is left.

`older_table.nft` is what the version before descriptors carried out: it declares the hairpin sets by `type`, and its
digests of the same ports are others.
"""

from pathlib import Path

from moorage.dataplane import sessions
from moorage.dataplane.audit import audit
from moorage.dataplane.model import NodeState, ServiceAddress
from tests.support.network import CLIENTS
from tests.support.states import port
from tests.support.world import kernel_world

OLDER = Path(__file__).with_name("older_table.nft").read_text()
TCP, UDP = ServiceAddress("10.96.0.1", "tcp", 9000), ServiceAddress("10.96.0.1", "udp", 9000)
STATE: NodeState = {TCP: port(TCP, [1, 2, 3], 10800), UDP: port(UDP, [1, 2])}


async def test_sessions_and_connections_live_on_and_the_table_is_as_a_new_one() -> None:
    async with kernel_world() as world:
        await world.nft.run(OLDER)
        first = {client: await world.connect(client, TCP) for client in CLIENTS}
        assert await world.open("kept", CLIENTS[0], TCP) == first[CLIENTS[0]]
        learned = {(each.client, each.target) for each in await sessions.read(world.nft)}
        assert len(learned) == len(CLIENTS)
        done = await world.carry(STATE.values())
        assert (done.sessions, done.flows) == (0, 0)
        assert {(each.client, each.target) for each in await sessions.read(world.nft)} == learned
        assert await world.say("kept") == first[CLIENTS[0]]
        assert {client: await world.connect(client, TCP) for client in CLIENTS} == first
        learns = frozenset({4, 6} if world.capabilities.learn6 else {4})
        assert await audit(world.nft, STATE, learns) == []
        world.restart()
        assert await world.carry(STATE.values()) == (0, 0, 0)


async def test_what_went_while_the_agent_was_replaced_goes() -> None:
    async with kernel_world() as world:
        await world.nft.run(OLDER)
        for client in CLIENTS:
            await world.connect(client, TCP)
        await world.carry([port(TCP, [3], 10800)])
        assert {await world.connect(client, TCP) for client in CLIENTS} == {"203.0.113.3"}
        learns = frozenset({4, 6} if world.capabilities.learn6 else {4})
        assert await audit(world.nft, {TCP: port(TCP, [3], 10800)}, learns) == []

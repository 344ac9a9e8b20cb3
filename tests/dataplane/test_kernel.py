"""What only the real kernel can show: retransmissions, firewalls, conntrack, and being killed in the middle."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from moorage.dataplane import schema, sessions
from moorage.dataplane.changes import Ledger
from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.crowding import Crowding
from moorage.dataplane.model import Endpoint, Moored, NodeState, ServiceAddress, ServicePort, Target
from moorage.dataplane.ruleset import base
from tests.support.network import CLIENTS, CLIENTS6, NODE
from tests.support.states import affinity_of, mooring, port, ports_of
from tests.support.world import KernelWorld, kernel_world

KEY = ServiceAddress("10.96.0.1", "tcp", 9000)
KEY6 = ServiceAddress("fd00:10:96::1", "tcp", 9000)
UDP = ServiceAddress("10.96.0.1", "udp", 9000)

STATEFUL_FIREWALL = """
table inet firewall {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established accept
    tcp flags & (fin|syn|rst|ack) == syn accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  }
}
"""


@pytest.fixture
async def world() -> AsyncIterator[KernelWorld]:
    async with kernel_world() as made:
        yield made


def only(address: str, affinity: int = 10800, key: ServiceAddress = KEY, *, local: bool = False) -> ServicePort:
    return ServicePort(
        "frontend/backend", key, (Endpoint(address, Target(address, 80), local=local),), affinity_of(affinity)
    )


async def test_clients_are_reset_where_the_other_endpoint_is_behind_a_firewall_that_drops_in_silence(
    world: KernelWorld,
) -> None:
    world.net.endpoints.run("nft", "-f", "-", input=STATEFUL_FIREWALL)
    world.net.endpoints.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
    await world.carry([only("203.0.113.1")])
    assert await world.open("kept", CLIENTS[0], KEY) == "203.0.113.1"
    await world.carry([only("203.0.113.2")])
    assert await world.say("kept") == "reset"
    assert await world.connect(CLIENTS[0], KEY) == "203.0.113.2"


async def test_a_client_that_is_still_knocking_at_a_removed_endpoint_is_let_in_at_another(world: KernelWorld) -> None:
    drop = "table inet mute { chain input { type filter hook input priority 0; ip daddr 203.0.113.1 drop; }; }\n"
    world.net.endpoints.run("nft", "-f", "-", input=drop)
    await world.carry([only("203.0.113.1")])
    knocking = asyncio.create_task(world.connect(CLIENTS[0], KEY))
    async with asyncio.timeout(20):
        while not await sessions.read(world.nft):  # noqa: ASYNC110  # until the kernel has seen the first SYN
            await asyncio.sleep(0.01)
    await world.carry([only("203.0.113.2")])
    assert await knocking == "203.0.113.2", "the SYN that is sent again"
    (session,) = await sessions.read(world.nft)
    assert session.target.address == "203.0.113.2"


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_a_client_that_only_reads_is_reset_too(world: KernelWorld, key: ServiceAddress) -> None:
    client = (CLIENTS6 if key.family == 6 else CLIENTS)[0]
    old, new = (port(key, [number], 10800) for number in (1, 2))
    await world.carry([old])
    assert await world.open("reads", client, key) == old.endpoints[0].target.address
    assert (await world.carry([new])).flows == 1
    assert await world.read("reads") == "reset"
    assert await KernelConntrack(world.net.node.prefix).flows(key.family) == [], "no flow is left of it"


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_a_client_that_is_moved_and_only_reads_is_reset_and_its_neighbour_goes_on(
    world: KernelWorld, key: ServiceAddress
) -> None:
    mine, neighbour = (CLIENTS6 if key.family == 6 else CLIENTS)[:2]
    ports = [port(key, [1, 2], Moored(10800))]
    first = ports[0].endpoints[0].target.address
    await world.carry([*ports, mooring(mine, key, 1), mooring(neighbour, key, 1)])
    for client in (mine, neighbour):
        assert await world.open(client, client, key) == first
    await world.carry([*ports, mooring(mine, key, 2), mooring(neighbour, key, 1)])
    assert await world.read(mine) == "reset"
    assert await world.say(neighbour) == first


async def test_a_datagram_flow_older_than_its_service_is_taken_over(world: KernelWorld) -> None:
    async def ask(what: str) -> str:
        return await asyncio.to_thread(world.net.ask, what, CLIENTS[0], 4000, UDP.address, UDP.port)

    # Into the void, but somewhere: what has no route makes no flow.
    world.net.node.run("ip", "route", "add", "default", "dev", "endpoints")
    await world.carry([])
    assert await ask("send") == "sent"
    await world.carry([only("203.0.113.1", key=UDP)])
    assert await ask("udp") == "203.0.113.1"


async def test_datagrams_to_a_deleted_service_reach_its_endpoint_no_longer(world: KernelWorld) -> None:
    async def ask(what: str) -> str:
        return await asyncio.to_thread(world.net.ask, what, CLIENTS[0], 4000, UDP.address, UDP.port)

    world.net.node.run("ip", "route", "add", "default", "dev", "endpoints")
    await world.carry([only("203.0.113.1", key=UDP)])
    assert await ask("udp") == "203.0.113.1"
    await world.carry([])
    assert await ask("send") == "sent"
    (flow,) = [
        each for each in await KernelConntrack(world.net.node.prefix).flows(4) if each.destination == UDP.address
    ]
    assert flow.reply_source == UDP.address, "from the same port, and not sent on"


@pytest.mark.parametrize("client", [CLIENTS[0], CLIENTS6[0]], ids=["IPv4", "IPv6"])
async def test_a_pod_reaches_itself_through_its_service(world: KernelWorld, client: str) -> None:
    key = ServiceAddress("fd00:10:96::1", "tcp", 9000) if ":" in client else KEY
    await world.carry([only(client, key=key, local=True)])
    assert await world.connect(client, key) == client


async def test_a_process_of_the_node_itself_reaches_services(world: KernelWorld) -> None:
    await world.carry([only("203.0.113.1")])
    code = "import socket; print(socket.create_connection(('10.96.0.1', 9000), 20).recv(100).decode().strip())"
    world.net.node.run("ip", "route", "add", "default", "dev", "endpoints")
    assert await asyncio.to_thread(world.net.node.python, code) == "203.0.113.1\n"


async def test_a_client_is_pinned_to_an_endpoint_in_the_nodes_own_network(world: KernelWorld) -> None:
    world.net.serve(world.net.node, NODE)
    await world.carry([only(NODE)])
    assert await world.connect(CLIENTS[0], KEY) == NODE
    (session,) = await sessions.read(world.nft)
    assert (session.client, session.target.address) == (CLIENTS[0], NODE)


async def after_a_second() -> None:
    """Return in another second of the day."""
    began = int(time.time())
    async with asyncio.timeout(30):
        while int(time.time()) == began:  # noqa: ASYNC110  # the kernel's clock tells nobody
            await asyncio.sleep(0.05)


async def test_with_the_sessions_map_full_clients_are_served_and_held_by_the_hash(
    world: KernelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MAX_SESSIONS", 4)
    await world.carry([port(KEY, [1, 2, 3], 10800)])
    pinned = {client: await world.connect(client, KEY) for client in CLIENTS[:4]}
    assert await Crowding(world.nft, [4]).look()
    first = {client: await world.connect(client, KEY) for client in CLIENTS}
    assert len(await sessions.read(world.nft)) == 4
    await after_a_second()
    assert {client: await world.connect(client, KEY) for client in CLIENTS} == first
    assert {client: first[client] for client in pinned} == pinned
    await world.carry([only("203.0.113.9")])
    assert {await world.connect(client, KEY) for client in CLIENTS} == {"203.0.113.9"}
    assert len(await sessions.read(world.nft)) == 4


async def test_the_base_ruleset_can_be_read_back_and_applied_again_and_changes_nothing(world: KernelWorld) -> None:
    state = [
        port(KEY, [1, 2], 10800),
        port(UDP, [1, 2]),
        port(ServiceAddress("fd00:10:96::1", "udp", 53), [1, 2, 3], 10800),
    ]
    await world.carry(state)
    before = world.net.node.run("nft", "--stateless", "list", "table", "inet", "moorage")
    await world.nft.run("\n".join(base(world.capabilities.learn6)) + "\n")
    assert world.net.node.run("nft", "--stateless", "list", "table", "inet", "moorage") == before
    world.restart()
    assert await world.carry(state) == (0, 0, 0)


async def test_other_tables_are_never_touched(world: KernelWorld) -> None:
    world.net.node.run("nft", "add table inet others; add chain inet others one; add rule inet others one accept")
    before = world.net.node.run("nft", "list", "table", "inet", "others")
    await world.carry([port(KEY, [1, 2], 10800)])
    await world.carry([port(KEY, [1])])
    world.restart()
    await world.carry([])
    assert world.net.node.run("nft", "list", "table", "inet", "others") == before
    assert world.net.node.run("nft", "list", "tables") == "table inet others\ntable inet moorage\n"


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 8])
async def test_a_sync_that_was_cut_off_is_finished_by_the_next_process(world: KernelWorld, steps: int) -> None:
    old: NodeState = {
        key: port(key, [1, 2, 3], 10800) for key in (ServiceAddress("10.96.0.1", "tcp", n) for n in range(9000, 9008))
    }
    new: NodeState = {
        key: port(key, [2, 3, 4]) for key in (ServiceAddress("10.96.0.1", "tcp", n) for n in range(9004, 9012))
    }
    await world.carry(old.values())
    before = {key: await world.connect(CLIENTS[0], key) for key in ports_of(old)}
    ledger = Ledger(old, frozenset({4}), limit=40)
    for _, transaction in zip(
        range(steps), ledger.change_to({k: new.get(k) for k in old.keys() | new.keys()}), strict=False
    ):
        await world.nft.run(transaction.script)
    for key in ports_of(old).keys() & new.keys():
        assert await world.connect(CLIENTS[0], key) in {"203.0.113.2", "203.0.113.3", "203.0.113.4", before[key]}
    world.restart()
    await world.carry(new.values())
    world.restart()
    assert await world.carry(new.values()) == (0, 0, 0), "the kernel holds what was wanted"
    for key in ports_of(old).keys() - new.keys():
        assert await world.connect(CLIENTS[0], key) == "refused"
    seen = {await world.connect(CLIENTS[0], ServiceAddress("10.96.0.1", "tcp", 9011)) for _ in range(60)}
    assert seen == {"203.0.113.2", "203.0.113.3", "203.0.113.4"}

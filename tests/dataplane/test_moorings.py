"""What moored clients see: on the real kernel, and by the same tests on the packet tracer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from moorage.dataplane import ruleset, schema, sessions
from moorage.dataplane.model import Moored, PodPrefix, ServiceAddress, ServicePort, Target, Unit
from moorage.dataplane.schema import OF_FAMILY
from tests.dataplane.test_behaviour import HOURS, KEY, KEY6, UDP, WORLDS, without
from tests.support.network import CLIENTS, CLIENTS6
from tests.support.states import endpoint, mooring, port, prefix
from tests.support.world import World

MOORED, HELD = Moored(HOURS), Moored(HOURS, holds=True)
PODS = [prefix("10.244.1.0/24"), prefix("fd00:10:244:1::/64")]
KINDS = pytest.mark.parametrize("key", [KEY, UDP, KEY6], ids=["tcp", "udp", "tcp over IPv6"])


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as made:
        yield made


def clients_of(key: ServiceAddress) -> list[str]:
    return (CLIENTS6 if key.family == 6 else CLIENTS)[:6]


def address(number: int, key: ServiceAddress = KEY) -> str:
    return endpoint(number, family=key.family).target.address


async def who_waits(world: World, key: ServiceAddress = KEY) -> list[str]:
    """The clients that have waited."""
    return [str(each.key[0]) for each in await world.nft.elements(OF_FAMILY[key.family].waited.name)]


# --- Where clients go --------------------------------------------------------------------------------------------


@KINDS
async def test_each_client_reaches_the_endpoint_that_it_is_moored_to(world: World, key: ServiceAddress) -> None:
    clients = clients_of(key)
    for turn in range(3):
        wanted = {client: 1 + (number + turn) % 3 for number, client in enumerate(clients)}
        moorings = [mooring(client, key, number) for client, number in wanted.items()]
        await world.carry([port(key, [1, 2, 3], MOORED), *moorings])
        for client, number in wanted.items():
            assert {await world.connect(client, key) for _ in range(3)} == {address(number, key)}
    assert await world.nft.packets("misses") == 0


async def test_a_client_without_a_mooring_is_led_by_hash_and_session_as_by_client_ip(world: World) -> None:
    await world.carry([port(KEY, [1, 2, 3], HOURS)])
    by_hash = {client: await world.connect(client, KEY) for client in CLIENTS[:8]}
    await world.carry([port(KEY, range(1, 10), MOORED), mooring(CLIENTS[9], KEY, 1)])
    assert {client: await world.connect(client, KEY) for client in by_hash} == by_hash


async def test_a_mooring_is_for_one_port_of_one_service_and_one_client(world: World) -> None:
    other = ServiceAddress(KEY.address, "tcp", 9001)
    ports = [port(KEY, [1, 2, 3], MOORED), port(other, [1, 2, 3], MOORED)]
    await world.carry(ports)
    free = {(client, key): await world.connect(client, key) for client in CLIENTS[:3] for key in (KEY, other)}
    elsewhere = next(number for number in (1, 2, 3) if address(number) != free[CLIENTS[0], KEY])
    await world.carry([*ports, mooring(CLIENTS[0], KEY, elsewhere)])
    wanted = free | {(CLIENTS[0], KEY): address(elsewhere)}
    assert {pair: await world.connect(*pair) for pair in free} == wanted


async def test_a_client_is_led_to_an_endpoint_that_takes_no_others_as_long_as_it_is_moored_there(
    world: World,
) -> None:
    draining = ServicePort(
        "frontend/backend", KEY, port(KEY, [2]).endpoints, MOORED, frozenset({Target(address(1), 80)})
    )
    await world.carry([draining, mooring(CLIENTS[0], KEY, 1)])
    assert await world.open("kept", CLIENTS[0], KEY) == address(1)
    assert await world.connect(CLIENTS[1], KEY) == address(2)
    await world.carry([draining])
    assert await world.connect(CLIENTS[0], KEY) == address(2)
    assert await world.say("kept") == address(1)


# --- Moves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_a_client_that_is_moved_is_reset_once_and_nobody_else_is(world: World, key: ServiceAddress) -> None:
    other = ServiceAddress(key.address, "tcp", 9001)
    mine, neighbour = clients_of(key)[:2]
    ports = [port(key, [1, 2], MOORED), port(other, [1, 2], MOORED)]
    stays = [mooring(neighbour, key, 1), mooring(mine, other, 1), mooring(neighbour, other, 1)]
    await world.carry([*ports, mooring(mine, key, 1), *stays])
    for client in (mine, neighbour):
        for each in (key, other):
            assert await world.open(f"{client} {each.port}", client, each) == address(1, key)
    moved = await world.carry([*ports, mooring(mine, key, 2), *stays])
    assert (moved.transactions, moved.flows) == (1, 1)
    assert await world.say(f"{mine} {key.port}") == "reset"
    assert await world.connect(mine, key) == address(2, key)
    for name in (f"{mine} {other.port}", f"{neighbour} {key.port}", f"{neighbour} {other.port}"):
        assert await world.say(name) == address(1, key)


async def test_datagrams_of_a_client_that_is_moved_go_to_the_new_endpoint(world: World) -> None:
    await world.carry([port(UDP, [1, 2], MOORED), mooring(CLIENTS[0], UDP, 1)])
    assert await world.connect(CLIENTS[0], UDP) == address(1)
    await world.carry([port(UDP, [1, 2], MOORED), mooring(CLIENTS[0], UDP, 2)])
    assert await world.connect(CLIENTS[0], UDP) == address(2)


async def test_the_session_follows_a_move(world: World) -> None:
    ports = [port(KEY, [1, 2], MOORED)]
    await world.carry([*ports, mooring(CLIENTS[0], KEY, 1)])
    await world.connect(CLIENTS[0], KEY)
    assert (await world.carry([*ports, mooring(CLIENTS[0], KEY, 2)])).sessions == 1
    assert await sessions.read(world.nft) == []
    await world.connect(CLIENTS[0], KEY)
    assert [each.target.address for each in await sessions.read(world.nft)] == [address(2)]


async def test_a_mooring_that_comes_late_takes_no_connection_from_its_client(world: World) -> None:
    ports = [port(KEY, [1, 2], MOORED)]
    await world.carry(ports)
    first = await world.open("kept", CLIENTS[0], KEY)
    elsewhere = 1 if first == address(2) else 2
    assert await world.carry([*ports, mooring(CLIENTS[0], KEY, elsewhere)]) == (1, 0, 0)
    assert await world.say("kept") == first
    assert await world.connect(CLIENTS[0], KEY) == address(elsewhere)


@pytest.mark.parametrize("client_number", range(4))
async def test_a_client_stays_where_it_was_when_its_mooring_goes(world: World, client_number: int) -> None:
    client = CLIENTS[client_number]
    ports = [port(KEY, [1, 2, 3], MOORED)]
    await world.carry([*ports, mooring(client, KEY, 2)])
    assert await world.open("kept", client, KEY) == address(2)
    assert await world.carry(ports) == (1, 0, 0)
    assert await world.say("kept") == address(2)
    assert await world.connect(client, KEY) == address(2)


async def test_a_mooring_that_replaces_a_lost_endpoint_resets_what_leads_there(world: World) -> None:
    full = port(KEY, [1, 2], MOORED)
    await world.carry([full, mooring(CLIENTS[0], KEY, 1), mooring(CLIENTS[1], KEY, 2)])
    for number, client in enumerate(CLIENTS[:2], 1):
        assert await world.open(client, client, KEY) == address(number)
    await world.carry([without(full, address(1)), *(mooring(client, KEY, 2) for client in CLIENTS[:2])])
    assert await world.say(CLIENTS[0]) == "reset"
    assert await world.say(CLIENTS[1]) == address(2)
    assert await world.connect(CLIENTS[0], KEY) == address(2)


async def test_who_was_moved_while_no_agent_ran_is_reset_when_one_starts(world: World) -> None:
    ports = [port(KEY, [1, 2], MOORED)]
    await world.carry([*ports, mooring(CLIENTS[0], KEY, 1), mooring(CLIENTS[1], KEY, 1)])
    for client in CLIENTS[:2]:
        assert await world.open(client, client, KEY) == address(1)
    world.restart()
    moved = await world.carry([*ports, mooring(CLIENTS[0], KEY, 2), mooring(CLIENTS[1], KEY, 1)])
    assert moved == (1, 1, 1)
    assert await world.say(CLIENTS[0]) == "reset"
    assert await world.say(CLIENTS[1]) == address(1)
    world.restart()
    assert await world.carry([*ports, mooring(CLIENTS[0], KEY, 2), mooring(CLIENTS[1], KEY, 1)]) == (0, 0, 0)


# --- Waiting for a mooring ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_a_pod_waits_for_its_mooring_and_goes_there_with_its_first_connection(
    world: World, key: ServiceAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that only the mooring can let it through.
    monkeypatch.setattr(ruleset, "HOLD_SECONDS", 30)
    ports: list[Unit] = [port(key, [1, 2, 3], HELD), *PODS]
    await world.carry([port(key, [1, 2, 3], MOORED)])
    client, *_ = clients_of(key)
    by_hash = await world.connect(client, key)
    await world.carry([])
    await world.carry(ports)
    knocking = await world.knock(client, key)
    elsewhere = next(number for number in (1, 2, 3) if address(number, key) != by_hash)
    await world.carry([*ports, mooring(client, key, elsewhere)])
    assert await knocking == address(elsewhere, key)


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_a_pod_that_gets_no_mooring_waits_once_and_never_again(world: World, key: ServiceAddress) -> None:
    client, *_ = clients_of(key)
    await world.carry([port(key, [1, 2, 3], HELD), *PODS])
    first = await (await world.knock(client, key))
    assert first in {address(number, key) for number in (1, 2, 3)}
    assert await who_waits(world, key) == [client]
    await world.expire()
    waiting = OF_FAMILY[key.family].waits.name
    anew = await world.connect(client, key)
    for _ in range(3):
        assert await world.nft.elements(waiting) == []
        assert await world.connect(client, key) == anew


async def test_no_agent_is_needed_to_let_a_waiting_client_through(world: World) -> None:
    await world.carry([port(KEY, [1], HELD), *PODS])
    world.restart()
    assert await (await world.knock(CLIENTS[0], KEY)) == address(1)
    assert await world.nft.elements("waits4") == [], "which is what let it through"


async def test_a_client_waits_at_each_port_for_itself(world: World) -> None:
    other = ServiceAddress(KEY.address, "tcp", 9001)
    await world.carry([port(KEY, [1], HELD), port(other, [1], HELD), *PODS])
    for key in (KEY, other):
        assert await (await world.knock(CLIENTS[0], key)) == address(1)


@pytest.mark.parametrize(
    ("affinity", "key", "pods"),
    [(HELD, UDP, PODS), (MOORED, KEY, PODS), (HELD, KEY, [prefix("10.244.2.0/24")]), (HELD, KEY, [])],
    ids=["over UDP", "where nobody is to wait", "who is no pod of this node", "where no pods are known"],
)
async def test_nobody_waits(world: World, affinity: Moored, key: ServiceAddress, pods: list[PodPrefix]) -> None:
    await world.carry([port(key, [1, 2, 3], affinity), *pods])
    for client in CLIENTS[:4]:
        assert (await world.connect(client, key)).startswith("203.0.113.")
    assert await who_waits(world) == []


async def test_a_client_with_a_session_or_a_mooring_does_not_wait(world: World) -> None:
    await world.carry([port(KEY, [1, 2, 3], HOURS)])
    before = await world.connect(CLIENTS[0], KEY)
    await world.carry([port(KEY, [1, 2, 3], HELD), *PODS, mooring(CLIENTS[1], KEY, 1)])
    assert await world.connect(CLIENTS[0], KEY) == before
    assert await world.connect(CLIENTS[1], KEY) == address(1)
    assert await who_waits(world) == []


async def test_where_nothing_more_can_be_remembered_nobody_waits_and_all_are_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MAX_WAITS", 2)
    await world.carry([port(KEY, [1, 2, 3], HELD), *PODS])
    for client in CLIENTS[:2]:
        await (await world.knock(client, KEY))
    waited = sorted(await who_waits(world))
    assert waited == CLIENTS[:2]
    async with asyncio.timeout(60):
        answers = [await world.connect(client, KEY) for client in CLIENTS[2:20]]
    assert all(each.startswith("203.0.113.") for each in answers)
    assert sorted(await who_waits(world)) == waited


async def test_what_is_learned_about_waiting_outlives_a_restart_and_a_change(world: World) -> None:
    await world.carry([port(KEY, [1, 2], HELD), *PODS])
    await (await world.knock(CLIENTS[0], KEY))
    world.restart()
    await world.carry([port(KEY, [1], HELD), *PODS, prefix("10.9.0.0/24")])
    assert await who_waits(world) == [CLIENTS[0]]

"""What clients see: on the real kernel, and by the same tests on the packet tracer."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from msgspec.structs import replace

from moorage.dataplane import sessions
from moorage.dataplane.changes import Ledger
from moorage.dataplane.model import ByClientIP, Endpoint, ServiceAddress, ServicePort, Target
from moorage.dataplane.schema import OF_FAMILY
from moorage.dataplane.units import own
from tests.support.network import CLIENTS, CLIENTS6
from tests.support.states import BOTH, port
from tests.support.world import World, kernel_world, tracer_world

KEY = ServiceAddress("10.96.0.1", "tcp", 9000)
KEY6 = ServiceAddress("fd00:10:96::1", "tcp", 9000)
UDP = ServiceAddress("10.96.0.1", "udp", 9000)
HOURS = 10800

WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {
    "kernel": kernel_world,
    "tracer": tracer_world,
}


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as made:
        yield made


async def answers(world: World, clients: list[str], key: ServiceAddress = KEY) -> dict[str, str]:
    """Each client -> who answers its next connection."""
    return {client: await world.connect(client, key) for client in clients}


def without(port_: ServicePort, *addresses: str) -> ServicePort:
    kept = tuple(each for each in port_.endpoints if each.target.address not in addresses)
    return ServicePort(port_.service, port_.key, kept, port_.affinity)


# --- Sticky and balanced -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, UDP, KEY6], ids=["tcp", "udp", "tcp over IPv6"])
async def test_with_affinity_a_client_reaches_the_same_endpoint_a_hundred_times(
    world: World, key: ServiceAddress
) -> None:
    clients = (CLIENTS6 if key.family == 6 else CLIENTS)[:4]
    await world.carry([port(key, [1, 2, 3], HOURS)])
    for client in clients:
        assert len({await world.connect(client, key) for _ in range(100)}) == 1, client
    assert await world.nft.packets("misses") == 0


async def test_with_affinity_many_clients_are_spread_over_all_endpoints(world: World) -> None:
    await world.carry([port(KEY, [1, 2, 3, 4], HOURS)])
    share = Counter((await answers(world, CLIENTS)).values())
    assert len(share) == 4
    # A fair hash gives each 10 of 40; 6 standard deviations are 16.
    assert max(share.values()) <= 26


@pytest.mark.parametrize("key", [KEY, UDP, KEY6], ids=["tcp", "udp", "tcp over IPv6"])
async def test_without_affinity_connections_are_balanced_evenly(world: World, key: ServiceAddress) -> None:
    client = (CLIENTS6 if key.family == 6 else CLIENTS)[0]
    await world.carry([port(key, [1, 2])])
    share = Counter([await world.connect(client, key) for _ in range(200)])
    # 100 each, with a standard deviation of 7; 6 of them are 42.
    assert set(share) == {each.target.address for each in port(key, [1, 2]).endpoints}
    assert min(share.values()) >= 58


async def test_weights_share_out_the_connections(world: World) -> None:
    light, heavy = port(KEY, [1]).endpoints[0], port(KEY, [2], weight=3).endpoints[0]
    await world.carry([ServicePort("x/y", KEY, (light, heavy))])
    share = Counter([await world.connect(CLIENTS[0], KEY) for _ in range(200)])
    # 50 and 150, with a standard deviation of 6; 6 of them are 37.
    assert 13 <= share["203.0.113.1"] <= 87


async def test_affinity_can_be_switched_on_and_off_for_the_next_connection(world: World) -> None:
    async def seen() -> set[str]:
        return {await world.connect(CLIENTS[0], KEY) for _ in range(40)}

    for _ in range(2):
        await world.carry([port(KEY, [1, 2], HOURS)])
        assert len(await seen()) == 1
        await world.carry([port(KEY, [1, 2])])
        assert len(await seen()) == 2
        assert await sessions.read(world.nft) == []


# --- Endpoints come and go ---------------------------------------------------------------------------------------


async def test_adding_endpoints_moves_no_active_client(world: World) -> None:
    await world.carry([port(KEY, [1, 2], HOURS)])
    before = await answers(world, CLIENTS)
    await world.carry([port(KEY, range(1, 10), HOURS)])
    assert await answers(world, CLIENTS) == before


async def test_over_ipv6_adding_endpoints_moves_no_active_client_where_sessions_can_be_learned(world: World) -> None:
    learns = world.capabilities.learn6
    await world.carry([port(KEY6, [1, 2], HOURS)])
    before = await answers(world, CLIENTS6, KEY6)
    learned = {each.client: each.target.address for each in await sessions.read(world.nft)}
    assert learned == (before if learns else {})
    await world.carry([port(KEY6, range(1, 10), HOURS)])
    after = await answers(world, CLIENTS6, KEY6)
    assert (after == before) == learns, "the hash alone moves some"


async def test_removing_an_endpoint_moves_exactly_its_clients(world: World) -> None:
    full = port(KEY, [1, 2, 3], HOURS)
    await world.carry([full])
    before = await answers(world, CLIENTS)
    synced = await world.carry([without(full, "203.0.113.2")])
    assert synced.sessions == list(before.values()).count("203.0.113.2")
    after = await answers(world, CLIENTS)
    assert {client for client in CLIENTS if before[client] != after[client]} == {
        client for client in CLIENTS if before[client] == "203.0.113.2"
    }
    assert "203.0.113.2" not in after.values()


async def test_a_session_ends_when_the_client_stays_away_for_its_timeout(world: World) -> None:
    await world.carry([port(KEY, [1], 100)])
    await answers(world, CLIENTS)
    await world.carry([port(KEY, range(1, 10), 100)])
    assert set((await answers(world, CLIENTS)).values()) == {"203.0.113.1"}, "pinned while the session lasts"
    await world.expire()
    assert len(set((await answers(world, CLIENTS)).values())) > 1, "any of them afterwards"


@pytest.mark.parametrize("key", [KEY, UDP, KEY6], ids=["tcp", "udp", "tcp over IPv6"])
async def test_after_its_session_a_client_chooses_anew_if_sessions_can_be_learned(
    world: World, key: ServiceAddress
) -> None:
    learns = key.family == 4 or world.capabilities.learn6
    clients = CLIENTS6 if key.family == 6 else CLIENTS
    await world.carry([port(key, range(1, 10), 100)])
    before = await answers(world, clients, key)
    assert await answers(world, clients, key) == before
    await world.expire()
    after = await answers(world, clients, key)
    # Nearly nine of ten clients choose another: that none of ten does is as likely as 10^-9.
    assert (after != before) == learns
    assert await answers(world, clients, key) == after
    assert await world.nft.packets("misses") == 0


async def test_a_new_connection_renews_the_session(world: World) -> None:
    await world.carry([port(KEY, [1], 100)])
    await world.connect(CLIENTS[0], KEY)
    await world.carry([port(KEY, [1], HOURS)])
    await world.connect(CLIENTS[0], KEY)
    (session,) = await sessions.read(world.nft)
    assert session.timeout == HOURS
    assert session.left > HOURS - 60


async def test_a_shorter_timeout_counts_from_the_last_connection(world: World) -> None:
    await world.carry([port(KEY, [1, 2], HOURS)])
    before = await world.connect(CLIENTS[0], KEY)
    await world.carry([port(KEY, [1, 2], 100)])
    (session,) = await sessions.read(world.nft)
    assert (session.client, session.key, session.target.address) == (CLIENTS[0], KEY, before)
    assert session.timeout == 100
    assert 60 < session.left <= 100


@pytest.mark.parametrize(("old", "new"), [(100, HOURS), (HOURS, 100)])
async def test_a_session_that_is_renewed_while_its_timeout_changes_stays(world: World, old: int, new: int) -> None:
    before, after = port(KEY, range(1, 10), old), port(KEY, range(1, 10), new)
    await world.carry([port(KEY, [1], old)])
    await world.connect(CLIENTS[0], KEY)
    await world.carry([before])
    for transaction in Ledger({KEY: before}, frozenset({4})).change_to({KEY: after}):
        await world.nft.run(transaction.script)
    await world.connect(CLIENTS[0], KEY)
    world.restart()
    await world.carry([after])
    (session,) = await sessions.read(world.nft)
    assert session.target.address == "203.0.113.1"
    assert session.timeout == new
    assert new - 60 <= session.left <= new


async def test_a_session_outlives_a_removal_however_short_its_timeout(world: World) -> None:
    await world.carry([port(KEY, [1], 1)])
    await world.connect(CLIENTS[0], KEY)
    assert (await world.carry([port(KEY, [1, 2], 1)])).sessions == 0
    assert (await world.carry([port(KEY, [1], 1)])).sessions == 0


async def test_only_new_connections_leave_an_endpoint_that_keeps_its_flows(world: World) -> None:
    full = port(KEY, [1, 2], HOURS)
    await world.carry([full])
    pinned = await world.open("kept", CLIENTS[0], KEY)
    rest = without(full, pinned)
    draining = ServicePort(rest.service, KEY, rest.endpoints, ByClientIP(HOURS), frozenset({Target(pinned, 80)}))
    await world.carry([draining])
    assert await world.say("kept") == pinned
    assert await world.connect(CLIENTS[0], KEY) == rest.endpoints[0].target.address
    await world.carry([rest])
    assert await world.say("kept") == "reset"


# --- Flows of endpoints that are gone ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_the_flows_of_a_removed_endpoint_are_reset_and_no_others(world: World, key: ServiceAddress) -> None:
    other = ServiceAddress(key.address, "tcp", 9001)
    full, bystander = port(key, [1, 2, 3], HOURS), port(other, [1, 2, 3], HOURS)
    await world.carry([full, bystander])
    clients = (CLIENTS6 if key.family == 6 else CLIENTS)[:8]
    mine = {client: await world.open(f"{client} mine", client, key) for client in clients}
    others = {client: await world.open(f"{client} other", client, other) for client in clients}
    gone = mine[clients[0]]
    await world.carry([without(full, gone), bystander])
    for client in clients:
        assert await world.say(f"{client} mine") == ("reset" if mine[client] == gone else mine[client])
        assert await world.say(f"{client} other") == others[client]
    assert (await world.connect(clients[0], key)) not in (gone, "refused", "timed out")


async def test_a_datagram_flow_goes_on_at_another_endpoint(world: World) -> None:
    full = port(UDP, [1, 2], HOURS)
    await world.carry([full])
    first = await world.connect(CLIENTS[0], UDP)
    await world.carry([without(full, first)])
    assert await world.connect(CLIENTS[0], UDP) in {"203.0.113.1", "203.0.113.2"} - {first}


# --- What cannot be carried --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, UDP, KEY6], ids=["tcp", "udp", "tcp over IPv6"])
async def test_no_endpoints_or_an_unknown_port_is_refused_at_once(world: World, key: ServiceAddress) -> None:
    client = (CLIENTS6 if key.family == 6 else CLIENTS)[0]
    await world.carry([port(key, [])])
    assert await world.connect(client, key) == "refused"
    assert await world.connect(client, key._replace(port=1)) == "refused"
    await world.carry([port(key, [1])])
    assert await world.connect(client, key) == port(key, [1]).endpoints[0].target.address
    await world.carry([port(key, [])])
    assert await world.connect(client, key) == "refused"


@pytest.mark.parametrize("key", [KEY, UDP, KEY6], ids=["tcp", "udp", "tcp over IPv6"])
async def test_a_port_whose_endpoints_are_for_other_nodes_meets_silence(world: World, key: ServiceAddress) -> None:
    client = (CLIENTS6 if key.family == 6 else CLIENTS)[0]
    ignoring = replace(port(key, [], HOURS), ignores=True)
    await world.carry([ignoring])
    assert await world.connect(client, key) == "timed out"
    world.restart()
    assert await world.carry([ignoring]) == (0, 0, 0)
    await world.carry([port(key, [1], HOURS)])
    assert await world.connect(client, key) == port(key, [1]).endpoints[0].target.address
    await world.carry([ignoring])
    assert await world.connect(client, key) == "timed out"
    world.restart()
    await world.carry([port(key, [])])
    assert await world.connect(client, key) == "refused"


async def test_one_target_of_two_services_is_kept_apart(world: World) -> None:
    other = ServiceAddress("10.96.0.2", "tcp", 9000)
    await world.carry([port(KEY, [1, 2], HOURS), port(other, [1, 2], HOURS)])
    first = await world.connect(CLIENTS[0], KEY)
    await world.connect(CLIENTS[0], other)
    await world.carry([without(port(KEY, [1, 2], HOURS), first), port(other, [1, 2], HOURS)])
    assert len(await sessions.read(world.nft)) == 1
    assert (await sessions.read(world.nft))[0].key == other


# --- The agent ---------------------------------------------------------------------------------------------------


async def test_a_restart_with_nothing_changed_changes_nothing(world: World) -> None:
    state = [port(KEY, [1, 2, 3], HOURS), port(UDP, [1, 2])]
    await world.carry(state)
    before = await answers(world, CLIENTS[:8])
    await world.open("kept", CLIENTS[0], KEY)
    world.restart()
    assert await world.carry(state) == (0, 0, 0)
    assert await world.say("kept") == before[CLIENTS[0]]
    assert await answers(world, CLIENTS[:8]) == before


async def test_what_changed_while_no_agent_ran_is_made_good(world: World) -> None:
    full = port(KEY, [1, 2, 3], HOURS)
    await world.carry([full, port(ServiceAddress("10.96.0.9", "tcp", 1), [1], HOURS)])
    pinned = await world.open("kept", CLIENTS[0], KEY)
    world.restart()
    await world.carry([without(full, pinned)])
    assert await world.say("kept") == "reset"
    assert pinned not in (await answers(world, CLIENTS)).values()


async def test_a_ruleset_that_somebody_flushed_is_programmed_anew(world: World) -> None:
    state = [port(KEY, [1, 2], HOURS)]
    await world.carry(state)
    await world.nft.run("delete table inet moorage\n")
    world.restart()
    await world.carry(state)
    assert (await world.connect(CLIENTS[0], KEY)).startswith("203.0.113.")


def test_endpoint_identities_decide_the_table_not_their_addresses() -> None:
    def moved(address: str) -> ServicePort:
        ends = (Endpoint("backend1", Target(address, 80)), Endpoint("backend2", Target("203.0.113.2", 80)))
        return ServicePort("x/y", KEY, ends, ByClientIP(HOURS))

    before, after = (
        own(moved(address), BOTH)[OF_FAMILY[4].slots["tcp"]] for address in ("203.0.113.1", "203.0.113.7")
    )
    assert {slot for slot in before if before[slot] != after[slot]} == {
        slot for slot in before if before[slot] == "203.0.113.1 . 80"
    }

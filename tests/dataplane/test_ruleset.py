"""The rules: what they do to a packet, and that they do not grow."""

import random

import pytest

from moorage.dataplane import ruleset
from moorage.dataplane.changes import Ledger
from moorage.dataplane.crowding import EVERYBODY
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import (
    Affinity,
    ByClientIP,
    Endpoint,
    Moored,
    NodeState,
    ServiceAddress,
    ServicePort,
    Unit,
)
from moorage.dataplane.policies import is_made_on_use
from moorage.dataplane.ruleset import base, rules_digest
from moorage.dataplane.schema import OF_FAMILY
from moorage.dataplane.units import own
from tests.support.states import BOTH, mooring, node_state, port, prefix, programmed
from tests.support.tracer import ACK, Packet, Tracer

KEY = ServiceAddress("10.96.0.1", "tcp", 9000)
KEY6 = ServiceAddress("fd00:10:96::1", "tcp", 9000)
SYN = Packet("10.244.1.2", 40_000, KEY.address, KEY.port)


def tracer(nft: FakeNft) -> Tracer:
    return Tracer(nft, random.Random(1).randrange)


async def rule_count(state: NodeState) -> int:
    nft, _ = await programmed(state)
    return sum(len(nft.rules(chain)) for chain in await nft.chains())


async def test_rules_do_not_grow_with_services_and_endpoints() -> None:
    few: NodeState = {KEY: port(KEY, [1, 2], 60)}
    keys = [ServiceAddress(f"10.96.{number}.1", "tcp", 80) for number in range(200)]
    many: NodeState = {key: port(key, range(1, 7), 60) for key in keys}
    assert await rule_count(few) == await rule_count(many)


async def test_rules_do_not_grow_with_moorings() -> None:
    one = port(KEY, [1, 2], Moored(60, holds=True))
    many = [mooring(f"10.244.{number}.2", KEY, 1) for number in range(200)]
    assert await rule_count({KEY: one}) == await rule_count(node_state([one, *many, prefix("10.244.0.0/16")]))


async def test_a_client_without_a_mooring_does_not_wait_again_as_long_as_it_comes_once_a_day() -> None:
    now = 0.0
    nft = FakeNft(lambda: now)
    units: list[Unit] = [port(KEY, [1], Moored(60, holds=True)), prefix("10.244.1.0/24")]
    await nft.run("\n".join(base(learn6=True)) + "\n")
    for transaction in Ledger({}, BOTH).change_to(dict(node_state(units))):
        await nft.run(transaction.script)
    seen = []
    for hours in (0, 1, 21, 42, 63, 63 + 25):
        now = hours * 3600.0
        seen.append(tracer(nft).trace(SYN).verdict)
    assert seen == ["dropped", "accepted", "accepted", "accepted", "accepted", "dropped"]


async def test_no_rule_of_a_udp_port_is_about_waiting() -> None:
    key = KEY._replace(protocol="udp")
    nft, _ = await programmed({key: port(key, [1], Moored(60, holds=True))})
    assert not [rule for chain in await nft.chains() for rule in nft.rules(chain) if "@wait" in rule]


@pytest.mark.parametrize("hook", ["prerouting", "output"])
async def test_pods_and_processes_of_the_node_are_served_alike(hook: str) -> None:
    nft, _ = await programmed({KEY: port(KEY, [1], 60)})
    assert tracer(nft).connect(SYN._replace(hook=hook)).destination == ("203.0.113.1", 80)


async def test_a_retransmitted_syn_does_not_learn_an_endpoint_that_was_taken_out() -> None:
    nft, ledger = await programmed({KEY: port(KEY, [1, 2], 60)})
    kernel = tracer(nft)
    first = kernel.trace(SYN)
    assert first.learned
    gone = int(first.destination[0].rpartition(".")[2])
    for transaction in ledger.change_to({KEY: port(KEY, {1, 2} - {gone}, 60)}):
        await nft.run(transaction.script)
    again = kernel.trace(SYN)
    assert again.destination == first.destination, "the flow is still tracked, and keeps its translation"
    assert again.state == "new"
    assert again.learned == []


async def test_a_packet_in_the_middle_of_an_untracked_flow_is_reset_before_it_is_translated() -> None:
    nft, _ = await programmed({KEY: port(KEY, [1])})
    trace = tracer(nft).trace(SYN._replace(flags=ACK))
    assert (trace.verdict, trace.how) == ("rejected", "tcp reset")
    assert trace.destination == (KEY.address, KEY.port)


async def test_packets_of_an_established_connection_meet_no_rule() -> None:
    nft, _ = await programmed({KEY: port(KEY, [1], 60)})
    kernel = tracer(nft)
    assert kernel.connect(SYN).rules
    later = kernel.trace(SYN._replace(flags=ACK))
    assert (later.verdict, later.destination, later.rules) == ("accepted", ("203.0.113.1", 80), [])


async def test_packets_to_addresses_that_are_not_ours_pass_untouched() -> None:
    nft, _ = await programmed({KEY: port(KEY, [1])})
    for packet in (SYN._replace(daddr="198.51.100.1"), SYN._replace(daddr="198.51.100.1", flags=ACK)):
        trace = tracer(nft).trace(packet)
        assert trace.verdict == "accepted"
        assert trace.destination[0] == "198.51.100.1"


@pytest.mark.parametrize(("proto", "how"), [("tcp", "tcp reset"), ("udp", "port unreachable")])
async def test_an_unknown_port_of_a_known_address_is_rejected_by_the_protocols_own_means(
    proto: str, how: str
) -> None:
    nft, _ = await programmed({KEY: port(KEY, [1])})
    trace = tracer(nft).trace(SYN._replace(dport=1, proto=proto))
    assert (trace.verdict, trace.how) == ("rejected", how)


async def test_only_a_local_endpoint_that_is_its_own_client_is_masqueraded() -> None:
    (other,) = port(KEY, [1]).endpoints
    local = Endpoint("pod", other.target, local=True)
    nft, _ = await programmed({KEY: ServicePort(service="x/y", key=KEY, endpoints=(local,))})
    assert tracer(nft).connect(SYN._replace(saddr="203.0.113.1")).masqueraded
    assert not tracer(nft).connect(SYN).masqueraded


async def test_without_learning_ipv6_affinity_holds_by_the_hash_alone() -> None:
    nft = FakeNft(lambda: 0.0)
    await nft.run("\n".join(base(learn6=False)) + "\n")
    for transaction in Ledger({}, frozenset({4})).change_to({KEY6: port(KEY6, [1, 2, 3], 60)}):
        await nft.run(transaction.script)
    kernel = tracer(nft)
    packets = [Packet("fd00:10:244::2", sport, KEY6.address, KEY6.port) for sport in range(40_000, 40_020)]
    traces = [kernel.connect(packet) for packet in packets]
    assert len({trace.destination for trace in traces}) == 1
    assert not any(trace.learned for trace in traces)


@pytest.mark.parametrize("affinity", [ByClientIP(60), Moored(60)], ids=["ClientIP", "moored"])
@pytest.mark.parametrize("key", [KEY, KEY6, KEY._replace(protocol="udp")], ids=["tcp", "tcp over IPv6", "udp"])
async def test_connections_at_the_same_instant_choose_alike_and_those_of_another_second_anew(
    affinity: Affinity, key: ServiceAddress
) -> None:
    nft, _ = await programmed({key: port(key, range(1, 10), affinity)})
    now = 0.0
    kernel = Tracer(nft, random.Random(1).randrange, clock=lambda: now)
    source = "fd00:10:244::2" if key.family == 6 else SYN.saddr

    async def first_choice(sport: int) -> str:
        """The endpoint of a connection that comes before another has been learned."""
        await nft.run(f"flush map inet moorage {OF_FAMILY[key.family].sessions.name}\n")
        return kernel.connect(Packet(source, sport, key.address, key.port, key.protocol)).destination[0]

    seen: list[str] = []
    for second in range(40):
        for part in (0.0, 0.9):
            now = second + part
            seen.append(await first_choice(len(seen) + 1))
    assert seen[0::2] == seen[1::2]
    assert len(set(seen)) > 4, "40 choices of 9 endpoints"
    now = 86_400.0
    assert await first_choice(100) == seen[0], "the second is that of the day"


@pytest.mark.parametrize("key", [KEY, KEY6], ids=["IPv4", "IPv6"])
async def test_whoever_is_crowded_chooses_by_address_alone_and_keeps_the_session_that_it_has(
    key: ServiceAddress,
) -> None:
    nft, _ = await programmed({key: port(key, range(1, 10), 60)})
    now = 0.0
    kernel = Tracer(nft, random.Random(1).randrange, clock=lambda: now)
    containers = OF_FAMILY[key.family]
    clients = [f"fd00:10:244::{n:x}" if key.family == 6 else f"10.244.1.{n}" for n in range(2, 22)]

    def choices(sport: int) -> list[str]:
        return [kernel.connect(Packet(each, sport, key.address, key.port)).destination[0] for each in clients]

    before = choices(1)
    await nft.run(f"add element inet moorage {containers.crowded.name} {{ {EVERYBODY[key.family]} }}\n")
    assert choices(2) == before
    await nft.run(f"flush map inet moorage {containers.sessions.name}\n")
    alone = choices(3)
    assert alone != before
    now = 7.0
    await nft.run(f"flush map inet moorage {containers.sessions.name}\n")
    assert choices(4) == alone


def test_another_rule_of_a_policy_is_another_version_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rules_digest(learn6=True)
    assert rules_digest(learn6=True) == before != rules_digest(learn6=False)
    monkeypatch.setattr(ruleset, "SEED", 1)
    assert rules_digest(learn6=True) != before


async def test_the_base_ruleset_can_be_applied_again_and_changes_nothing() -> None:
    nft, _ = await programmed({KEY: port(KEY, [1, 2], 60), KEY6: port(KEY6, [1], 60)})
    chains = {chain: nft.rules(chain) for chain in await nft.chains()}
    before = await nft.elements("slots-tcp4")
    await nft.run("\n".join(base(learn6=True)) + "\n")
    assert {chain: nft.rules(chain) for chain in await nft.chains()} == chains
    assert await nft.elements("slots-tcp4") == before


def test_no_set_that_nft_1_1_makes_is_one_that_crashes_nft_1_0_6() -> None:
    declared = [line.split(" { ")[1] for line in base(learn6=True) if line.startswith(("add set", "add map"))]
    with_type = [each.split(";")[0].removeprefix("type ") for each in declared if each.startswith("type ")]
    assert [each for each in with_type if " . " not in each or each.endswith("verdict")] == []


async def test_policy_chains_are_told_from_those_of_the_base() -> None:
    nft, ledger = await programmed({KEY: port(KEY, [1, 2], 60), KEY6: port(KEY6, [1])})
    policies = {chain for chain in await nft.chains() if is_made_on_use(chain)}
    assert policies == {"clientip-60-24-tcp4", "learn-60-tcp4", "balanced-1-tcp6"}
    for transaction in ledger.change_to({KEY: None, KEY6: None}):
        await nft.run(transaction.script)
    assert {chain for chain in await nft.chains() if is_made_on_use(chain)} == set()


def test_a_table_of_another_size_shares_no_slot() -> None:
    ports = [port(KEY, range(1, n), 60) for n in (3, 9, 20)] + [port(KEY, range(1, n)) for n in (3, 4, 5, 9)]
    slots = [set(own(each, BOTH)[OF_FAMILY[4].slots["tcp"]]) for each in ports]
    assert all(not one & other for one in slots for other in slots if one is not other)

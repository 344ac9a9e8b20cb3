"""The tracer does to packets what the kernel does: its hash is the kernel's, the rest holds known facts."""

import os
import random
import socket

import pytest

from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.nft import KernelNft
from tests.support.netns import Namespace, namespace
from tests.support.rules import UnknownStatementError, parse
from tests.support.tracer import ACK, Packet, Tracer

SERVICE = "10.96.0.1"
RULES = """\
add table inet moorage
add counter inet moorage misses
add map inet moorage services4 { typeof ip daddr . ip protocol . th dport : verdict; }
add set inet moorage addresses4 { typeof ip daddr; }
add map inet moorage sessions4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; \
flags dynamic,timeout; size 2; }
add map inet moorage slots-tcp4 { typeof ip daddr . tcp dport . numgen inc mod 256 : ip daddr . tcp dport; }
add map inet moorage slots-tcp6 { typeof ip6 daddr . tcp dport . numgen inc mod 256 : ip6 daddr . tcp dport; }
add map inet moorage learners4 { typeof ip daddr . ip protocol . tcp dport . ip daddr . tcp dport : verdict; }
add set inet moorage hairpin4 { typeof ip saddr . ip daddr; }
add chain inet moorage sticky
add rule inet moorage sticky meta l4proto tcp dnat ip to ip saddr . ip daddr . ip protocol . th dport map @sessions4
add rule inet moorage sticky meta l4proto tcp dnat ip to ip daddr . tcp dport . jhash ip saddr mod 2 \
seed 0x6d6f6f72 offset 1 map @slots-tcp4
add rule inet moorage sticky counter name misses
add chain inet moorage balanced
add rule inet moorage balanced meta l4proto tcp dnat ip to ip daddr . tcp dport . numgen random mod 2 offset 1 \
map @slots-tcp4
add chain inet moorage learn
add rule inet moorage learn meta l4proto tcp update @sessions4 { ip saddr . ct original ip daddr . ip protocol . \
ct original proto-dst timeout 100s : ip daddr . tcp dport }
add chain inet moorage learn-postrouting { type filter hook postrouting priority 0; }
add rule inet moorage learn-postrouting meta l4proto tcp ct state new ct status dnat ct original ip daddr . \
ip protocol . ct original proto-dst . ip daddr . tcp dport vmap @learners4
add chain inet moorage masquerade-postrouting { type nat hook postrouting priority 100; }
add rule inet moorage masquerade-postrouting ct status dnat ip saddr . ip daddr @hairpin4 masquerade
add element inet moorage services4 { 10.96.0.1 . tcp . 80 : goto sticky, 10.96.0.1 . tcp . 81 : goto balanced }
add element inet moorage addresses4 { 10.96.0.1 }
add element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 1 : 203.0.113.1 . 8080, \
10.96.0.1 . 80 . 2 : 203.0.113.2 . 8080 }
add element inet moorage slots-tcp4 { 10.96.0.1 . 81 . 1 : 203.0.113.1 . 8080, \
10.96.0.1 . 81 . 2 : 203.0.113.2 . 8080 }
add element inet moorage learners4 { 10.96.0.1 . tcp . 80 . 203.0.113.1 . 8080 : goto learn, \
10.96.0.1 . tcp . 80 . 203.0.113.2 . 8080 : goto learn }
"""
HOOKS = "\n".join(
    f"""\
add chain inet moorage before-dnat-{hook} {{ type filter hook {hook} priority -110; }}
add rule inet moorage before-dnat-{hook} ct state new ip daddr @addresses4 tcp flags & (syn|ack) == ack \
reject with tcp reset
add chain inet moorage dnat-{hook} {{ type nat hook {hook} priority -110; }}
add rule inet moorage dnat-{hook} ip daddr . ip protocol . th dport vmap @services4
add chain inet moorage after-dnat-{hook} {{ type filter hook {hook} priority -95; }}
add rule inet moorage after-dnat-{hook} ct state new ip daddr @addresses4 meta l4proto tcp reject with tcp reset
add rule inet moorage after-dnat-{hook} ct state new ip daddr @addresses4 reject with icmpx port-unreachable
"""
    for hook in ("prerouting", "output")
)
FIRST, SECOND = ("203.0.113.1", 8080), ("203.0.113.2", 8080)


class World:
    """A fake kernel with the rules above, its tracer, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nft = FakeNft(clock=lambda: self.now)
        self.tracer = Tracer(self.nft, random.Random(1).randrange)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.nft.run(RULES + HOOKS)
    return made


def syn(client: int = 1, port: int = 80, sport: int = 4000, proto: str = "tcp", hook: str = "prerouting") -> Packet:
    """What opens a connection from pod `client` to the service."""
    return Packet(f"10.244.0.{client}", sport, SERVICE, port, proto, hook=hook)


@pytest.mark.parametrize("hook", ["prerouting", "output"])
async def test_a_new_connection_goes_to_its_slots_endpoint_and_is_learned(world: World, hook: str) -> None:
    trace = world.tracer.connect(syn(hook=hook))
    assert trace.verdict == "accepted"
    assert trace.state == "new"
    assert trace.destination in (FIRST, SECOND)
    assert trace.source == ("10.244.0.1", 4000)
    assert trace.learned == [("sessions4", ("10.244.0.1", SERVICE, "tcp", 80), trace.destination, 100)]
    [session] = await world.nft.elements("sessions4")
    assert session.value == trace.destination


def all_slots_to(endpoint: tuple[str, int]) -> str:
    """A transaction after which port 80 of the service has only this endpoint."""
    slots = ", ".join(f"{SERVICE} . 80 . {slot} : {endpoint[0]} . {endpoint[1]}" for slot in (1, 2))
    return f"flush map inet moorage slots-tcp4\nadd element inet moorage slots-tcp4 {{ {slots} }}\n"


async def test_a_session_outlives_a_change_of_the_slots_until_it_expires(world: World) -> None:
    before = world.tracer.connect(syn(sport=1)).destination
    other = SECOND if before == FIRST else FIRST
    await world.nft.run(all_slots_to(other))
    world.now = 99
    assert world.tracer.connect(syn(sport=2)).destination == before
    world.now = 198
    assert world.tracer.connect(syn(sport=3)).destination == before, "each new connection renews it"
    world.now = 299
    assert world.tracer.connect(syn(sport=4)).destination == other


async def test_learning_a_known_client_anew_keeps_the_old_endpoint(world: World) -> None:
    world.nft.update("sessions4", ("10.244.0.1", SERVICE, "tcp", 80), FIRST, 50)
    world.nft.update("sessions4", ("10.244.0.1", SERVICE, "tcp", 80), SECOND, 100)
    [session] = await world.nft.elements("sessions4")
    assert (session.value, session.timeout, session.expires) == (FIRST, 50, 100)


async def test_where_sessions_are_full_the_hash_still_decides(world: World) -> None:
    traces = [world.tracer.connect(syn(client)) for client in (1, 2, 3)]
    assert [trace.verdict for trace in traces] == ["accepted"] * 3
    assert traces[2].learned == []
    assert len(await world.nft.elements("sessions4")) == 2


async def test_a_balanced_connection_takes_the_injected_number(world: World) -> None:
    numbers = iter([0, 1, 1])
    tracer = Tracer(world.nft, lambda modulus: next(numbers))
    traces = [tracer.connect(syn(port=81, sport=number)) for number in range(3)]
    assert [trace.destination for trace in traces] == [FIRST, SECOND, SECOND]
    assert traces[0].learned == []


async def test_a_retransmission_is_new_and_keeps_its_translation(world: World) -> None:
    first = world.tracer.trace(syn())
    await world.nft.run("flush map inet moorage learners4\nflush map inet moorage sessions4\n")
    await world.nft.run(all_slots_to(SECOND if first.destination == FIRST else FIRST))
    again = world.tracer.trace(syn())
    assert (again.state, again.destination, again.learned) == ("new", first.destination, [])


async def test_an_established_flow_keeps_its_endpoint_when_all_is_taken_away(world: World) -> None:
    first = world.tracer.connect(syn())
    await world.nft.run("flush map inet moorage slots-tcp4\nflush map inet moorage services4\n")
    later = world.tracer.trace(syn()._replace(flags=ACK))
    assert (later.verdict, later.state, later.destination) == ("accepted", "established", first.destination)


async def test_a_packet_of_a_forgotten_flow_is_reset(world: World) -> None:
    world.tracer.connect(syn())
    assert world.tracer.forget(syn())
    later = world.tracer.trace(syn()._replace(flags=ACK))
    assert (later.verdict, later.how) == ("rejected", "tcp reset")
    assert later.rules[-1].startswith("before-dnat-prerouting: ")
    assert world.tracer.connections == []


@pytest.mark.parametrize(("flags", "loose"), [("ack", False), ("rst", True), ("fin ack", True), ("syn ack", True)])
async def test_what_cannot_begin_a_flow_is_invalid_and_passes_by_our_rules(
    world: World, flags: str, loose: bool
) -> None:
    tracer = Tracer(world.nft, random.Random(1).randrange, tcp_loose=loose)
    trace = tracer.trace(syn()._replace(flags=frozenset(flags.split())))
    assert (trace.verdict, trace.state, trace.destination) == ("accepted", "invalid", (SERVICE, 80))


async def test_an_unknown_port_is_rejected_at_once(world: World) -> None:
    tcp, udp = world.tracer.trace(syn(port=82)), world.tracer.trace(syn(port=80, proto="udp"))
    assert (tcp.verdict, tcp.how) == ("rejected", "tcp reset")
    assert (udp.verdict, udp.how) == ("rejected", "port unreachable")


async def test_an_address_that_is_not_ours_is_left_alone(world: World) -> None:
    trace = world.tracer.trace(syn()._replace(daddr="198.51.100.7"))
    assert (trace.verdict, trace.destination) == ("accepted", ("198.51.100.7", 80))
    v6 = world.tracer.trace(Packet("2001:db8::1", 1, "2001:db8::2", 80))
    assert (v6.verdict, v6.destination) == ("accepted", ("2001:db8::2", 80))


async def test_a_miss_is_counted_and_rejected(world: World) -> None:
    await world.nft.run("flush map inet moorage slots-tcp4")
    assert world.tracer.trace(syn()).verdict == "rejected"
    assert await world.nft.packets("misses") == 1


async def test_a_pod_that_reaches_itself_is_masqueraded_and_gets_its_answer(world: World) -> None:
    await world.nft.run(
        "flush map inet moorage slots-tcp4\n"
        "add element inet moorage hairpin4 { 10.244.0.1 . 10.244.0.1 }\n"
        f"add element inet moorage slots-tcp4 {{ {SERVICE} . 80 . 1 : 10.244.0.1 . 8080, "
        f"{SERVICE} . 80 . 2 : 10.244.0.1 . 8080 }}"
    )
    trace = world.tracer.trace(syn())
    assert trace.masqueraded
    assert (trace.source, trace.destination) == (("192.0.2.1", 4000), ("10.244.0.1", 8080))
    answer = world.tracer.trace(Packet("10.244.0.1", 8080, "192.0.2.1", 4000, flags=frozenset({"syn", "ack"})))
    assert (answer.state, answer.source, answer.destination) == (
        "established",
        (SERVICE, 80),
        ("10.244.0.1", 4000),
    )
    assert world.tracer.trace(syn()._replace(flags=ACK)).state == "established"
    assert not world.tracer.trace(syn(2)).masqueraded


async def test_nat_chains_run_at_minus_100_whatever_their_own_priority(world: World) -> None:
    """A filter chain at -105 stands after our NAT chain's -110 and yet sees the packet before it is translated."""
    await world.nft.run(
        "add chain inet moorage watch { type filter hook prerouting priority -105; }\n"
        f"add rule inet moorage watch ip daddr {SERVICE} drop\n"
    )
    assert world.tracer.trace(syn()).verdict == "dropped"


async def test_verdicts_end_what_they_end_in_the_kernel(world: World) -> None:
    await world.nft.run(
        "add counter inet moorage a\nadd counter inet moorage b\nadd counter inet moorage c\n"
        "add chain inet moorage called\n"
        "add rule inet moorage called ip saddr 10.244.0.1 return\n"
        "add rule inet moorage called ip saddr 10.244.0.2 accept\n"
        "add rule inet moorage called counter name a\n"
        "add chain inet moorage first { type filter hook prerouting priority -120; }\n"
        "add rule inet moorage first ip saddr != 10.244.0.4 jump called\n"
        "add rule inet moorage first ip saddr 10.244.0.4 goto called\n"
        "add rule inet moorage first counter name b\n"
        "add chain inet moorage second { type filter hook prerouting priority -115; }\n"
        "add rule inet moorage second counter name c\n"
    )
    expected = {1: (0, 1, 1), 2: (0, 0, 1), 3: (1, 1, 1), 4: (1, 0, 1)}
    for client, counts in expected.items():
        before = [await world.nft.packets(name) for name in "abc"]
        world.tracer.trace(syn(client))
        after = [await world.nft.packets(name) for name in "abc"]
        assert tuple(b - a for a, b in zip(before, after, strict=True)) == counts, f"client {client}"


@pytest.mark.parametrize(
    "rule",
    [
        "frobnicate",
        "ip ttl 5 drop",
        "drop frobnicate",
        "ip daddr . ip protocol . jhash ip saddr mod 4 vmap @services4",
        "snat ip to 192.0.2.1",
        "reject with tcp",
        "update @sessions4 { ip saddr : ip daddr }",
        "ip saddr . ip daddr 5",
        "meta mark set 1",
    ],
)
def test_fails_on_a_statement_that_it_does_not_know(rule: str) -> None:
    with pytest.raises(UnknownStatementError):
        parse(rule)


async def test_fails_on_a_look_up_with_a_key_of_another_form(world: World) -> None:
    await world.nft.run("add rule inet moorage before-dnat-prerouting ip saddr . ip daddr @addresses4 drop")
    with pytest.raises(ValueError, match="addresses4"):
        world.tracer.trace(syn())


# --- The hash, against the kernel's --------------------------------------------------------------------------------

CLIENTS = 200
SEED = 0x6D6F6F72
SEND = """
import ipaddress, socket, sys
first, service, port, count = ipaddress.ip_address(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if first.version == 6 else socket.AF_INET
level, freebind = (socket.IPPROTO_IPV6, 78) if first.version == 6 else (socket.IPPROTO_IP, 15)
for number in range(count):
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(level, freebind, 1)
        sender.bind((str(first + 257 * number), 4000))
        sender.sendto(b"x", (service, port))
"""


def hash_rules(family: int, moduli: list[int]) -> str:
    """Port M of the service sends UDP to the endpoint whose port is 1000 + the slot of a table of modulus M."""
    ip, address = ("ip", "198.51.100.1") if family == 4 else ("ip6", "2001:db8:5::1")
    service = SERVICE if family == 4 else "2001:db8:96::1"
    endpoint = f"{ip} daddr . udp dport"
    lines = [
        "add table inet moorage",
        f"add map inet moorage slots {{ typeof {endpoint} . numgen inc mod 256 : {endpoint}; }}",
        "add chain inet moorage dnat-output { type nat hook output priority -110; }",
    ]
    for modulus in moduli:
        offset = modulus * (modulus - 1) // 2
        slots = (f"{service} . {modulus} . {slot + offset} : {address} . {1000 + slot}" for slot in range(modulus))
        lines += [
            f"add chain inet moorage mod{modulus}",
            f"add rule inet moorage mod{modulus} meta l4proto udp dnat {ip} to {ip} daddr . udp dport . "
            f"jhash {ip} saddr mod {modulus} seed {SEED:#x} offset {offset} map @slots",
            f"add rule inet moorage dnat-output udp dport {modulus} goto mod{modulus}",
            f"add element inet moorage slots {{ {', '.join(slots)} }}",
        ]
    return "\n".join(lines)


@pytest.mark.parametrize("family", [4, 6])
async def test_the_hash_is_the_kernels(netns: Namespace, family: int) -> None:
    moduli = [2, 3, 10, 100, 256]
    script = hash_rules(family, moduli)
    await KernelNft(netns.prefix).run(script)
    fake = FakeNft(clock=lambda: 0.0)
    await fake.run(script)
    tracer = Tracer(fake, random.Random(1).randrange)
    if family == 4:
        first, service = "10.244.0.1", SERVICE
        networks = ("10.244.0.0/16", "10.96.0.0/16", "198.51.100.0/24")
    else:
        first, service = "2001:db8:244::1", "2001:db8:96::1"
        networks = ("2001:db8:244::/48", "2001:db8:96::/48", "2001:db8:5::/48")
    for network in networks:
        netns.run("ip", f"-{family}", "route", "add", "local", network, "dev", "lo")
    for modulus in moduli:
        netns.python(SEND, first, service, str(modulus), str(CLIENTS))
    flows = [flow for flow in await KernelConntrack(netns.prefix).flows(family) if flow.destination == service]
    assert len(flows) == CLIENTS * len(moduli)
    for flow in flows:
        packet = Packet(flow.source, flow.source_port, service, flow.destination_port, "udp", hook="output")
        assert tracer.trace(packet).destination == (flow.reply_source, flow.reply_source_port)
    assert len({flow.reply_source_port for flow in flows if flow.destination_port == 100}) > 60, "it spreads"


def test_a_namespace_is_gone_after_its_block_and_sockets_of_it_are_its_own() -> None:
    with namespace() as made:
        pid = made.pid
        with made.socket(socket.AF_INET, socket.SOCK_STREAM) as there, socket.socket() as here:
            there.bind(("127.0.0.1", 0))
            here.bind(("127.0.0.1", there.getsockname()[1]))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

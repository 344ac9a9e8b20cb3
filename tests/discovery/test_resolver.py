"""Look-ups against a real name server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import dns.rcode
import dns.rrset
import pytest

from moorage.cluster.pace import Pace
from moorage.discovery.resolver import RECORDS_PER_QUESTION, Addresses, LookupFailedError, Resolver, Server, account
from testing.eventually import eventually
from testing.nameserver import NameServer, name_server


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with name_server() as running:
        yield running


@pytest.fixture
def resolver(server: NameServer) -> Resolver:
    return Resolver(name_servers=(("127.0.0.1", server.port),), lifetime=20, timeout=20)


async def test_addresses_come_sorted_by_number_with_their_ttl(server: NameServer, resolver: Resolver) -> None:
    server.put("db.example.com", "A", "203.0.113.100", "203.0.113.20", "203.0.113.3", ttl=42)
    server.put("db.example.com", "AAAA", "2001:DB8:0::1", ttl=43)
    assert await resolver.addresses("db.example.com", "A") == Addresses(
        ("203.0.113.3", "203.0.113.20", "203.0.113.100"), 42
    )
    assert await resolver.addresses("DB.example.com.", "AAAA") == Addresses(("2001:db8::1",), 43)


@pytest.mark.parametrize(("ttl", "used"), [(0, 1), (1, 1), (300, 300), (86400, 300)])
async def test_a_ttl_is_held_between_a_second_and_five_minutes(
    server: NameServer, resolver: Resolver, ttl: int, used: float
) -> None:
    server.put("db.example.com", "A", "203.0.113.1", ttl=ttl)
    assert (await resolver.addresses("db.example.com", "A")).ttl == used
    server.soa = ttl
    assert await resolver.addresses("none.example.com", "A") == Addresses((), used)


async def test_a_large_answer_is_used_for_longer(server: NameServer, resolver: Resolver) -> None:
    server.put("db.example.com", "A", *(f"198.18.{number // 250}.{number % 250}" for number in range(1000)), ttl=1)
    found = await resolver.addresses("db.example.com", "A")
    assert len(found.addresses) == 1000
    assert found.ttl == pytest.approx(10, abs=0.02)


async def test_a_chain_of_cnames_has_the_least_ttl_of_its_links(server: NameServer, resolver: Resolver) -> None:
    server.put("db.example.com", "CNAME", "a.example.com.", ttl=20)
    server.put("a.example.com", "CNAME", "b.example.com.", ttl=5)
    server.put("b.example.com", "A", "203.0.113.1", ttl=60)
    for server.follows in (True, False):
        assert await resolver.addresses("db.example.com", "A") == Addresses(("203.0.113.1",), 5)


async def test_a_chain_that_never_ends_is_a_failure(server: NameServer, resolver: Resolver) -> None:
    server.follows = False
    server.put("a.example.com", "CNAME", "b.example.com.")
    server.put("b.example.com", "CNAME", "a.example.com.")
    with pytest.raises(
        LookupFailedError, match=r"^a.example.com A: its chain of CNAME records does not end; shorten it$"
    ):
        await resolver.addresses("a.example.com", "A")


async def test_no_such_name_no_such_record_and_an_alias_to_nothing_are_empty_answers(
    server: NameServer, resolver: Resolver
) -> None:
    server.put("db.example.com", "AAAA", "2001:db8::1")
    server.put("alias.example.com", "CNAME", "nothing.example.com.", ttl=7)
    assert await resolver.addresses("nothing.example.com", "A") == Addresses((), 60)
    assert await resolver.addresses("db.example.com", "A") == Addresses((), 60)
    assert await resolver.addresses("alias.example.com", "A") == Addresses((), 7)
    server.soa = None
    assert await resolver.addresses("nothing.example.com", "A") == Addresses((), 30)


async def test_a_name_is_absolute_so_no_search_list_is_gone_through(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\nsearch example.com\noptions ndots:5\n")
    monkeypatch.setattr("moorage.discovery.resolver.PORT", server.port)
    resolver = Resolver(resolv_conf)
    server.put("db.example.com", "A", "203.0.113.1")
    assert (await resolver.addresses("db", "A")).addresses == ()
    assert [name for _, name, _ in server.asked] == ["db"]


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
async def test_a_refusal_is_no_empty_answer(server: NameServer, resolver: Resolver, rcode: dns.rcode.Rcode) -> None:
    server.rcode = rcode
    with pytest.raises(LookupFailedError) as caught:
        await resolver.addresses("db.example.com", "A")
    assert str(caught.value) == (
        f"db.example.com A: 127.0.0.1 port {server.port} answered {dns.rcode.to_text(rcode)}"
    )


async def test_a_referral_is_no_empty_answer(server: NameServer, resolver: Resolver) -> None:
    server.put("db.example.com", "AAAA", "2001:db8::1")
    server.referral = True
    with pytest.raises(LookupFailedError, match="only refers to others"):
        await resolver.addresses("db.example.com", "A")


async def test_silence_is_no_empty_answer(server: NameServer) -> None:
    resolver = Resolver(name_servers=(("127.0.0.1", server.port),), lifetime=0.5, timeout=0.2)
    server.silent = True
    with pytest.raises(LookupFailedError, match=r"no answer from 127\.0\.0\.1 port \d+ within 0.5 s; can it be"):
        await resolver.addresses("db.example.com", "A")


async def test_the_next_name_server_is_asked_where_one_fails(server: NameServer) -> None:
    async with name_server() as broken:
        broken.rcode = dns.rcode.SERVFAIL
        server.put("db.example.com", "A", "203.0.113.1")
        both = Resolver(name_servers=(("127.0.0.1", broken.port), ("127.0.0.1", server.port)))
        assert (await both.addresses("db.example.com", "A")).addresses == ("203.0.113.1",)
        assert broken.asked


async def test_an_answer_that_is_cut_off_is_asked_for_over_tcp(server: NameServer, resolver: Resolver) -> None:
    server.put("db.example.com", "A", *(f"203.0.{number // 250}.{number % 250}" for number in range(2000)))
    assert len((await resolver.addresses("db.example.com", "A")).addresses) == 2000
    assert [protocol for protocol, _, _ in server.asked] == ["udp", "tcp"]


async def test_srv_records_keep_priority_weight_and_port(server: NameServer, resolver: Resolver) -> None:
    server.put(
        "_db._tcp.example.com", "SRV", "20 0 5432 Spare.example.com.", "10 5 5433 db1.example.com.", "0 0 0 .", ttl=9
    )
    found = await resolver.servers("_db._tcp.example.com")
    assert found.servers == (
        Server(0, 0, 0, ""),
        Server(10, 5, 5433, "db1.example.com"),
        Server(20, 0, 5432, "spare.example.com"),
    )
    assert found.ttl == 9


async def test_a_target_with_a_dot_in_a_label_is_written_with_a_backslash(
    server: NameServer, resolver: Resolver
) -> None:
    server.put("_db._tcp.example.com", "SRV", r"0 0 80 we\.ird.example.com.")
    (found,) = (await resolver.servers("_db._tcp.example.com")).servers
    assert found.target == r"we\.ird.example.com"


@pytest.mark.looptime
async def test_questions_are_spread_where_there_are_too_many(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = asyncio.get_running_loop().time
    asked: list[float] = []

    async def follow(name: object, type: str) -> tuple[None, list[object], float]:
        asked.append(now())
        return None, [], 1.0

    resolver = Resolver(a_second=10.0)
    monkeypatch.setattr(resolver, "_follow", follow)
    start = now()
    await asyncio.gather(*(resolver.addresses("db.example.com", "A") for _ in range(50)))
    assert sum(at - start < 0.05 for at in asked) in (10, 11)
    assert 3.85 < asked[-1] - start < 4.05


async def test_a_machine_without_a_name_server_is_said(tmp_path: Path) -> None:
    resolver = Resolver(tmp_path / "resolv.conf")
    with pytest.raises(LookupFailedError, match=r"no name server is known; put one into .*resolv.conf"):
        await resolver.addresses("db.example.com", "A")


async def test_name_servers_are_read_again_when_they_change(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolver = Resolver(resolv_conf)
    resolv_conf.write_text("nameserver 192.0.2.1\n")
    assert resolver._servers() == (("192.0.2.1", 53),)
    resolv_conf.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert resolver._servers() == (("192.0.2.1", 53), ("192.0.2.2", 53))


@pytest.mark.parametrize("name", ["a..example.com", "a..\n\x1b[2J", "a" * 64 + ".example.com", "x." * 140])
async def test_what_is_no_name_is_a_failure(resolver: Resolver, name: str) -> None:
    with pytest.raises(LookupFailedError) as caught:
        await resolver.addresses(name, "A")
    assert str(caught.value).isprintable()


async def test_a_look_up_that_is_cancelled_ends(server: NameServer, resolver: Resolver) -> None:
    server.silent = True
    looking = asyncio.create_task(resolver.addresses("db.example.com", "A"))

    async def asked() -> bool:
        return bool(server.asked)

    await eventually(asked)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


THIRTY = [f"192.0.2.{number}" for number in range(30)]


async def test_answers_of_some_size_need_no_tcp(server: NameServer, resolver: Resolver) -> None:
    server.over_tcp = False
    server.put("db.example.com", "A", *THIRTY)
    assert len((await resolver.addresses("db.example.com", "A")).addresses) == 30
    assert [protocol for protocol, _, _ in server.asked] == ["udp"]


async def test_a_name_server_without_edns_is_asked_without_it(server: NameServer, resolver: Resolver) -> None:
    server.edns = False
    server.put("db.example.com", "A", "203.0.113.1")
    assert (await resolver.addresses("db.example.com", "A")).addresses == ("203.0.113.1",)


async def test_where_tcp_fails_it_is_said_why_it_was_needed(server: NameServer, resolver: Resolver) -> None:
    server.over_tcp = False
    server.put("db.example.com", "A", *(f"198.18.0.{number}" for number in range(200)))
    with pytest.raises(LookupFailedError) as caught:
        await resolver.addresses("db.example.com", "A")
    assert str(caught.value) == (
        f"db.example.com A: 127.0.0.1 port {server.port}: the answer is too large for UDP, and there is none over "
        "TCP: the connection was closed"
    )


async def test_records_that_are_no_answer_count_as_questions(server: NameServer, resolver: Resolver) -> None:
    told: list[float] = []
    server.put("db.example.com", "A", "203.0.113.1", ttl=1)
    server.noise = [
        dns.rrset.from_text("example.com.", 60, "IN", "NS", *(f"ns{number}.example.com." for number in range(1999)))
    ]
    account.set(told.append)
    assert (await resolver.addresses("db.example.com", "A")).ttl == pytest.approx(20, abs=0.1)
    assert told[-1] == pytest.approx(2000 / RECORDS_PER_QUESTION, abs=0.1)
    assert resolver._pace.wait() == 0
    resolver._pace = Pace(1e-3, burst=1)
    await resolver.addresses("db.example.com", "A")
    assert resolver._pace.wait() > 10_000

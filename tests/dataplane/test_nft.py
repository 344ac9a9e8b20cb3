"""One suite for both executors: what holds of the fake holds of the kernel."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from moorage.dataplane.fake import FakeNft
from moorage.dataplane.layout import Layout
from moorage.dataplane.nft import Hook, KernelNft, ListedChain, ListedElement, Nft, NftError, Outline
from testing.inside import netlink_inside
from tests.support.netns import Namespace, namespace

SETS = """\
add table inet moorage
add counter inet moorage misses
add map inet moorage services4 { typeof ip daddr . ip protocol . th dport : verdict; }
add map inet moorage services6 { typeof ip6 daddr . meta l4proto . th dport : verdict; }
add map inet moorage slots-tcp4 { typeof ip daddr . tcp dport . numgen inc mod 256 : ip daddr . tcp dport; }
add map inet moorage slots-udp6 { typeof ip6 daddr . udp dport . numgen inc mod 256 : ip6 daddr . udp dport; }
add map inet moorage sessions4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; \
flags dynamic,timeout; size 3; }
add map inet moorage sessions6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; \
flags dynamic,timeout; size 3; }
add set inet moorage addresses4 { typeof ip daddr; }
add set inet moorage addresses6 { typeof ip6 daddr; }
add set inet moorage hairpin4 { typeof ip saddr . ip daddr; }
add set inet moorage digest { typeof tcp dport; }
add set inet moorage pods4 { typeof ip saddr; flags interval; }
add set inet moorage pods6 { typeof ip6 saddr; flags interval; }
add set inet moorage waited4 { typeof ip saddr . ip daddr . tcp dport; flags dynamic,timeout; size 3; }
add set inet moorage waited6 { typeof ip6 saddr . ip6 daddr . tcp dport; flags dynamic,timeout; size 3; }
add chain inet moorage one
add chain inet moorage two
"""
SERVICE = "add element inet moorage services4 { 10.96.0.1 . tcp . 80 : goto one }"
SLOT = "add element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 120 : 203.0.113.1 . 80 }"
SESSION = "add element inet moorage sessions4 { 10.0.0.1 . 10.96.0.1 . tcp . 80 timeout 30s : 203.0.113.1 . 80 }"


class Executor(NamedTuple):
    """What a test of the shared suite is given."""

    nft: Nft
    until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
    """Let time pass until the condition holds, at most 10 s."""


@pytest.fixture(params=["fake", "kernel"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "fake":
        now = [1000.0]

        async def until(condition: Callable[[], Awaitable[bool]]) -> None:
            for _ in range(100):
                if await condition():
                    return
                now[0] += 0.1
            pytest.fail("it did not come true in 10 s")

        yield Executor(FakeNft(clock=lambda: now[0]), until)
        return

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():  # noqa: ASYNC110 - the kernel signals nothing to wait for
                await asyncio.sleep(0.05)

    with namespace() as made:
        yield Executor(made.nft, wait)


@pytest.fixture
async def nft(executor: Executor) -> Nft:
    """An executor whose table has sets and two chains, and no element."""
    await executor.nft.run(SETS)
    return executor.nft


async def refused(nft: Nft, script: str) -> str:
    with pytest.raises(NftError) as caught:
        await nft.run(script)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_without_the_table_there_is_nothing_to_list(executor: Executor) -> None:
    assert await executor.nft.elements("services4") == []
    assert await executor.nft.chains() == set()
    assert await executor.nft.packets("misses") == 0


async def test_reads_every_kind_of_element_back_as_it_was_added(nft: Nft) -> None:
    await nft.run(
        f"{SERVICE}\n{SLOT}\n{SESSION}\n"
        "add element inet moorage services6 { fd00::1 . udp . 53 : goto two }\n"
        "add element inet moorage slots-udp6 { fd00::1 . 80 . 120 : 2001:db8::1 . 80 }\n"
        "add element inet moorage sessions6 { fd00::5 . fd00::1 . tcp . 80 timeout 30s : 2001:db8::1 . 80 }\n"
        "add element inet moorage addresses4 { 10.96.0.1, 10.96.0.2 }\n"
        "add element inet moorage addresses6 { fd00::1 }\n"
        "add element inet moorage hairpin4 { 10.244.0.2 . 10.244.0.2 }\n"
        'add element inet moorage digest { 1 comment "sha256:a,b" }\n'
    )
    assert await nft.elements("services4") == [ListedElement(("10.96.0.1", "tcp", 80), "one")]
    assert await nft.elements("services6") == [ListedElement(("fd00::1", "udp", 53), "two")]
    assert await nft.elements("slots-tcp4") == [ListedElement(("10.96.0.1", 80, 120), ("203.0.113.1", 80))]
    assert await nft.elements("slots-udp6") == [ListedElement(("fd00::1", 80, 120), ("2001:db8::1", 80))]
    assert sorted(await nft.elements("addresses4")) == [ListedElement(("10.96.0.1",)), ListedElement(("10.96.0.2",))]
    assert await nft.elements("addresses6") == [ListedElement(("fd00::1",))]
    assert await nft.elements("hairpin4") == [ListedElement(("10.244.0.2", "10.244.0.2"))]
    assert await nft.elements("digest") == [ListedElement((1,), comment="sha256:a,b")]
    for name, key, value in (
        ("sessions4", ("10.0.0.1", "10.96.0.1", "tcp", 80), ("203.0.113.1", 80)),
        ("sessions6", ("fd00::5", "fd00::1", "tcp", 80), ("2001:db8::1", 80)),
    ):
        [session] = await nft.elements(name)
        assert session[:3] == (key, value, 30)
        assert session.expires is not None
        assert 20 <= session.expires <= 30


async def test_reads_ranges_of_addresses_back_as_they_were_added(nft: Nft) -> None:
    await nft.run(
        "add element inet moorage pods4 { 10.244.1.0/24, 10.244.2.0/24, 10.244.9.7 }\n"
        "add element inet moorage pods6 { fd00:10:244:1::/64, fd00::7 }\n"
    )
    assert {each.key for each in await nft.elements("pods4")} == {
        ("10.244.1.0/24",),
        ("10.244.2.0/24",),
        ("10.244.9.7",),
    }
    assert {each.key for each in await nft.elements("pods6")} == {("fd00:10:244:1::/64",), ("fd00::7",)}


async def test_a_range_that_overlaps_another_is_refused_unless_that_one_goes(nft: Nft) -> None:
    narrow, wide = "inet moorage pods4 { 10.244.1.0/24 }", "inet moorage pods4 { 10.244.0.0/16 }"
    await nft.run(f"add element {narrow}")
    await nft.run(f"add element {narrow}")
    assert "interval overlaps with an existing one" in await refused(nft, f"add element {wide}")
    await nft.run(f"delete element {narrow}\nadd element {wide}")
    assert [each.key for each in await nft.elements("pods4")] == [("10.244.0.0/16",)]


@pytest.mark.parametrize("ip", ["ip", "ip6"])
async def test_a_rule_may_note_clients_in_sets_for_a_time(nft: Nft, ip: str) -> None:
    """nft 1.0.6 can do that for IPv6, too, though it aborts on an update of a map with keys that long."""
    client, name = f"{ip} saddr . {ip} daddr . tcp dport", f"waited{6 if ip == 'ip6' else 4}"
    await nft.run(
        f"add rule inet moorage one {client} @{name} update @{name} {{ {client} timeout 60s }}\n"
        f"add rule inet moorage one {ip} saddr @pods{name[-1]} {client} != @{name} "
        f"add @{name} {{ {client} timeout 60s }} drop\n"
    )
    assert (await nft.outline()).chains["one"].rules == 2


SESSION6 = "add element inet moorage sessions6 { fd00::5 . fd00::1 . udp . 53 timeout 30s : 2001:db8::1 . 53 }"
MAPS = {
    "sessions4": (
        Layout(["ipv4_addr", "ipv4_addr", "inet_proto", "inet_service"]),
        Layout(["ipv4_addr", "inet_service"]),
    ),
    "sessions6": (
        Layout(["ipv6_addr", "ipv6_addr", "inet_proto", "inet_service"]),
        Layout(["ipv6_addr", "inet_service"]),
    ),
}


async def learned(nft: Nft, name: str) -> list[ListedElement]:
    """What `learned` gives, in the form in which `elements` gives it."""
    key, value = MAPS[name]
    return [
        ListedElement(
            key.unpack(each.key),
            value.unpack(each.value),
            None if each.timeout is None else each.timeout // 1000,
            None if each.expires is None else each.expires // 1000,
        )
        for each in await nft.learned(name)
    ]


async def test_what_rules_learned_is_read_as_nft_lists_it(nft: Nft) -> None:
    assert await nft.learned("sessions4") == []
    assert await nft.learned_count("sessions4") == 0
    assert await nft.learned("nosuch") == []
    await nft.run(
        f"{SESSION}\n{SESSION6}\n"
        "add element inet moorage sessions4 { 10.0.0.2 . 10.96.0.1 . udp . 65535 : 203.0.113.2 . 1 }\n"
        "add element inet moorage sessions4 { 10.0.0.3 . 10.96.0.1 . tcp . 80 timeout 86400s : 203.0.113.2 . 1 }\n"
        "add element inet moorage sessions6 { ::192.0.2.7 . fd00::1 . tcp . 80 : 2001:db8::1 . 80 }\n"
    )
    for name in MAPS:
        found = await learned(nft, name)
        assert await nft.learned_count(name) == len(found)
        assert without_age(found) == without_age(await nft.elements(name))
        [session] = [each for each in found if each.timeout == 30]
        assert session.expires is not None
        assert 20 <= session.expires <= 30


def without_age(elements: list[ListedElement]) -> set[ListedElement]:
    return {each._replace(expires=None) for each in elements}


async def test_without_the_table_nothing_is_learned(executor: Executor) -> None:
    assert await executor.nft.learned("sessions4") == []


async def test_what_was_learned_is_forgotten_whether_or_not_it_is_still_there(nft: Nft) -> None:
    await nft.run(f"{SESSION}\n{SESSION.replace('10.0.0.1', '10.0.0.2')}\n{SESSION6}")
    for name in MAPS:
        old = await nft.learned(name)
        await nft.run(f"flush map inet moorage {name}\n")
        await nft.relearn(name, old, [])
        assert await nft.learned(name) == []
    await nft.relearn("sessions4", [], [])


async def test_what_was_learned_gets_another_timeout_and_age(nft: Nft) -> None:
    await nft.run(f"{SESSION}\n{SESSION6}")
    for name in MAPS:
        [old] = await nft.learned(name)
        await nft.relearn(name, [old], [replace(old, timeout=500_000, expires=100_000)])
        [new] = await learned(nft, name)
        assert (new.key, new.value) == (MAPS[name][0].unpack(old.key), MAPS[name][1].unpack(old.value))
        assert new.timeout == 500
        assert new.expires is not None
        assert 90 <= new.expires <= 100


async def test_a_client_that_was_pinned_anew_keeps_its_session_and_so_do_the_others_of_the_transaction(
    nft: Nft,
) -> None:
    await nft.run(f"{SESSION}\n{SESSION.replace('10.0.0.1', '10.0.0.2')}")
    old = await nft.learned("sessions4")
    await nft.run(
        "delete element inet moorage sessions4 { 10.0.0.1 . 10.96.0.1 . tcp . 80 }\n"
        + SESSION.replace("203.0.113.1", "203.0.113.2")
    )
    with pytest.raises(NftError, match="File exists"):
        await nft.relearn("sessions4", old, [])
    assert {each.value for each in await nft.elements("sessions4")} == {("203.0.113.1", 80), ("203.0.113.2", 80)}


async def test_lists_the_chains_of_the_table(nft: Nft) -> None:
    await nft.run("add chain inet moorage dnat-prerouting { type nat hook prerouting priority -110; }")
    assert await nft.chains() == {"one", "two", "dnat-prerouting"}


async def test_outlines_the_table_without_its_elements_and_the_words_of_its_rules(executor: Executor) -> None:
    nft = executor.nft
    assert await nft.outline() == Outline(frozenset(), {}, frozenset())
    await nft.run(SETS)
    await nft.run(
        f"{SLOT}\nadd chain inet moorage dnat-output {{ type nat hook output priority -110; }}\n"
        "add rule inet moorage dnat-output ip daddr @addresses4 goto one\n"
        "add rule inet moorage dnat-output counter name misses\nadd rule inet moorage one drop"
    )
    found = await nft.outline()
    assert found.containers == {line.split()[4] for line in SETS.splitlines() if line.split()[1] in ("set", "map")}
    assert found.counters == {"misses"}
    assert found.chains == {
        "one": ListedChain(None, 1),
        "two": ListedChain(None, 0),
        "dnat-output": ListedChain(Hook("nat", "output", -110), 2),
    }


async def test_making_what_is_there_already_changes_nothing(nft: Nft) -> None:
    await nft.run(f"{SERVICE}\n{SLOT}\n{SESSION}")
    await nft.run(f"{SETS}{SERVICE}\n{SLOT}\n{SESSION}")
    assert len(await nft.elements("slots-tcp4")) == 1


async def test_a_refused_command_undoes_the_whole_transaction(nft: Nft) -> None:
    await nft.run(f"{SERVICE}\n{SLOT}\nadd rule inet moorage two drop")
    before = [await nft.elements(name) for name in ("services4", "slots-tcp4", "addresses4")]
    await refused(
        nft,
        "add element inet moorage addresses4 { 10.96.0.9 }\n"
        "delete element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 120 }\n"
        "delete element inet moorage services4 { 10.96.0.1 . tcp . 80 }\n"
        "flush chain inet moorage two\n"
        "delete chain inet moorage one\n"
        "add chain inet moorage three\n"
        "delete element inet moorage addresses4 { 10.96.0.10 }\n",
    )
    assert [await nft.elements(name) for name in ("services4", "slots-tcp4", "addresses4")] == before
    assert await nft.chains() == {"one", "two"}
    assert "busy" in await refused(nft, "delete chain inet moorage one"), "the chain is used again"


async def test_check_changes_nothing(nft: Nft) -> None:
    assert await nft.check(f"{SERVICE}\nadd chain inet moorage three")
    assert not await nft.check("delete chain inet moorage three")
    assert await nft.elements("services4") == []
    assert await nft.chains() == {"one", "two"}


@pytest.mark.parametrize(
    ("given", "script"),
    [
        (SLOT, "add element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 120 : 203.0.113.2 . 80 }"),
        (SERVICE, "add element inet moorage services4 { 10.96.0.1 . tcp . 80 : goto two }"),
        (
            SESSION,
            "add element inet moorage sessions4 { 10.0.0.1 . 10.96.0.1 . tcp . 80 timeout 30s : 203.0.113.2 . 80 }",
        ),
        (
            "",
            "add element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 1 : 203.0.113.1 . 80, "
            "10.96.0.1 . 80 . 1 : 203.0.113.2 . 80 }",
        ),
        ("", "add set inet moorage digest { typeof ip daddr; }"),
        ("", "add map inet moorage digest { typeof tcp dport : verdict; }"),
        ("", "add set inet moorage pods4 { typeof ip saddr; }"),
        ("", "add chain inet moorage one { type filter hook output priority 0; }"),
    ],
)
async def test_an_existing_key_or_name_with_another_content_is_refused(nft: Nft, given: str, script: str) -> None:
    await nft.run(given)
    assert "File exists" in await refused(nft, script)


@pytest.mark.parametrize(
    "script",
    [
        "delete element inet moorage digest { 7 }",
        "delete element inet moorage addresses4 { 10.96.0.1, 10.96.0.1 }",
        "delete element inet moorage nosuch { 7 }",
        "add element inet moorage nosuch { 7 }",
        "add element inet moorage services4 { 10.96.0.9 . tcp . 80 : goto nosuch }",
        "delete chain inet moorage nosuch",
        "flush chain inet moorage nosuch",
        "flush set inet moorage nosuch",
        "flush set inet moorage services4",
        "delete set inet moorage nosuch",
        "add rule inet moorage nosuch drop",
        "add rule inet moorage one jump nosuch",
        "add rule inet moorage one ip daddr @nosuch drop",
        "delete table inet moorage\ndelete table inet moorage",
        "delete table inet moorage\nadd chain inet moorage one",
    ],
)
async def test_what_does_not_exist_cannot_be_used(nft: Nft, script: str) -> None:
    await nft.run("add element inet moorage addresses4 { 10.96.0.1 }")
    assert "No such file or directory" in await refused(nft, script)


@pytest.mark.parametrize(
    ("given", "script"),
    [
        (SERVICE, "delete chain inet moorage one"),
        ("add rule inet moorage two goto one", "delete chain inet moorage one"),
        ("add rule inet moorage one ip daddr @addresses4 drop", "delete set inet moorage addresses4"),
    ],
)
async def test_what_is_still_referred_to_cannot_be_deleted(nft: Nft, given: str, script: str) -> None:
    await nft.run(given)
    assert "Device or resource busy" in await refused(nft, script)


@pytest.mark.parametrize(
    ("given", "script"),
    [
        (SERVICE, "delete element inet moorage services4 { 10.96.0.1 . tcp . 80 }\ndelete chain inet moorage one"),
        (SERVICE, "flush map inet moorage services4\ndelete chain inet moorage one"),
        (SERVICE, "delete map inet moorage services4\ndelete chain inet moorage one"),
        ("add rule inet moorage two goto one", "flush chain inet moorage two\ndelete chain inet moorage one"),
        ("add rule inet moorage two goto one", "delete chain inet moorage two\ndelete chain inet moorage one"),
        (
            "",
            f"{SERVICE}\n"
            "delete element inet moorage services4 { 10.96.0.1 . tcp . 80 }\ndelete chain inet moorage one",
        ),
    ],
)
async def test_a_reference_ends_within_the_same_transaction(nft: Nft, given: str, script: str) -> None:
    await nft.run(given)
    await nft.run(script)
    assert "one" not in await nft.chains()


async def test_deleting_and_adding_replaces_a_value_in_one_transaction(nft: Nft) -> None:
    await nft.run(SERVICE)
    await nft.run(
        "delete element inet moorage services4 { 10.96.0.1 . tcp . 80 }\n"
        "add element inet moorage services4 { 10.96.0.1 . tcp . 80 : goto two }"
    )
    assert await nft.elements("services4") == [ListedElement(("10.96.0.1", "tcp", 80), "two")]


async def test_flushing_the_digest_and_adding_it_replaces_its_comment(nft: Nft) -> None:
    await nft.run('add element inet moorage digest { 1 comment "a" }')
    await nft.run('add element inet moorage digest { 1 comment "b" }')
    assert (await nft.elements("digest"))[0].comment == "a", "an element that is there keeps its comment"
    await nft.run('flush set inet moorage digest\nadd element inet moorage digest { 1 comment "b" }')
    assert await nft.elements("digest") == [ListedElement((1,), comment="b")]


@pytest.mark.parametrize("given", ["", SESSION])
async def test_add_then_delete_removes_a_session_whether_or_not_it_is_there(nft: Nft, given: str) -> None:
    await nft.run(given)
    await nft.run(f"{SESSION}\ndelete element inet moorage sessions4 {{ 10.0.0.1 . 10.96.0.1 . tcp . 80 }}")
    assert await nft.elements("sessions4") == []


async def test_adding_a_session_that_is_there_renews_its_timeout(nft: Nft) -> None:
    await nft.run(SESSION)
    await nft.run(SESSION.replace("30s", "500s"))
    [session] = await nft.elements("sessions4")
    assert session.timeout == 500


async def test_a_session_can_be_added_with_the_age_it_had(nft: Nft) -> None:
    await nft.run(SESSION.replace("30s", "500s expires 100s"))
    [session] = await nft.elements("sessions4")
    assert session.timeout == 500
    assert session.expires is not None
    assert 90 <= session.expires <= 100
    assert "Numerical result out of range" in await refused(nft, SESSION.replace("30s", "500s expires 501s"))


async def test_a_full_map_takes_no_new_key_but_takes_those_it_has(nft: Nft) -> None:
    sessions = [SESSION.replace("10.0.0.1", f"10.0.0.{number}") for number in range(1, 5)]
    await nft.run("\n".join(sessions[:3]))
    assert "Too many open files in system" in await refused(nft, sessions[3])
    await nft.run(sessions[2])
    assert "Too many open files in system" in await refused(
        nft, f"{sessions[3]}\ndelete element inet moorage sessions4 {{ 10.0.0.4 . 10.96.0.1 . tcp . 80 }}"
    ), "add-then-delete needs room for what is not there"
    await nft.run(f"delete element inet moorage sessions4 {{ 10.0.0.1 . 10.96.0.1 . tcp . 80 }}\n{sessions[3]}")
    assert len(await nft.elements("sessions4")) == 3


async def test_an_expired_element_is_gone_for_listing_deleting_and_adding(executor: Executor) -> None:
    nft = executor.nft
    await nft.run(SETS)
    await nft.run(SESSION)

    async def gone() -> bool:
        return await nft.elements("sessions4") == []

    assert not await gone()
    delete = "delete element inet moorage sessions4 { 10.0.0.1 . 10.96.0.1 . tcp . 80 }"
    await nft.run(f"{delete}\n{SESSION.replace('30s', '30s expires 1s')}")
    await executor.until(gone)
    assert "No such file or directory" in await refused(nft, delete)
    await nft.run(SESSION.replace("203.0.113.1", "203.0.113.2"))
    assert (await nft.elements("sessions4"))[0].value == ("203.0.113.2", 80)


async def test_an_element_of_the_fake_is_there_until_its_time_is_over_and_not_at_its_end() -> None:
    now = [0.0]
    nft = FakeNft(lambda: now[0])
    await nft.run(f"{SETS}\n{SESSION}")
    for now[0], there in ((29.9, True), (30.0, False)):
        assert bool(await nft.elements("sessions4")) == there
        assert bool(await nft.learned("sessions4")) == there
        assert bool(nft.lookup("sessions4", ("10.0.0.1", "10.96.0.1", "tcp", 80))) == there


@pytest.mark.parametrize(
    "script",
    [
        "frobnicate",
        "add element inet moorage addresses4 { 10.96.0.300 }",
        "add element inet moorage addresses4 { 10.96.0.1 . tcp }",
        "add element inet moorage addresses4 { 10.96.0.1 : 10.96.0.2 }",
        "add element inet moorage addresses4 { 10.96.0.1 timeout 5s }",
        "add element inet moorage hairpin4 { 10.96.0.1 }",
        "add element inet moorage addresses4 { 2001:db8::1 }",
        "add element inet moorage addresses6 { 10.96.0.1 }",
        "add element inet moorage addresses6 { fe80::1%lo }",
        "add element inet moorage addresses6 { 2001:db8::10000 }",
        "add element inet moorage digest { 65536 }",
        "add element inet moorage digest { -1 }",
        "add element inet moorage digest { ١ }",
        "add element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 1 : 203.0.113.1 . 70000 }",
        "add element inet moorage slots-tcp4 { 10.96.0.1 . 80 . 1 : 2001:db8::1 . 80 }",
        "add element inet moorage slots-udp6 { fd00::1 . 80 . 1 : 203.0.113.1 . 80 }",
        *(
            "add element inet moorage sessions4 { 10.0.0.1 . 10.96.0.1 . tcp . 80 "
            f"timeout {seconds}s : 203.0.113.1 . 80 }}"
            for seconds in (-1, 10**8, 10**18)
        ),
        *(
            "add rule inet moorage one meta l4proto tcp update @sessions4 { ip saddr . ct original ip daddr . "
            f"ip protocol . ct original proto-dst timeout {seconds}s : ip daddr . tcp dport }}"
            for seconds in (-1, 10**8, 10**18)
        ),
        "add element inet moorage services4 { 10.96.0.1 . tcp . 80 }",
        "add element inet moorage services4 { 10.96.0.1 . tcp . 80 : 5 }",
        "add element inet moorage services6 { 10.96.0.1 . tcp . 80 : goto one }",
    ],
)
async def test_nonsense_is_refused(nft: Nft, script: str) -> None:
    await refused(nft, script)


async def test_a_timeout_that_kubernetes_allows_is_taken(nft: Nft) -> None:
    await nft.run(
        "add rule inet moorage one meta l4proto tcp update @sessions4 { ip saddr . ct original ip daddr . "
        "ip protocol . ct original proto-dst timeout 86400s : ip daddr . tcp dport }\n"
        + SESSION.replace("30s", "86400s")
    )


async def test_an_ipv6_address_reads_as_it_is_written_everywhere_else(nft: Nft) -> None:
    """nft prints the last part of ::c000:207 as IPv4."""
    await nft.run("add element inet moorage addresses6 { ::192.0.2.7, 2001:DB8:0:0:1:0:0:1, ::9 }")
    assert {each.key for each in await nft.elements("addresses6")} == {
        ("::c000:207",), ("2001:db8::1:0:0:1",), ("::9",),
    }  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [
        "add set inet moorage other { type ipv4_addr; }",
        "add set inet moorage other { type inet_service; flags timeout; }",
        "add map inet moorage other { type ipv4_addr : verdict; }",
        "add set inet moorage other { type ipv4_addr . inet_service; }",
        "add map inet moorage other { type ipv4_addr . inet_service : verdict; }",
    ],
)
async def test_the_fake_refuses_what_crashes_another_version_of_nft(script: str) -> None:
    nft = FakeNft(lambda: 0.0)
    await nft.run(SETS)
    assert "typeof" in await refused(nft, script)


async def test_what_is_asked_about_a_table_of_its_own_changes_nothing_and_knows_no_other(nft: Nft) -> None:
    await nft.run(SERVICE)
    script = f"{SETS}{SERVICE}".replace("inet moorage", "inet moorage-trial").replace("goto one", "goto two")
    assert await nft.refusal(script) is None
    assert "No such file" in str(await nft.refusal(script.replace("goto two", "goto nosuch")))
    assert await nft.elements("services4") == [ListedElement(("10.96.0.1", "tcp", 80), "one")]


async def test_a_base_chain_keeps_its_hook_and_priority(nft: Nft) -> None:
    await nft.run("add chain inet moorage dnat-prerouting { type nat hook prerouting priority -110; }")
    await nft.run("add chain inet moorage dnat-prerouting { type nat hook prerouting priority -110; }")
    await nft.run("add chain inet moorage dnat-prerouting")
    script = "add chain inet moorage dnat-prerouting { type nat hook prerouting priority -100; }"
    await refused(nft, script)  # nft 1.0.6, 1.0.9 and 1.1 all have words of their own for it.


async def test_deleting_the_table_takes_everything_with_it(nft: Nft) -> None:
    await nft.run(f"{SERVICE}\n{SLOT}")
    await nft.run("add table inet moorage\ndelete table inet moorage")
    assert await nft.chains() == set()
    assert await nft.elements("slots-tcp4") == []


async def test_the_kernel_takes_a_large_transaction_and_lists_it(netns_executor: KernelNft) -> None:
    await netns_executor.run(SETS)
    elements = ", ".join(f"10.96.{n >> 8}.{n & 255} . 80 . 0 : 203.0.113.1 . 80" for n in range(1500))
    await netns_executor.run(f"add element inet moorage slots-tcp4 {{ {elements} }}")
    assert len(await netns_executor.elements("slots-tcp4")) == 1500


async def test_the_kernel_is_read_as_nft_lists_it_also_if_it_has_thousands(netns_executor: KernelNft) -> None:
    await netns_executor.run(SETS.replace("size 3", "size 5000"))
    for family, name in ((4, "sessions4"), (6, "sessions6")):
        client, service, target = (
            ("10.0", "10.96.0.1", "203.0.113.1") if family == 4 else ("fd00:", "fd00::1", "2001:db8::1")
        )
        clients = (f"{client}.{n >> 8}.{n & 255}" if family == 4 else f"{client}:{n:x}" for n in range(3000))
        added = ", ".join(f"{each} . {service} . tcp . 80 timeout 3600s : {target} . 80" for each in clients)
        await netns_executor.run(f"add element inet moorage {name} {{ {added} }}")
        listed = without_age(await netns_executor.elements(name))
        assert len(listed) == 3000
        assert without_age(await learned(netns_executor, name)) == listed


async def test_without_the_permission_it_says_what_is_needed(netns: Namespace) -> None:
    """The socket is the namespace's, but who made it may do nothing there."""
    powerless = [*netns.prefix, "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    with pytest.raises(NftError, match=r"Operation not permitted; .* NET_ADMIN"):
        await KernelNft(connect=lambda: netlink_inside(powerless)).learned("sessions4")


async def test_a_prefix_alone_is_not_enough_to_read_another_namespace(netns: Namespace) -> None:
    with pytest.raises(NftError, match="no netlink socket of that namespace"):
        await KernelNft(netns.prefix).learned("sessions4")


@pytest.fixture
def netns_executor() -> Iterator[KernelNft]:
    with namespace() as made:
        yield made.nft

"""The dns source on the virtual clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from moorage.api.sources_v1alpha1 import DnsSource
from moorage.core.model import Found, Problem
from moorage.discovery.choice import FIRST_REST_SECONDS
from moorage.discovery.dns import AddressRecords, ServiceRecords
from moorage.discovery.resolver import Server
from moorage.discovery.source import Setting, Source, State
from testing.beside import beside
from tests.support.fake_names import FakeNames

pytestmark = pytest.mark.looptime

NAME = "db.example.com"
SERVICE = "_db._tcp.example.com"


@asynccontextmanager
async def running(names: FakeNames, name: str = NAME, type: Any = "A", **setting: Any) -> AsyncIterator[Source]:
    start = asyncio.get_running_loop().time()
    given = Setting(
        on_change=lambda: None,
        now=lambda: f"{asyncio.get_running_loop().time() - start:.0f}",
        jitter=lambda: 0.0,
        **setting,
    )
    spec = DnsSource(name=name, type=type)
    source = ServiceRecords(spec, names, given) if type == "SRV" else AddressRecords(spec, type, names, given)
    async with beside(source.run()):
        await asyncio.sleep(0.1)
        yield source


async def test_each_address_is_an_endpoint_named_by_itself() -> None:
    names = FakeNames()
    names.put(NAME, "203.0.113.1", "203.0.113.2")
    async with running(names) as source:
        assert source.state == State((Found("203-0-113-1", "203.0.113.1"), Found("203-0-113-2", "203.0.113.2")))
        names.put(NAME, "203.0.113.2", "203.0.113.3")
        await asyncio.sleep(10)
        assert [each.name for each in source.state.endpoints or ()] == ["203-0-113-2", "203-0-113-3"]


async def test_an_empty_answer_removes_and_a_failure_does_not() -> None:
    names = FakeNames()
    names.put(NAME, "203.0.113.1")
    async with running(names) as source:
        names.fail(NAME)
        await asyncio.sleep(100)
        assert source.state == State(
            (Found("203-0-113-1", "203.0.113.1"),),
            Problem("LookupFailed", "db.example.com A: 192.0.2.53 answered SERVFAIL", "0"),
        )
        names.put(NAME)
        await asyncio.sleep(30)
        assert source.state == State((), None, ("db.example.com has no A record",))


async def test_before_the_first_answer_nothing_is_known() -> None:
    names = FakeNames()
    names.gate.clear()
    async with running(names) as source:
        await asyncio.sleep(3)
        assert source.state == State(None)
        names.fail(NAME)
        names.gate.set()
        await asyncio.sleep(1)
        assert source.state.endpoints is None
        assert source.state.problem is not None


async def test_ipv6_addresses_are_found_by_aaaa() -> None:
    names = FakeNames()
    names.put(NAME, "2001:db8::11", type="AAAA")
    async with running(names, type="AAAA") as source:
        assert source.state.endpoints == (Found("2001-db8--11", "2001:db8::11"),)


async def test_a_huge_answer_is_cut_and_it_is_said() -> None:
    names = FakeNames()
    names.put(NAME, *(f"203.0.{number // 250}.{number % 250}" for number in range(1500)))
    async with running(names) as source:
        assert len(source.state.endpoints or ()) == 1000
        assert source.state.notes == ("has 1500 endpoints, of which the first 1000 are used",)


# --- SRV ----------------------------------------------------------------------------------------------------------


async def test_each_target_is_an_endpoint_with_port_weight_and_priority() -> None:
    names = FakeNames()
    names.put_servers(
        SERVICE, Server(10, 5, 5432, "db1.example.com"), Server(10, 0, 5433, "db2.example.com"),
        Server(20, 10, 5432, "spare.example.com"),
    )  # fmt: skip
    for number, target in enumerate(("db1", "db2", "spare")):
        names.put(f"{target}.example.com", f"203.0.113.{number}")
    async with running(names, SERVICE, "SRV") as source:
        assert source.state == State(
            (
                Found("db1-example-com", "203.0.113.0", 5432, 5, 10),
                Found("db2-example-com", "203.0.113.1", 5433, 1, 10),
                Found("spare-example-com", "203.0.113.2", 5432, 10, 20),
            )
        )


async def test_a_targets_endpoint_keeps_its_name_when_its_address_changes_and_its_address_while_there_is_it() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 0, 80, "db1.example.com"))
    names.put("db1.example.com", "203.0.113.5")

    async def next_address(*answer: str) -> str:
        names.put("db1.example.com", *answer)
        await asyncio.sleep(10)
        (only,) = source.state.endpoints or ()
        assert only.name == "db1-example-com"
        return only.address

    async with running(names, SERVICE, "SRV") as source:
        assert await next_address("203.0.113.4", "203.0.113.5") == "203.0.113.5"
        assert await next_address("203.0.113.9", "203.0.113.4") == "203.0.113.4"


async def test_an_operator_that_starts_keeps_the_address_that_status_had() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 0, 80, "db1.example.com"), Server(0, 0, 80, "db2.example.com"))
    names.put("db1.example.com", "203.0.113.4", "203.0.113.5")
    names.fail("db2.example.com")
    known = {"db1-example-com": "203.0.113.5", "db2-example-com": "203.0.113.6"}
    async with running(names, SERVICE, "SRV", known=known) as source:
        assert {each.name: each.address for each in source.state.endpoints or ()} == known
        assert source.state.problem is not None


async def test_one_target_that_cannot_be_looked_up_keeps_its_address_and_others_go_on() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"), Server(0, 1, 80, "db2.example.com"))
    names.put("db1.example.com", "203.0.113.1")
    names.put("db2.example.com", "203.0.113.2")
    async with running(names, SERVICE, "SRV") as source:
        names.fail("db1.example.com")
        names.put("db2.example.com", "203.0.113.3")
        await asyncio.sleep(25)
        assert [each.address for each in source.state.endpoints or ()] == ["203.0.113.1", "203.0.113.3"]
        assert source.state.problem == Problem("LookupFailed", "db1.example.com A: 192.0.2.53 answered SERVFAIL", "0")
        names.put("db1.example.com", "203.0.113.1")
        await asyncio.sleep(10)
        assert source.state.problem is None


async def test_a_target_that_failed_is_asked_again_soon_whatever_the_ttls_are() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"), Server(0, 1, 80, "db2.example.com"), ttl=300)
    names.put("db1.example.com", "203.0.113.1", ttl=300)
    names.fail("db2.example.com")
    async with running(names, SERVICE, "SRV") as source:
        assert [each.address for each in source.state.endpoints or ()] == ["203.0.113.1"]
        names.put("db2.example.com", "203.0.113.2", ttl=300)
        await asyncio.sleep(1)
        assert [each.address for each in source.state.endpoints or ()] == ["203.0.113.1", "203.0.113.2"]
        assert source.state.problem is None
        asked = names.asked[(SERVICE, "SRV")]
        await asyncio.sleep(290)
        assert names.asked[(SERVICE, "SRV")] == asked, "once all is well the TTL counts again"


async def test_a_target_that_goes_on_failing_is_asked_less_and_less_often() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"), ttl=300)
    names.fail("db1.example.com")
    async with running(names, SERVICE, "SRV"):
        await asyncio.sleep(600)
        assert names.asked[(SERVICE, "SRV")] in range(20, 26)


async def test_new_targets_that_all_fail_are_no_answer() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"))
    names.fail("db1.example.com")
    async with running(names, SERVICE, "SRV") as source:
        assert source.state.endpoints is None
        assert source.state.problem is not None


async def test_of_many_targets_that_fail_the_first_is_said_and_how_many_more_there_are() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, *(Server(0, 1, 80, f"db{number}.example.com") for number in range(3)))
    for number in range(3):
        names.fail(f"db{number}.example.com")
    async with running(names, SERVICE, "SRV") as source:
        assert source.state.problem is not None
        assert source.state.problem.message == ("db0.example.com A: 192.0.2.53 answered SERVFAIL; and 2 more targets")


async def test_a_target_without_address_is_no_endpoint_and_it_is_said() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"))
    async with running(names, SERVICE, "SRV") as source:
        assert source.state == State((), None, ("db1.example.com, a target of _db._tcp.example.com, has no address",))


async def test_a_service_without_records_has_no_endpoints_and_it_is_said() -> None:
    names = FakeNames()
    names.put_servers(SERVICE)
    async with running(names, SERVICE, "SRV") as source:
        assert source.state == State((), None, (f"{SERVICE} has no SRV record",))


async def test_the_root_as_target_says_that_there_is_no_such_service() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 0, 0, ""))
    async with running(names, SERVICE, "SRV") as source:
        assert source.state.endpoints == ()
        assert source.state.notes == (f'{SERVICE} says that there is no such service (target ".", RFC 2782)',)


async def test_a_target_with_several_ports_is_several_endpoints() -> None:
    names = FakeNames()
    names.put("db1.example.com", "203.0.113.1")
    names.put_servers(
        SERVICE, Server(0, 1, 81, "db1.example.com"), Server(0, 1, 80, "db1.example.com"),
        Server(5, 1, 80, "db1.example.com"),
    )  # fmt: skip
    async with running(names, SERVICE, "SRV") as source:
        assert source.state.endpoints == (
            Found("db1-example-com", "203.0.113.1", 80),
            Found("db1-example-com-81", "203.0.113.1", 81),
        )


async def test_weights_are_kept_and_the_least_is_one() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, *(Server(0, weight, 80, f"w{weight}") for weight in (0, 1, 65535)))
    for weight in (0, 1, 65535):
        names.put(f"w{weight}", "203.0.113.1")
    async with running(names, SERVICE, "SRV") as source:
        assert {each.name: each.weight for each in source.state.endpoints or ()} == {
            "w0": 1,
            "w1": 1,
            "w65535": 65535,
        }


async def test_many_targets_are_looked_up_less_often_than_their_ttl_says() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, *(Server(0, 1, 80, f"t{number}") for number in range(400)), ttl=1.0)
    async with running(names, SERVICE, "SRV"):
        await asyncio.sleep(30)
        assert names.asked[(SERVICE, "SRV")] == 2


async def test_srv_targets_of_ipv6_only() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"))
    names.put("db1.example.com", "203.0.113.1")
    names.put("db1.example.com", "2001:db8::1", type="AAAA")
    async with running(names, SERVICE, "SRV", families=("IPv6",)) as source:
        assert [each.address for each in source.state.endpoints or ()] == ["2001:db8::1"]


async def test_a_target_whose_address_fails_its_checks_goes_on_at_another() -> None:
    names = FakeNames()
    names.put_servers(SERVICE, Server(0, 1, 80, "db1.example.com"), ttl=300)
    names.put("db1.example.com", "203.0.113.1", "203.0.113.2", ttl=300)
    async with running(names, SERVICE, "SRV") as source:

        def addresses() -> list[str]:
            return [each.address for each in source.state.endpoints or ()]

        assert addresses() == ["203.0.113.1"]
        source.set_failing({"db1-example-com": "203.0.113.1"})
        assert addresses() == ["203.0.113.2"]
        source.set_failing({})
        await asyncio.sleep(1000)
        assert addresses() == ["203.0.113.2"]
        source.set_failing({"db1-example-com": "203.0.113.2"})
        assert addresses() == ["203.0.113.1"]
        source.set_failing({"db1-example-com": "203.0.113.1"})
        assert addresses() == ["203.0.113.1"]
        await asyncio.sleep(FIRST_REST_SECONDS)
        assert addresses() == ["203.0.113.2"], "after a rest, without a look-up"

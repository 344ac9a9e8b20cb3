import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.addresses import Family
from moorage.discovery.choice import FIRST_REST_SECONDS, MAX_REST_SECONDS, Choices, addresses_of, choose, families_of
from moorage.discovery.resolver import Addresses, LookupFailedError
from tests.support.fake_names import FakeNames

BOTH: tuple[Family, ...] = ("IPv4", "IPv6")
candidates = st.lists(st.ip_addresses().map(str), max_size=6)


def test_a_spec_says_which_families_and_which_first() -> None:
    assert families_of(None) == families_of([]) == families_of(["IPX"]) == ("IPv4", "IPv6")
    assert families_of(["IPv6"]) == ("IPv6",)
    assert families_of(["IPv6", "IPv4"]) == ("IPv6", "IPv4")


@given(candidates)
def test_an_endpoint_keeps_its_address_while_it_is_a_candidate(known: list[str]) -> None:
    for current in known:
        assert choose(current, known, BOTH) == current
        assert choose(current, reversed(known), BOTH) == current


@given(candidates, st.sampled_from(["192.0.2.1", None]))
def test_the_order_of_an_answer_does_not_matter(known: list[str], current: str | None) -> None:
    assert choose(current, known, BOTH) == choose(current, sorted(known), BOTH)


def test_the_lowest_of_the_first_family_is_taken() -> None:
    known = ["2001:db8::1", "203.0.113.20", "203.0.113.3"]
    assert choose(None, known, BOTH) == "203.0.113.3"
    assert choose("203.0.113.99", known, BOTH) == "203.0.113.3"
    assert choose("203.0.113.20", known, ("IPv6",)) == "2001:db8::1"
    assert choose(None, ["2001:db8::1"], ("IPv4",)) is None
    assert choose(None, ["::ffff:203.0.113.1"], BOTH) == "::ffff:203.0.113.1"


async def test_the_second_family_is_asked_for_where_the_first_has_nothing() -> None:
    names = FakeNames()
    names.put("both", "203.0.113.1")
    names.put("both", "2001:db8::1", type="AAAA")
    names.put("six", "2001:db8::1", type="AAAA", ttl=7.0)
    assert await addresses_of(names, "both", BOTH) == Addresses(("203.0.113.1",), 10.0)
    assert await addresses_of(names, "both", ("IPv6", "IPv4")) == Addresses(("2001:db8::1",), 10.0)
    assert await addresses_of(names, "six", BOTH) == Addresses(("2001:db8::1",), 7.0)
    assert await addresses_of(names, "none", BOTH) == Addresses((), 10.0)
    names.fail("both")
    with pytest.raises(LookupFailedError):
        await addresses_of(names, "both", BOTH)


def test_what_rests_is_only_taken_where_there_is_nothing_else() -> None:
    assert choose("203.0.113.1", ["203.0.113.1", "203.0.113.2"], BOTH, {"203.0.113.1"}) == "203.0.113.2"
    assert choose("203.0.113.1", ["203.0.113.1", "2001:db8::1"], BOTH, {"203.0.113.1"}) == "2001:db8::1"
    assert (
        choose("203.0.113.2", ["203.0.113.1", "203.0.113.2"], BOTH, {"203.0.113.1", "203.0.113.2"}) == "203.0.113.2"
    )
    assert choose(None, ["203.0.113.1"], BOTH, {"203.0.113.1"}) == "203.0.113.1"


A, B, C = "203.0.113.1", "203.0.113.2", "203.0.113.3"


class Played:
    """One endpoint with several addresses, whose checks fail at those that are down."""

    def __init__(self, *candidates: str) -> None:
        self.candidates = candidates
        self.down: set[str] = set()
        self.choices = Choices(BOTH, {})
        self.moves: list[str] = []
        self.look()

    def look(self) -> str | None:
        """Once more, after the last choice has been checked."""
        now = self.choices.current.get("lb")
        self.choices.failing = {"lb": now} if now in self.down and now else {}
        chosen = self.choices.of("lb", self.candidates)
        self.choices.take({"lb": chosen} if chosen else {})
        if chosen and chosen != now:
            self.moves.append(chosen)
        return chosen

    async def go_on(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            self.look()
            await asyncio.sleep(1.0)


@pytest.mark.looptime(noop_cycles=1)
async def test_an_endpoint_whose_address_fails_goes_on_at_another_and_stays_there() -> None:
    played = Played(A, B)
    played.down = {A}
    await played.go_on(10)
    played.down = set()
    await played.go_on(2000)
    assert played.moves == [A, B]
    played.down = {B}
    assert played.look() == A


@pytest.mark.looptime(noop_cycles=1)
async def test_where_all_addresses_fail_each_gets_its_turn_ever_more_rarely() -> None:
    played = Played(A, B, C)
    played.down = {A, B, C}
    await played.go_on(FIRST_REST_SECONDS - 5)
    assert played.moves == [A, B, C]
    await played.go_on(3600)
    assert 9 <= len(played.moves) <= 3 * (3600 / MAX_REST_SECONDS + 4)
    last = played.moves[-1]
    played.down = {A, B, C} - {last}
    moves = len(played.moves)
    await played.go_on(3600)
    assert len(played.moves) == moves, "the one that is up again is kept"


@pytest.mark.looptime(noop_cycles=1)
async def test_it_says_when_another_address_may_be_chosen() -> None:
    played = Played(A, B)
    assert played.choices.due is None
    played.down = {A, B}
    played.look()
    assert played.choices.due is None
    played.look()
    assert played.choices.due == pytest.approx(FIRST_REST_SECONDS)
    await asyncio.sleep(FIRST_REST_SECONDS + 1)
    assert played.choices.due == 0.0
    assert played.look() == A


@pytest.mark.looptime(noop_cycles=1)
async def test_the_only_address_of_an_endpoint_stays_though_it_fails() -> None:
    played = Played(A)
    played.down = {A}
    await played.go_on(1000)
    assert played.moves == [A]
    assert played.choices.due is None


@pytest.mark.looptime(noop_cycles=1)
async def test_a_failure_at_an_address_that_has_been_left_moves_nobody() -> None:
    played = Played(A, B)
    played.candidates = (B,)
    assert played.look() == B
    played.choices.failing = {"lb": A}
    assert played.choices.of("lb", (A, B)) == B


@pytest.mark.looptime(noop_cycles=1)
async def test_of_endpoints_that_are_gone_nothing_is_kept() -> None:
    played = Played(A, B)
    played.down = {A, B}
    played.look()
    played.look()
    played.choices.take({})
    assert not played.choices._rests
    assert played.choices.due is None

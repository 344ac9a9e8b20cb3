import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.addresses import Family
from moorage.discovery.choice import addresses_of, choose, families_of
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

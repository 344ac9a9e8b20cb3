"""The descriptions of sets, maps and chains agree with themselves and with nft."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import Affinity, Balanced, ByClientIP, Moored, MooringKey, PodPrefixKey, ServiceAddress
from moorage.dataplane.ruleset import REFUSE, base, base_chains
from moorage.dataplane.schema import (
    CONTAINERS,
    OF_FAMILY,
    Policy,
    ReadBack,
    Step,
    is_made_on_use,
    mooring_of,
    prefix_of,
    prefix_text,
    service_of,
)
from tests.support.states import affinity_of

affinities: st.SearchStrategy[Affinity] = st.one_of(
    st.integers(0, 86_400).map(affinity_of), st.builds(Moored, st.integers(1, 86_400), st.booleans())
)
policies = st.builds(
    Policy, st.sampled_from([4, 6]), st.sampled_from(["tcp", "udp"]), affinities, st.integers(1, 4096)
)


@given(policies)
def test_a_policy_can_be_read_in_the_name_of_its_chain(policy: Policy) -> None:
    assert Policy.of_chain(policy.chain) == policy
    assert is_made_on_use(policy.chain)


@given(policies.filter(lambda each: each.affinity != Balanced()))
def test_chains_that_learn_are_made_on_use_and_are_no_policy(policy: Policy) -> None:
    assert is_made_on_use(policy.learn_chain)
    assert Policy.of_chain(policy.learn_chain) is None


def test_chains_of_the_base_are_told_from_those_that_are_made_on_use() -> None:
    names = [each.name for each in [*base_chains(learn6=True), REFUSE]]
    assert not any(is_made_on_use(each) or Policy.of_chain(each) for each in [*names, "-", "", "balanced-1-sctp4"])


def test_the_names_of_chains_are_what_people_know() -> None:
    assert Policy(4, "tcp", ByClientIP(60), 24).chain == "clientip-60-24-tcp4"
    assert Policy(4, "tcp", ByClientIP(60), 24).learn_chain == "learn-60-tcp4"
    assert Policy(6, "udp", Balanced(), 1).chain == "balanced-1-udp6"
    assert Policy(4, "tcp", Moored(60), 24).chain == "moored-60-24-tcp4"
    assert Policy(4, "tcp", Moored(60, holds=True), 24).chain == "moored-hold-60-24-tcp4"
    assert Policy(4, "tcp", Moored(60, holds=True), 24).learn_chain == "learn-60-tcp4"


def test_names_of_sets_and_maps_are_unique() -> None:
    assert len({each.name for each in CONTAINERS}) == len(CONTAINERS)


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda each: each.name)
async def test_each_is_declared_in_a_form_that_no_nft_crashes_over(container: object) -> None:
    nft = FakeNft(lambda: 0.0)
    await nft.run("\n".join(base(learn6=True)) + "\n")
    assert await nft.check(container.declaration)  # type: ignore[attr-defined]


def test_the_unit_of_an_element_is_found_by_its_key_also_where_the_protocol_is_the_maps() -> None:
    four, six = OF_FAMILY[4], OF_FAMILY[6]
    key = ServiceAddress("10.96.0.1", "udp", 80)
    assert service_of(four.services, key) == key
    assert service_of(four.slots["udp"], ("10.96.0.1", 80, 276)) == key
    assert service_of(four.sessions, ("10.244.0.1", *key)) == key
    assert service_of(four.live, (*key, "203.0.113.1", 8080)) == key
    assert service_of(six.learners, ("fd00::1", "tcp", 80)) == ServiceAddress("fd00::1", "tcp", 80)


def test_the_mooring_of_an_element_is_found_by_its_key() -> None:
    four, six = OF_FAMILY[4], OF_FAMILY[6]
    key = ServiceAddress("10.96.0.1", "tcp", 80)
    assert mooring_of(four.moorings, ("10.244.0.1", *key)) == MooringKey("10.244.0.1", key)
    assert mooring_of(four.waited, ("10.244.0.1", "10.96.0.1", 80)) == MooringKey("10.244.0.1", key)
    assert mooring_of(six.moorings, ("fd00::9", "fd00::1", "udp", 53)) == MooringKey(
        "fd00::9", ServiceAddress("fd00::1", "udp", 53)
    )


@pytest.mark.parametrize("prefix", ["10.244.1.0/24", "10.244.1.7/32", "fd00:10:244:1::/64", "fd00::7/128"])
def test_a_range_of_addresses_is_found_by_its_key_also_where_nft_writes_one_address(prefix: str) -> None:
    key = PodPrefixKey(prefix)
    pods = OF_FAMILY[key.family].pods
    written = prefix_text(key)
    assert ("/" in written) == (not prefix.endswith(("/32", "/128")))
    assert prefix_of(pods, (written,)) == key


def test_what_packets_see_first_comes_last_and_goes_first() -> None:
    """The verdict is in the flip; whatever it leads to is there before, and goes with it or after it."""
    for containers in OF_FAMILY.values():
        assert (containers.services.add, containers.services.delete) == (Step.FLIP, Step.FLIP)
        for each in (*containers.slots.values(), containers.learners, containers.live, containers.hairpin):
            assert each.add < Step.FLIP <= each.delete


def test_a_mark_tells_all_that_is_not_listed() -> None:
    by_mark = {each for each in CONTAINERS if each.read_back is ReadBack.MARK}
    assert by_mark == {
        each for family in OF_FAMILY.values() for each in (family.services, family.learners, *family.slots.values())
    }

"""The descriptions of sets and maps agree with themselves and with nft."""

import pytest

from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import MooringKey, PodPrefixKey, ServiceAddress
from moorage.dataplane.ruleset import base
from moorage.dataplane.schema import (
    CONTAINERS,
    OF_FAMILY,
    ReadBack,
    Step,
    mooring_of,
    prefix_of,
    prefix_text,
    service_of,
)


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

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from bench.hostile import objects
from bench.hostile.kinds import KINDS
from moorage.api.moorage_v1alpha1 import MAX_SOURCES, ExternalService, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import MAX_ADDRESSES

HONEST, NEIGHBOURS = IPv4Network("198.18.0.0/16"), IPv4Network("198.19.0.0/16")


def addresses(made: objects.Made) -> list[str]:
    return [
        each.address
        for xsvc in made
        if isinstance(xsvc, ExternalService)
        for source in xsvc.spec.endpoints or ()
        for each in source.addresses or ()
    ]


def patched(number: int, turn: int) -> list[str]:
    patch = msgspec.convert(objects.large_patch(number, turn), dict[str, ExternalServiceSpec])
    return [each.address for source in patch["spec"].endpoints or () for each in source.addresses or ()]


def test_the_honest_tenant_has_an_address_for_each_endpoint_and_knows_which_die() -> None:
    found = addresses(objects.honest("ca"))
    assert len(set(found)) == len(found) == objects.endpoints()
    assert all(IPv4Address(each) in HONEST for each in found)
    every, living = objects.checked(dying=True), objects.checked(dying=False)
    assert sorted(address for address, _ in every) == sorted(found)
    assert {port for _, port in set(every) - set(living)} == {objects.CLOSING}
    assert len(every) - len(living) == objects.DYING


@pytest.mark.parametrize("turn", [0, 1, 7, 8])
def test_the_large_ones_have_as_many_addresses_as_may_be_and_share_none(turn: int) -> None:
    found: list[str] = []
    for number in range(objects.LARGE):
        found += patched(number, turn)
    assert len(set(found)) == len(found) == objects.LARGE * MAX_SOURCES * MAX_ADDRESSES
    assert all(IPv4Address(each) in NEIGHBOURS for each in found)


def test_a_turn_changes_a_part_of_the_addresses() -> None:
    assert len(set(patched(0, 0)) - set(patched(0, 1))) == MAX_SOURCES * MAX_ADDRESSES / 8


def test_neighbours_write_into_their_own_namespace() -> None:
    made = [
        *objects.tls_endpoints("ca", [1, 2], 25),
        *objects.clusters("ca", ["fat", "token"]),
        *objects.names(),
        *objects.bundled(b"bundle"),
        *objects.large(),
    ]
    assert {each.metadata.namespace for each in made} == {objects.HOSTILE}
    assert len({(type(each), each.metadata.name) for each in made}) == len(made)
    assert all(IPv4Address(each) in NEIGHBOURS for each in addresses(made))


def test_every_kind_has_a_name_of_its_own_and_words_for_people() -> None:
    assert len({each.name for each in KINDS}) == len({each.what for each in KINDS}) == len(KINDS)
    assert KINDS[0].name == "nobody"

from ipaddress import IPv4Address, IPv4Network

import pytest

from bench import objects
from moorage.api.moorage_v1alpha1 import ExternalService


def addresses(xsvc: ExternalService) -> list[str]:
    return [each.address for source in xsvc.spec.endpoints or () for each in source.addresses or ()]


@pytest.mark.parametrize(("services", "endpoints"), [(100, 5), (1000, 5), (10, 200)])
def test_every_endpoint_has_an_address_of_its_own_that_nothing_moves_to(services: int, endpoints: int) -> None:
    made = list(objects.external_services("ns", services, endpoints, 0))
    fixed = [address for xsvc in made for address in addresses(xsvc)]
    moving = [objects.moved(number) for number in range(100)]
    assert len({xsvc.metadata.name for xsvc in made}) == services
    assert len(set(fixed + moving)) == services * endpoints + 100
    assert all(IPv4Address(each) in IPv4Network(objects.RANGE) for each in fixed + moving)


def test_the_endpoints_that_die_are_the_first_of_the_first_services() -> None:
    for number, xsvc in enumerate(objects.external_services("ns", 10, 5, 3)):
        ports = [each.port for source in xsvc.spec.endpoints or () for each in source.addresses or ()]
        assert ports == [objects.CLOSING_PORT if number < 3 else None, None, None, None, None]
        assert addresses(xsvc)[0] == objects.address(number, 0, 5)
        assert xsvc.metadata.name == objects.name(number)

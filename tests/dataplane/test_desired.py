"""Who has an address that several claim."""

from moorage.dataplane.desired import Desired
from moorage.dataplane.model import (
    ClientTarget,
    MooringKey,
    PodPrefix,
    PodPrefixKey,
    ServiceAddress,
    ServicePort,
    Target,
)


def test_an_address_that_two_services_claim_is_the_firsts_until_it_goes() -> None:
    desired = Desired()
    key = ServiceAddress("10.96.0.1", "tcp", 80)
    first, second = (ServicePort(service=name, key=key) for name in ("a/a", "b/b"))
    assert desired.put("b/b", [second]) == {key}
    assert desired.put("a/a", [first]) == {key}
    assert desired.state == {key: first}
    assert len(desired.conflicts()) == 1
    assert desired.put("a/a", []) == {key}
    assert desired.state == {key: second}
    assert desired.put("b/b", [second]) == set()
    assert desired.put("b/b", []) == {key}
    assert desired.state == {}


def test_of_many_conflicts_some_are_listed() -> None:
    desired = Desired()
    ports = [ServicePort("a/a", ServiceAddress("10.96.0.1", "tcp", port)) for port in range(1, 100)]
    desired.put("a/a", ports)
    desired.put("b/b", ports)
    assert len(desired.conflicts()) == 21
    desired.put("a/a", ports[:1])
    assert len(desired.conflicts()) == 1
    desired.put("b/b", ports[1:])
    assert desired.conflicts() == []


def led(client: str, endpoint: str) -> ClientTarget:
    return ClientTarget(MooringKey(client, ServiceAddress("10.96.0.1", "tcp", 80)), Target(endpoint, 80))


def test_where_pods_are_led_comes_changes_and_goes_namespace_by_namespace() -> None:
    desired = Desired()
    first, second, other = (
        led("10.244.1.2", "203.0.113.1"),
        led("10.244.1.2", "203.0.113.2"),
        led("10.244.1.3", "203.0.113.1"),
    )
    assert desired.lead("a", [first]) == {first.key}
    assert desired.lead("b", [other]) == {other.key}
    assert desired.lead("a", [first]) == set()
    assert desired.lead("a", [second]) == {first.key}
    assert desired.state == {second.key: second, other.key: other}
    assert desired.lead("a", []) == {first.key}
    assert desired.lead("b", []) == {other.key}
    assert (desired.state, desired._led) == ({}, {})


def test_the_ranges_of_pods_are_replaced_as_a_whole() -> None:
    desired = Desired()
    one, two = (PodPrefix(PodPrefixKey(prefix)) for prefix in ("10.244.1.0/24", "10.244.2.0/24"))
    assert desired.prefixes([one]) == {one.key}
    assert desired.prefixes([one]) == set()
    assert desired.prefixes([two]) == {one.key, two.key}
    assert desired.state == {two.key: two}
    assert desired.prefixes([]) == {two.key}

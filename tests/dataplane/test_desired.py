"""Who has an address that several claim."""

from moorage.dataplane.desired import Desired
from moorage.dataplane.model import ServiceAddress, ServicePort


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

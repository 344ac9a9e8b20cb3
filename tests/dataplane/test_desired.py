"""What a node should carry, put together Service by Service."""

from moorage.dataplane.desired import Desired
from moorage.dataplane.model import Key, ServicePort


def test_an_address_that_two_services_claim_is_the_firsts_until_it_goes() -> None:
    desired = Desired()
    key = Key("10.96.0.1", "tcp", 80)
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

import pytest

from moorage.api.sources_v1alpha1 import StaticAddress
from moorage.core.admission import Gate
from moorage.core.model import Found
from moorage.discovery.addresses import found


def test_what_is_written_is_found_under_its_name_or_its_address() -> None:
    written = [
        StaticAddress(name="backend1", address="203.0.113.11"),
        StaticAddress(address="203.0.113.12", port=8080, weight=2, zone="eu-1a"),
        StaticAddress(address="2001:DB8::0:11"),
    ]
    assert found(written) == (
        Found("backend1", "203.0.113.11"),
        Found("203-0-113-12", "203.0.113.12", 8080, 2, zone="eu-1a"),
        Found("2001-db8--11", "2001:db8::11"),
    )


@pytest.mark.parametrize("address", ["backend1", "010.0.0.1", "::ffff:203.0.113.11", "2001:db8::11%eth0", ""])
def test_what_is_no_address_is_left_to_the_gate_which_refuses_it(address: str) -> None:
    (each,) = found([StaticAddress(address=address)])
    assert Gate().refusal(each.address) is not None

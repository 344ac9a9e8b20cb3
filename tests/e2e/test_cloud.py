"""Addresses of the played cloud's load balancers."""

from unittest.mock import Mock

import pytest

from e2e.harness import topology
from e2e.harness.cloud import Addresses, Cloud
from moorage.api.meta import ObjectKey

WEB, OTHER = ObjectKey("default", "web"), ObjectKey("default", "other")


@pytest.fixture
def addresses() -> Addresses:
    return Addresses("203.0.113.0/25")


def test_a_service_keeps_its_address(addresses: Addresses) -> None:
    first = addresses.give(WEB)
    assert addresses.give(WEB) == first
    assert addresses.give(OTHER) != first


def test_an_address_that_was_given_back_comes_last_again(addresses: Addresses) -> None:
    first = addresses.give(WEB)
    assert addresses.take(WEB) == first
    assert addresses.give(WEB) != first
    assert addresses.take(OTHER) is None


def test_the_addresses_in_the_demo_s_manifests_are_given_to_nobody(addresses: Addresses) -> None:
    given = {addresses.give(ObjectKey("default", f"web-{number}")) for number in range(100)}
    assert len(given) == 100
    assert not given & {"203.0.113.1", "203.0.113.2"}


def test_a_cloud_that_was_never_started_can_be_stopped() -> None:
    """Else what has failed before it was started is not told."""
    Cloud(Mock(), topology.SITES[0], Mock(), Mock()).stop()

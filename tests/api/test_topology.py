"""Hints there and back, and what kube-proxy makes of them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.discovery_v1 import Endpoint
from moorage.api.topology import HintedEndpoint, Hints, decode_hints, encode_hints, usable
from tests.support.categories import CASES

names = st.frozensets(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), max_size=8)


@given(st.builds(Hints, names, names))
def test_hints_come_back_from_a_slice_as_they_were(hints: Hints) -> None:
    endpoint = Endpoint(addresses=["203.0.113.1"], hints=encode_hints(hints))
    assert decode_hints(msgspec.json.decode(msgspec.json.encode(endpoint), type=Endpoint).hints) == hints


def test_hints_are_written_in_the_order_of_their_names_and_not_where_there_are_none() -> None:
    assert msgspec.to_builtins(encode_hints(Hints(frozenset(["n2", "n1"])))) == {
        "forNodes": [{"name": "n1"}, {"name": "n2"}]
    }
    assert msgspec.to_builtins(encode_hints(Hints(zones=frozenset(["z"])))) == {"forZones": [{"name": "z"}]}
    assert encode_hints(Hints()) is None


@pytest.mark.parametrize(("endpoints", "node", "zone", "expected"), CASES)
def test_kube_proxy_chooses(endpoints: list[HintedEndpoint], node: str, zone: str, expected: set[int]) -> None:
    assert set(usable(endpoints, node, zone)) == expected

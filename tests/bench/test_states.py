"""That what is measured is what it says: Services and slices that the data plane carries, all of them."""

import msgspec

from bench import haproxy, states, syncing
from bench.connections import endpoints_of
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.dataplane.services import Scope, carried
from tests.support.states import ports_of


def test_the_objects_of_the_api_make_the_state() -> None:
    services = msgspec.convert(list(states.service_objects(3)), list[Service])
    found = {}
    for number, service in enumerate(services):
        slice_ = states.slice_object(number, states.endpoint_addresses(number, 10))
        (port,) = carried(service, [msgspec.convert(slice_, EndpointSlice)], Scope(node="bench")).ports
        found[port.key] = port
    expected = states.state(3, 10)
    assert {key: port.endpoints for key, port in found.items()} == {
        key: port.endpoints for key, port in ports_of(expected).items()
    }
    assert {port.affinity.session_seconds for port in found.values()} == {10800}


def test_each_change_takes_an_endpoint_out_or_brings_it_back() -> None:
    options = syncing.Options(services=1000, endpoints=10, changes=4)
    slices = [msgspec.json.decode(each, type=EndpointSlice) for each in syncing.changes(options)]
    assert [len(each.endpoints or ()) for each in slices] == [9, 10, 9, 10]
    assert slices[0].metadata.name == slices[1].metadata.name != slices[2].metadata.name


def test_ways_have_endpoints_of_their_own() -> None:
    assert endpoints_of(0, 1000)[0] == "198.18.0.1"
    assert endpoints_of(0, 1000)[-1] == "198.18.3.232"
    assert endpoints_of(1, 1) == ["198.18.4.1"]


def test_haproxy_pins_by_source() -> None:
    lines = [line.strip() for line in haproxy.config("10.96.0.1", 80, ["198.18.0.1:80"]).splitlines()]
    assert "stick on src" in lines
    assert "server endpoint-0 198.18.0.1:80" in lines

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import EndpointAddress, Endpoints, EndpointsPort, EndpointSubset, Service, ServiceSpec
from moorage.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort
from moorage.api.meta import ObjectMeta
from moorage.api.mirroring import SKIP_LABEL, SliceKey, is_mirrored, mirrored

META = ObjectMeta(name="web", namespace="ns", uid="uid-ep")
WITHOUT_SELECTOR = Service(metadata=ObjectMeta(name="web", namespace="ns"))
WITH_SELECTOR = replace(WITHOUT_SELECTOR, spec=ServiceSpec(selector={"app": "web"}))


@pytest.mark.parametrize(
    "meta",
    [
        replace(META, labels={SKIP_LABEL: "true"}),
        replace(META, annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}),
        replace(META, deletion_timestamp="now"),
    ],
)
def test_who_opts_out_is_not_mirrored(meta: ObjectMeta) -> None:
    assert is_mirrored(Endpoints(metadata=META), WITHOUT_SELECTOR)
    assert not is_mirrored(Endpoints(metadata=meta), WITHOUT_SELECTOR)


def test_only_endpoints_of_a_service_without_selector_are_mirrored() -> None:
    assert not is_mirrored(Endpoints(metadata=META), WITH_SELECTOR)
    assert not is_mirrored(Endpoints(metadata=META), None)


def test_endpoints_are_grouped_by_family_and_ports_and_keep_what_is_said_of_them() -> None:
    http, dns = EndpointsPort(name="http", port=80, app_protocol="http"), EndpointsPort(port=53, protocol="UDP")
    subsets = [
        EndpointSubset(
            addresses=[EndpointAddress(ip="203.0.113.1", hostname="a"), EndpointAddress(ip="2001:db8::1")],
            not_ready_addresses=[EndpointAddress(ip="203.0.113.2", node_name="node-1")],
            ports=[http, dns],
        ),
        EndpointSubset(addresses=[EndpointAddress(ip="203.0.113.3")], ports=[dns, http]),
        EndpointSubset(addresses=[EndpointAddress(ip="203.0.113.4")], ports=[dns]),
    ]
    udp = EndpointPort(name="", port=53, protocol="UDP")
    tcp = EndpointPort(name="http", port=80, protocol="TCP", app_protocol="http")
    ready, unready = EndpointConditions(ready=True), EndpointConditions(ready=False)
    assert mirrored(Endpoints(metadata=META, subsets=subsets)) == {
        SliceKey("IPv4", (udp, tcp)): [
            Endpoint(addresses=["203.0.113.1"], conditions=ready, hostname="a"),
            Endpoint(addresses=["203.0.113.2"], conditions=unready, node_name="node-1"),
            Endpoint(addresses=["203.0.113.3"], conditions=ready),
        ],
        SliceKey("IPv6", (udp, tcp)): [Endpoint(addresses=["2001:db8::1"], conditions=ready)],
        SliceKey("IPv4", (udp,)): [Endpoint(addresses=["203.0.113.4"], conditions=ready)],
    }


def test_without_addresses_there_are_no_slices() -> None:
    assert mirrored(Endpoints(metadata=META)) == {}
    assert mirrored(Endpoints(metadata=META, subsets=[EndpointSubset(ports=[EndpointsPort(port=80)])])) == {}

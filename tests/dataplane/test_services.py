"""Services and slices to what a node carries, by kube-proxy's rules."""

import msgspec
import pytest

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.dataplane.model import Key, ServicePort, Target
from moorage.dataplane.services import Desired, Scope, carried

SCOPE = Scope(node="node-1", labelled_only=False)


def service(**spec: object) -> Service:
    spec = {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 9000}]} | spec
    metadata = {"name": "backend", "namespace": "frontend"}
    return msgspec.convert({"metadata": metadata, "spec": spec}, Service)


def slice_(*endpoints: object, name: str = "backend-1", annotations: object = None, **rest: object) -> EndpointSlice:
    given = [{"addresses": [endpoint]} if isinstance(endpoint, str) else endpoint for endpoint in endpoints]
    metadata = {"name": name, "namespace": "frontend", "annotations": annotations}
    body = {"metadata": metadata, "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": given} | rest
    return msgspec.convert(body, EndpointSlice)


def only(service_: Service, *slices: EndpointSlice, scope: Scope = SCOPE) -> ServicePort:
    (port,) = carried(service_, slices, scope).ports
    return port


def targets(port: ServicePort) -> list[str]:
    return [f"{each.target.address}:{each.target.port}" for each in port.endpoints]


def test_the_port_of_the_slice_counts_not_the_target_port() -> None:
    port = only(service(ports=[{"port": 9000, "targetPort": 9000}]), slice_("203.0.113.1", "203.0.113.2"))
    assert port.key == Key("10.96.0.1", "tcp", 9000)
    assert targets(port) == ["203.0.113.1:80", "203.0.113.2:80"]


def test_ports_are_matched_by_name_and_protocol() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp"}]
    given = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5454, "protocol": "TCP"}]
    found = carried(service(ports=ports), [slice_("203.0.113.1", ports=given)], SCOPE).ports
    assert {each.key: targets(each) for each in found} == {
        Key("10.96.0.1", "udp", 53): ["203.0.113.1:5353"],
        Key("10.96.0.1", "tcp", 53): ["203.0.113.1:5454"],
    }


def test_a_slice_without_the_port_gives_a_service_without_endpoints() -> None:
    assert only(service(), slice_("203.0.113.1", ports=[{"name": "other", "port": 80}])).endpoints == ()
    assert only(service()).endpoints == ()


def test_both_families_take_the_slices_of_their_own() -> None:
    dual = service(clusterIPs=["10.96.0.1", "fd00:10:96:0::1"])
    six = slice_("2001:db8:0::1", name="six", addressType="IPv6")
    found = carried(dual, [slice_("203.0.113.1"), six], SCOPE).ports
    assert {each.key.address: targets(each) for each in found} == {
        "10.96.0.1": ["203.0.113.1:80"],
        "fd00:10:96::1": ["2001:db8::1:80"],
    }


@pytest.mark.parametrize(
    ("conditions", "used", "keeps"),
    [
        ([{}, {}], [1, 2], []),
        ([{"ready": True}, {"ready": False, "serving": False}], [1], []),
        ([{"ready": True}, {"ready": False, "serving": True, "terminating": True}], [1], [2]),
        ([{"ready": False, "serving": True, "terminating": True}, {"ready": False, "serving": False}], [1], []),
        ([{"ready": False, "serving": True}, {"ready": False, "serving": False}], [], [1]),
        ([{"ready": True}, {"ready": False, "serving": False, "terminating": True}], [1], [2]),
    ],
    ids=[
        "nil is ready",
        "not serving",
        "terminating keeps flows",
        "terminating when none is ready",
        "serving keeps",
        "ending",
    ],
)
def test_conditions_mean_what_kubernetes_says(conditions: list[object], used: list[int], keeps: list[int]) -> None:
    endpoints = [
        {"addresses": [f"203.0.113.{number}"], "conditions": each} for number, each in enumerate(conditions, 1)
    ]
    port = only(service(), slice_(*endpoints))
    assert targets(port) == [f"203.0.113.{number}:80" for number in used]
    assert port.keeps == {Target(f"203.0.113.{number}", 80) for number in keeps}


def test_an_endpoint_is_known_by_its_hostname_and_else_by_its_address() -> None:
    named = {"addresses": ["203.0.113.9"], "hostname": "backend1"}
    twins = [{"addresses": [f"203.0.113.{number}"], "hostname": "twin"} for number in (3, 4)]
    port = only(service(), slice_(named, "203.0.113.1", *twins))
    assert [each.name for each in port.endpoints] == ["203.0.113.1", "203.0.113.3", "203.0.113.4", "backend1"]


def test_one_target_in_two_slices_counts_once() -> None:
    assert targets(only(service(), slice_("203.0.113.1"), slice_("203.0.113.1", name="mirror"))) == ["203.0.113.1:80"]


@pytest.mark.parametrize(
    ("annotation", "weights", "warned"),
    [('{"203.0.113.1": 3}', [3, 1], 0), ("{", [1, 1], 1), ('{"203.0.113.1": 0}', [1, 1], 1), ("[]", [1, 1], 1)],
)
def test_weights_come_from_the_slices_annotation(annotation: str, weights: list[int], warned: int) -> None:
    result = carried(
        service(), [slice_("203.0.113.1", "203.0.113.2", annotations={"moorage.dev/weights": annotation})], SCOPE
    )
    assert [each.weight for each in result.ports[0].endpoints] == weights
    assert len(result.warnings) == warned


def test_affinity_lasts_three_hours_unless_said_otherwise() -> None:
    assert only(service()).affinity_seconds == 0
    assert only(service(sessionAffinity="ClientIP")).affinity_seconds == 10800
    config = {"clientIP": {"timeoutSeconds": 7}}
    assert only(service(sessionAffinity="ClientIP", sessionAffinityConfig=config)).affinity_seconds == 7


def test_special_addresses_and_what_is_none_are_left_out_and_said() -> None:
    result = carried(service(), [slice_("127.0.0.1", "169.254.169.254", "203.0.113.1", "010.0.0.1")], SCOPE)
    assert targets(result.ports[0]) == ["203.0.113.1:80"]
    assert len(result.warnings) == 3
    assert "Service frontend/backend: endpoint 127.0.0.1" in result.warnings[0]
    assert "endpoint 010.0.0.1 is left out: it is not an IP address" in result.warnings[2]


def test_internal_traffic_policy_local_keeps_to_the_node() -> None:
    here, there = ({"addresses": [f"10.244.{n}.1"], "nodeName": f"node-{n}"} for n in (1, 2))
    port = only(service(internalTrafficPolicy="Local"), slice_(here, there))
    assert targets(port) == ["10.244.1.1:80"]
    assert [each.local for each in only(service(), slice_(here, there)).endpoints] == [True, False]


def test_headless_external_name_and_foreign_services_are_not_carried() -> None:
    assert carried(service(clusterIP="None", clusterIPs=["None"]), [], SCOPE).ports == ()
    assert carried(service(type="ExternalName", externalName="x.example"), [], SCOPE).ports == ()
    labelled = service()
    labels = {"service.kubernetes.io/service-proxy-name": "other"}
    foreign = msgspec.structs.replace(labelled, metadata=msgspec.structs.replace(labelled.metadata, labels=labels))
    assert carried(foreign, [], SCOPE).ports == ()
    assert carried(labelled, [], SCOPE._replace(labelled_only=True)).ports == ()
    labels = {"service.kubernetes.io/service-proxy-name": "moorage"}
    ours = msgspec.structs.replace(labelled, metadata=msgspec.structs.replace(labelled.metadata, labels=labels))
    assert carried(ours, [], SCOPE).ports
    assert carried(ours, [], SCOPE._replace(labelled_only=True)).ports


def test_sctp_is_left_out_and_said() -> None:
    result = carried(service(ports=[{"port": 1, "protocol": "SCTP"}]), [], SCOPE)
    assert result.ports == ()
    assert result.warnings == ("Service frontend/backend: port 1/SCTP is not carried; use TCP or UDP",)


def test_load_balancer_addresses_on_request() -> None:
    body = {"metadata": {"name": "lb", "namespace": "x"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
    balanced = msgspec.convert(body | {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}, Service)
    (port,) = carried(balanced, [], SCOPE._replace(addresses="load-balancer")).ports
    assert port.key == Key("203.0.113.7", "tcp", 80)


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

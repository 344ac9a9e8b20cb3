"""Services and slices to what a node carries, by kube-proxy's rules."""

import msgspec
import pytest
from msgspec.structs import replace

from moorage.api.contract import PROXY_LABEL, WEIGHTS_ANNOTATION, MooredBy, ServiceContract, encode_service
from moorage.api.core_v1 import Service, ServiceStatus
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.topology import HintedEndpoint, encode_hints
from moorage.dataplane.model import Balanced, ByClientIP, Moored, ServiceAddress, ServicePort, Target
from moorage.dataplane.services import MAX_ENDPOINTS_OF_PORT, At, Carried, Scope, carried, fault, needed
from tests.support.categories import CASES

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
    assert port.key == ServiceAddress("10.96.0.1", "tcp", 9000)
    assert targets(port) == ["203.0.113.1:80", "203.0.113.2:80"]


def test_ports_are_matched_by_name_and_protocol() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp"}]
    given = [
        {"name": "dns", "port": 1, "protocol": "TCP"},
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5454, "protocol": "TCP"},
        {"name": "dns-tcp", "port": 2, "protocol": "UDP"},
    ]
    found = carried(service(ports=ports), [slice_("203.0.113.1", ports=given)], SCOPE).ports
    assert {each.key: targets(each) for each in found} == {
        ServiceAddress("10.96.0.1", "udp", 53): ["203.0.113.1:5353"],
        ServiceAddress("10.96.0.1", "tcp", 53): ["203.0.113.1:5454"],
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
        service(), [slice_("203.0.113.1", "203.0.113.2", annotations={WEIGHTS_ANNOTATION: annotation})], SCOPE
    )
    assert [each.weight for each in result.ports[0].endpoints] == weights
    assert len(result.warnings) == warned


def test_affinity_lasts_three_hours_unless_said_otherwise() -> None:
    assert only(service()).affinity == Balanced()
    assert only(service(sessionAffinity="ClientIP")).affinity == ByClientIP(10800)
    config = {"clientIP": {"timeoutSeconds": 7}}
    assert only(service(sessionAffinity="ClientIP", sessionAffinityConfig=config)).affinity == ByClientIP(7)


def test_special_addresses_and_what_is_none_are_left_out_and_said() -> None:
    result = carried(service(), [slice_("127.0.0.1", "169.254.169.254", "203.0.113.1", "10.0.0.1.0")], SCOPE)
    assert targets(result.ports[0]) == ["203.0.113.1:80"]
    assert len(result.warnings) == 3
    assert "Service frontend/backend: endpoint 127.0.0.1" in result.warnings[0]
    assert "endpoint 10.0.0.1.0 is left out: it is not an IP address" in result.warnings[2]


def test_internal_traffic_policy_local_keeps_to_the_node() -> None:
    here, there = ({"addresses": [f"10.244.{n}.1"], "nodeName": f"node-{n}"} for n in (1, 2))
    port = only(service(internalTrafficPolicy="Local"), slice_(here, there))
    assert targets(port) == ["10.244.1.1:80"]
    assert [each.local for each in only(service(), slice_(here, there)).endpoints] == [True, False]


def at_node(node: int | None, number: int = 1, **conditions: bool) -> dict[str, object]:
    name = None if node is None else f"node-{node}"
    return {"addresses": [f"10.244.{node or 9}.{number}"], "nodeName": name, "conditions": conditions}


LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}


@pytest.mark.parametrize(
    ("endpoints", "used", "ignores"),
    [
        pytest.param([], [], False, id="none anywhere: rejected"),
        pytest.param([at_node(2, ready=False)], [], False, id="none is ready anywhere: rejected"),
        pytest.param([at_node(2, **GONE)], [], False, id="the last one has ended: rejected"),
        pytest.param([at_node(2)], [], True, id="ready elsewhere only: dropped"),
        pytest.param([at_node(None)], [], True, id="outside of all nodes only: dropped"),
        pytest.param([at_node(2, **LEAVING)], [], True, id="leaving elsewhere, and serving: dropped"),
        pytest.param([at_node(1, ready=False), at_node(2)], [], True, id="here not ready: dropped"),
        pytest.param([at_node(1, **GONE), at_node(2)], [], True, id="here ended: dropped"),
        pytest.param([at_node(1, **LEAVING), at_node(2)], ["10.244.1.1:80"], False, id="here leaving: it serves on"),
        pytest.param(
            [at_node(1, **LEAVING), at_node(1, 2), at_node(2)], ["10.244.1.2:80"], False, id="here leaving and ready"
        ),
        pytest.param([at_node(1), at_node(1, 2)], ["10.244.1.1:80", "10.244.1.2:80"], False, id="all are here"),
    ],
)
def test_internal_traffic_policy_local_does_what_kube_proxy_does(
    endpoints: list[object], used: list[str], ignores: bool
) -> None:
    """As pkg/proxy/topology.go (`CategorizeEndpoints`) and pkg/proxy/nftables of Kubernetes 1.37.2."""
    port = only(service(internalTrafficPolicy="Local"), slice_(*endpoints))
    assert (targets(port), port.ignores) == (used, ignores)
    everywhere = only(service(internalTrafficPolicy="Cluster"), slice_(*endpoints))
    assert not everywhere.ignores


def test_traffic_distribution_means_nothing_without_hints() -> None:
    given = slice_(at_node(1), at_node(2))
    for distribution in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        assert len(only(service(trafficDistribution=distribution), given).endpoints) == 2


def test_the_addresses_of_a_load_balancer_are_of_no_node() -> None:
    spec = service(internalTrafficPolicy="Local", type="LoadBalancer")
    balanced = replace(
        spec, status=msgspec.convert({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}, ServiceStatus)
    )
    port = only(balanced, slice_(at_node(2)), scope=SCOPE._replace(addresses="load-balancer"))
    assert (targets(port), port.ignores) == (["10.244.2.1:80"], False)


def test_headless_external_name_and_foreign_services_are_not_carried() -> None:
    assert carried(service(clusterIP="None", clusterIPs=["None"]), [], SCOPE).ports == ()
    assert carried(service(type="ExternalName", externalName="x.example"), [], SCOPE).ports == ()
    labelled = service()
    labels = {PROXY_LABEL: "other"}
    foreign = msgspec.structs.replace(labelled, metadata=msgspec.structs.replace(labelled.metadata, labels=labels))
    assert carried(foreign, [], SCOPE).ports == ()
    assert carried(labelled, [], SCOPE._replace(labelled_only=True)).ports == ()
    labels = {PROXY_LABEL: "moorage"}
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
    assert port.key == ServiceAddress("203.0.113.7", "tcp", 80)


@pytest.mark.parametrize(
    ("written", "address"), [("10.096.00.0100", "10.96.0.100"), ("::ffff:10.96.0.100", "10.96.0.100")]
)
def test_a_cluster_ip_is_read_as_kubernetes_reads_it(written: str, address: str) -> None:
    port = only(service(clusterIP=written, clusterIPs=[written]), slice_("203.0.113.1"))
    assert port.key.address == address
    assert targets(port) == ["203.0.113.1:80"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"clusterIPs": ["10.96.0.256"]}, "spec.clusterIPs: 10.96.0.256 is not an IP address"),
        ({"clusterIPs": ["10.96.0.1", "fd00::1%a }"]}, 'spec.clusterIPs: "fd00::1%a }" is not an IP address'),
        ({"ports": [{"port": 80}, {"port": 65536}]}, "spec.ports[1].port: 65536 is not from 1 to 65535"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: 0 is not from 1 to 65535"),
        *(
            (
                {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}},
                f"spec.sessionAffinityConfig.clientIP.timeoutSeconds: {seconds} is not from 1 to 86400",
            )
            for seconds in (-1, 0, 86401, 10**18)
        ),
    ],
)
def test_a_service_that_cannot_be_carried_says_which_field_is_wrong(spec: dict[str, object], why: str) -> None:
    given = service(**spec)
    assert fault(given, SCOPE) == why
    line = f"Service frontend/backend: {why}; nothing of it is carried"
    assert carried(given, [slice_("203.0.113.1")], SCOPE) == Carried((), (line,))
    assert fault(given, SCOPE._replace(labelled_only=True)) is None, "it is another proxy's"


def test_a_timeout_without_affinity_means_nothing() -> None:
    config = {"clientIP": {"timeoutSeconds": 0}}
    assert only(service(sessionAffinityConfig=config), slice_("203.0.113.1")).affinity == Balanced()


def test_a_port_that_no_slice_has_is_told_with_what_there_is() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    given = [{"name": "web", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    result = carried(service(ports=ports), [slice_("203.0.113.1", ports=given)], SCOPE)
    assert result.warnings == (
        "Service frontend/backend: port 80/TCP, named http: no EndpointSlice has a port of that name and protocol, "
        "so it has no endpoints; they have UDP named dns, TCP named web",
    )


def test_slices_whose_ports_have_no_numbers_are_told_too() -> None:
    (warning,) = carried(service(), [slice_("203.0.113.1", ports=[{"port": 0}])], SCOPE).warnings
    assert warning.endswith("port 9000/TCP, without a name: no EndpointSlice has a port of that name and protocol, "
                            "so it has no endpoints; they have none with a number")  # fmt: skip


def test_slices_without_endpoints_are_no_mismatch() -> None:
    assert carried(service(), [slice_(ports=None), slice_(name="other", ports=[])], SCOPE).warnings == ()
    renamed = slice_("203.0.113.1", name="old", ports=[{"name": "old", "port": 80}])
    assert carried(service(), [slice_(), renamed], SCOPE).warnings == ()


def test_of_too_many_endpoints_the_first_by_name_are_carried_and_the_others_keep_their_flows() -> None:
    count = MAX_ENDPOINTS_OF_PORT + 2
    endpoints = [{"addresses": [f"203.0.{n >> 8}.{n & 255}"], "hostname": f"e{n:04}"} for n in range(count)]
    result = carried(service(), [slice_(*reversed(endpoints))], SCOPE)
    (port,) = result.ports
    assert [each.name for each in port.endpoints] == [f"e{n:04}" for n in range(MAX_ENDPOINTS_OF_PORT)]
    assert port.keeps == {Target(f"203.0.{n >> 8}.{n & 255}", 80) for n in range(MAX_ENDPOINTS_OF_PORT, count)}
    assert result.warnings == (
        "Service frontend/backend: port 9000/TCP has more than 1,000 endpoints; the first 1,000 by name are carried; "
        "spread them over several Services",
    )


def test_endpoints_that_are_not_ready_do_not_count_against_the_bound() -> None:
    waiting = [
        {"addresses": [f"203.0.{n >> 8}.{n & 255}"], "conditions": {"ready": False, "serving": False}}
        for n in range(MAX_ENDPOINTS_OF_PORT)
    ]
    result = carried(service(), [slice_(*waiting, "198.51.100.1")], SCOPE)
    assert (targets(result.ports[0]), result.warnings) == (["198.51.100.1:80"], ())


def test_the_ports_of_a_service_have_a_bound_together() -> None:
    ports = [{"name": f"p{n}", "port": n} for n in range(1, 12)]
    endpoints = [f"203.0.{n >> 8}.{n & 255}" for n in range(MAX_ENDPOINTS_OF_PORT)]
    result = carried(service(ports=ports), [slice_(*endpoints, ports=ports)], SCOPE)
    assert [each.key.port for each in result.ports] == list(range(1, 11))
    assert result.warnings == (
        "Service frontend/backend: all its ports together have more than 10,000 endpoints; from 10.96.0.1 port "
        "11/TCP on they are left out; spread them over several Services",
    )


def test_exactly_as_many_as_are_carried_are_no_reason_to_warn() -> None:
    endpoints = [f"203.0.{n >> 8}.{n & 255}" for n in range(MAX_ENDPOINTS_OF_PORT)]
    waiting = {"addresses": ["198.51.100.1"], "conditions": {"ready": False}}
    assert carried(service(), [slice_(*endpoints, waiting)], SCOPE).warnings == ()


def test_warnings_are_no_more_than_a_person_reads() -> None:
    result = carried(service(), [slice_(*(f"127.0.0.{n}" for n in range(100)))], SCOPE)
    assert len(result.warnings) == 11
    assert result.warnings[-1] == "Service frontend/backend: there are more warnings, which are not listed"


def test_names_that_collide_with_everything_still_differ() -> None:
    """Not by Kubernetes' rules for host names."""
    given = [
        {"addresses": [f"203.0.113.{n}"], "hostname": hostname}
        for n, hostname in ((1, "203.0.113.2:80"), (2, "x"), (3, "x"), (4, "203.0.113.2"), (5, "203.0.113.4"))
    ]
    port = only(service(), slice_(*given))
    assert len({each.name for each in port.endpoints}) == 5


def test_annotations_of_a_service_are_not_held() -> None:
    given = service()
    noisy = msgspec.structs.replace(given, metadata=msgspec.structs.replace(given.metadata, annotations={"a": "b"}))
    assert needed(noisy) == given


def hinted(address: str, **hints: object) -> dict[str, object]:
    return {"addresses": [address], "hints": {name: [{"name": each} for each in hints[name]] for name in hints}}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("endpoints", "node", "zone", "expected"), CASES)
def test_a_node_uses_the_endpoints_that_kube_proxy_would(
    endpoints: list[HintedEndpoint], node: str, zone: str, expected: set[int]
) -> None:
    """All in one slice, and each in one of its own."""
    given = [
        {
            "addresses": [f"203.0.113.{number}"],
            "conditions": {"ready": each.ready, "serving": each.serving, "terminating": each.terminating},
            "hints": encode_hints(each.hints),
        }
        for number, each in enumerate(endpoints)
    ]
    scope, used = SCOPE._replace(node=node, zone=zone), [f"203.0.113.{number}:80" for number in sorted(expected)]
    assert targets(only(service(), slice_(*given), scope=scope)) == used
    apart = [slice_(each, name=f"backend-{number}") for number, each in enumerate(given)]
    assert targets(only(service(), *apart, scope=scope)) == used


@pytest.mark.parametrize(
    ("scope", "used"),
    [
        (Scope("node-1"), ["203.0.113.1:80"]),
        (Scope("node-2"), ["203.0.113.2:80"]),
        (Scope("node-3"), ["203.0.113.1:80", "203.0.113.2:80"]),
    ],
)
def test_a_node_uses_the_endpoints_that_are_hinted_to_it_and_else_all(scope: Scope, used: list[str]) -> None:
    first, second = hinted("203.0.113.1", forNodes=["node-1"]), hinted("203.0.113.2", forNodes=["node-2"])
    scope = scope._replace(labelled_only=False)
    assert targets(only(service(), slice_(first), slice_(second, name="backend-2"), scope=scope)) == used


def test_a_node_uses_the_endpoints_that_are_hinted_to_its_zone() -> None:
    given = slice_(hinted("203.0.113.1", forZones=["eu-1a"]), hinted("203.0.113.2", forZones=["eu-1b"]))
    assert targets(only(service(), given, scope=SCOPE._replace(zone="eu-1b"))) == ["203.0.113.2:80"]
    assert targets(only(service(), given)) == ["203.0.113.1:80", "203.0.113.2:80"]


def test_connections_stay_open_at_endpoints_that_are_hinted_to_others() -> None:
    given = slice_(hinted("203.0.113.1", forNodes=["node-1"]), hinted("203.0.113.2", forNodes=["node-2"]))
    assert only(service(), given).keeps == {Target("203.0.113.2", 80)}


def test_hints_do_not_count_where_only_endpoints_of_the_node_do() -> None:
    given = slice_(hinted("203.0.113.1", forNodes=["node-2"]) | {"nodeName": "node-1"}, hinted("203.0.113.2"))
    assert targets(only(service(internalTrafficPolicy="Local"), given)) == ["203.0.113.1:80"]


# --- moorings -----------------------------------------------------------------------------------------------------


def moored(by: MooredBy, **spec: object) -> Service:
    """A Service as the operator writes it for moored clients."""
    made = service(**{"sessionAffinity": "ClientIP", **spec})
    marks = encode_service(ServiceContract("moorage", by))
    return replace(made, metadata=marks.on(ObjectMeta(name="backend", namespace="frontend")))


def named(name: str, address: str, **more: object) -> dict[str, object]:
    return {"hostname": name, "addresses": [address], **more}


PODS = MooredBy("backend", "Pod", "", LabelSelector(), holds=True)
NODES = MooredBy("backend", "Node")
THREE = slice_(*(named(f"e{n}", f"203.0.113.{n}") for n in (1, 2, 3)))
KEY = ServiceAddress("10.96.0.1", "tcp", 9000)
E1, E2, E3 = (Target(f"203.0.113.{n}", 80) for n in (1, 2, 3))


def test_a_service_whose_pods_are_moored_has_the_affinity_for_it_and_tells_where_a_pod_can_be() -> None:
    found = carried(moored(PODS), [THREE], SCOPE)
    (port,) = found.ports
    assert port.affinity == Moored(10_800, holds=True)
    assert found.moored == PODS
    assert found.serving == {KEY: {"e1": E1, "e2": E2, "e3": E3}}
    hashed = carried(moored(PODS._replace(holds=False)), [THREE], SCOPE).ports[0]
    assert hashed.affinity == Moored(10_800, holds=False)
    assert hashed.targets == port.targets == {E1, E2, E3}


def test_nodes_zones_and_namespaces_are_moored_without_an_affinity_of_their_own() -> None:
    for kind in ("Node", "Zone", "Namespace"):
        found = carried(moored(MooredBy("backend", kind)), [THREE], SCOPE)
        assert found.ports[0].affinity == ByClientIP(10_800)
        assert (found.moored and found.moored.client, found.serving) == (kind, {})


def test_what_slices_carry_for_kube_proxy_is_not_carried_twice() -> None:
    marks = encode_service(ServiceContract(None, NODES)).on(ObjectMeta(name="backend", namespace="frontend"))
    found = carried(replace(moored(NODES), metadata=marks), [THREE], SCOPE)
    assert found.ports[0].targets == {E1, E2, E3}
    assert found.moored is None


def test_load_balancer_addresses_have_clients_from_anywhere_so_none_are_moored() -> None:
    given = moored(PODS)
    ingress = msgspec.convert({"loadBalancer": {"ingress": [{"ip": "203.0.113.200"}]}}, type(given.status))
    found = carried(replace(given, status=ingress), [THREE], SCOPE._replace(addresses="load-balancer"))
    assert (found.ports[0].affinity, found.moored, found.serving) == (ByClientIP(10_800), None, {})


@pytest.mark.parametrize(
    ("conditions", "serves"),
    [
        ({}, True),
        ({"ready": False, "serving": True}, True),
        ({"ready": False, "serving": True, "terminating": True}, True),
        ({"ready": False, "serving": False}, False),
        ({"ready": False, "serving": False, "terminating": True}, False),
    ],
)
def test_a_pod_can_be_at_an_endpoint_as_long_as_it_serves(conditions: dict[str, bool], serves: bool) -> None:
    given = slice_(named("e1", "203.0.113.1", conditions=conditions), named("e2", "203.0.113.2"))
    assert ("e1" in carried(moored(PODS), [given], SCOPE).serving[KEY]) is serves


def test_each_port_and_family_has_endpoints_of_its_own() -> None:
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    six = slice_(named("e1", "2001:db8::1"), name="six", addressType="IPv6", ports=[{"name": "a", "port": 80}])
    four = slice_(named("e1", "203.0.113.1"), ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}])
    given = moored(PODS, clusterIPs=["10.96.0.1", "fd00::1"], ports=ports)
    found = carried(given, [four, six], SCOPE).serving
    assert {(key.family, key.port): where.get("e1") for key, where in found.items()} == {
        (4, 1): E1,
        (4, 2): E1._replace(port=81),
        (6, 1): Target("2001:db8::1", 80),
        (6, 2): None,
    }


def test_of_two_endpoints_of_one_name_the_better_and_then_the_lower_is_meant() -> None:
    gone, there = named("e1", "203.0.113.1", conditions={"ready": False}), named("e1", "203.0.113.2")
    for given in ([gone, there], [there, gone]):
        assert carried(moored(PODS), [slice_(*given)], SCOPE).serving[KEY] == {"e1": E2}
    both = [named("e1", "203.0.113.3"), named("e1", "203.0.113.2")]
    for given in (both, both[::-1]):
        assert carried(moored(PODS), [slice_(*given)], SCOPE).serving[KEY] == {"e1": E2}


def test_a_node_uses_the_endpoint_that_it_is_moored_to_and_its_other_connections_stay_open() -> None:
    (port,) = carried(moored(NODES), [THREE], SCOPE, [At("e2")]).ports
    assert port.targets == {E2}
    assert port.keeps == {E1, E3}


def test_a_node_that_was_moved_away_keeps_no_connection_to_where_it_was() -> None:
    (port,) = carried(moored(NODES), [THREE], SCOPE, [At("e2", left="e1")]).ports
    assert port.targets == {E2}
    assert port.keeps == {E3}


def test_a_node_stays_at_a_drained_endpoint_and_uses_any_if_its_own_does_not_serve() -> None:
    drained = slice_(named("e1", "203.0.113.1", conditions={"ready": False}), named("e2", "203.0.113.2"))
    assert carried(moored(NODES), [drained], SCOPE, [At("e1")]).ports[0].targets == {E1}
    lost = slice_(
        named("e1", "203.0.113.1", conditions={"ready": False, "serving": False}), named("e2", "203.0.113.2")
    )
    for at in (At("e1", left="e2"), At("e9")):
        assert carried(moored(NODES), [lost], SCOPE, [at]).ports[0].targets == {E2}


def test_a_node_uses_the_first_endpoint_of_several_that_serves() -> None:
    given = slice_(
        named("e1", "203.0.113.1"),
        named("e2", "203.0.113.2"),
        named("e3", "203.0.113.3", conditions={"ready": False, "serving": False}),
    )
    for at in ([At("e2", left="e1"), At("e1")], [At("e3", left="e2"), At("e2", left="e1")]):
        (port,) = carried(moored(NODES), [given], SCOPE, at).ports
        assert port.targets == {E2}
        assert port.keeps == set()

from msgspec.structs import replace

from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, Endpoint, EndpointConditions, EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage_lab.control import dns
from tests.support.lab_objects import cluster, service


def slice_of(name: str, *endpoints: Endpoint) -> EndpointSlice:
    meta = ObjectMeta(name=f"{name}-1", namespace="ns", labels={SERVICE_NAME_LABEL: name})
    return EndpointSlice(metadata=meta, address_type="IPv4", endpoints=list(endpoints))


def test_every_cluster_ip_has_a_record() -> None:
    services = [service("web", cluster_ips=("10.96.0.7", "fd00::7")), service("app", cluster_ips=("10.96.0.8",))]
    assert dns.hosts(services, [], "cluster.local") == (
        "10.96.0.8 app.ns.svc.cluster.local\n10.96.0.7 web.ns.svc.cluster.local\nfd00::7 web.ns.svc.cluster.local\n"
    )


def test_a_headless_service_has_its_ready_endpoints() -> None:
    web = service("web", cluster_ips=("None",))
    endpoints = slice_of(
        "web",
        Endpoint(addresses=["10.244.1.2"], hostname="one"),
        Endpoint(addresses=["10.244.1.3"], conditions=EndpointConditions(ready=False)),
    )
    assert dns.hosts([web], [endpoints, slice_of("other", Endpoint(addresses=["10.0.0.1"]))], "x.y") == (
        "10.244.1.2 one.web.ns.svc.x.y\n10.244.1.2 web.ns.svc.x.y\n"
    )


def test_an_alias_has_none() -> None:
    alias = service("web", type="ExternalName")
    assert dns.hosts([alias], [], "x.y") == ""


def test_kube_dns_is_a_service_without_selector_to_the_plans_server() -> None:
    plan = cluster()
    made = dns.service(plan)
    assert made.spec.selector is None
    assert made.spec.cluster_ips == plan.dns_service_addresses
    assert {(port.protocol, port.port) for port in made.spec.ports or ()} == {("UDP", 53), ("TCP", 53)}
    stored = replace(made, metadata=replace(made.metadata, uid="uid-dns"))
    slices = dns.slices(plan, stored)
    assert [(one.address_type, (one.endpoints or [])[0].addresses[0]) for one in slices] == [
        ("IPv4", plan.dns_addresses[0]),
        ("IPv6", plan.dns_addresses[1]),
    ]
    names = {port.name for port in made.spec.ports or ()}
    assert {port.name for one in slices for port in one.ports or ()} == names

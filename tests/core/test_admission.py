"""The gate: nothing inside the cluster, and nothing that no endpoint can be, becomes an endpoint."""

import pickle
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.addresses import special
from moorage.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Node,
    NodeAddress,
    NodeSpec,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.discovery_v1 import Endpoint, EndpointSlice
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.networking_v1 import ServiceCIDR, ServiceCIDRSpec
from moorage.core.admission import (
    API_SERVER,
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER,
    NODE,
    POD,
    Addresses,
    Gate,
    Ranges,
    gate_of,
    node_addresses,
    pod_addresses,
    service_addresses,
    slice_addresses,
)


def node(name: str, *addresses: str, pod_cidrs: tuple[str, ...] = ()) -> Node:
    return Node(
        metadata=ObjectMeta(name=name),
        spec=NodeSpec(pod_cidr=pod_cidrs[0] if pod_cidrs else None, pod_cidrs=list(pod_cidrs)),
        status=NodeStatus(addresses=[NodeAddress(type="InternalIP", address=each) for each in addresses]),
    )


def service_cidr(*cidrs: str) -> ServiceCIDR:
    return ServiceCIDR(metadata=ObjectMeta(name="kubernetes"), spec=ServiceCIDRSpec(cidrs=list(cidrs)))


def pod(*addresses: str, host_network: bool = False, phase: str = "Running") -> Pod:
    return Pod(
        spec=PodSpec(host_network=host_network),
        status=PodStatus(phase=phase, pod_ip=addresses[0], pod_ips=[PodIP(ip=each) for each in addresses]),
    )


def load_balancer() -> Service:
    """One that has an address, an external IP, and a host name as some clouds have."""
    ingress = [LoadBalancerIngress(ip="203.0.113.65"), LoadBalancerIngress(hostname="front.example.com")]
    return Service(
        spec=ServiceSpec(type="LoadBalancer", cluster_ip="10.113.7.7", external_ips=["203.0.113.66"]),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress)),
    )


@pytest.fixture
def gate() -> Gate:
    own = Addresses()
    own.put(POD, ObjectKey("default", "web"), pod_addresses(pod("198.19.0.7", "2001:db8:9::7")))
    nodes = [
        node("node-1", "192.0.2.10", "node-1.example.com", pod_cidrs=("10.244.0.0/24", "2001:db8:f::/64")),
        node("node-2", "192.0.2.011", pod_cidrs=("10.244.001.0/24",)),
    ]
    for each in nodes:
        own.put(NODE, ObjectKey("", each.metadata.name), node_addresses(each))
    for what, addresses in service_addresses(load_balancer()).items():
        own.put(what, ObjectKey("shop", "front"), addresses)
    endpoints = [Endpoint(addresses=[each]) for each in ("192.0.2.20", "192.0.2.21")]
    servers = EndpointSlice(address_type="IPv4", endpoints=endpoints)
    own.put(API_SERVER, ObjectKey("default", "kubernetes"), slice_addresses(servers))
    return gate_of(
        refuse=["198.18.0.0/16"],
        nodes=nodes,
        service_cidrs=[service_cidr("10.96.0.0/12", "2001:db8:e::/112"), service_cidr("10.112.0.0/24")],
        own=own,
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "a loopback address"),
        ("169.254.169.254", "a cloud metadata address"),
        ("fe80::1%eth0", "a link-local address"),
        ("::ffff:127.0.0.1", "a loopback address in IPv4-mapped form"),
        ("10.96.0.1", "in the service range 10.96.0.0/12 of this cluster"),
        ("10.112.0.9", "in the service range 10.112.0.0/24 of this cluster"),
        ("2001:db8:e::7", "in the service range 2001:db8:e::/112 of this cluster"),
        ("10.244.1.7", "the address of a pod of this cluster, by its range 10.244.1.0/24"),
        ("2001:db8:f::7", "the address of a pod of this cluster, by its range 2001:db8:f::/64"),
        ("198.18.7.7", "in the range 198.18.0.0/16, which the operator's configuration refuses"),
        ("198.19.0.7", POD),
        ("2001:DB8:9:0::7", POD),
        ("192.0.2.10", NODE),
        ("::ffff:10.96.0.1", "the IPv4-mapped form of 10.96.0.1, in the service range 10.96.0.0/12 of this cluster"),
        ("64:ff9b::192.0.2.11", f"the NAT64 form of 192.0.2.11, {NODE}"),
        ("64:ff9b:1::198.19.0.7", f"the NAT64 form of 198.19.0.7, {POD}"),
        ("2002:0af4:0107::1", f"the 6to4 form of 10.244.1.7, {POD}, by its range 10.244.1.0/24"),
        ("10.113.7.7", CLUSTER_IP),
        ("203.0.113.65", LOAD_BALANCER),
        ("203.0.113.66", EXTERNAL_IP),
        ("192.0.2.21", API_SERVER),
        ("2001:0:cb00:7142:0:ffff:34ff:8ebe", f"the Teredo form of 203.0.113.66, {EXTERNAL_IP}"),
        ("2001:db8:7::5efe:198.19.0.7", f"the ISATAP form of 198.19.0.7, {POD}"),
        ("2001:db8:7::200:5efe:198.19.0.7", f"the ISATAP form of 198.19.0.7, {POD}"),
        ("2001:db8:7::5efe:127.0.0.1", "a loopback address in ISATAP form"),
        ("2001:0:cb00:7101::5601:5601", "a cloud metadata address in Teredo form"),
        ("fec0::7", "a site-local address (RFC 3879)"),
        ("::ffff:203.0.113.11", "the IPv4-mapped form of 203.0.113.11"),
        ("2001:db8::11%eth0", "an address with a zone, which means nothing on other machines"),
        ("node-1.example.com", "not an IP address"),
        ("", "not an IP address"),
    ],
)  # fmt: skip
def test_what_is_inside_the_cluster_is_refused(gate: Gate, address: str, why: str) -> None:
    assert gate.refusal(address) == why


@pytest.mark.parametrize(
    "address",
    [
        "203.0.113.11",
        "10.0.0.1",
        "10.244.2.1",
        "198.19.0.8",
        "2001:db8::11",
        "64:ff9b::203.0.113.11",
        "2001:db8::5eff:127.0.0.1",
        "2001:db8::100:5efe:7f00:1",
    ],
)
def test_what_is_outside_is_let_through(gate: Gate, address: str) -> None:
    assert gate.refusal(address) is None


def test_what_the_configuration_allows_wins_over_everything(gate: Gate) -> None:
    allowed = gate_of(
        allow=["127.0.0.0/8", "10.96.0.0/16", "198.19.0.7", "64:ff9b::/96"],
        refuse=["127.0.0.0/24"],
        service_cidrs=[service_cidr("10.96.0.0/12")],
        own=gate.own,
    )
    for address in ("127.0.0.1", "10.96.0.1", "198.19.0.7", "64:ff9b::10.97.0.1"):
        assert allowed.refusal(address) is None
    for address in ("10.97.0.1", "::ffff:127.0.0.1", "2002:7f00:1::"):
        assert allowed.refusal(address) is not None


@given(st.ip_addresses())
def test_a_special_address_is_refused_by_every_gate(address: IPv4Address | IPv6Address) -> None:
    assert Gate().refusal(str(address)) == special(str(address)) or (
        isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    )


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_an_ipv6_form_of_a_refused_address_is_refused(inside: IPv4Address, length: int, asked: IPv4Address) -> None:
    network = IPv4Network((inside, length), strict=False)
    gate = gate_of(service_cidrs=[service_cidr(str(network))])
    if asked in network:
        assert gate.refusal(str(asked)) is not None
    sixtofour = IPv6Address(0x2002 << 112 | int(asked) << 80)
    for form in (f"::ffff:{asked}", f"64:ff9b::{asked}", f"64:ff9b:1::{asked}", f"::{asked}", str(sixtofour)):
        if not form.startswith("::ffff:"):
            assert (gate.refusal(str(asked)) is None) <= (gate.refusal(form) is None)
        if asked in network:
            assert gate.refusal(form) is not None


networks = st.builds(
    lambda address, length: ip_network((address, min(length, address.max_prefixlen)), strict=False),
    st.ip_addresses(),
    st.integers(0, 128),
)


@given(st.lists(networks, max_size=20), st.ip_addresses())
def test_the_smallest_range_is_found(known: list[IPv4Network], address: IPv4Address | IPv6Address) -> None:
    around = [network for network in known if network.version == address.version and address in network]
    expected = str(max(around, key=lambda network: network.prefixlen)) if around else None
    assert Ranges((network, str(network)) for network in known).find(address) == expected


def test_gates_of_the_same_cluster_are_equal(gate: Gate) -> None:
    cidrs = [service_cidr("10.96.0.0/12")]
    assert gate_of(service_cidrs=cidrs) == gate_of(service_cidrs=cidrs)
    assert gate_of(service_cidrs=cidrs) != gate_of(service_cidrs=[service_cidr("10.96.0.0/13")])


# --- the cluster's own addresses -----------------------------------------------------------------------------------

WEB, API = ObjectKey("default", "web"), ObjectKey("default", "api")


def test_a_gate_sees_pods_come_and_go_without_being_made_again() -> None:
    own = Addresses()
    gate = gate_of(own=own)
    assert own.put(POD, WEB, pod_addresses(pod("203.0.113.7"))) == {"203.0.113.7"}
    assert gate.refusal("203.0.113.7") == POD
    assert own.put(POD, WEB, pod_addresses(pod("203.0.113.7"))) == frozenset()
    assert own.put(POD, WEB, pod_addresses(pod("203.0.113.8"))) == {"203.0.113.7", "203.0.113.8"}
    assert gate.refusal("203.0.113.7") is None
    assert own.put(POD, WEB, pod_addresses(None)) == {"203.0.113.8"}
    assert gate.refusal("203.0.113.8") is None


def test_pods_in_the_hosts_network_and_those_that_have_ended_have_no_address_of_their_own() -> None:
    own = Addresses()
    running = pod("203.0.113.7")
    assert own.put(POD, WEB, pod_addresses(pod("203.0.113.7", host_network=True))) == frozenset()
    assert own.put(POD, WEB, pod_addresses(running)) == {"203.0.113.7"}
    for phase in ("Succeeded", "Failed"):
        own.put(POD, WEB, pod_addresses(running))
        ended = replace(running, status=replace(running.status, phase=phase))
        assert own.put(POD, WEB, pod_addresses(ended)) == {"203.0.113.7"}
        assert not own


def test_addresses_are_read_as_kubernetes_reads_them() -> None:
    own = Addresses()
    odd = ServiceSpec(cluster_ip="10.96.011.012", external_ips=["::ffff:203.0.113.7", "no address", "fe80::1%eth0"])
    for what, addresses in service_addresses(Service(spec=odd)).items():
        own.put(what, WEB, addresses)
    assert dict(own) == {"10.96.11.12": CLUSTER_IP, "203.0.113.7": EXTERNAL_IP}
    own.put(POD, WEB, pod_addresses(pod("198.19.0.07")))
    assert own["198.19.0.7"] == POD
    own.put(NODE, WEB, node_addresses(node("node-1", "192.0.2.007", "2001:DB8:0::7", "node-1.example.com")))
    assert {own["192.0.2.7"], own["2001:db8::7"]} == {NODE}


def test_cluster_ips_are_refused_where_nobody_tells_their_range() -> None:
    own = Addresses()
    gate = gate_of(own=own)
    both = Service(spec=ServiceSpec(cluster_ip="10.96.0.1", cluster_ips=["10.96.0.1", "2001:db8:e:0::1"]))
    assert own.put(CLUSTER_IP, WEB, service_addresses(both)[CLUSTER_IP]) == {"10.96.0.1", "2001:db8:e::1"}
    assert gate.refusal("10.96.0.1") == CLUSTER_IP
    assert gate.refusal("64:ff9b::10.96.0.1") == f"the NAT64 form of 10.96.0.1, {CLUSTER_IP}"
    headless = Service(spec=ServiceSpec(cluster_ip="None", cluster_ips=["None"]))
    assert own.put(CLUSTER_IP, API, service_addresses(headless)[CLUSTER_IP]) == frozenset()
    own.put(CLUSTER_IP, WEB, service_addresses(None)[CLUSTER_IP])
    assert gate.refusal("10.96.0.1") is None


def test_nothing_that_is_said_names_an_object_and_the_log_can() -> None:
    own = Addresses()
    secret = ObjectKey("secret-project", "secret-thing")
    for number, what in enumerate([API_SERVER, CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER, NODE, POD]):
        own.put(what, secret, [f"203.0.113.{number}"])
        assert own.holder(f"203.0.113.{number}") == (what, secret)
    gate = gate_of(nodes=[node("secret-node", pod_cidrs=("10.244.1.0/24",))], own=own)
    for address in (*own, "10.244.1.7"):
        assert "secret" not in (gate.refusal(address) or "secret")
    assert own.holder("203.0.113.99") is None


def test_what_others_can_claim_hides_nothing_of_what_an_address_is(gate: Gate) -> None:
    own = gate.own
    assert isinstance(own, Addresses)
    before = {each: gate.refusal(each) for each in ("198.19.0.7", "192.0.2.10", "10.96.0.1", "10.244.1.7")}
    before["64:ff9b::a60:1"] = gate.refusal("64:ff9b::a60:1")
    for address in before:
        own.put(EXTERNAL_IP, ObjectKey("shop", address), [address])
        own.put(LOAD_BALANCER, ObjectKey("shop", address), [address])
    assert {each: gate.refusal(each) for each in before} == before
    assert own["10.244.1.7"] == LOAD_BALANCER


def test_a_gate_is_plain_data_that_another_process_can_have(gate: Gate) -> None:
    there = Gate(Ranges(gate.allowed), Ranges(gate.refused), dict(gate.own))
    assert pickle.loads(pickle.dumps(there)) == there
    assert (there.allowed, there.refused) == (gate.allowed, gate.refused)
    for address in (*gate.own, "10.96.0.1", "10.244.1.7", "198.18.7.7", "2001:db8:f::7", "203.0.113.11"):
        assert there.refusal(address) == gate.refusal(address)


addresses = st.sampled_from(["203.0.113.7", "203.0.113.8", "2001:db8::7"])
holders = st.tuples(st.sampled_from([POD, NODE, LOAD_BALANCER]), st.sampled_from([WEB, API]))


@given(st.lists(st.tuples(holders, st.lists(addresses, max_size=2)), max_size=30))
def test_addresses_follow_any_churn(steps: list[tuple[tuple[str, ObjectKey], list[str]]]) -> None:
    own = Addresses()
    known: dict[tuple[str, ObjectKey], list[str]] = {}
    for (what, key), now in steps:
        before = dict(own)
        known[what, key] = now
        changed = own.put(what, key, now)
        assert set(own) == {address for those in known.values() for address in those}
        assert changed == {each for each in {*before, *own} if before.get(each) != own.get(each)}
        for address in own:
            assert own[address] in {what for (what, _), those in known.items() if address in those}
            assert address in known[own.holder(address) or ("", ObjectKey("", ""))]

"""The gate: nothing inside the cluster, and nothing that no endpoint can be, becomes an endpoint."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.addresses import special
from moorage.api.core_v1 import (
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
)
from moorage.api.meta import ObjectMeta
from moorage.api.networking_v1 import ServiceCIDR, ServiceCIDRSpec
from moorage.core.admission import Addresses, Gate, Ranges, cluster_ips, gate_of, pod_addresses


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


@pytest.fixture
def gate() -> Gate:
    pods = Addresses()
    pods.put(("default", "web"), pod_addresses(pod("198.19.0.7", "2001:db8:9::7")))
    return gate_of(
        refuse=["198.18.0.0/16"],
        nodes=[
            node("node-1", "192.0.2.10", "node-1.example.com", pod_cidrs=("10.244.0.0/24", "2001:db8:f::/64")),
            node("node-2", "192.0.2.11", pod_cidrs=("10.244.1.0/24",)),
        ],
        service_cidrs=[service_cidr("10.96.0.0/12", "2001:db8:e::/112"), service_cidr("10.112.0.0/24")],
        pods=pods.addresses,
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
        ("10.244.1.7", "in the pod range 10.244.1.0/24 of node node-2 of this cluster"),
        ("2001:db8:f::7", "in the pod range 2001:db8:f::/64 of node node-1 of this cluster"),
        ("198.18.7.7", "in the range 198.18.0.0/16, which the operator's configuration refuses"),
        ("198.19.0.7", "the address of pod default/web of this cluster"),
        ("2001:DB8:9:0::7", "the address of pod default/web of this cluster"),
        ("192.0.2.10", "an address of node node-1 of this cluster"),
        ("::ffff:10.96.0.1", "the IPv4-mapped form of 10.96.0.1, in the service range 10.96.0.0/12 of this cluster"),
        ("64:ff9b::192.0.2.11", "the NAT64 form of 192.0.2.11, an address of node node-2 of this cluster"),
        ("64:ff9b:1::198.19.0.7", "the NAT64 form of 198.19.0.7, the address of pod default/web of this cluster"),
        ("2002:0af4:0107::1", "the 6to4 form of 10.244.1.7, in the pod range 10.244.1.0/24 of node node-2 of this "
         "cluster"),
        ("::ffff:203.0.113.11", "the IPv4-mapped form of 203.0.113.11"),
        ("2001:db8::11%eth0", "an address with a zone, which means nothing on other machines"),
        ("node-1.example.com", "not an IP address"),
        ("", "not an IP address"),
    ],
)  # fmt: skip
def test_what_is_inside_the_cluster_is_refused(gate: Gate, address: str, why: str) -> None:
    assert gate.refusal(address) == why


@pytest.mark.parametrize(
    "address", ["203.0.113.11", "10.0.0.1", "10.244.2.1", "198.19.0.8", "2001:db8::11", "64:ff9b::203.0.113.11"]
)
def test_what_is_outside_is_let_through(gate: Gate, address: str) -> None:
    assert gate.refusal(address) is None


def test_what_the_configuration_allows_wins_over_everything(gate: Gate) -> None:
    allowed = gate_of(
        allow=["127.0.0.0/8", "10.96.0.0/16", "198.19.0.7", "64:ff9b::/96"],
        refuse=["127.0.0.0/24"],
        service_cidrs=[service_cidr("10.96.0.0/12")],
        pods=gate.pods,
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


# --- pods and Services ---------------------------------------------------------------------------------------------

WEB, API = ("default", "web"), ("default", "api")


def test_a_gate_sees_pods_come_and_go_without_being_made_again() -> None:
    pods = Addresses()
    gate = gate_of(pods=pods.addresses)
    assert pods.put(WEB, pod_addresses(pod("203.0.113.7"))) == {"203.0.113.7"}
    assert gate.refusal("203.0.113.7") == "the address of pod default/web of this cluster"
    assert pods.put(WEB, pod_addresses(pod("203.0.113.7"))) == frozenset()
    assert pods.put(WEB, pod_addresses(pod("203.0.113.8"))) == {"203.0.113.7", "203.0.113.8"}
    assert gate.refusal("203.0.113.7") is None
    assert pods.put(WEB, pod_addresses(None)) == {"203.0.113.8"}
    assert gate.refusal("203.0.113.8") is None


def test_pods_in_the_hosts_network_and_those_that_have_ended_have_no_address_of_their_own() -> None:
    pods = Addresses()
    running = pod("203.0.113.7")
    assert pods.put(WEB, pod_addresses(pod("203.0.113.7", host_network=True))) == frozenset()
    assert pods.put(WEB, pod_addresses(running)) == {"203.0.113.7"}
    ended = replace(running, status=replace(running.status, phase="Succeeded"))
    assert pods.put(WEB, pod_addresses(ended)) == {"203.0.113.7"}
    assert not pods.addresses


def test_cluster_ips_are_refused_where_nobody_tells_their_range() -> None:
    services = Addresses()
    gate = gate_of(services=services.addresses)
    both = Service(spec=ServiceSpec(cluster_ip="10.96.0.1", cluster_ips=["10.96.0.1", "2001:db8:e:0::1"]))
    assert services.put(("default", "kubernetes"), cluster_ips(both)) == {"10.96.0.1", "2001:db8:e::1"}
    assert gate.refusal("10.96.0.1") == "the cluster IP of Service default/kubernetes of this cluster"
    assert gate.refusal("64:ff9b::10.96.0.1") == f"the NAT64 form of 10.96.0.1, {gate.refusal('10.96.0.1')}"
    headless = Service(spec=ServiceSpec(cluster_ip="None", cluster_ips=["None"]))
    assert services.put(WEB, cluster_ips(headless)) == frozenset()
    services.put(("default", "kubernetes"), cluster_ips(None))
    assert gate.refusal("10.96.0.1") is None


addresses = st.sampled_from(["203.0.113.7", "203.0.113.8", "2001:db8::7"])
states = st.one_of(st.none(), st.lists(addresses, min_size=1, max_size=2).map(lambda given: pod(*given)))


@given(st.lists(st.tuples(st.sampled_from([WEB, API]), states), max_size=30))
def test_addresses_follow_any_churn(steps: list[tuple[tuple[str, str], Pod | None]]) -> None:
    pods = Addresses()
    known: dict[tuple[str, str], Pod | None] = {}
    for key, now in steps:
        before = set(pods.addresses)
        known[key] = now
        changed = pods.put(key, pod_addresses(now))
        after = {each.ip for each_pod in known.values() if each_pod for each in each_pod.status.pod_ips or ()}
        assert set(pods.addresses) == after
        assert changed == before ^ after
        for address, name in pods.addresses.items():
            holder = known[(name.split("/")[0], name.split("/")[1])]
            assert holder is not None
            assert address in {each.ip for each in holder.status.pod_ips or ()}

"""The lab's networks as data; that they work is for test_world to say."""

from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest

from moorage.errors import MoorageError
from moorage_lab import topology
from moorage_lab.topology import LabPlan


@pytest.fixture
def lab() -> LabPlan:
    return topology.plan({"a": 1, "b": 2})


def test_the_clusters_have_the_same_private_ranges_and_public_ones_of_their_own(lab: LabPlan) -> None:
    a, b = lab.clusters
    assert a.pod_ranges == b.pod_ranges
    assert a.service_ranges == b.service_ranges
    assert a.nodes[0].addresses == b.nodes[0].addresses
    full = topology.plan(dict.fromkeys("wxyz", 1))
    public = [range_ for one in full.clusters for range_ in (*one.load_balancer_ranges, *one.public_addresses)]
    for one, other in combinations(map(ip_network, public), 2):
        assert one.version != other.version or not one.overlaps(other)


def test_everything_public_is_documentation_space(lab: LabPlan) -> None:
    spaces = [ip_network(space) for space in ("203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32")]
    for cluster in lab.clusters:
        for public in (*cluster.load_balancer_ranges, *cluster.public_addresses):
            assert any(ip_network(public).version == s.version and ip_network(public).subnet_of(s) for s in spaces)  # type: ignore[arg-type]


def test_a_nodes_pods_have_ranges_within_the_clusters_that_no_other_node_has(lab: LabPlan) -> None:
    cluster = topology.plan({"a": topology.MAX_NODES}).clusters[0]
    for family in (0, 1):
        ranges = [ip_network(node.pod_ranges[family]) for node in cluster.nodes]
        assert all(one.subnet_of(ip_network(cluster.pod_ranges[family])) for one in ranges)  # type: ignore[arg-type]
        assert not any(one.overlaps(other) for one, other in combinations(ranges, 2))
        assert len({node.addresses[family] for node in cluster.nodes}) == topology.MAX_NODES


def test_fixed_addresses_lie_where_nothing_else_is_given_out(lab: LabPlan) -> None:
    for cluster in lab.clusters:
        for address, range_ in zip(cluster.dns_service_addresses, cluster.service_ranges, strict=True):
            assert ip_address(address) in ip_network(range_)
        taken = {*cluster.dns_addresses, *cluster.gateway_addresses}
        assert not taken & {address for node in cluster.nodes for address in node.addresses}


def test_without_ipv6_nothing_of_it_is_configured() -> None:
    lab = topology.plan({"a": 2}, ipv6=False)
    assert [len(lab.clusters[0].pod_ranges), len(lab.clusters[0].nodes[0].addresses)] == [1, 1]
    pod = topology.pod_commands(lab.clusters[0].nodes[0], "11111111-2222", ["10.244.1.2"])
    text = "".join(one.batch for one in topology.network(lab)) + "".join(batch for _, batch in pod.add)
    assert ":" not in text
    assert not any("ipv6" in path for one in topology.network(lab) for path in one.sysctls)


def test_names_of_interfaces_fit_the_kernels_limit_of_15_bytes() -> None:
    lab = topology.plan({"abcdefg": topology.MAX_NODES})
    pod = topology.pod_commands(lab.clusters[0].nodes[0], "8e0e3a4b-6b8a-4c3e-9f53-2f9a8e6a0c11", ["10.244.1.2"])
    assert len(pod.interface) <= 15
    for one in topology.network(lab):
        for line in one.batch.splitlines():
            if line.startswith("link add"):
                assert len(line.split()[2]) <= 15


def test_taking_a_pod_away_first_frees_its_address(lab: LabPlan) -> None:
    node = lab.clusters[0].nodes[0]
    pod = topology.pod_commands(node, "8e0e3a4b-6b8a-4c3e-9f53-2f9a8e6a0c11", ["10.244.1.2", "fd00:10:244:1::2"])
    assert pod.delete[0] == (node.netns, f"link delete {pod.interface}\n")
    assert pod.netns == topology.pod_netns("a", "8e0e3a4b-6b8a-4c3e-9f53-2f9a8e6a0c11")


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({}, "a lab has 1 to 4 clusters, not 0"),
        (dict.fromkeys("abcde", 1), "a lab has 1 to 4 clusters, not 5"),
        ({"a": 0}, "cluster a: it can have 1 to 16 nodes, not 0"),
        ({"a": 17}, "cluster a: it can have 1 to 16 nodes, not 17"),
        ({"": 1}, "cluster '': its name must be 1 to 7 lower-case letters and digits"),
        ({"West": 1}, "cluster 'West': its name must be"),
        ({"a-b": 1}, "cluster 'a-b': its name must be"),
        ({"abcdefgh": 1}, "cluster 'abcdefgh': its name must be"),
    ],
)
def test_what_cannot_be_planned_is_said(clusters: dict[str, int], message: str) -> None:
    with pytest.raises(MoorageError, match="^" + message.replace("'", ".")):
        topology.plan(clusters)

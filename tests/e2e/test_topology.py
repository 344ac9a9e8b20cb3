"""The end-to-end clusters' networks."""

import ipaddress
import itertools

from e2e.harness import topology

NETWORKS = [ipaddress.ip_network(text) for text in ("198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24")]


def test_every_link_ends_in_a_namespace_of_ours() -> None:
    commands = topology.links()
    assert set(commands) == set(topology.namespaces())
    peers = [line.split()[-1] for lines in commands.values() for line in lines if " netns " in line]
    # A tree: every namespace but the internet hangs on exactly one other.
    assert sorted(peers) == sorted(set(topology.namespaces()) - {topology.INTERNET})


def test_a_link_s_lower_end_is_made_before_it_is_set_up() -> None:
    seen: set[str] = {topology.INTERNET}
    for network, lines in topology.links().items():
        assert network in seen
        seen |= {line.split()[-1] for line in lines if " netns " in line}


def test_public_addresses_are_of_ranges_reserved_for_tests() -> None:
    for site in topology.SITES:
        assert ipaddress.ip_address(site.address) in NETWORKS[0]
        assert ipaddress.ip_network(site.load_balancers).subnet_of(NETWORKS[1])  # type: ignore[arg-type]
    assert all(ipaddress.ip_address(address) in NETWORKS[2] for address in topology.SERVERS)


def test_clusters_have_the_same_private_ranges_and_nothing_public_in_common() -> None:
    a, b = topology.SITES
    assert a.nodes[0].address == b.nodes[0].address
    assert a.address != b.address
    assert not ipaddress.ip_network(a.load_balancers).overlaps(ipaddress.ip_network(b.load_balancers))


def test_ranges_of_one_cluster_do_not_overlap() -> None:
    ranges = [topology.POD_RANGE, topology.SERVICE_RANGE, topology.NODE_RANGE, *map(str, NETWORKS)]
    for one, other in itertools.combinations(map(ipaddress.ip_network, ranges), 2):
        assert not one.overlaps(other)
    for node in topology.B.every_node:
        assert ipaddress.ip_network(node.pod_range).subnet_of(ipaddress.ip_network(topology.POD_RANGE))  # type: ignore[arg-type]
        assert ipaddress.ip_address(node.address) in ipaddress.ip_network(topology.NODE_RANGE)


def test_a_load_balancer_s_range_leads_to_its_own_cluster() -> None:
    for site in topology.SITES:
        assert f"route add {site.load_balancers} via {site.address}" in topology.links()[topology.INTERNET]


def test_pods_are_hidden_by_their_node_from_all_that_is_not_their_cluster() -> None:
    rules = topology.masquerading(topology.B)
    assert set(rules) == {"b-gateway", *(f"b-node-{number}" for number in range(1, 6))}
    assert "ip saddr 10.244.2.0/24 ip daddr != { 10.244.0.0/16, 10.0.0.0/24 } masquerade" in rules["b-node-2"]


def test_clients_that_are_no_pods_have_addresses_of_their_node_s_pods_which_no_pod_gets() -> None:
    for node in topology.B.every_node:
        pods = ipaddress.ip_network(node.pod_range)
        assert all(ipaddress.ip_address(address) in pods for address in (node.last_pod, *node.clients))
        assert all(ipaddress.ip_address(address) > ipaddress.ip_address(node.last_pod) for address in node.clients)  # type: ignore[operator]


def test_nodes_that_may_join_later_have_networks_and_names_of_their_own() -> None:
    nodes = [node for site in topology.SITES for node in site.every_node]
    assert {node.proxy_mode for node in topology.B.spare} == {"iptables", "nftables"}
    assert len({node.name for node in nodes}) == len(nodes)
    assert {each for node in nodes for each in (node.network, node.client_network)} <= set(topology.namespaces())

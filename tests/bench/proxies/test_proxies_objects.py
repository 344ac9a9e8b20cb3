"""Services of kube-proxy and of node agents differ in their addresses and their label, and in nothing else."""

import ipaddress

from bench.proxies import objects
from moorage.api.contract import PROXY_LABEL


def test_addresses_are_in_their_ranges_and_each_services_own() -> None:
    last = objects.MAX_SERVICES - 1
    edges = [ipaddress.ip_address(objects.address(each, n)) for each in objects.CARRIERS for n in (0, last)]
    assert all(each in ipaddress.ip_network(objects.SERVICES) for each in edges)
    ours, theirs = ({objects.address(each, n) for n in range(last + 1)} for each in objects.CARRIERS)
    assert not ours & theirs
    found = objects.endpoints(last, 10)
    assert len(set(found)) == 10
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network(objects.ENDPOINTS) for each in found)


def test_only_the_node_agents_services_and_slices_have_the_label() -> None:
    made = [
        {carrier: objects.service(carrier, 1) for carrier in objects.CARRIERS},
        {carrier: objects.slice_(carrier, 1, ["198.18.0.1"], 80) for carrier in objects.CARRIERS},
    ]
    for each in made:
        assert PROXY_LABEL in str(each["moorage"]["metadata"])
        assert PROXY_LABEL not in str(each["kube-proxy"]["metadata"])

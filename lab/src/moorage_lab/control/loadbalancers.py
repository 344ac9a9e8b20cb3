"""The cloud's part for LoadBalancer Services: addresses from the cluster's public range."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

from moorage.api.core_v1 import LoadBalancerIngress, Service

_MAX_RANGE_ADDRESSES = 1 << 16
"""Addresses of a range that are used: an IPv6 /64 has more than anybody can walk through."""


def assign(services: Iterable[Service], ranges: Sequence[str]) -> list[tuple[Service, list[LoadBalancerIngress]]]:
    """Those Services whose `status.loadBalancer.ingress` is not what it should be, and what it should be.

    A Service keeps its addresses while it is a LoadBalancer; `spec.loadBalancerIP` is honoured where it is free and
    of the range; a range's first and last address are not used. Where a range is used up, that family is missing.
    A Service with a `spec.loadBalancerClass` is another controller's, and so is its status.
    """
    ours = (service for service in services if not service.spec.load_balancer_class)
    services = sorted(ours, key=lambda service: (service.metadata.creation_timestamp or "", service.metadata.key))
    used: set[str] = set()
    keeps = {service.metadata.key: _kept(service, ranges, used) for service in services}
    changes = []
    for service in services:
        ingress = []
        for family in _families(service):
            address = keeps[service.metadata.key].get(family) or _take(service, family, ranges, used)
            if address is not None:
                ingress.append(LoadBalancerIngress(ip=address, ip_mode="VIP"))
        before = [entry.ip for entry in _ingress(service)]
        if before != [entry.ip for entry in ingress]:
            changes.append((service, ingress))
    return changes


def _kept(service: Service, ranges: Sequence[str], used: set[str]) -> dict[str, str]:
    """Family -> the address that the service has and keeps; added to `used`."""
    kept: dict[str, str] = {}
    for entry in _ingress(service):
        family = _family(entry.ip)
        if entry.ip and family in _families(service) and family not in kept and _may(entry.ip, ranges, used):
            kept[family] = entry.ip
            used.add(entry.ip)
    return kept


def _take(service: Service, family: str, ranges: Sequence[str], used: set[str]) -> str | None:
    wish = service.spec.load_balancer_ip
    candidates = [wish] if wish and _family(wish) == family else []
    for range_ in ranges:
        network = ip_network(range_)
        if f"IPv{network.version}" == family:
            candidates += (str(network[i]) for i in range(1, min(network.num_addresses - 1, _MAX_RANGE_ADDRESSES)))
    for address in candidates:
        if _may(address, ranges, used):
            used.add(address)
            return address
    return None


def _may(address: str, ranges: Sequence[str], used: set[str]) -> bool:
    inside = any(
        ip_address(address) in network and address not in (str(network[0]), str(network[-1]))
        for network in map(ip_network, ranges)
    )
    return inside and address not in used


def _families(service: Service) -> list[str]:
    """Empty for a Service that gets no load balancer from this cloud."""
    spec = service.spec
    if spec.type != "LoadBalancer" or service.metadata.deletion_timestamp:
        return []
    return spec.ip_families or ["IPv4"]


def _family(address: str | None) -> str | None:
    """None for what is no address: Kubernetes takes any text as `spec.loadBalancerIP`."""
    try:
        return f"IPv{ip_address(address or '').version}"
    except ValueError:
        return None


def _ingress(service: Service) -> list[LoadBalancerIngress]:
    balancer = service.status.load_balancer
    return (balancer.ingress if balancer else None) or []

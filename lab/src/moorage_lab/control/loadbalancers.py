"""Plays the cloud for LoadBalancer Services: gives them addresses from the cluster's public range."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

from moorage.api.core_v1 import LoadBalancerIngress, Service

_MAX_RANGE_ADDRESSES = 1 << 16
"""How many addresses of a range are used: an IPv6 /64 has more than anybody can walk through."""


def assign(services: Iterable[Service], ranges: Sequence[str]) -> list[tuple[Service, list[LoadBalancerIngress]]]:
    """The Services whose `status.loadBalancer.ingress` is wrong, each with what it should be.

    A Service keeps its addresses while it is a LoadBalancer; `spec.loadBalancerIP` is honoured if it is in the range
    and free; the first and last address of a range are not used. If a range is used up, that family is missing. A
    Service with a `spec.loadBalancerClass` belongs to another controller, and so does its status.
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
    """Family -> the address that the service has and keeps; also adds it to `used`."""
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
    """None for text that is no address: Kubernetes accepts any text as `spec.loadBalancerIP`."""
    try:
        return f"IPv{ip_address(address or '').version}"
    except ValueError:
        return None


def _ingress(service: Service) -> list[LoadBalancerIngress]:
    balancer = service.status.load_balancer
    return (balancer.ingress if balancer else None) or []

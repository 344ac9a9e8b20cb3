"""Which addresses may be endpoints (CVE-2021-25740), and which a tenant's kubeconfig may lead to."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.addresses import embedded, special
from moorage.api.core_v1 import Node, Pod, Service
from moorage.api.networking_v1 import ServiceCIDR

Network = IPv4Network | IPv6Network
Key = tuple[str, str]
"""Namespace and name."""


class Ranges:
    """Networks, each with what it is; found in as many steps as there are prefix lengths, however many networks."""

    def __init__(self, networks: Iterable[tuple[Network, str]] = ()) -> None:
        self._what: dict[tuple[int, int, int], str] = {}
        """By version, prefix length and the network's first bits; the first of two that are the same stays."""
        for network, what in networks:
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            self._what.setdefault((network.version, network.prefixlen, bits), what)
        self._lengths = {
            version: sorted({key[1] for key in self._what if key[0] == version}, reverse=True) for version in (4, 6)
        }

    def find(self, address: IPv4Address | IPv6Address) -> str | None:
        """What the smallest network is that `address` is in; None where it is in none."""
        number, version, width = int(address), address.version, address.max_prefixlen
        for length in self._lengths[version]:
            what = self._what.get((version, length, number >> (width - length)))
            if what is not None:
                return what
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._what == other._what

    __hash__ = None  # type: ignore[assignment]


class Gate(NamedTuple):
    """What may not be an endpoint: everything inside the cluster, and what no endpoint can be.

    What the operator's own configuration allows wins over everything.
    """

    allowed: Ranges = Ranges()
    refused: Ranges = Ranges()
    inside: Mapping[str, str] = MappingProxyType({})
    """Nodes' addresses, in their canonical spelling, each with whose it is."""
    pods: Mapping[str, str] = MappingProxyType({})
    """Pods' addresses, each with namespace and name; a live view where it is that of `Addresses`, so that a gate is
    not made for each pod."""
    services: Mapping[str, str] = MappingProxyType({})
    """The same of Services' cluster IPs: before Kubernetes 1.33 nobody tells which range they are from."""

    def refusal(self, address: str) -> str | None:
        """Why `address` is not let through, to be read after "is": `a loopback address`; None where it is.

        An IPv6 address that leads to an IPv4 one (mapped, NAT64, 6to4, compatible) must be let through as both,
        unless it is itself in an allowed range.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            return "not an IP address"
        if isinstance(parsed, IPv4Address):
            return self._refusal(parsed)
        # No slice takes these, however innocent the address.
        zone, mapped = parsed.scope_id, parsed.ipv4_mapped
        parsed = IPv6Address(int(parsed))
        if why := self._refusal(parsed):
            return why
        if zone is not None:
            return "an address with a zone, which means nothing on other machines"
        return f"the IPv4-mapped form of {mapped}" if mapped is not None else None

    def _refusal(self, address: IPv4Address | IPv6Address) -> str | None:
        if self.allowed.find(address) is not None:
            return None
        if why := special(str(address)) or self._inside(address):
            return why
        for form, inner in embedded(address) if isinstance(address, IPv6Address) else ():
            if why := self._inside(inner):
                return f"the {form} form of {inner}, {why}"
        return None

    def _inside(self, address: IPv4Address | IPv6Address) -> str | None:
        text = str(address)
        if whose := self.inside.get(text):
            return whose
        if pod := self.pods.get(text):
            return f"the address of pod {pod} of this cluster"
        if service := self.services.get(text):
            return f"the cluster IP of Service {service} of this cluster"
        return self.refused.find(address)


def gate_of(
    *,
    allow: Iterable[str] = (),
    refuse: Iterable[str] = (),
    nodes: Iterable[Node] = (),
    service_cidrs: Iterable[ServiceCIDR] = (),
    pods: Mapping[str, str] = MappingProxyType({}),
    services: Mapping[str, str] = MappingProxyType({}),
) -> Gate:
    """The gate of a cluster with these Nodes and ServiceCIDRs, and with the operator's configuration.

    `allow` and `refuse` are ranges (CIDR) or addresses; ValueError for what is neither. `pods` and `services` are
    best those of `Addresses`, which follow by themselves: a gate is only made anew when anything else changes.
    What Nodes and ServiceCIDRs hold that is no address or range is left out.
    """
    inside: dict[str, str] = {}
    ranges: list[tuple[Network, str]] = [
        (ip_network(text, strict=False), f"in the range {text}, which the operator's configuration refuses")
        for text in refuse
    ]
    for service_cidr in service_cidrs:
        found = _networks(service_cidr.spec.cidrs)
        ranges += [(network, f"in the service range {network} of this cluster") for network in found]
    for node in nodes:
        for each in node.status.addresses or ():
            # Some clouds put an address where a host name belongs; a name is none.
            if address := _address(each.address):
                inside[address] = f"an address of node {node.metadata.name} of this cluster"
        found = _networks([*(node.spec.pod_cidrs or ()), *filter(None, [node.spec.pod_cidr])])
        where = f"of node {node.metadata.name} of this cluster"
        ranges += [(network, f"in the pod range {network} {where}") for network in found]
    allowed = Ranges((ip_network(text, strict=False), text) for text in allow)
    return Gate(allowed, Ranges(ranges), inside, pods, services)


class Addresses:
    """The addresses of a cluster's objects of one kind, kept object by object, at a cost that does not grow with
    their number."""

    def __init__(self) -> None:
        self._of: dict[Key, frozenset[str]] = {}
        self._holders: dict[str, list[Key]] = {}
        """More than one while an object that is gone has not been seen to go."""
        self._names: dict[str, str] = {}
        self.addresses: Mapping[str, str] = MappingProxyType(self._names)
        """Each address, canonical, with `namespace/name` of its object. A live view."""

    def put(self, key: Key, addresses: Iterable[str]) -> frozenset[str]:
        """Take in the addresses that an object has now. Returns those that became or ceased to be any object's."""
        old, new = self._of.pop(key, frozenset()), frozenset(addresses)
        if new:
            self._of[key] = new
        changed = set()
        for address in old - new:
            holders = self._holders[address]
            holders.remove(key)
            if holders:
                self._names[address] = "/".join(holders[-1])
            else:
                del self._holders[address], self._names[address]
                changed.add(address)
        for address in new - old:
            holders = self._holders.setdefault(address, [])
            if not holders:
                changed.add(address)
            holders.append(key)
            self._names[address] = "/".join(key)
        return frozenset(changed)


def pod_addresses(pod: Pod | None) -> Iterable[str]:
    """A pod's, canonical; None: it is gone.

    Pods in the host's network have a node's address, which the Node says; those that have ended have none.
    """
    if pod is None or pod.spec.host_network or pod.status.phase in ("Succeeded", "Failed"):
        return ()
    return _canonical((pod.status.pod_ip, *(each.ip for each in pod.status.pod_ips or ())))


def cluster_ips(service: Service | None) -> Iterable[str]:
    """A Service's, canonical; None: it is gone."""
    return _canonical(service.spec.every_cluster_ip) if service else ()


def _canonical(texts: Iterable[str | None]) -> Iterable[str]:
    for text in texts:
        # Of an IPv4 address there is one spelling, and there may be a hundred thousand of them.
        if text and (address := _address(text) if ":" in text else text):
            yield address


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _networks(texts: Iterable[str]) -> Iterable[Network]:
    for text in texts:
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue

"""Which addresses may be endpoints (CVE-2021-25740), and which a tenant's kubeconfig may lead to."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.addresses import as_kubernetes_reads, embedded, read, special_of
from moorage.api.core_v1 import Node, Pod, Service, ServiceSpec
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.networking_v1 import ServiceCIDR

Network = IPv4Network | IPv6Network
Holder = tuple[str, ObjectKey]
"""What an address is."""


CLUSTER_IP = "a cluster IP of this cluster"
LOAD_BALANCER = "a load-balancer address of this cluster"
EXTERNAL_IP = "an external IP of a Service of this cluster"
NODE = "an address of a node of this cluster"
POD = "the address of a pod of this cluster"
API_SERVER = "an address of this cluster's API server"
_KINDS = (CLUSTER_IP, NODE, POD, API_SERVER, LOAD_BALANCER, EXTERNAL_IP)
"""An address that is several of these counts as the first of them: anybody who writes Services can claim the last
two."""


class Ranges:
    """Networks, each with what it is. A look-up takes one step for each prefix length, not for each network."""

    def __init__(self, networks: Iterable[tuple[Network, str]] = ()) -> None:
        self._what: dict[tuple[int, int, int], str] = {}
        """By version, prefix length and the network's first bits; of two equal networks the first stays."""
        for network, what in networks:
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            self._what.setdefault((network.version, network.prefixlen, bits), what)
        self._lengths = {
            version: sorted({key[1] for key in self._what if key[0] == version}, reverse=True) for version in (4, 6)
        }

    def find(self, address: IPv4Address | IPv6Address) -> str | None:
        """What the smallest network around `address` is; None if there is none."""
        version = address.version
        lengths = self._lengths[version]
        if not lengths:
            return None  # the configuration seldom allows anything, and this runs for each endpoint
        number, width = int(address), address.max_prefixlen
        for length in lengths:
            what = self._what.get((version, length, number >> (width - length)))
            if what is not None:
                return what
        return None

    def __iter__(self) -> Iterator[tuple[Network, str]]:
        """The entries, from which `Ranges` can be made again, also in another process."""
        for (version, length, bits), what in self._what.items():
            address = (IPv4Address if version == 4 else IPv6Address)(bits << ((32 if version == 4 else 128) - length))
            yield ip_network((address, length)), what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._what == other._what

    __hash__ = None  # type: ignore[assignment]


class Gate(NamedTuple):
    """Says which addresses may not be endpoints: everything inside the cluster, and special addresses.

    The operator's own configuration takes precedence. A gate names no objects: its words reach everybody who may
    write an ExternalService, and they may not be allowed to see the pods of others.
    """

    allowed: Ranges = Ranges()
    refused: Ranges = Ranges()
    own: Mapping[str, str] = MappingProxyType({})
    """The cluster's own addresses, in canonical spelling, each with what it is. If these are `Addresses`, the gate
    sees their changes, and need not be made again for each pod."""

    def refusal(self, address: str) -> str | None:
        """Why `address` is refused, in words to follow "is": `a loopback address`; None if it is admitted.

        An IPv6 address that leads to an IPv4 one (mapped, NAT64, 6to4, Teredo, ...) must pass as both, unless it is
        in an allowed range itself.
        """
        try:
            parsed = read(address)
        except ValueError:
            return "not an IP address"
        if isinstance(parsed, IPv4Address):
            return self._refusal(parsed)
        # No slice takes an address with a zone, or a mapped one, however harmless it is.
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
        if why := special_of(address):
            return why
        for form, inner in embedded(address) if isinstance(address, IPv6Address) else ():
            if why := self._inside(inner):
                return f"the {form} form of {inner}, {why}"
        return self._inside(address)

    def _inside(self, address: IPv4Address | IPv6Address) -> str | None:
        # Ranges first: the words about an address in a range must not show whether a pod has it at the moment.
        return self.refused.find(address) or self.own.get(str(address))


def gate_of(
    *,
    allow: Iterable[str] = (),
    refuse: Iterable[str] = (),
    nodes: Iterable[Node] = (),
    service_cidrs: Iterable[ServiceCIDR] = (),
    own: Mapping[str, str] = MappingProxyType({}),
) -> Gate:
    """The gate for the ranges of these Nodes and ServiceCIDRs and for the operator's configuration.

    `allow` and `refuse` are ranges (CIDR) or addresses; raises ValueError for anything else. `own` are the addresses
    of the cluster's objects; with `Addresses` a new gate is only needed when a range changes. Text in Nodes and
    ServiceCIDRs that is not a range is ignored.
    """
    ranges: list[tuple[Network, str]] = [
        (ip_network(text, strict=False), f"in the range {text}, which the operator's configuration refuses")
        for text in refuse
    ]
    of_services = _networks(cidr for each in service_cidrs for cidr in each.spec.cidrs)
    ranges += [(network, f"in the service range {network} of this cluster") for network in of_services]
    of_pods = _networks(cidr for each in nodes for cidr in pod_ranges(each))
    ranges += [(network, f"{POD}, by its range {network}") for network in of_pods]
    return Gate(Ranges((ip_network(text, strict=False), text) for text in allow), Ranges(ranges), own)


class Addresses(Mapping[str, str]):
    """The canonical addresses of a cluster's objects, each with what it is (`POD`, ...).

    They are kept by object. A change costs the same however many objects there are.
    """

    def __init__(self) -> None:
        self._of: dict[Holder, tuple[str, ...]] = {}
        self._holders: dict[str, list[Holder]] = {}
        """Several if objects share an address, or if one is gone and the watch has not shown that yet."""

    def put(self, what: str, key: ObjectKey, addresses: Iterable[str]) -> frozenset[str]:
        """Set the addresses of this kind that an object has. Returns the addresses whose meaning has changed."""
        holder = what, key
        old, new = self._of.get(holder, ()), tuple(dict.fromkeys(addresses))
        if old == new:
            return frozenset()
        if new:
            self._of[holder] = new
        else:
            del self._of[holder]
        changed = {each: self._what(each) for each in (*old, *new)}
        for address in old:
            if address not in new:
                holders = self._holders[address]
                holders.remove(holder)
                if not holders:
                    del self._holders[address]
        for address in new:
            if address not in old:
                self._holders.setdefault(address, []).append(holder)
        return frozenset(each for each, before in changed.items() if self._what(each) != before)

    def holder(self, address: str) -> Holder | None:
        """Which object has an address; None if none does. For the operator's log only."""
        return min(self._holders.get(address, ()), key=_rank, default=None)

    def _what(self, address: str) -> str | None:
        found = self.holder(address)
        return found[0] if found else None

    def __getitem__(self, address: str) -> str:
        what = self._what(address)
        if what is None:
            raise KeyError(address)
        return what

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)


def _rank(holder: Holder) -> tuple[int, ObjectKey]:
    what, key = holder
    return _KINDS.index(what), key


def pod_addresses(pod: Pod | None) -> Iterable[str]:
    """A pod's canonical addresses; none for None, which is a pod that is gone.

    Pods in the host's network have the node's address, which belongs to the Node; pods that have ended have none.
    """
    if pod is None or pod.spec.host_network or pod.status.finished:
        return ()
    return _canonical((pod.status.pod_ip, *(each.ip for each in pod.status.pod_ips or ())))


def node_addresses(node: Node | None) -> Iterable[str]:
    """A Node's canonical addresses. Host names, which some clouds put in place of addresses, are ignored."""
    return _canonical(each.address for each in node.status.addresses or ()) if node else ()


def pod_ranges(node: Node | None) -> tuple[str, ...]:
    """The ranges of a Node's pods, as they are written."""
    return (*(node.spec.pod_cidrs or ()), *filter(None, [node.spec.pod_cidr])) if node else ()


def service_addresses(service: Service | None) -> dict[str, Iterable[str]]:
    """A Service's canonical addresses, by what they are.

    Cluster IPs are included because before Kubernetes 1.33 no object has their range. If a load balancer has only a
    host name, no address is known.
    """
    spec = service.spec if service else ServiceSpec()
    balancer = service.status.load_balancer if service else None
    return {
        CLUSTER_IP: _canonical(spec.every_cluster_ip),
        LOAD_BALANCER: _canonical(each.ip for each in (balancer.ingress if balancer else None) or ()),
        EXTERNAL_IP: _canonical(spec.external_ips or ()),
    }


def slice_addresses(slice_: EndpointSlice | None) -> Iterable[str]:
    """The canonical addresses of a slice's endpoints."""
    return _canonical(address for each in (slice_.endpoints if slice_ else None) or () for address in each.addresses)


def _canonical(texts: Iterable[str | None]) -> Iterable[str]:
    return (address for text in dict.fromkeys(texts) if text and (address := as_kubernetes_reads(text)))


def _networks(texts: Iterable[str]) -> Iterable[Network]:
    for text in texts:
        address, slash, length = text.partition("/")
        try:
            yield ip_network(f"{as_kubernetes_reads(address)}{slash}{length}", strict=False)
        except ValueError:
            continue

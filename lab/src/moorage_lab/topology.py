"""The lab's networks as data, and the `ip -batch`, `nft` and sysctl text that makes them. Pure.

```
            internet (the supervisor's own network namespace: public addresses only)
        198.51.100.1 |                              | 198.51.100.2
  203.0.113.0/26 -> a-gateway                   b-gateway <- 203.0.113.64/26
         10.240.0.1 |                              | 10.240.0.1
       a-node-1 10.240.0.11          b-node-1 10.240.0.11   b-node-2 10.240.0.12
       pods 10.244.1.0/24            pods 10.244.1.0/24     pods 10.244.2.0/24
```

Every line is a routed veth pair; there is no bridge. The private ranges are the same in each cluster, because they
are separate networks. A gateway routes between its nodes, masquerades traffic that leaves its cluster, and owns a
share of the load balancers' addresses. IPv6 has the same shape.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

import msgspec

from moorage.errors import MoorageError

MAX_CLUSTERS = 4
"""203.0.113.0/24 is cut into this many load balancer ranges."""
MAX_NODES = 16
API_PORT = 6443

_INTERNET = ("198.51.100.254", "2001:db8:100::fffe")
INTERNET_DNS = _INTERNET[0]
"""The address of the name server for all names outside the clusters."""
CLUSTER_DNS = "10.240.0.53"
"""The address of each cluster's own name server; the same in every cluster."""
_GATEWAY = ("10.240.0.1", "fd00:10:240::1")
_DNS = (CLUSTER_DNS, "fd00:10:240::53")
_PODS = ("10.244.0.0/16", "fd00:10:244::/48")
_SERVICES = ("10.96.0.0/12", "fd00:10:96::/112")
_DNS_SERVICE = ("10.96.0.10", "fd00:10:96::a")
_PRIVATE = ("10.0.0.0/8", "fd00::/8")
_OUTER, _INNER = "fe80::1", "fe80::2"
"""Link-local addresses of a link's two ends; the outer one is nearer to the internet."""


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One node: a network namespace behind its cluster's gateway."""

    name: str
    """The Node object's name."""
    cluster: str
    netns: str
    addresses: list[str]
    """InternalIPs: IPv4 first, then IPv6 where the machine has it."""
    pod_ranges: list[str]
    """podCIDRs, in the same order. The range's first address is not used."""


class ClusterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster, as lab-control reads it from a JSON file.

    Lists of addresses and ranges hold IPv4 first, then IPv6 where the machine has it.
    """

    name: str
    gateway: str
    """Network namespace of the gateway: control plane, DNS server, masquerading, load balancer."""
    gateway_addresses: list[str]
    """The gateway's addresses on the node network; the API server listens there on `API_PORT`."""
    public_addresses: list[str]
    """The gateway's addresses on the internet: the source of everything that leaves the cluster."""
    dns_addresses: list[str]
    """Where the cluster's DNS server listens, on port 53."""
    dns_service_addresses: list[str]
    """ClusterIPs of the kube-dns Service in kube-system."""
    pod_ranges: list[str]
    service_ranges: list[str]
    load_balancer_ranges: list[str]
    """Ranges for the addresses of LoadBalancer Services. The first and last address of a range are not used."""
    nodes: list[NodePlan]
    domain: str = "cluster.local"


class LabPlan(msgspec.Struct, frozen=True, kw_only=True):
    clusters: list[ClusterPlan]


class Netns(NamedTuple):
    """The set-up of one network namespace, in this order: nft, sysctls, `ip -batch`."""

    name: str
    """`""`: the supervisor's own, the internet."""
    nft: str
    sysctls: dict[str, str]
    """Path below /proc/sys -> value."""
    batch: str


class PodNetwork(NamedTuple):
    """The `ip -batch` texts of one pod's network. Each is for `ip [-n NETNS] -batch -`."""

    netns: str
    """The pod's network namespace, for `nsenter --net=/run/netns/NETNS`."""
    interface: str
    """The node's end of the veth pair; the pod's is eth0."""
    add: tuple[tuple[str | None, str], ...]
    """(network namespace or None for where the caller is, text): run in this order."""
    delete: tuple[tuple[str | None, str], ...]
    """The same to undo it. Right after the first one, the pod's address can be reused."""


def pod_netns(cluster: str, pod_id: str) -> str:
    """The name of a pod's network namespace. `pod_id` is the pod's metadata.uid."""
    return f"{cluster}-pod-{_short(pod_id)}"


def pod_commands(node: NodePlan, pod_id: str, addresses: Sequence[str]) -> PodNetwork:
    """How a pod is connected: a veth pair to its node, its addresses as /32 and /128, a default route.

    `pod_id` is the pod's metadata.uid, `addresses` one of each of the node's pod ranges. The IPv4 next hop is the
    node's own address, for which a node answers ARP on every interface; IPv6 answers only for addresses of the
    interface itself (RFC 4861, 7.2.3), so there it is the link-local address of the node's end.
    """
    netns, interface = pod_netns(node.cluster, pod_id), f"pod{_short(pod_id)}"
    ipv6 = any(ip_address(address).version == 6 for address in addresses)
    outside = _link(interface, "eth0", netns, ipv6=ipv6)
    inside = ["link set lo up", *up("eth0", _INNER, ipv6=ipv6)]
    for address in addresses:
        outside.append(f"route add {host(address)} dev {interface}")
        if ip_address(address).version == 4:
            inside.append(f"addr add {address}/32 dev eth0")
            inside.append(f"route add {node.addresses[0]} dev eth0")
            inside.append(f"route add default via {node.addresses[0]} dev eth0")
        else:
            inside.append(f"addr add {address}/128 dev eth0 nodad")
            inside.append(f"route add default via {_OUTER} dev eth0")
    return PodNetwork(
        netns,
        interface,
        add=((None, f"netns add {netns}\n"), (node.netns, _text(outside)), (netns, _text(inside))),
        delete=((node.netns, f"link delete {interface}\n"), (None, f"netns delete {netns}\n")),
    )


def plan(clusters: dict[str, int], *, ipv6: bool = True) -> LabPlan:
    """The plan of these clusters: name -> number of nodes.

    Raises MoorageError for an impossible name or number.
    """
    if not 0 < len(clusters) <= MAX_CLUSTERS:
        raise MoorageError(f"a lab has 1 to {MAX_CLUSTERS} clusters, not {len(clusters)}")
    return LabPlan(clusters=[_cluster(i, name, count, ipv6) for i, (name, count) in enumerate(clusters.items())])


def _cluster(index: int, name: str, nodes: int, ipv6: bool) -> ClusterPlan:
    if not (name.isascii() and name.isalnum() and name == name.lower() and len(name) <= 7):
        raise MoorageError(f"cluster {name!r}: its name must be 1 to 7 lower-case letters and digits")
    if not 1 <= nodes <= MAX_NODES:
        raise MoorageError(f"cluster {name}: it can have 1 to {MAX_NODES} nodes, not {nodes}")
    families = 2 if ipv6 else 1
    public = (f"198.51.100.{index + 1}", f"2001:db8:100::{index + 1:x}")
    balancers = (f"203.0.113.{index * 256 // MAX_CLUSTERS}/26", f"2001:db8:203:{index + 1:x}::/64")
    return ClusterPlan(
        name=name,
        gateway=f"{name}-gateway",
        gateway_addresses=list(_GATEWAY[:families]),
        public_addresses=list(public[:families]),
        dns_addresses=list(_DNS[:families]),
        dns_service_addresses=list(_DNS_SERVICE[:families]),
        pod_ranges=list(_PODS[:families]),
        service_ranges=list(_SERVICES[:families]),
        load_balancer_ranges=list(balancers[:families]),
        nodes=[
            NodePlan(
                name=f"node-{number}",
                cluster=name,
                netns=f"{name}-node-{number}",
                addresses=[f"10.240.0.{10 + number}", f"fd00:10:240::{10 + number}"][:families],
                pod_ranges=[f"10.244.{number}.0/24", f"fd00:10:244:{number:x}::/64"][:families],
            )
            for number in range(1, nodes + 1)
        ],
    )


def internet_addresses(lab: LabPlan) -> list[str]:
    """The addresses of the internet's end of every cluster's line; the name server for all outside names is there."""
    return list(_INTERNET[: len(lab.clusters[0].public_addresses)])


def netns_names(lab: LabPlan) -> str:
    """`ip -batch` text that makes the network namespaces, except for the internet's."""
    return _text(
        f"netns add {name}"
        for cluster in lab.clusters
        for name in (cluster.gateway, *(node.netns for node in cluster.nodes))
    )


def network(lab: LabPlan) -> list[Netns]:
    """The set-up of every network namespace, to be done in this order: outer ones make both ends of a link."""
    return [
        _internet(lab),
        *(_gateway(cluster) for cluster in lab.clusters),
        *(_node(cluster, node) for cluster in lab.clusters for node in cluster.nodes),
    ]


def _internet(lab: LabPlan) -> Netns:
    lines = ["link set lo up"]
    for cluster in lab.clusters:
        device = f"cluster-{cluster.name}"
        lines += _link(device, "internet", cluster.gateway, ipv6=len(cluster.pod_ranges) > 1)
        for own, address, balancers in zip(
            _INTERNET, cluster.public_addresses, cluster.load_balancer_ranges, strict=False
        ):
            lines += _point_to_point(device, own, address)
            lines.append(f"route add {balancers} via {address} dev {device}")
    return Netns("", "", _sysctls(lab.clusters[0]), _text(lines))


def _gateway(cluster: ClusterPlan) -> Netns:
    lines = ["link set lo up", *up("internet", _INNER, ipv6=len(cluster.pod_ranges) > 1)]
    for address, internet in zip(cluster.public_addresses, _INTERNET, strict=False):
        lines += _point_to_point("internet", address, internet)
        lines.append(f"route add default via {internet} dev internet")
    lines += [f"addr add {host(address)} dev lo" for address in cluster.dns_addresses]
    # Addresses that nobody owns are refused here: the internet would only send the packets back.
    for private, balancers in zip(_PRIVATE, cluster.load_balancer_ranges, strict=False):
        lines += [f"route add unreachable {private}", f"route add unreachable {balancers}"]
    for node in cluster.nodes:
        lines += _link(node.name, "eth0", node.netns, ipv6=len(cluster.pod_ranges) > 1)
        for own, address, pods in zip(cluster.gateway_addresses, node.addresses, node.pod_ranges, strict=True):
            lines += _point_to_point(node.name, own, address)
            lines.append(f"route add {pods} via {address} dev {node.name}")
    return Netns(cluster.gateway, MASQUERADE, _sysctls(cluster) | _CONNTRACK, _text(lines))


MASQUERADE = """\
add table inet lab
add chain inet lab cloud-nat { type nat hook postrouting priority 100; }
add rule inet lab cloud-nat oifname "internet" ip saddr 10.0.0.0/8 masquerade
add rule inet lab cloud-nat oifname "internet" ip6 saddr fd00::/8 masquerade
add rule inet lab cloud-nat iifname "node-*" oifname "node-*" ct status dnat masquerade
"""
"""The cloud's NAT. The last rule is for connections to the cluster's own load balancer: answers must return here."""


def _node(cluster: ClusterPlan, node: NodePlan) -> Netns:
    lines = ["link set lo up", *up("eth0", _INNER, ipv6=len(cluster.pod_ranges) > 1)]
    for address, gateway, pods in zip(node.addresses, cluster.gateway_addresses, node.pod_ranges, strict=True):
        lines += _point_to_point("eth0", address, gateway)
        lines.append(f"route add default via {gateway} dev eth0")
        lines.append(f"route add unreachable {pods}")
    return Netns(node.netns, "", _sysctls(cluster) | _CONNTRACK, _text(lines))


# A demo makes many short connections: 120 seconds of time_wait would fill the connection table.
_CONNTRACK = {"net/netfilter/nf_conntrack_tcp_timeout_time_wait": "5"}


def _sysctls(cluster: ClusterPlan) -> dict[str, str]:
    # IPv4 settings of a new network namespace are copies of the machine's, which may filter by reverse path.
    values = {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/rp_filter": "0",
        "net/ipv4/conf/default/rp_filter": "0",
    }
    if len(cluster.pod_ranges) > 1:
        values["net/ipv6/conf/all/forwarding"] = "1"
    return values


def _link(device: str, peer: str, peer_netns: str, *, ipv6: bool) -> list[str]:
    return [f"link add {device} type veth peer name {peer} netns {peer_netns}", *up(device, _OUTER, ipv6=ipv6)]


def up(device: str, link_local: str, *, ipv6: bool) -> list[str]:
    """Commands of `ip` that set a device up; with IPv6 it has this link-local address at once.

    Without one a router does not ask for its neighbours (RFC 4861, 7.2.2), and the kernel's own choice would first be
    checked for duplicates, for a second or two.
    """
    lines = [f"link set {device} addrgenmode none", f"link set {device} up"]
    return [*lines, f"addr add {link_local}/64 dev {device} nodad"] if ipv6 else lines


def _point_to_point(device: str, own: str, peer: str) -> list[str]:
    # Not `addr add OWN peer PEER`: for IPv6 the kernel would make the route to the peer later, from a work queue.
    nodad = " nodad" if ip_address(own).version == 6 else ""
    return [f"addr add {host(own)} dev {device}{nodad}", f"route add {host(peer)} dev {device}"]


def host(address: str) -> str:
    """The address as a range of one: `/32` or `/128`."""
    return str(ip_network(address))


def _short(pod_id: str) -> str:
    """The part of a uid that fits an interface name, whose limit is 15 bytes."""
    return pod_id.replace("-", "")[:10]


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)

"""Which networks there are, and who has which address. Pure: nothing here touches the machine.

                          internet: a bridge, and a router for all          198.51.100.0/24
                          servers that are in no cluster                    192.0.2.0/24
               ┌─────────────────────────┴──────────────────────┐
     a-gateway 198.51.100.10                          b-gateway 198.51.100.20    a namespace each
     etcd, kube-apiserver, controllers, CoreDNS       the same
     10.0.0.1                                         10.0.0.1                   both clusters have the same
         │                                ┌──────────────┬┴─────────────┐        private ranges, as it happens
     a-node-1                         b-node-1       b-node-2       b-node-3
     10.0.0.11                        10.0.0.11      10.0.0.12      10.0.0.13
     pods 10.244.1.0/24               10.244.1.0/24  10.244.2.0/24  10.244.3.0/24
         │                                │              │              │
     a-node-1-clients                 and so on: a namespace with 10.244.1.241 to .250, addresses of no pod

The clusters reach each other by public addresses only. No namespace has a link to the machine's own network. The mode
of kube-proxy is iptables on b-node-2 and nftables on the others.

There is a place for two more nodes of B, b-node-4 (iptables) and b-node-5 (nftables), where nothing runs until a test
lets them join.
"""

from collections.abc import Sequence
from typing import NamedTuple

INTERNET = "internet"
ROUTER = "198.51.100.1"
NAME_SERVER = "198.51.100.53"
"""Address of the internet's name server, for example.com."""
SERVERS = ("192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14")
"""Addresses on the internet that are of no cluster."""
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
NODE_RANGE = "10.0.0.0/24"
GATEWAY = "10.0.0.1"
"""Address of a cluster's gateway, as its nodes see it."""
CLUSTER_DNS = "10.96.0.10"
_CLIENTS = range(241, 251)
"""The last number of a node's addresses that are of no pod."""
_BESIDE_CLIENTS = "169.254.1.1"
"""The node's address, as these see it."""


class Node(NamedTuple):
    """One node of a cluster."""

    cluster: str
    number: int
    proxy_mode: str = "nftables"
    """The mode of its kube-proxy."""

    @property
    def name(self) -> str:
        return f"{self.cluster}-node-{self.number}"

    @property
    def network(self) -> str:
        """The name of its network namespace."""
        return self.name

    @property
    def address(self) -> str:
        return f"10.0.0.{10 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def last_pod(self) -> str:
        """The last address that a pod may have."""
        return f"10.244.{self.number}.{_CLIENTS[0] - 1}"

    @property
    def clients(self) -> list[str]:
        """Addresses of its pod range from which tests connect without a pod."""
        return [f"10.244.{self.number}.{number}" for number in _CLIENTS]

    @property
    def client_network(self) -> str:
        """The network namespace that has these addresses."""
        return f"{self.name}-clients"


class Site(NamedTuple):
    """One cluster's place on the internet."""

    name: str
    nodes: tuple[Node, ...]
    address: str
    """Address of its gateway and API server."""
    load_balancers: str
    """Addresses that its cloud gives to load balancers, as a CIDR."""
    spare: tuple[Node, ...] = ()
    """Nodes that are to join later. Their networks are there from the start."""

    @property
    def every_node(self) -> tuple[Node, ...]:
        """Those that may join as well."""
        return (*self.nodes, *self.spare)

    @property
    def network(self) -> str:
        """The gateway's network namespace."""
        return f"{self.name}-gateway"


def site(name: str, number: int, *proxy_modes: str, spare: Sequence[str] = ()) -> Site:
    """The place of cluster `number`, 1 or 2, with a node for each of these modes of kube-proxy."""
    nodes = tuple(Node(name, one, mode) for one, mode in enumerate((*proxy_modes, *spare), 1))
    return Site(
        name=name,
        nodes=nodes[: len(proxy_modes)],
        address=f"198.51.100.{10 * number}",
        load_balancers=f"203.0.113.{128 * (number - 1)}/25",
        spare=nodes[len(proxy_modes) :],
    )


A = site("a", 1, "nftables")
B = site("b", 2, "nftables", "iptables", "nftables", spare=("iptables", "nftables"))
SITES = (A, B)


def namespaces() -> list[str]:
    """All network namespaces."""
    return [INTERNET, *(name for one in SITES for name in (one.network, *_of_nodes(one)))]


def _of_nodes(one: Site) -> list[str]:
    return [name for node in one.every_node for name in (node.network, node.client_network)]


def links() -> dict[str, list[str]]:
    """For each network namespace the commands of `ip` that set it up, in this order of namespaces.

    Where a link has two ends, the commands of the upper namespace make it and send the lower end down.
    """
    commands = {
        INTERNET: [
            "link add lan type bridge",
            "link set lan up",
            f"address add {ROUTER}/24 dev lan",
            f"address add {NAME_SERVER}/24 dev lan",
            *(f"address add {address}/32 dev lo" for address in SERVERS),
        ]
    }
    for one in SITES:
        commands[INTERNET] += [
            *_cable(one.network, "lan", one.network, "wan"),
            f"route add {one.load_balancers} via {one.address}",
        ]
        commands[one.network] = [
            "link set wan up",
            f"address add {one.address}/24 dev wan",
            f"route add default via {ROUTER}",
            "link add lan type bridge",
            "link set lan up",
            f"address add {GATEWAY}/24 dev lan",
        ]
        for node in one.every_node:
            commands[one.network] += [
                *_cable(node.name, "lan", node.network, "eth0"),
                f"route add {node.pod_range} via {node.address}",
            ]
            others = [other for other in one.every_node if other != node]
            commands[node.network] = [
                "link set eth0 up",
                f"address add {node.address}/24 dev eth0",
                f"route add default via {GATEWAY}",
                *(f"route add {other.pod_range} via {other.address}" for other in others),
                f"link add clients type veth peer name eth0 netns {node.client_network}",
                "link set clients up",
                f"address add {_BESIDE_CLIENTS}/32 dev clients",
                *(f"route add {address}/32 dev clients" for address in node.clients),
            ]
            commands[node.client_network] = [
                "link set eth0 up",
                *(f"address add {address}/32 dev eth0" for address in node.clients),
                f"route add {_BESIDE_CLIENTS}/32 dev eth0",
                f"route add default via {_BESIDE_CLIENTS}",
            ]
    return commands


def _cable(name: str, bridge: str, network: str, end: str) -> list[str]:
    """Commands for a pair of links: `name` on the bridge here, `end` in the other network namespace."""
    return [
        f"link add {name} type veth peer name {end} netns {network}",
        f"link set {name} master {bridge} up",
    ]


def masquerading(one: Site) -> dict[str, str]:
    """For each network namespace of the cluster the nft rules that hide its private addresses.

    A node hides pods from all that is outside the cluster, a gateway hides nodes from the internet.
    """
    inside = f"{{ {POD_RANGE}, {NODE_RANGE} }}"
    return {
        one.network: _masquerade(f"oifname wan ip saddr {inside}"),
        **{node.network: _masquerade(f"ip saddr {node.pod_range} ip daddr != {inside}") for node in one.every_node},
    }


def _masquerade(which: str) -> str:
    return (
        "table ip e2e {\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat;\n"
        f"    {which} masquerade\n"
        "  }\n"
        "}\n"
    )

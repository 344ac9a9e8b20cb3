"""The rules that kube-proxy writes in its nftables mode for one Service with `sessionAffinity: ClientIP`. Pure.

After pkg/proxy/nftables of Kubernetes 1.37 in structure, chain for chain: all that a packet meets on its way is
here; names are shorter, and what no packet of the benchmark meets (node ports, firewall, external addresses) has its
chains and maps but no content.
"""

from collections.abc import Sequence

TABLE = "ip kube-proxy-bench"
TIMEOUT_SECONDS = 10800
"""Kubernetes' default for ClientIP, in seconds."""


def rules(address: str, port: int, endpoints: Sequence[str], pods: str) -> str:
    """An nft script: `address`:`port` leads to `endpoints` (`address:port`); `pods`: the pods' network, a CIDR."""
    lines = [f"add table {TABLE}"]
    for name, type_, hook, priority in _BASE_CHAINS:
        lines.append(f"add chain {TABLE} {name} {{ type {type_} hook {hook} priority {priority} ; }}")
    lines += [f"add chain {TABLE} {name}" for name in _CHAINS]
    lines += [f"add map {TABLE} {name} {{ type {key} : verdict ; }}" for name, key in _MAPS]
    lines.append(f"add set {TABLE} cluster-ips {{ type ipv4_addr ; }}")
    lines.append(f"add set {TABLE} nodeport-ips {{ type ipv4_addr ; }}")
    lines.append(
        f"add set {TABLE} hairpin-connections {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service ; }}"
    )
    lines += [f"add rule {TABLE} {rule.replace('{pods}', pods)}" for rule in _RULES]
    lines += _service(address, port, endpoints)
    return "\n".join(lines) + "\n"


_BASE_CHAINS = (
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    ("filter-output-pre-dnat", "filter", "output", -110),
    ("filter-input", "filter", "input", 0),
    ("filter-forward", "filter", "forward", 0),
    ("filter-output", "filter", "output", 0),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
)
_CHAINS = (
    "cluster-ips-check",
    "service-endpoints-check",
    "nodeport-endpoints-check",
    "firewall-check",
    "services",
    "masquerading",
    "reject-chain",
)
_SERVICE = "ipv4_addr . inet_proto . inet_service"
_MAPS = (
    ("service-ips", _SERVICE),
    ("no-endpoint-services", _SERVICE),
    ("firewall-ips", _SERVICE),
    ("service-nodeports", "inet_proto . inet_service"),
    ("no-endpoint-nodeports", "inet_proto . inet_service"),
)
_RULES = (
    "filter-prerouting-pre-dnat ct state new jump firewall-check",
    "filter-output-pre-dnat ct state new jump firewall-check",
    "filter-input ct state new jump nodeport-endpoints-check",
    "filter-input ct state new jump service-endpoints-check",
    "filter-forward ct state new jump service-endpoints-check",
    "filter-forward ct state new jump cluster-ips-check",
    "filter-output ct state new jump service-endpoints-check",
    "filter-output ct state new jump cluster-ips-check",
    "nat-prerouting jump services",
    "nat-output jump services",
    "nat-postrouting jump masquerading",
    "cluster-ips-check ip daddr @cluster-ips reject",
    "cluster-ips-check ip daddr { 10.96.0.0/12 } drop",
    "service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services",
    "nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports",
    "firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips",
    "services ip daddr @cluster-ips ip saddr != {pods} mark set mark or 0x4000",
    "services ip daddr . meta l4proto . th dport vmap @service-ips",
    "services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
    "masquerading mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random",
    "masquerading ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections "
    "masquerade fully-random",
    "reject-chain reject",
)


def _service(address: str, port: int, endpoints: Sequence[str]) -> list[str]:
    service = "service-bench"
    chains = [f"endpoint-{number}" for number in range(len(endpoints))]
    sets = [f"affinity-{number}" for number in range(len(endpoints))]
    choices = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
    lines = [f"add chain {TABLE} {name}" for name in (service, *chains)]
    lines += [
        f"add set {TABLE} {name} {{ type ipv4_addr ; flags dynamic,timeout ; timeout {TIMEOUT_SECONDS}s ; }}"
        for name in sets
    ]
    lines += [
        f"add element {TABLE} cluster-ips {{ {address} }}",
        f"add element {TABLE} service-ips {{ {address} . tcp . {port} : goto {service} }}",
    ]
    lines += [
        f"add rule {TABLE} {service} ip saddr @{affinity} goto {chain}"
        for affinity, chain in zip(sets, chains, strict=True)
    ]
    lines.append(f"add rule {TABLE} {service} numgen random mod {len(endpoints)} vmap {{ {choices} }}")
    for chain, affinity, endpoint in zip(chains, sets, endpoints, strict=True):
        lines += [
            f"add rule {TABLE} {chain} update @{affinity} {{ ip saddr timeout {TIMEOUT_SECONDS}s }}",
            f"add rule {TABLE} {chain} meta l4proto tcp dnat to {endpoint}",
        ]
    return lines

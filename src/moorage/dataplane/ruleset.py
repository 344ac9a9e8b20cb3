"""The constant ruleset, and the elements by which it knows the Services. Pure.

One table, `inet moorage`. Rules do not grow with Services, endpoints or clients: those are elements of a few
global maps. For IPv4 (IPv6 is the same with `6` in the names):

- `services4`: address . protocol . port -> the policy's chain.
- `slots-tcp4`, `slots-udp4`: address . port . slot -> endpoint. A policy chain computes the slot (a hash of the
  client's address, or a random number, modulo the size of the Service's table) and sends the connection there.
  One map for each protocol, because only `typeof` can name a slot's type, and nft 1.0.6 refuses a map whose
  `typeof` says `th dport` in a rule that matches the protocol, as soon as the map is read back from the kernel.
- `sessions4`: client . address . protocol . port -> endpoint, learned from each new connection, with a timeout.
- `learners4`: address . protocol . port -> the chain that learns, for Services with affinity.
- `live4`: address . protocol . port . endpoint: what they may learn. An endpoint that is taken out leaves this set in
  the transaction that changes its slots, so that a packet that was sent to it before, and is still under way, cannot
  learn it again. It is no map to verdicts, because when one of those gets an element, the kernel walks through all
  verdict maps that rules use, looking for loops: half a microsecond for each element, 60 ms for 100,000.
- `addresses4`: what is ours, so that what nothing carries is rejected at once.
- `carried4`: address . protocol . port of all that is carried. No rule looks here: its comment, a digest and the
  policy's chain, spares an agent that starts again from reading what did not change (nft takes 2.4 KB an element).
- `hairpin4`: local endpoints that may be their own client, as source . destination.

A policy is shared by all Services with the same protocol, affinity, timeout and table size; its chain is made on
first use.

Hooks. All base chains are NAT chains: the kernel asks them about the first packet of a connection only, so packets of
established connections cost nothing here, and a retransmitted SYN learns nothing. It runs all NAT chains of a hook at
one priority (-100, `NF_IP_PRI_NAT_DST`, and 100); a chain's own priority only orders it among them: -110 and 90 put
ours before kube-proxy's, and the one that learns before all that masquerade, which end the walk.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from moorage.dataplane.model import Endpoint, Key, ServicePort
from moorage.dataplane.slots import first_slot, modulus, table

TABLE = "inet moorage"
SESSIONS_SIZE = 262_144
"""Most sessions of one family that the kernel keeps; beyond it new clients are held by the hash alone."""
SEED = 0x6D6F6F72
"""Of the hash that gives a client its first slot; the same on every node and in every version."""

Elements = dict[str, dict[str, str]]
"""Name of a set or map -> key -> value (empty in a set), as nft writes them."""


class Family(NamedTuple):
    """How nft names things in one address family."""

    number: int
    ip: str
    type: str
    protocol: str
    """The expression whose type is inet_proto: within a concatenation nft 1.0.6 wants `ip protocol` for IPv4."""


IPV4 = Family(4, "ip", "ipv4_addr", "ip protocol")
IPV6 = Family(6, "ip6", "ipv6_addr", "meta l4proto")
FAMILIES = (IPV4, IPV6)
PROTOCOLS = ("tcp", "udp")


def slots_map(protocol: str, family: int) -> str:
    """Name of the map that holds the slots of that protocol and family."""
    return f"slots-{protocol}{family}"


_CHAIN = re.compile(r"(?:clientip-(\d+)|balanced)-(\d+)-(tcp|udp)([46])")


class Policy(NamedTuple):
    """How the endpoint of a new connection is chosen: one chain."""

    family: int
    protocol: str
    affinity_seconds: int
    modulus: int

    @property
    def chain(self) -> str:
        kind = f"clientip-{self.affinity_seconds}" if self.affinity_seconds else "balanced"
        return f"{kind}-{self.modulus}-{self.protocol}{self.family}"

    @property
    def learn_chain(self) -> str:
        return f"learn-{self.affinity_seconds}-{self.protocol}{self.family}"

    @property
    def slots(self) -> str:
        """The map that its slots are in."""
        return slots_map(self.protocol, self.family)


def base(learn6: bool) -> list[str]:
    """Commands that make the table with its sets and base chains, or bring an older one's rules up to date.

    Applied in one transaction they change rules only where they differ in effect, and touch no element.
    `learn6`: whether nft can learn IPv6 sessions (1.0.6 cannot); without, IPv6 affinity is by the hash alone.
    """
    lines = containers()
    for hook in ("prerouting", "output"):
        rules = [*map(_reset_midflow, FAMILIES), *map(_dispatch, FAMILIES), *map(_reject, FAMILIES)]
        lines += _chain(f"dnat-{hook}", f"nat hook {hook} priority -110", rules)
    learns = [rule for family in FAMILIES if family is IPV4 or learn6 for rule in _learn_dispatch(family)]
    # A pod's packet to an endpoint in the node's own network goes to input, and never to postrouting.
    for hook in ("input", "postrouting"):
        lines += _chain(f"learn-{hook}", f"nat hook {hook} priority 90", learns)
    lines += _chain("masquerade-postrouting", "nat hook postrouting priority 100", map(_masquerade, FAMILIES))
    return lines


def containers() -> list[str]:
    """Commands that make the table with all that policies and elements refer to, and no base chain."""
    lines = [
        f"add table {TABLE}",
        f"add set {TABLE} rules-digest {{ typeof tcp dport; }}",  # `rules` is a keyword of newer nft.
        f"add set {TABLE} digest {{ typeof tcp dport; }}",
        f"add counter {TABLE} misses",
    ]
    for family in FAMILIES:
        lines += _sets(family)
    return lines + _chain(
        "refuse", "", ["meta l4proto tcp reject with tcp reset", "reject with icmpx port-unreachable"]
    )


def _sets(family: Family) -> list[str]:
    """Where `typeof` can say it, not `type`.

    A plain set or a verdict map that nft 1.1.3 makes with `type` crashes the nft 1.0.6 of kube-proxy's image, or of
    the node, whenever it looks at any table (kubernetes/kubernetes issue 136786).
    """
    number, ip, address, protocol = family
    service = f"{address} . inet_proto . inet_service"
    endpoint = f"{address} . inet_service"
    slots = [
        f"add map {TABLE} {slots_map(each, number)} {{ "
        f"typeof {ip} daddr . {each} dport . numgen inc mod 256 : {ip} daddr . {each} dport; }}"
        for each in PROTOCOLS
    ]
    return [
        f"add map {TABLE} services{number} {{ typeof {ip} daddr . {protocol} . th dport : verdict; }}",
        *slots,
        f"add map {TABLE} sessions{number} {{ type {address} . {service} : {endpoint}; "
        f"flags dynamic,timeout; size {SESSIONS_SIZE}; }}",
        f"add map {TABLE} learners{number} {{ typeof {ip} daddr . {protocol} . th dport : verdict; }}",
        f"add set {TABLE} live{number} {{ typeof {ip} daddr . {protocol} . tcp dport . {ip} daddr . tcp dport; }}",
        f"add set {TABLE} addresses{number} {{ typeof {ip} daddr; }}",
        f"add set {TABLE} carried{number} {{ typeof {ip} daddr . {protocol} . th dport; }}",
        f"add set {TABLE} hairpin{number} {{ type {address} . {address}; }}",
    ]


def _chain(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    made = f"add chain {TABLE} {name} {{ type {hook}; }}" if hook else f"add chain {TABLE} {name}"
    return [made, f"flush chain {TABLE} {name}", *(f"add rule {TABLE} {name} {rule}" for rule in rules)]


def _reset_midflow(family: Family) -> str:
    """A flow that conntrack no longer knows (its endpoint is gone) is reset here, in the middle.

    Translated instead, the packet would reach another endpoint, which knows nothing of the connection; behind a
    stateful firewall it would vanish there and the client would hang. Needs nf_conntrack_tcp_loose=1 (default).
    """
    return f"{family.ip} daddr @addresses{family.number} tcp flags & (syn|ack) == ack reject with tcp reset"


def _dispatch(family: Family) -> str:
    return f"{family.ip} daddr . {family.protocol} . th dport vmap @services{family.number}"


def _reject(family: Family) -> str:
    """What is ours and nothing carries: no endpoints, or no such port."""
    return f"{family.ip} daddr @addresses{family.number} goto refuse"


def _learn_dispatch(family: Family) -> list[str]:
    # nft 1.0.6 takes `ct original proto-dst` in a concatenation only after a match on the protocol in the same rule.
    return [
        f"meta l4proto {protocol} ct status dnat {_original(family)} vmap @learners{family.number}"
        for protocol in PROTOCOLS
    ]


def _original(family: Family) -> str:
    return f"ct original {family.ip} daddr . {family.protocol} . ct original proto-dst"


def _masquerade(family: Family) -> str:
    """A pod that reaches itself must not see its own address as the source of its own packet."""
    return f"ct status dnat {family.ip} saddr . {family.ip} daddr @hairpin{family.number} masquerade"


def policy_chain(policy: Policy, learns: bool) -> list[str]:
    """Commands that make the policy's chain: session first, then slot.

    The slot is looked up twice because kernels before 6.17 can miss an element of a hash set while another
    transaction commits; `misses` counts when the first look-up found nothing.
    """
    family, number, protocol = _family(policy), policy.family, policy.protocol
    offset = first_slot(policy.modulus)
    if policy.affinity_seconds:
        slot = f"jhash {family.ip} saddr mod {policy.modulus} seed {SEED:#x} offset {offset}"
    else:
        slot = f"numgen random mod {policy.modulus} offset {offset}"
    to = f"meta l4proto {protocol} dnat {family.ip} to"
    by_session = f"{to} {family.ip} saddr . {family.ip} daddr . {family.protocol} . th dport map @sessions{number}"
    by_slot = f"{to} {family.ip} daddr . {protocol} dport . {slot} map @{policy.slots}"
    sessions = [by_session] if policy.affinity_seconds and learns else []
    return _chain(policy.chain, "", [*sessions, by_slot, "counter name misses", by_slot, "goto refuse"])


def learn_chain(policy: Policy) -> list[str]:
    """Commands that make the chain that pins the client's address to the endpoint just chosen."""
    family, protocol = _family(policy), policy.protocol
    original, target = _original(family), f"{family.ip} daddr . {protocol} dport"
    guard = f"meta l4proto {protocol} {original} . {target} @live{family.number}"
    key = f"{family.ip} saddr . {original} timeout {policy.affinity_seconds}s"
    return _chain(policy.learn_chain, "", [f"{guard} update @sessions{family.number} {{ {key} : {target} }}"])


def _family(policy: Policy) -> Family:
    return IPV6 if policy.family == 6 else IPV4


def is_policy_chain(name: str) -> bool:
    """Whether a chain of the table is a policy's, made on use, and not one that the base ruleset has."""
    return name.endswith(tuple(f"-{protocol}{family.number}" for protocol in PROTOCOLS for family in FAMILIES))


def policy_of(port: ServicePort) -> Policy | None:
    """The policy that carries the port's new connections; None where there is no endpoint to send them to."""
    if not port.endpoints:
        return None
    weights = [endpoint.weight for endpoint in port.endpoints]
    slots = modulus(weights, sticky=port.affinity_seconds > 0)
    return Policy(port.key.family, port.key.protocol, port.affinity_seconds, slots)


def text(key: Key) -> str:
    """The key as nft writes it."""
    return f"{key.address} . {key.protocol} . {key.port}"


def key_of(text: str) -> Key:
    """The key that `text` writes."""
    address, protocol, port = text.split(" . ")
    return Key(address, protocol, int(port))


def elements(port: ServicePort, learns: bool) -> Elements:
    """The elements that belong to this port alone. `learns`: whether sessions of its family can be learned."""
    policy = policy_of(port)
    if policy is None:
        return {}
    number, key = policy.family, text(port.key)
    targets = [_target(endpoint) for endpoint in port.endpoints]
    names, weights = tuple(each.name for each in port.endpoints), tuple(each.weight for each in port.endpoints)
    slots = enumerate(_table(names, weights, policy.modulus), first_slot(policy.modulus))
    result = {
        f"services{number}": {key: f"goto {policy.chain}"},
        policy.slots: {f"{port.key.address} . {port.key.port} . {slot}": targets[index] for slot, index in slots},
    }
    if policy.affinity_seconds and learns:
        result[f"learners{number}"] = {key: f"goto {policy.learn_chain}"}
        result[f"live{number}"] = {f"{key} . {target}": "" for target in targets}
    return result


_table = lru_cache(maxsize=32)(table)
"""A Service's ports mostly have the same endpoints, and what a port had before is asked for at each change."""

UNKNOWN = "?"
"""The value of an element that is in the kernel, but was not read."""


def elements_of_chain(key: str, chain: str, learns: bool) -> Elements:
    """The elements of a port of which only its key and its policy's chain are known; none for no chain.

    Slots have the value UNKNOWN, and what may be learned is left out: both depend on the endpoints.
    """
    match = _CHAIN.fullmatch(chain)
    if match is None:
        return {}
    affinity, size, protocol, number = int(match[1] or 0), int(match[2]), match[3], int(match[4])
    policy = Policy(number, protocol, affinity, size)
    address, _, port = key.split(" . ")
    slots = range(first_slot(size), first_slot(size) + size)
    result = {
        f"services{number}": {key: f"goto {chain}"},
        policy.slots: {f"{address} . {port} . {slot}": UNKNOWN for slot in slots},
    }
    if affinity and learns:
        result[f"learners{number}"] = {key: f"goto {policy.learn_chain}"}
    return result


def shared(port: ServicePort) -> list[tuple[str, str]]:
    """Elements, as (set, key), that other ports may need as well: each stays until nothing needs it."""
    number = port.key.family
    local = {endpoint.target.address for endpoint in port.endpoints if endpoint.local}
    return [
        (f"addresses{number}", port.key.address),
        *((f"hairpin{number}", f"{address} . {address}") for address in sorted(local)),
    ]


def _target(endpoint: Endpoint) -> str:
    return f"{endpoint.target.address} . {endpoint.target.port}"

"""The rules. They never grow: Services, endpoints and clients are elements of the maps in `schema`. Pure.

A policy is shared by all ports with the same protocol, affinity, timeout and table size; its chain is made on
first use. It looks for the client's mooring first, then for its session, and then for a slot.

With affinity the slot is a hash of the client's address and the second of the day, so that a client whose session has
expired chooses anew, as with kube-proxy. It is not a random number, so that connections that a client opens at once,
before the first of them is learned, choose alike. Where sessions cannot be learned, a client would then change its
endpoint each second: there the hash is of its address alone. (`meta hour` is the second of the day, in UTC, whatever
its name says: net/netfilter/nft_meta.c.)

Hooks. All base chains are NAT chains: the kernel asks them about the first packet of a connection only, so packets of
established connections cost nothing here, and a retransmitted SYN learns nothing. It runs all NAT chains of a hook at
one priority (-100, `NF_IP_PRI_NAT_DST`, and 100); a chain's own priority only orders it among them: -110 and 90 put
ours before kube-proxy's, and the one that learns before all that masquerade, which end the walk.
"""

import hashlib
from typing import NamedTuple

from moorage.dataplane.model import Balanced, ByClientIP, Moored
from moorage.dataplane.nft import Hook
from moorage.dataplane.policies import Policy
from moorage.dataplane.schema import (
    CONTAINERS,
    COUNTERS,
    FAMILIES,
    IPV4,
    IPV6,
    OF_FAMILY,
    PROTOCOLS,
    TABLE,
    Family,
)
from moorage.dataplane.slots import first_slot

SEED = 0x6D6F6F72
"""Seed of the hash that gives a client its first slot; the same on every node and in every version."""

HOLD_SECONDS = 2
"""How long a pod's first connections wait for its mooring. A client sends its SYN again 1 s after the first one, and
then 2 s (since Linux 6.5) or 3 s after it: that one is let through, also where no agent lives."""
WAITED_SECONDS = 86_400
"""How long a client that has no mooring does not wait again after its last connection. No session lasts longer."""


class Chain(NamedTuple):
    """A chain with its rules, as nft writes them."""

    name: str
    rules: tuple[str, ...]
    hook: Hook | None = None
    """Where the kernel enters it; None: only other rules and verdicts lead to it."""

    @property
    def commands(self) -> list[str]:
        """Commands that make it, or give it these rules and no others."""
        hook = (
            f" {{ type {self.hook.type} hook {self.hook.hook} priority {self.hook.priority}; }}" if self.hook else ""
        )
        made = f"add chain {TABLE} {self.name}{hook}"
        return [
            made,
            f"flush chain {TABLE} {self.name}",
            *(f"add rule {TABLE} {self.name} {rule}" for rule in self.rules),
        ]


REFUSE = Chain("refuse", ("meta l4proto tcp reject with tcp reset", "reject with icmpx port-unreachable"))
"""Refuses a connection in the way of its protocol."""
IGNORE = Chain("ignore", ("drop",))
"""Drops packets to ports that have endpoints on other nodes only, and are for the node's own."""


def base(learn6: bool) -> list[str]:
    """Commands that make the table with its sets and base chains, or bring an older one's rules up to date.

    In one transaction they change rules only where the effect differs, and do not touch elements. `learn6`: whether
    nft can learn IPv6 sessions (1.0.6 cannot); without that, IPv6 affinity is by the hash alone.
    """
    return [*foundation(), *(line for chain in base_chains(learn6) for line in chain.commands)]


def foundation() -> list[str]:
    """Commands that make the table with everything that policies and elements refer to, but no base chains."""
    made = (each.declaration for each in CONTAINERS)
    counters = (f"add counter {TABLE} {each}" for each in COUNTERS)
    return [f"add table {TABLE}", *made, *counters, *REFUSE.commands, *IGNORE.commands]


def rules_digest(learn6: bool) -> str:
    """Identifies the version of the rules: those of the base, and those of chains that are made on use."""
    chains = [policy_chain(each, learns) for each in _EXAMPLES for learns in (True, False)]
    chains += [learn_chain(each) for each in _EXAMPLES if each.affinity.session_seconds]
    lines = [*base(learn6), *(line for chain in chains for line in chain.commands)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def base_chains(learn6: bool) -> list[Chain]:
    """The chains where packets enter the table."""
    dispatch = (*map(_reset_midflow, FAMILIES), *map(_dispatch, FAMILIES), *map(_reject, FAMILIES))
    learns = tuple(rule for family in FAMILIES if family is IPV4 or learn6 for rule in _learn_dispatch(family))
    return [
        *(Chain(f"dnat-{hook}", dispatch, Hook("nat", hook, -110)) for hook in ("prerouting", "output")),
        # A pod's packet to an endpoint in the node's own network goes to input, never to postrouting.
        *(Chain(f"learn-{hook}", learns, Hook("nat", hook, 90)) for hook in ("input", "postrouting")),
        Chain("masquerade-postrouting", tuple(map(_masquerade, FAMILIES)), Hook("nat", "postrouting", 100)),
    ]


def _reset_midflow(family: Family) -> str:
    """Resets a flow that conntrack no longer knows because its endpoint is gone.

    If its packets were translated, they would reach another endpoint, which knows nothing about the connection;
    behind a stateful firewall they would vanish, and the client would hang. Needs nf_conntrack_tcp_loose=1 (default).
    """
    return f"{_to_ours(family)} tcp flags & (syn|ack) == ack reject with tcp reset"


def _dispatch(family: Family) -> str:
    return f"{_service(family)} vmap @{OF_FAMILY[family.number].services.name}"


def _reject(family: Family) -> str:
    """Rejects packets to our addresses that nothing carries: no endpoints, or no such port."""
    return f"{_to_ours(family)} goto {REFUSE.name}"


def _to_ours(family: Family) -> str:
    return f"{family.ip} daddr @{OF_FAMILY[family.number].addresses.name}"


def _service(family: Family) -> str:
    return f"{family.ip} daddr . {family.protocol} . th dport"


def _learn_dispatch(family: Family) -> list[str]:
    # nft 1.0.6 takes `ct original proto-dst` in a concatenation only after a match on the protocol in the same rule.
    learners = OF_FAMILY[family.number].learners.name
    return [f"meta l4proto {protocol} ct status dnat {_original(family)} vmap @{learners}" for protocol in PROTOCOLS]


def _original(family: Family) -> str:
    return f"ct original {family.ip} daddr . {family.protocol} . ct original proto-dst"


def _masquerade(family: Family) -> str:
    """A pod that reaches itself must not see its own address as the source of its own packet."""
    hairpin = OF_FAMILY[family.number].hairpin.name
    return f"ct status dnat {family.ip} saddr . {family.ip} daddr @{hairpin} masquerade"


def policy_chain(policy: Policy, learns: bool) -> Chain:
    """The chain of a policy: mooring, session, slot. `learns`: whether sessions of its family can be learned.

    A rule cannot see that the map of sessions is full: the set `crowded` tells that it soon will be.

    Mooring and slot are looked up twice because kernels before 6.17 can miss an element of a hash set while another
    transaction commits; `misses` counts when the first look-up of a slot found nothing.
    """
    family, containers = _family(policy), OF_FAMILY[policy.family]
    client, modulus = f"{family.ip} saddr", policy.modulus
    to = f"meta l4proto {policy.protocol} dnat {family.ip} to"
    by_client = f"{to} {client} . {_service(family)} map"

    def by_slot(number: str) -> str:
        slots = containers.slots[policy.protocol].name
        slot = f"{number} offset {first_slot(modulus)}"
        return f"{to} {family.ip} daddr . {policy.protocol} dport . {slot} map @{slots}"

    def by_hash(of: str) -> str:
        return by_slot(f"jhash {of} mod {modulus} seed {SEED:#x}")

    by_mooring, by_session, by_address = tuple[str, ...](), tuple[str, ...](), tuple[str, ...]()
    choose = by_hash(client)
    if isinstance(policy.affinity, Balanced):
        choose = by_slot(f"numgen random mod {modulus}")
    elif learns:
        by_session = (f"{by_client} @{containers.sessions.name}",)
        by_address = (f"{client} @{containers.crowded.name} {choose}",) * 2
        choose = by_hash(f"{client} . meta hour")
    if isinstance(policy.affinity, Moored):
        by_mooring = (f"{by_client} @{containers.moorings.name}",) * 2
        if policy.affinity.holds and policy.protocol == "tcp":
            renew, *wait = _hold(family)
            by_mooring, by_session = (*by_mooring, renew), (*by_session, *wait)
    rules = (*by_mooring, *by_session, *by_address, choose, "counter name misses", choose, f"goto {REFUSE.name}")
    return Chain(policy.chain, rules)


def _hold(family: Family) -> tuple[str, str, str]:
    """Rules for clients without a mooring: one before their session is looked up, two after it.

    The first connections of a pod to a port wait, once. Sets that forget by themselves let them through: a rule that
    asked whether the pod is known would shut them out where no agent lives. Where a set is full, the rule ends there
    and nobody waits.
    """
    containers = OF_FAMILY[family.number]
    client = f"{family.ip} saddr . {family.ip} daddr . tcp dport"
    waits, waited = containers.waits.name, containers.waited.name
    remember = f"{{ {client} timeout {WAITED_SECONDS}s }}"
    return (
        f"{client} @{waited} update @{waited} {remember}",
        f"{client} @{waits} drop",
        f"{family.ip} saddr @{containers.pods.name} {client} != @{waited} add @{waited} {remember} "
        f"add @{waits} {{ {client} timeout {HOLD_SECONDS}s }} drop",
    )


def learn_chain(policy: Policy) -> Chain:
    """The chain that pins the client's address to the endpoint that was just chosen."""
    family, containers = _family(policy), OF_FAMILY[policy.family]
    original, target = _original(family), f"{family.ip} daddr . {policy.protocol} dport"
    guard = f"meta l4proto {policy.protocol} {original} . {target} @{containers.live.name}"
    key = f"{family.ip} saddr . {original} timeout {policy.affinity.session_seconds}s"
    return Chain(policy.learn_chain, (f"{guard} update @{containers.sessions.name} {{ {key} : {target} }}",))


def _family(policy: Policy) -> Family:
    return IPV6 if policy.family == 6 else IPV4


_EXAMPLES = [
    Policy(family.number, protocol, affinity, modulus=1)
    for family in FAMILIES
    for protocol in PROTOCOLS
    for affinity in (Balanced(), ByClientIP(1), Moored(1), Moored(1, holds=True))
]
"""One policy of each kind."""

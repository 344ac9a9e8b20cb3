"""What a unit of the node's state has in the kernel: elements of its own, elements and chains that it shares. Pure.

A unit is something that comes, changes and goes on its own: a port of a Service, a mooring, a range of the pods'
addresses. Another kind of unit needs another case in `own`, and a map in `schema` whose `owner` finds the unit of an
element. Only ports have more than their elements: policies, chains, and marks, by which a starting agent finds them
again without listing all that they have.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from moorage.dataplane.model import (
    ClientTarget,
    MooringKey,
    PodPrefix,
    ServiceAddress,
    ServicePort,
    Target,
    Unit,
    UnitKey,
)
from moorage.dataplane.policies import Policy
from moorage.dataplane.ruleset import IGNORE, Chain, learn_chain, policy_chain
from moorage.dataplane.schema import OF_FAMILY, Container, Element, Elements, prefix_text, text
from moorage.dataplane.slots import first_slot, modulus, table

UNKNOWN = "?"
"""The value of an element that is in the kernel but was not listed."""

Learns = frozenset[int]
"""The families, 4 and 6, whose sessions can be learned."""


def policy_of(unit: Unit) -> Policy | None:
    """The policy for a port's new connections; None if there is no endpoint for them, or it is no port."""
    if not isinstance(unit, ServicePort) or not unit.endpoints:
        return None
    weights = [endpoint.weight for endpoint in unit.endpoints]
    sticky = unit.affinity.session_seconds is not None
    return Policy(unit.key.family, unit.key.protocol, unit.affinity, modulus(weights, sticky=sticky))


def own(unit: Unit, learns: Learns) -> Elements:
    """The elements that belong to this unit alone."""
    containers = OF_FAMILY[unit.key.family]
    match unit:
        case ClientTarget(key=key, target=target):
            return {containers.moorings: {text((key.client, *key.service)): text(target)}}
        case PodPrefix(key=key):
            return {containers.pods: {prefix_text(key): ""}}
        case ServicePort():
            return _of_port(unit, learns)


def moorings(held: Mapping[UnitKey, Elements]) -> dict[UnitKey, ClientTarget]:
    """The moorings that the kernel holds, from its elements."""
    found: dict[UnitKey, ClientTarget] = {}
    for key, elements in held.items():
        if isinstance(key, MooringKey):
            for value in elements[OF_FAMILY[key.family].moorings].values():
                address, _, port = value.rpartition(" . ")
                found[key] = ClientTarget(key, Target(address, int(port)))
    return found


def _of_port(unit: ServicePort, learns: Learns) -> Elements:
    containers, key = OF_FAMILY[unit.key.family], text(unit.key)
    policy = policy_of(unit)
    result: Elements = {containers.carried: {key: _mark(unit, policy)}}
    if policy is None:
        return result | (_ignored(unit.key) if unit.ignores else {})
    targets = [text(endpoint.target) for endpoint in unit.endpoints]
    names, weights = tuple(each.name for each in unit.endpoints), tuple(each.weight for each in unit.endpoints)
    slots = zip(_slot_keys(unit.key, policy), _table(names, weights, policy.modulus), strict=True)
    result |= _verdicts(unit.key, policy, learns)
    result[containers.slots[policy.protocol]] = {slot: targets[index] for slot, index in slots}
    if containers.learners in result:
        result[containers.live] = dict.fromkeys((f"{key} . {target}" for target in targets), "")
    return result


def _ignored(key: ServiceAddress) -> Elements:
    return {OF_FAMILY[key.family].services: {text(key): f"goto {IGNORE.name}"}}


def _verdicts(key: ServiceAddress, policy: Policy, learns: Learns) -> Elements:
    containers, name = OF_FAMILY[policy.family], text(key)
    result = {containers.services: {name: f"goto {policy.chain}"}}
    if _has_sessions(policy, learns):
        result[containers.learners] = {name: f"goto {policy.learn_chain}"}
    return result


def _has_sessions(policy: Policy, learns: Learns) -> bool:
    return policy.affinity.session_seconds is not None and policy.family in learns


def _slot_keys(key: ServiceAddress, policy: Policy) -> list[str]:
    first = first_slot(policy.modulus)
    return [f"{key.address} . {key.port} . {slot}" for slot in range(first, first + policy.modulus)]


_table = lru_cache(maxsize=32)(table)
"""Cached: a Service's ports usually have the same endpoints, and each change needs the old table, too."""


def shared(unit: Unit) -> list[Element]:
    """Elements that other units may need, too: each stays until nothing needs it."""
    if not isinstance(unit, ServicePort):
        return []
    containers = OF_FAMILY[unit.key.family]
    local = {endpoint.target.address for endpoint in unit.endpoints if endpoint.local}
    return [
        Element(containers.addresses, unit.key.address),
        *(Element(containers.hairpin, text((address, address))) for address in sorted(local)),
    ]


def chain_names(unit: Unit, learns: Learns) -> list[str]:
    """The names of the chains that the unit needs; other units may need them, too."""
    policy = policy_of(unit)
    if policy is None:
        return []
    return [policy.chain, policy.learn_chain] if _has_sessions(policy, learns) else [policy.chain]


def chains(unit: Unit, learns: Learns) -> list[Chain]:
    """The chains that the unit needs, in the order of `chain_names`."""
    policy = policy_of(unit)
    if policy is None:
        return []
    made = policy_chain(policy, policy.family in learns)
    return [made, learn_chain(policy)] if _has_sessions(policy, learns) else [made]


# --- Finding a unit again ----------------------------------------------------------------------------------------


def digest(unit: Unit) -> int:
    """A 128-bit number that differs for any two units."""
    if isinstance(unit, ServicePort):
        plain = msgspec.structs.replace(unit, keeps=frozenset())
        encoded = msgspec.json.encode((plain, sorted(unit.keeps)))
    else:
        encoded = msgspec.json.encode(unit)
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=16).digest())


def mark(unit: Unit) -> str:
    """`DIGEST CHAIN`: tells whether the kernel carries the port in this state, and its chain if not."""
    return _mark(unit, policy_of(unit))


def _mark(unit: Unit, policy: Policy | None) -> str:
    ignores = isinstance(unit, ServicePort) and unit.ignores
    chain = policy.chain if policy else IGNORE.name if ignores else "-"
    return f"{digest(unit):032x} {chain}"


def remembered(key: ServiceAddress, mark: str, learns: Learns) -> Elements:
    """The elements in containers with `ReadBack.MARK` of a port of which only key and mark are known.

    Slots have the value UNKNOWN: it depends on the endpoints.
    """
    chain = mark.partition(" ")[2]
    policy = Policy.of_chain(chain)
    if policy is None:
        return _ignored(key) if chain == IGNORE.name else {}
    slots: dict[Container, dict[str, str]] = {
        OF_FAMILY[policy.family].slots[policy.protocol]: dict.fromkeys(_slot_keys(key, policy), UNKNOWN)
    }
    return _verdicts(key, policy, learns) | slots

"""What a unit of the node's state has in the kernel: elements of its own, elements and chains that it shares. Pure.

A unit is something that comes, changes and goes on its own: today that is a port of a Service. Another kind of unit,
such as a mooring, needs another case in each function here, and a map in `schema` whose `owner` finds the unit of an
element.
"""

import hashlib
from functools import lru_cache

import msgspec

from moorage.dataplane.model import Unit, UnitKey
from moorage.dataplane.ruleset import Chain, learn_chain, policy_chain
from moorage.dataplane.schema import OF_FAMILY, Container, Element, Elements, Policy, text
from moorage.dataplane.slots import first_slot, modulus, table

UNKNOWN = "?"
"""The value of an element that is in the kernel but was not listed."""

Learns = frozenset[int]
"""The families, 4 and 6, whose sessions can be learned."""


def policy_of(unit: Unit) -> Policy | None:
    """The policy for the unit's new connections; None if there is no endpoint for them."""
    if not unit.endpoints:
        return None
    weights = [endpoint.weight for endpoint in unit.endpoints]
    sticky = unit.affinity.session_seconds is not None
    return Policy(unit.key.family, unit.key.protocol, unit.affinity, modulus(weights, sticky=sticky))


def own(unit: Unit, learns: Learns) -> Elements:
    """The elements that belong to this unit alone."""
    containers, key = OF_FAMILY[unit.key.family], text(unit.key)
    policy = policy_of(unit)
    result: Elements = {containers.carried: {key: _mark(unit, policy)}}
    if policy is None:
        return result
    targets = [text(endpoint.target) for endpoint in unit.endpoints]
    names, weights = tuple(each.name for each in unit.endpoints), tuple(each.weight for each in unit.endpoints)
    slots = zip(_slot_keys(unit.key, policy), _table(names, weights, policy.modulus), strict=True)
    result |= _verdicts(unit.key, policy, learns)
    result[containers.slots[policy.protocol]] = {slot: targets[index] for slot, index in slots}
    if containers.learners in result:
        result[containers.live] = dict.fromkeys((f"{key} . {target}" for target in targets), "")
    return result


def _verdicts(key: UnitKey, policy: Policy, learns: Learns) -> Elements:
    containers, name = OF_FAMILY[policy.family], text(key)
    result = {containers.services: {name: f"goto {policy.chain}"}}
    if _has_sessions(policy, learns):
        result[containers.learners] = {name: f"goto {policy.learn_chain}"}
    return result


def _has_sessions(policy: Policy, learns: Learns) -> bool:
    return policy.affinity.session_seconds is not None and policy.family in learns


def _slot_keys(key: UnitKey, policy: Policy) -> list[str]:
    first = first_slot(policy.modulus)
    return [f"{key.address} . {key.port} . {slot}" for slot in range(first, first + policy.modulus)]


_table = lru_cache(maxsize=32)(table)
"""Cached: a Service's ports usually have the same endpoints, and each change needs the old table, too."""


def shared(unit: Unit) -> list[Element]:
    """Elements that other units may need, too: each stays until nothing needs it."""
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
    plain = msgspec.structs.replace(unit, keeps=frozenset())
    encoded = msgspec.json.encode((plain, sorted(unit.keeps)))
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=16).digest())


def mark(unit: Unit) -> str:
    """`DIGEST CHAIN`: tells whether the kernel carries the unit in this state, and its chain if not."""
    return _mark(unit, policy_of(unit))


def _mark(unit: Unit, policy: Policy | None) -> str:
    return f"{digest(unit):032x} {policy.chain if policy else '-'}"


def remembered(key: UnitKey, mark: str, learns: Learns) -> Elements:
    """The elements in containers with `ReadBack.MARK` of a unit of which only key and mark are known.

    Slots have the value UNKNOWN: it depends on the endpoints.
    """
    policy = Policy.of_chain(mark.partition(" ")[2])
    if policy is None:
        return {}
    slots: dict[Container, dict[str, str]] = {
        OF_FAMILY[policy.family].slots[policy.protocol]: dict.fromkeys(_slot_keys(key, policy), UNKNOWN)
    }
    return _verdicts(key, policy, learns) | slots

"""Which of several addresses an endpoint has."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from moorage.api.addresses import Family
from moorage.discovery.resolver import LONGEST, Addresses, AddressType, Names

Families = tuple[Family, ...]
"""The families that endpoints may be of, the preferred one first."""

_TYPES: dict[Family, AddressType] = {"IPv4": "A", "IPv6": "AAAA"}


def families_of(ip_families: Sequence[str] | None) -> Families:
    """Those of a spec's `ipFamilies`; where it says nothing, IPv4 before IPv6."""
    known = tuple(each for wanted in ip_families or () for each in _TYPES if each == wanted)
    return known or tuple(_TYPES)


def choose(current: str | None, candidates: Iterable[str], families: Families) -> str | None:
    """The address of one endpoint among canonical `candidates`: the current one while it is among them, else the
    lowest of the first family; None where there is none of these families.

    An endpoint is one instance: were another address taken at each answer (a name server turns them round), its
    clients would be moved for nothing.
    """
    fitting = [each for each in candidates if _family(each) in families]
    if current in fitting:
        return current
    return min(fitting, key=lambda each: (families.index(_family(each)), int(ip_address(each))), default=None)


async def addresses_of(names: Names, name: str, families: Families) -> Addresses:
    """The addresses that `name` has in the first family in which it has any. Raises LookupFailedError."""
    least = LONGEST
    for each in families:
        found = await names.addresses(name, _TYPES[each])
        least = min(least, found.ttl)
        if found.addresses:
            return Addresses(found.addresses, least)
    return Addresses((), least)


def _family(address: str) -> Family:
    return "IPv6" if ":" in address else "IPv4"

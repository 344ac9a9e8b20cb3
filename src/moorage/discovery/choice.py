"""Chooses one of several addresses of an endpoint."""

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from moorage.api.addresses import Family
from moorage.discovery.resolver import MAX_TTL_SECONDS, Addresses, AddressType, Names

Families = tuple[Family, ...]
"""The IP families that endpoints may have, the preferred one first."""

_TYPES: dict[Family, AddressType] = {"IPv4": "A", "IPv6": "AAAA"}


def families_of(ip_families: Sequence[str] | None) -> Families:
    """The families of a spec's `ipFamilies`; by default IPv4, then IPv6."""
    known = tuple(each for wanted in ip_families or () for each in _TYPES if each == wanted)
    return known or tuple(_TYPES)


FIRST_REST_SECONDS, MAX_REST_SECONDS = 60.0, 600.0
"""How long an address that failed its checks rests: the first time (doubled each time), and at most."""


def choose(
    current: str | None, candidates: Iterable[str], families: Families, resting: Container[str] = ()
) -> str | None:
    """One of the canonical `candidates` as the address of an endpoint: the current one while it is among them, else
    the lowest of the first family; None if there is none of these families.

    An endpoint is one instance: taking another address at each answer (name servers rotate them) would move its
    clients for nothing. Addresses that are `resting` are only taken if there are no others, the current one first.
    """
    fitting = [each for each in candidates if _family(each) in families]
    usable = [each for each in fitting if each not in resting]
    if current in usable or (not usable and current in fitting):
        return current
    return min(
        usable or fitting, key=lambda each: (families.index(_family(each)), int(ip_address(each))), default=None
    )


class _Rest(NamedTuple):
    until: float
    seconds: float


class Choices:
    """The chosen address of each endpoint of a source, by the endpoint's name.

    An endpoint whose checks fail moves to another of its addresses, and stays there when the first is up again. The
    address that it left has to rest. If all others are resting, the endpoint stays. Addresses that have rested get
    another turn, but more and more rarely. Times are by the event loop's clock.
    """

    def __init__(self, families: Families, known: Mapping[str, str]) -> None:
        self.current: Mapping[str, str] = dict(known)
        self.failing: Mapping[str, str] = {}
        """Which endpoints fail their checks, and at which address, which may no longer be the current one."""
        self._families = families
        self._rests: dict[str, dict[str, _Rest]] = {}
        self._due: dict[str, float] = {}

    def fails(self, name: str) -> bool:
        """Whether the endpoint fails its checks at its current address."""
        return name in self.failing and self.failing[name] == self.current.get(name)

    def of(self, name: str, candidates: Sequence[str]) -> str | None:
        """As `choose`."""
        now, current = asyncio.get_running_loop().time(), self.current.get(name)
        known = self._rests.get(name, {})
        rests = {each: rest for each, rest in known.items() if now < rest.until + MAX_REST_SECONDS}
        resting = {each: rest.until for each, rest in rests.items() if now < rest.until}
        self._due.pop(name, None)
        if current is None or not self.fails(name):
            return choose(current, candidates, self._families, resting.keys() - {current})
        chosen = choose(current, candidates, self._families, {*resting, current})
        if chosen != current:
            seconds = min(2 * rests[current].seconds, MAX_REST_SECONDS) if current in rests else FIRST_REST_SECONDS
            rests[current] = _Rest(now + seconds, seconds)
        elif others := [resting[each] for each in candidates if each in resting and each != current]:
            self._due[name] = min(others)
        self._rests[name] = rests
        return chosen

    def take(self, addresses: Mapping[str, str]) -> None:
        """Set the endpoints and their addresses."""
        self.current = dict(addresses)
        for gone in self._rests.keys() - addresses.keys():
            del self._rests[gone]
            self._due.pop(gone, None)

    @property
    def due(self) -> float | None:
        """Seconds until another address may be chosen even if nothing changes; None: never."""
        return max(0.0, min(self._due.values()) - asyncio.get_running_loop().time()) if self._due else None


async def addresses_of(names: Names, name: str, families: Families) -> Addresses:
    """The addresses of `name` in the first family in which it has any. Raises LookupFailedError."""
    least = MAX_TTL_SECONDS
    for each in families:
        found = await names.addresses(name, _TYPES[each])
        least = min(least, found.ttl)
        if found.addresses:
            return Addresses(found.addresses, least)
    return Addresses((), least)


def _family(address: str) -> Family:
    return "IPv6" if ":" in address else "IPv4"

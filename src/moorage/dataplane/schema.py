"""The table `inet moorage`: each set and map, described once. Pure.

Everything else follows from these descriptions: the commands that make the table (`ruleset`), the order in which
elements change (`changes`), what is listed and what it means (`reading`), and what is compared (`audit`). To add a
map, add a descriptor to `_of_family`; if it has units of its own, say in `units` which elements they have.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

from moorage.dataplane.model import MooringKey, PodPrefixKey, ServiceAddress, UnitKey
from moorage.dataplane.nft import FAMILY, TABLE_NAME, ListedElement, Word

TABLE = f"{FAMILY} {TABLE_NAME}"
MAX_SESSIONS = 262_144
"""How many sessions of one family the kernel keeps. What happens when they are nearly so many: `crowding`."""
MAX_WAITS = 65_536
"""How many clients of one family the kernel remembers to have waited for their mooring; further ones do not wait."""


class Family(NamedTuple):
    """nft's names in one address family."""

    number: int
    ip: str
    type: str
    protocol: str
    """The expression whose type is inet_proto: within a concatenation nft 1.0.6 wants `ip protocol` for IPv4."""
    bits: int
    """Of an address."""


IPV4 = Family(4, "ip", "ipv4_addr", "ip protocol", 32)
IPV6 = Family(6, "ip6", "ipv6_addr", "meta l4proto", 128)
FAMILIES = (IPV4, IPV6)
PROTOCOLS = ("tcp", "udp")


class Field(Enum):
    """One part of a key or a value."""

    CLIENT = "client"
    ADDRESS = "address"
    """A Service's address; the next two belong to it."""
    PROTOCOL = "protocol"
    PORT = "port"
    SLOT = "slot"
    TARGET = "target"
    """An endpoint's address."""
    TARGET_PORT = "target port"
    CHAIN = "chain"
    NUMBER = "number"


class Step(IntEnum):
    """The steps, in order, in which a unit's elements are added, replaced or deleted when it changes.

    All steps are one transaction if that is small enough. Otherwise FLIP is still one transaction, and so are
    REPLACE, FLIP and REVOKE together, except for changes that fit into no transaction.
    """

    PREPARE = 0
    """Nothing looks it up yet."""
    REPLACE = 1
    """Each element leads to either the old or the new endpoint."""
    FLIP = 2
    """From here on, packets of new connections see the new state."""
    REVOKE = 3
    """What no client may get any more."""
    CLEAR = 4
    """Nothing looks it up any more."""


class ReadBack(Enum):
    """How a starting agent finds out which elements the kernel has."""

    MARK = "they follow from the unit's mark and need no listing"
    LIST = "they have to be listed"
    APART = "they are no part of the state: the kernel learns them, or they are a digest"


@dataclass(frozen=True, eq=False, slots=True)
class Container:
    """A set or map of the table. Each exists once and is compared by identity."""

    name: str
    family: Family
    key: tuple[Field, ...]
    value: tuple[Field, ...] = ()
    """Empty: it is a set; its elements may have comments instead."""
    protocol: str | None = None
    """The protocol of all elements, if it is not part of their keys."""
    add: Step = Step.FLIP
    replace: Step = Step.FLIP
    delete: Step = Step.FLIP
    read_back: ReadBack = ReadBack.LIST
    owner: Callable[["Container", tuple[Word, ...]], UnitKey] | None = None
    """The unit that an element with these words as its key belongs to; None: several units may need it."""
    port: str = "th"
    """The word for a port in `typeof`. nft 1.0.6 refuses `th` in a rule that also matches the protocol, once the map
    has been read back from the kernel; there it is `tcp`, which means the same for UDP."""
    learned: bool = False
    """Rules add its elements, which time out. When it is full, they go on without."""
    prefixes: bool = False
    """Its elements are ranges of addresses."""

    @property
    def kind(self) -> str:
        """`set` or `map`, as nft names it."""
        return "map" if self.value else "set"

    @property
    def declaration(self) -> str:
        """The command that makes it.

        A plain set or a verdict map that nft 1.1.3 makes with `type` crashes the nft 1.0.6 of kube-proxy's image, or
        of the node, whenever it looks at any table (kubernetes/kubernetes issue 136786): hence `typeof`. Where rules
        for TCP and for UDP send packets to the same values, `typeof` with one protocol contradicts the rules for the
        other (nft 1.0.6 and 1.1.3); concatenations of types are harmless.
        """
        for_both = self.protocol is None and Field.TARGET_PORT in self.value
        word, name = ("type", self._type) if for_both else ("typeof", self._expression)
        types = " : ".join(" . ".join(map(name, fields)) for fields in (self.key, self.value) if fields)
        options = " flags interval;" if self.prefixes else ""
        if self.learned:
            options = f" flags dynamic,timeout; size {MAX_SESSIONS if self.value else MAX_WAITS};"
        return f"add {self.kind} {TABLE} {self.name} {{ {word} {types};{options} }}"

    def _expression(self, field: Field) -> str:
        match field:
            case Field.CLIENT:
                return f"{self.family.ip} saddr"
            case Field.ADDRESS | Field.TARGET:
                return f"{self.family.ip} daddr"
            case Field.PROTOCOL:
                return self.family.protocol
            case Field.PORT:
                return f"{self.protocol or self.port} dport"
            case Field.TARGET_PORT:
                return f"{self.protocol or 'tcp'} dport"
            case Field.SLOT:
                return "numgen inc mod 256"
            case Field.NUMBER:
                return "tcp dport"
            case Field.CHAIN:
                return "verdict"

    def _type(self, field: Field) -> str:
        match field:
            case Field.CLIENT | Field.ADDRESS | Field.TARGET:
                return self.family.type
            case Field.PROTOCOL:
                return "inet_proto"
            case _:
                return "inet_service"


class Element(NamedTuple):
    """An element to add or delete: key and value as nft writes them. In a set the value is the comment or empty."""

    container: Container
    key: str
    value: str = ""


Elements = dict[Container, dict[str, str]]
"""For each set or map: key -> value, both as nft writes them."""


def service_of(container: Container, words: tuple[Word, ...]) -> ServiceAddress:
    """The address of the Service in an element's key."""
    found = dict(zip(container.key, words, strict=True))
    return ServiceAddress(
        str(found[Field.ADDRESS]), container.protocol or str(found[Field.PROTOCOL]), int(found[Field.PORT])
    )


def mooring_of(container: Container, words: tuple[Word, ...]) -> MooringKey:
    """The client and the Service in an element's key."""
    return MooringKey(str(words[container.key.index(Field.CLIENT)]), service_of(container, words))


def prefix_of(container: Container, words: tuple[Word, ...]) -> PodPrefixKey:
    """The range in an element's key. nft writes a range of one address as that address."""
    prefix = str(words[0])
    return PodPrefixKey(prefix if "/" in prefix else f"{prefix}/{container.family.bits}")


def prefix_text(key: PodPrefixKey) -> str:
    """A range as nft writes it; `prefix_of` reads it."""
    return key.prefix.removesuffix(f"/{FAMILIES[key.family == 6].bits}")


_SERVICE = (Field.ADDRESS, Field.PROTOCOL, Field.PORT)
_ENDPOINT = (Field.TARGET, Field.TARGET_PORT)
_CHAIN = (Field.CHAIN,)


class Containers(NamedTuple):
    """The sets and maps of one family; their names end with its number."""

    services: Container
    """Address, protocol and port -> the chain of the policy."""
    slots: dict[str, Container]
    """By protocol. A policy chain computes the slot: a hash of the client's address, or a random number, modulo the
    size of the port's table. Two maps, because only `typeof` can name a slot's type, and it names the protocol."""
    sessions: Container
    """Clients' endpoints, learned from each new connection, with a timeout."""
    moorings: Container
    """Clients' endpoints, as moorings say."""
    learners: Container
    """The chain that learns, for ports with sessions."""
    live: Container
    """What they may learn. An endpoint that is taken out leaves this set in the same transaction that changes its
    slots, so that a packet that is still on its way to it cannot learn it again. It is not a verdict map: whenever
    one of those gets an element, the kernel searches all verdict maps in use for loops: half a microsecond for each
    element, 60 ms for 100,000."""
    addresses: Container
    """Our addresses, so that packets that nothing carries are rejected at once."""
    carried: Container
    """Everything that is carried. No rule uses it: the comment of each element is the unit's mark (`units.mark`), so
    that a restarted agent need not list what has not changed: nft takes 2.4 KB of memory for each element."""
    hairpin: Container
    """Local endpoints that may be their own clients, as source and destination."""
    pods: Container
    """The ranges that this node's pods have their addresses from. Only clients in them wait for a mooring."""
    waits: Container
    """Clients that wait for their mooring at a Service's port, for `ruleset.HOLD_SECONDS`."""
    waited: Container
    """Clients that have waited there, so that they do not wait again; for `ruleset.WAITED_SECONDS`."""
    crowded: Container
    """All addresses while `sessions` is nearly full, else nothing. Clients in it who have no session choose by their
    address alone. It says ranges because what has one plain value and says yes or no, as a protocol, is refused by
    nft 1.1.3 in a rule that translates."""

    def each(self) -> Iterator[Container]:
        """All of them, in the order of creation."""
        yield from (self.services, *self.slots.values(), self.sessions, self.learners, self.live)
        yield from (self.addresses, self.carried, self.hairpin)
        yield from (self.moorings, self.pods, self.waits, self.waited, self.crowded)


def _of_family(family: Family) -> Containers:
    number, mark = family.number, ReadBack.MARK
    prepared = Step.PREPARE
    slots = {
        protocol: Container(
            f"slots-{protocol}{number}", family, (Field.ADDRESS, Field.PORT, Field.SLOT), _ENDPOINT, protocol,
            add=prepared, replace=Step.REPLACE, delete=Step.CLEAR, read_back=mark, owner=service_of,
        )
        for protocol in PROTOCOLS
    }  # fmt: skip
    return Containers(
        services=Container(f"services{number}", family, _SERVICE, _CHAIN, read_back=mark, owner=service_of),
        slots=slots,
        sessions=Container(
            f"sessions{number}", family, (Field.CLIENT, *_SERVICE), _ENDPOINT, read_back=ReadBack.APART,
            owner=service_of, learned=True,
        ),
        learners=Container(
            f"learners{number}", family, _SERVICE, _CHAIN, add=prepared, read_back=mark, owner=service_of
        ),
        live=Container(
            f"live{number}", family, (*_SERVICE, *_ENDPOINT), add=prepared, delete=Step.REVOKE, owner=service_of,
            port="tcp",
        ),
        addresses=Container(f"addresses{number}", family, (Field.ADDRESS,), delete=Step.CLEAR),
        carried=Container(f"carried{number}", family, _SERVICE, add=prepared, owner=service_of),
        hairpin=Container(
            f"hairpin{number}", family, (Field.CLIENT, Field.TARGET), add=prepared, delete=Step.CLEAR
        ),
        moorings=Container(f"moorings{number}", family, (Field.CLIENT, *_SERVICE), _ENDPOINT, owner=mooring_of),
        pods=Container(f"pods{number}", family, (Field.CLIENT,), owner=prefix_of, prefixes=True),
        waits=_of_clients(f"waits{number}", family),
        waited=_of_clients(f"waited{number}", family),
        crowded=Container(f"crowded{number}", family, (Field.CLIENT,), read_back=ReadBack.APART, prefixes=True),
    )  # fmt: skip


def _of_clients(name: str, family: Family) -> Container:
    """Clients of TCP ports that rules note for a time."""
    key = (Field.CLIENT, Field.ADDRESS, Field.PORT)
    return Container(name, family, key, protocol="tcp", read_back=ReadBack.APART, owner=mooring_of, learned=True)


OF_FAMILY = {family.number: _of_family(family) for family in FAMILIES}
"""By family, 4 or 6."""
RULES_DIGEST = Container("rules-digest", IPV4, (Field.NUMBER,), read_back=ReadBack.APART)
"""The comment of its one element says which version the base rules are. (`rules` is a keyword in newer nft.)"""
DIGEST = Container("digest", IPV4, (Field.NUMBER,), read_back=ReadBack.APART)
"""WHOLE, with the digest of all units as its comment, while the table is right; UNDER_WAY while marks of units cannot
be trusted: a change of a unit in several transactions is unfinished, or rules are new."""
WHOLE, UNDER_WAY = "1", "2"

CONTAINERS = (RULES_DIGEST, DIGEST, *(each for family in OF_FAMILY.values() for each in family.each()))
"""All sets and maps, in the order of creation."""
COUNTERS = ("misses",)
"""Named counters of packets."""


def text(words: Iterable[Word]) -> str:
    """A key or value as nft writes it."""
    return " . ".join(map(str, words))


def value_of(container: Container, listed: ListedElement) -> str:
    """The value of a listed element, as nft writes it; in a set, the comment or an empty text."""
    if not container.value:
        return listed.comment or ""
    if isinstance(listed.value, str):
        return f"goto {listed.value}"
    return text(listed.value or ())

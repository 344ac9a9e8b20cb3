"""Rules as data: parses the text of a rule into the statements and expressions that the tracer carries out.

It knows what Moorage emits and raises UnknownStatementError for everything else.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple


class UnknownStatementError(AssertionError):
    """A rule holds something that the tracer cannot carry out, so no test can say what it does."""


class Field(NamedTuple):
    """A property of the packet or its connection, such as `ip saddr` or `ct original proto-dst`."""

    name: str


class Jhash(NamedTuple):
    """`jhash FIELD mod M seed S offset O`."""

    of: tuple[Field, ...]
    modulus: int
    seed: int
    offset: int


class Random(NamedTuple):
    """`numgen random mod M offset O`."""

    modulus: int
    offset: int


Expression = tuple[Field | Jhash | Random, ...]


class Match(NamedTuple):
    """The field has one of the values."""

    field: Field
    values: frozenset[str]
    negated: bool = False


class Flags(NamedTuple):
    """`tcp flags & (MASK) == VALUE`."""

    mask: frozenset[str]
    value: frozenset[str]


class In(NamedTuple):
    """The key is in a set."""

    key: Expression
    set: str
    negated: bool = False


class Vmap(NamedTuple):
    """The verdict that a map has for the key."""

    key: Expression
    map: str


class Dnat(NamedTuple):
    """The destination becomes what a map has for the key."""

    family: int
    key: Expression
    map: str


class Update(NamedTuple):
    """Learn the key with its value, for a time."""

    map: str
    """Or set."""
    key: Expression
    timeout: int
    value: Expression = ()
    prolong: bool = True
    """Without that it is `add`: what is there stays as it is."""


class Reject(NamedTuple):
    """Answer with a TCP reset or an ICMP error."""

    how: str


class Count(NamedTuple):
    """Count the packet."""

    counter: str


class Verdict(NamedTuple):
    """`accept`, `drop`, `return`, `goto CHAIN` or `jump CHAIN`."""

    verb: str
    chain: str = ""


class Masquerade(NamedTuple):
    """The source becomes an address of the node."""


Statement = Match | Flags | In | Vmap | Dnat | Update | Reject | Count | Verdict | Masquerade

FIELDS = (
    "ct original ip saddr",
    "ct original ip daddr",
    "ct original ip6 saddr",
    "ct original ip6 daddr",
    "ct original proto-src",
    "ct original proto-dst",
    "ct state",
    "ct status",
    "meta l4proto",
    "meta hour",
    "ip protocol",
    "ip saddr",
    "ip daddr",
    "ip6 saddr",
    "ip6 daddr",
    "th sport",
    "th dport",
    "tcp sport",
    "tcp dport",
    "udp sport",
    "udp dport",
)

_REJECTS = (
    "reject with tcp reset",
    "reject with icmpx port-unreachable",
    "reject with icmpx type port-unreachable",
)


class _Words:
    """What is left of a rule."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.rest = rule.replace("{", " { ").replace("}", " } ").split()

    def take(self, words: str) -> bool:
        """Take these words if they come next."""
        wanted = words.split()
        if self.rest[: len(wanted)] != wanted:
            return False
        del self.rest[: len(wanted)]
        return True

    def need(self, words: str) -> None:
        if not self.take(words):
            raise self.unknown()

    def word(self) -> str:
        if not self.rest:
            raise self.unknown()
        return self.rest.pop(0)

    def number(self) -> int:
        try:
            return int(self.word().removesuffix("s"), 0)
        except ValueError:
            raise self.unknown() from None

    def name(self) -> str:
        word = self.word()
        if not word.startswith("@"):
            raise self.unknown()
        return word[1:]

    def unknown(self) -> UnknownStatementError:
        return UnknownStatementError(f"cannot carry out {' '.join(self.rest)!r} of the rule {self.rule!r}")


@lru_cache(maxsize=4096)
def parse(rule: str) -> tuple[Statement, ...]:
    """The statements of a rule, in order. Raises UnknownStatementError."""
    words = _Words(rule)
    statements = []
    while words.rest:
        statements.append(_statement(words))
    return tuple(statements)


def _statement(words: _Words) -> Statement:
    for start, parse_rest in _STARTS.items():
        if words.take(start):
            return parse_rest(words)
    for how in _REJECTS:
        if words.take(how):
            return Reject("tcp reset" if how.endswith("reset") else "port unreachable")
    key = _expression(words)
    if words.take("vmap"):
        return Vmap(key, words.name())
    negated = words.take("!=")
    if words.rest and words.rest[0].startswith("@"):
        return In(key, words.name(), negated)
    if len(key) != 1 or not isinstance(key[0], Field):
        raise words.unknown()
    if not negated:
        words.take("==")
    return Match(key[0], frozenset(words.word().split(",")), negated)


def _flags(words: _Words) -> Flags:
    mask = words.word()
    words.need("==")
    value = words.word()
    return Flags(frozenset(mask.strip("()").split("|")), frozenset(value.strip("()").split("|")))


def _dnat(family: int) -> Callable[[_Words], Dnat]:
    def parse_rest(words: _Words) -> Dnat:
        key = _expression(words)
        words.need("map")
        return Dnat(family, key, words.name())

    return parse_rest


def _update(words: _Words, *, prolong: bool = True) -> Update:
    name = words.name()
    words.need("{")
    key = _expression(words)
    words.need("timeout")
    timeout = words.number()
    value = _expression(words) if words.take(":") else ()
    words.need("}")
    return Update(name, key, timeout, value, prolong)


_STARTS: dict[str, Callable[[_Words], Statement]] = {
    "tcp flags &": _flags,
    "dnat ip to": _dnat(4),
    "dnat ip6 to": _dnat(6),
    "update": _update,
    "add": partial(_update, prolong=False),
    "counter name": lambda words: Count(words.word()),
    "masquerade": lambda words: Masquerade(),
    "accept": lambda words: Verdict("accept"),
    "drop": lambda words: Verdict("drop"),
    "return": lambda words: Verdict("return"),
    "goto": lambda words: Verdict("goto", words.word()),
    "jump": lambda words: Verdict("jump", words.word()),
}


def _expression(words: _Words) -> Expression:
    parts = [_primary(words)]
    while words.take("."):
        parts.append(_primary(words))
    return tuple(parts)


def _primary(words: _Words) -> Field | Jhash | Random:
    if words.take("jhash"):
        of = _expression(words)
        words.need("mod")
        modulus = words.number()
        words.need("seed")  # Without one the kernel takes a random number.
        seed = words.number()
        fields = tuple(part for part in of if isinstance(part, Field))
        if len(fields) != len(of):
            raise words.unknown()
        return Jhash(fields, modulus, seed, words.number() if words.take("offset") else 0)
    if words.take("numgen random mod"):
        modulus = words.number()
        return Random(modulus, words.number() if words.take("offset") else 0)
    for name in FIELDS:
        if words.take(name):
            return Field(name)
    raise words.unknown()

"""The syntax of sets, elements and references that the fake nftables knows. Pure."""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from moorage.dataplane.elements import RawElement
from moorage.dataplane.layout import Layout
from moorage.dataplane.nft import PROTOCOLS, Word

_TYPES = {
    "ip saddr": "ipv4_addr",
    "ip daddr": "ipv4_addr",
    "ip6 saddr": "ipv6_addr",
    "ip6 daddr": "ipv6_addr",
    "ip protocol": "inet_proto",
    "meta l4proto": "inet_proto",
    "th dport": "inet_service",
    "tcp dport": "inet_service",
    "udp dport": "inet_service",
    "numgen inc mod 256": "integer",
}


class RefusedError(Exception):
    """A command is refused, with the reason."""


class Entry(NamedTuple):
    """The entry of a set or map for a key."""

    value: tuple[Word, ...] | str | None
    timeout: int | None
    deadline: float
    comment: str | None


class Set:
    """A set or a map with its elements."""

    def __init__(
        self,
        kind: str,
        key: tuple[str, ...],
        data: tuple[str, ...] = (),
        *,
        timeouts: bool = False,
        intervals: bool = False,
        size: int = 2**31,
    ) -> None:
        self.kind = kind
        self.key = key
        """The types of the parts of a key."""
        self.data = data
        """The types of the parts of a value: empty in sets, `("verdict",)` in verdict maps."""
        self.timeouts = timeouts
        self.intervals = intervals
        """Its elements are ranges of addresses."""
        self.size = size
        self.entries: dict[tuple[Word, ...], Entry] = {}


@lru_cache(maxsize=4096)
def references(rule: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The chains, the sets and maps, and the counters that a rule names."""
    return (
        frozenset(re.findall(r"\b(?:goto|jump) ([\w-]+)", rule)),
        frozenset(re.findall(r"@([\w-]+)", rule)),
        frozenset(re.findall(r"\bcounter name \"?([\w-]+)", rule)),
    )


def parse_set(kind: str, spec: str) -> Set:
    """An empty set or map, from the text between the braces. Raises RefusedError."""
    parts = dict[str, str]()
    for part in spec.removesuffix(";").split(";"):
        word, _, rest = part.strip().partition(" ")
        parts[word] = rest
    written = set(parts)
    kinds = parts.pop("type", None) or parts.pop("typeof", "")
    key, colon, data = kinds.partition(" : ")
    flags = set(filter(None, parts.pop("flags", "").split(",")))
    size = int(parts.pop("size", 2**31))
    if "type" in written and (" . " not in key or data in ("", "verdict")):
        # The kernel takes it, but an older nft crashes when a newer one has made it (kubernetes/kubernetes 136786).
        # That is not known to happen with concatenations; only maps whose values both protocols use cannot say
        # `typeof`.
        raise RefusedError(f"declared by type, {kinds}: declare it with typeof, or nft 1.0.6 may crash over it")
    if parts or (kind == "map") != bool(colon) or not flags <= {"dynamic", "timeout", "interval"}:
        raise RefusedError("the fake does not know this form of a set")
    return Set(
        kind,
        _types(key),
        _types(data) if data else (),
        timeouts="timeout" in flags,
        intervals="interval" in flags,
        size=size,
    )


def _types(text: str) -> tuple[str, ...]:
    types = tuple(_TYPES.get(part, part) for part in text.split(" . "))
    if unknown := set(types) - {*_TYPES.values(), "verdict"}:
        raise RefusedError(f"the fake does not know the type {', '.join(sorted(unknown))}")
    return types


_ELEMENT = re.compile(
    r"(?P<key>[^\s,\"]+(?: \. [^\s,]+)*)(?: timeout (?P<timeout>\d+)s)?(?: expires (?P<expires>\d+)s)?"
    r"(?: comment \"(?P<comment>[^\"]*)\")?"
    r"(?: : (?P<value>[^,\"]+?))?(?:, ?|$)"
)

Parsed = tuple[tuple[Word, ...], tuple[Word, ...] | str | None, int | None, int | None, str | None]


def parse_elements(found: Set, text: str) -> Iterator[Parsed]:
    """The elements, from the text between the braces. Raises RefusedError."""
    position = 0
    while position < len(text):
        match = _ELEMENT.match(text, position)
        if match is None:
            raise RefusedError(f"syntax error at {text[position : position + 40]!r}")
        position = match.end()
        key, timeout, expires, comment, value = match.group("key", "timeout", "expires", "comment", "value")
        yield (
            (_parse_range(key),) if found.intervals else _parse_words(found.key, key),
            _parse_value(found, value) if value is not None else None,
            parse_seconds(timeout) if timeout is not None else None,
            parse_seconds(expires) if expires is not None else None,
            comment,
        )


def parse_seconds(text: str) -> int:
    """Seconds, without their unit. Raises RefusedError."""
    if not text.isascii() or not text.isdecimal():
        raise RefusedError(f"syntax error at {text[:40]!r}")
    if len(text) > 8:
        raise RefusedError("value too large")
    return int(text)


def raw(found: Set, key: tuple[Word, ...], entry: Entry, now: float) -> RawElement:
    """An element as the kernel has it. Its value is not a verdict."""
    assert not isinstance(entry.value, str)
    timeout = expires = None
    if entry.timeout is not None:
        timeout, expires = entry.timeout * 1000, int((entry.deadline - now) * 1000)
    return RawElement(Layout(found.key).pack(key), Layout(found.data).pack(entry.value or ()), timeout, expires)


def written(found: Set, element: RawElement) -> str:
    """An element that the kernel could have, as `add element` takes it."""
    key, value = Layout(found.key).unpack(element.key), Layout(found.data).unpack(element.value)
    age = [
        f" {word} {milliseconds // 1000}s"
        for word, milliseconds in (("timeout", element.timeout), ("expires", element.expires))
        if milliseconds is not None
    ]
    data = f" : {' . '.join(map(str, value))}" if value else ""
    return f"{' . '.join(map(str, key))}{''.join(age)}{data}"


def _parse_value(found: Set, text: str) -> tuple[Word, ...] | str:
    if not found.data:
        raise RefusedError("set is not a map")
    if found.data != ("verdict",):
        return _parse_words(found.data, text)
    if not re.fullmatch(r"(goto|jump) [\w-]+", text):
        raise RefusedError("Can't parse symbolic netfilter verdict expressions")
    return text


def _parse_words(types: tuple[str, ...], text: str) -> tuple[Word, ...]:
    words = text.split(" . ")
    if len(words) != len(types):
        raise RefusedError("Can't parse symbolic invalid expressions")
    return tuple(_parse_word(type, word) for type, word in zip(types, words, strict=True))


def listed_value(value: tuple[Word, ...] | str | None) -> tuple[Word, ...] | str | None:
    """A value as a listing has it: of a verdict only the chain."""
    return value.partition(" ")[2] if isinstance(value, str) else value


def overlap(one: tuple[Word, ...], other: tuple[Word, ...]) -> bool:
    """Whether two ranges of addresses, or a range and an address, have an address in common."""
    first, second = ipaddress.ip_network(one[0]), ipaddress.ip_network(other[0])
    return first.version == second.version and first.overlaps(second)


def _parse_range(text: str) -> str:
    """As nft lists it: without the length of a single address."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise RefusedError(f"Could not resolve {text}") from None
    return str(network).removesuffix(f"/{network.max_prefixlen}")


@lru_cache(maxsize=65536)
def _parse_word(type: str, word: str) -> Word:
    try:
        match type:
            case "ipv4_addr":
                return str(ipaddress.IPv4Address(word))
            case "ipv6_addr" if "%" not in word:
                return str(ipaddress.IPv6Address(word))
            case "inet_proto":
                return word if word in PROTOCOLS.values() else PROTOCOLS.get(int(word), int(word))
    except ValueError:
        raise RefusedError(f"Could not resolve {type} {word}") from None
    if not word.isascii() or not word.isdecimal() or int(word) > (0xFFFF if type == "inet_service" else 0xFFFFFFFF):
        raise RefusedError(f"Could not resolve {type} {word}")
    return int(word)

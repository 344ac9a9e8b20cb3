"""Runs `nft`: transactions go in, elements come out. Nothing else runs it.

Why the command line and not netlink: `nft` checks a script and explains errors, and a person can repeat it. Only maps
that rules fill are read and corrected over netlink (`elements`): these may have a hundred thousand elements.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv6Address
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from moorage import proc
from moorage.dataplane import crashes, elements, netlink
from moorage.dataplane.elements import RawElement
from moorage.errors import MoorageError

FAMILY = "inet"
TABLE_NAME = "moorage"
TRIAL_NAME = "moorage-trial"
"""The table in trial scripts, which nft only checks."""
PROTOCOLS = {6: "tcp", 17: "udp"}

Word = str | int
T = TypeVar("T")


class NftError(MoorageError):
    """nft refused: its first error, with the command and the part of it that nft points at."""


class NftCrashError(NftError):
    """nft was killed by a signal. The script need not be at fault: somebody else's table can be the cause."""


class ListedElement(NamedTuple):
    """One element of a set or map, as nft lists it.

    Addresses and ranges of them (`10.244.1.0/24`) are text as nft prints them, protocols `tcp` and `udp`, ports and
    slots numbers.
    """

    key: tuple[Word, ...]
    value: tuple[Word, ...] | str | None = None
    """In a verdict map: the name of the chain. In a set: None."""
    timeout: int | None = None
    """Its timeout in seconds."""
    expires: int | None = None
    """Seconds left, rounded down."""
    comment: str | None = None


class Hook(NamedTuple):
    """Where a base chain is attached."""

    type: str
    """`nat`, ..."""
    hook: str
    """`prerouting`, ..."""
    priority: int


class ListedChain(NamedTuple):
    """A chain without the text of its rules: nft prints them in another form than it was given."""

    hook: Hook | None
    """None: it is not a base chain."""
    rules: int
    """How many."""


class Outline(NamedTuple):
    """The parts of the table, without their elements."""

    containers: frozenset[str]
    """The names of its sets and maps."""
    chains: dict[str, ListedChain]
    """By name."""
    counters: frozenset[str]


class Nft(Protocol):
    """The part of nftables that Moorage needs. Everything is about the one table `inet moorage`."""

    async def run(self, script: str) -> None:
        """Carry out a script as one transaction: all of it, or none of it and NftError.

        Raises NftCrashError if nft is killed by a signal, as do all methods that list.
        """

    async def refusal(self, script: str) -> str | None:
        """Why nft refuses the script as one transaction; None if it would accept it. Changes nothing.

        An nft that is killed by a signal counts as a refusal; the text says so.
        """

    async def check(self, script: str) -> bool:
        """Whether nft would accept the script: `refusal` is None."""

    async def elements(self, name: str) -> list[ListedElement]:
        """The elements of one set or map; none if the set or the table does not exist."""

    async def learned(self, name: str) -> list[RawElement]:
        """What a set or map has that rules fill, as the kernel has it; nothing if it does not exist."""

    async def learned_count(self, name: str) -> int:
        """How many elements such a set or map has; 0 if it does not exist."""

    async def relearn(self, name: str, old: Sequence[RawElement], new: Sequence[RawElement]) -> None:
        """Replace elements of such a set or map as one transaction: at most `elements.MAX_LARGE`.

        Raises NftError. That an element of `old` is gone is no error; that it has another value is one. Its timeout
        and what is left of it do not matter.
        """

    async def chains(self) -> set[str]:
        """The names of the table's chains; none if the table does not exist."""

    async def outline(self) -> Outline:
        """The parts of the table; nothing if it does not exist."""

    async def packets(self, counter: str) -> int:
        """How many packets a named counter has counted; 0 if the counter or the table does not exist."""

    async def version(self) -> str:
        """The first line of `nft --version`."""


class KernelNft:
    """nftables of the network namespace that this process is in. All methods may raise ProgramMissingError."""

    def __init__(self, prefix: Sequence[str] = (), connect: netlink.Connect | None = None) -> None:
        """To reach another namespace: `prefix` is put before `nft`, and `connect` makes a netlink socket there.

        With a prefix alone `learned` and `relearn` are refused: they would be about the wrong namespace.
        """
        self._prefix = tuple(prefix)
        self._connect = connect or (_nowhere if prefix else netlink.connect)

    async def run(self, script: str) -> None:
        done = await self._nft("-f", "-", input=script)
        if done.status != 0:
            raise await self._error(done, f"a transaction on table {FAMILY} {TABLE_NAME}", script)

    async def refusal(self, script: str) -> str | None:
        done = await self._nft("-c", "-f", "-", input=script)
        return crashes.refusal(done, script) if done.status != 0 else None

    async def check(self, script: str) -> bool:
        return await self.refusal(script) is None

    async def elements(self, name: str) -> list[ListedElement]:
        for kind in ("map", "set"):
            listing = await self._list(kind, FAMILY, TABLE_NAME, name)
            if listing is not None:
                return parse_elements(listing)
        return []

    async def learned(self, name: str) -> list[RawElement]:
        return await _over_netlink(partial(elements.read, self._connect, TABLE_NAME, name))

    async def learned_count(self, name: str) -> int:
        return await _over_netlink(partial(elements.count, self._connect, TABLE_NAME, name))

    async def relearn(self, name: str, old: Sequence[RawElement], new: Sequence[RawElement]) -> None:
        await _over_netlink(partial(elements.replace, self._connect, TABLE_NAME, name, old, new))

    async def chains(self) -> set[str]:
        listing = await self._list("chains", FAMILY)
        return parse_chains(listing) if listing is not None else set()

    async def outline(self) -> Outline:
        # Terse: without the elements, of which there may be a million.
        listing = await self._list("table", FAMILY, TABLE_NAME, options=("--terse",))
        return parse_outline(listing) if listing is not None else Outline(frozenset(), {}, frozenset())

    async def packets(self, counter: str) -> int:
        listing = await self._list("counter", FAMILY, TABLE_NAME, counter)
        return parse_packets(listing) if listing is not None else 0

    async def version(self) -> str:
        return (await self._nft("--version")).stdout.partition("\n")[0]

    async def _list(self, *words: str, options: Sequence[str] = ()) -> str | None:
        """The listing as JSON; None if the object does not exist."""
        done = await self._nft("--json", "--numeric", *options, "list", *words)
        if done.status == 0:
            return done.stdout
        if "No such file or directory" in done.stderr and "Error" in done.stderr:
            return None
        raise await self._error(done, " ".join(("list", *words)))

    async def _error(self, done: proc.Completed, doing: str, script: str = "") -> NftError:
        if (killer := crashes.signal_of(done)) is not None:
            return NftCrashError(await crashes.explain(done, killer, doing, self._nft))
        return NftError(crashes.refusal(done, script))

    async def _nft(self, *arguments: str, input: str | None = None) -> proc.Completed:
        return await proc.run([*self._prefix, "nft", *arguments], input=input)


def _nowhere() -> socket.socket:
    raise OSError("there is no netlink socket of that namespace")


async def _over_netlink(ask: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(ask)
    except OSError as error:
        needs = "; run as root, or give the process the capability NET_ADMIN" if error.errno == errno.EPERM else ""
        raise NftError(f"nf_tables: {error.strerror or error}{needs}") from None


# --- What `nft --json --numeric list` prints ---------------------------------------------------------------------


class _Target(msgspec.Struct):
    target: str


class _Wrapped(msgspec.Struct):
    """An element that has more than a key. nft writes elements without more in another form."""

    val: "str | int | _Expression"
    timeout: int | None = None
    expires: int | None = None
    comment: str | None = None


class _Prefix(msgspec.Struct):
    addr: str
    len: int


class _Expression(msgspec.Struct):
    """One of these; nft's JSON tells them apart by the key."""

    concat: list[str | int] | None = None
    prefix: _Prefix | None = None
    elem: _Wrapped | None = None
    goto: _Target | None = None
    jump: _Target | None = None
    accept: msgspec.UnsetType | None = msgspec.UNSET
    drop: msgspec.UnsetType | None = msgspec.UNSET


_Value = str | int | _Expression


class _Set(msgspec.Struct):
    name: str
    type: msgspec.Raw
    elem: list[_Value | tuple[_Value, _Value]] = []


class _Chain(msgspec.Struct):
    table: str
    name: str
    type: str | None = None
    hook: str | None = None
    prio: int | None = None


class _Rule(msgspec.Struct):
    chain: str


class _Counter(msgspec.Struct):
    name: str
    packets: int


class _Object(msgspec.Struct):
    """One of these; `metainfo`, which comes first, has none of them."""

    set: _Set | None = None
    map: _Set | None = None
    chain: _Chain | None = None
    rule: _Rule | None = None
    counter: _Counter | None = None


class _Listing(msgspec.Struct):
    nftables: list[_Object]


_listing = msgspec.json.Decoder(_Listing)


def parse_elements(listing: str) -> list[ListedElement]:
    """The elements of the one set or map in a listing. Raises NftError for output that our sets never give."""
    for each in _decode(listing):
        found = each.set or each.map
        if found is not None:
            protocols = _protocol_positions(msgspec.json.decode(found.type))
            return [_element(entry, protocols) for entry in found.elem]
    return []


def parse_chains(listing: str) -> set[str]:
    """The names of our table's chains, among all chains in a listing."""
    return {each.chain.name for each in _decode(listing) if each.chain is not None and each.chain.table == TABLE_NAME}


def parse_outline(listing: str) -> Outline:
    """The parts of the one table in a listing."""
    objects = _decode(listing)
    rules = Counter(each.rule.chain for each in objects if each.rule is not None)
    chains = {
        each.name: ListedChain(Hook(each.type, each.hook, each.prio or 0), rules[each.name])
        if each.type and each.hook
        else ListedChain(None, rules[each.name])
        for each in (listed.chain for listed in objects)
        if each is not None
    }
    containers = (each.set or each.map for each in objects)
    return Outline(
        frozenset(each.name for each in containers if each is not None),
        chains,
        frozenset(each.counter.name for each in objects if each.counter is not None),
    )


def parse_packets(listing: str) -> int:
    """The packets of the one counter in a listing."""
    return sum(each.counter.packets for each in _decode(listing) if each.counter is not None)


def _decode(listing: str) -> list[_Object]:
    try:
        return _listing.decode(listing).nftables
    except msgspec.MsgspecError as error:
        raise NftError(f"nft: its listing cannot be read: {error}; use nftables 1.0.6 or newer") from None


def _protocol_positions(types: object) -> frozenset[int]:
    """The position of the protocol in a key. The type may be one, a list, or (`typeof`, newer nft) an expression."""
    if isinstance(types, dict):
        types = types.get("typeof", types)
    if isinstance(types, dict):
        types = types.get("concat", types)
    each = types if isinstance(types, list) else [types]
    return frozenset(index for index, one in enumerate(each) if one == "inet_proto" or _is_protocol_field(one))


def _is_protocol_field(expression: object) -> bool:
    match expression:
        case {"meta": {"key": "l4proto"}} | {"payload": {"protocol": "ip", "field": "protocol"}}:
            return True
    return False


def _element(entry: _Value | tuple[_Value, _Value], protocols: frozenset[int]) -> ListedElement:
    expression, value = entry if isinstance(entry, tuple) else (entry, None)
    timeout = expires = comment = None
    if isinstance(expression, _Expression) and (wrapped := expression.elem) is not None:
        expression, timeout, expires, comment = wrapped.val, wrapped.timeout, wrapped.expires, wrapped.comment
    key = _words(expression)
    for index in protocols:
        word = key[index]
        if isinstance(word, int):
            key = (*key[:index], PROTOCOLS.get(word, word), *key[index + 1 :])
    return ListedElement(key, _value(value), timeout, expires, comment)


def _words(expression: _Value) -> tuple[Word, ...]:
    if not isinstance(expression, _Expression):
        return (_word(expression),)
    if (prefix := expression.prefix) is not None:
        return (f"{canonical(prefix.addr)}/{prefix.len}",)
    if expression.concat is None:
        raise NftError("nft: its listing cannot be read: an element is no value, range or concatenation")
    return tuple(map(_word, expression.concat))


def _word(word: Word) -> Word:
    return canonical(word) if isinstance(word, str) else word


def canonical(address: str) -> str:
    """An address in nft's or conntrack's output, in canonical spelling: `::192.0.2.7` becomes `::c000:207`.

    Other text is returned as it is.
    """
    return str(IPv6Address(address)) if address.startswith("::") and "." in address else address


def _value(expression: _Value | None) -> tuple[Word, ...] | str | None:
    if not isinstance(expression, _Expression):
        return None if expression is None else (expression,)
    if (to := expression.goto or expression.jump) is not None:
        return to.target
    if expression.drop is None or expression.accept is None:
        return "drop" if expression.drop is None else "accept"
    return _words(expression)

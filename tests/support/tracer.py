"""What the rules do to a packet: walks the chains of a FakeNft as the kernel does, with a connection tracking of
its own, and fails on any statement that it does not know.

The order of things is that of the kernel's `enum nf_ip_hook_priorities`: connection tracking at -200, filter chains
at their own priority, and all NAT chains of a hook at -100 (destination) or 100 (source), among themselves in the
order of their own priorities. NAT chains see only the first packet of a flow; what they decide holds for the others.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from moorage.dataplane.fake import FakeNft
from moorage.dataplane.fake_syntax import Entry
from moorage.dataplane.nft import Word
from tests.support import rules
from tests.support.jhash import jhash, reciprocal_scale

NAT_PRIORITY = {"prerouting": -100, "output": -100, "postrouting": 100}
SYN = frozenset({"syn"})
ACK = frozenset({"ack"})


class Packet(NamedTuple):
    """A TCP or UDP packet; by default one that opens a connection and comes from a pod."""

    saddr: str
    sport: int
    daddr: str
    dport: int
    proto: str = "tcp"
    flags: frozenset[str] = SYN
    """Of TCP; nothing of UDP."""
    hook: str = "prerouting"
    """`prerouting`: it comes in; `output`: a process of this node sends it."""

    @property
    def family(self) -> int:
        return 6 if ":" in self.saddr else 4


_Tuple = tuple[str, str, int, str, int]
"""Protocol, source, its port, destination, its port."""


@dataclass
class Connection:
    """An entry of the connection tracking."""

    original: _Tuple
    reply: _Tuple
    answered: bool = False
    """Packets were seen in both directions: no longer `new`."""
    dnat: bool = False
    masquerade: bool = False
    decided: set[str] = field(default_factory=set)
    """Which of "destination" and "source" translation are settled."""


@dataclass
class Trace:
    """What became of a packet."""

    verdict: str = "accepted"
    """`accepted`, `rejected` or `dropped`."""
    how: str = ""
    """Of a rejected one: `tcp reset` or `port unreachable`."""
    source: tuple[str, int] = ("", 0)
    """As it leaves; of a masqueraded packet the address is the node's."""
    destination: tuple[str, int] = ("", 0)
    state: str = ""
    """Of its connection, before it: `new`, `established` or `invalid`."""
    masqueraded: bool = False
    learned: list[tuple[str, tuple[Word, ...], tuple[Word, ...], int]] = field(default_factory=list)
    """(map or set, key, value, seconds), also where the key was there already, which keeps its value."""
    rules: list[str] = field(default_factory=list)
    """The rules that it went through to their end, each as `CHAIN: RULE`."""


class _BreakError(Exception):
    """The rule ends here: something did not match, or was not there."""


class _RejectedError(Exception):
    """The packet ends here."""


class _DroppedError(Exception):
    """The packet ends here, in silence."""


class Tracer:
    """Sends packets through the rules of `nft`; keeps the connections that they make."""

    def __init__(
        self,
        nft: FakeNft,
        random: Callable[[int], int],
        *,
        tcp_loose: bool = True,
        node: dict[int, str] | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`random(n)`: a number of range(n) (`random.Random(1).randrange`).

        `node`: by family, the address that masqueraded packets get. `clock`: seconds since a midnight.
        """
        self._nft = nft
        self._random = random
        self._tcp_loose = tcp_loose
        self._clock = clock
        self._node = node or {4: "192.0.2.1", 6: "2001:db8:ffff::1"}
        self.connections: list[Connection] = []

    def trace(self, packet: Packet) -> Trace:
        """Send one packet. Raises UnknownStatementError where a rule cannot be carried out."""
        walk = _Walk(self, packet)
        try:
            walk.hook(packet.hook)
            walk.hook("postrouting")
        except _RejectedError as rejected:
            walk.trace.verdict, walk.trace.how = "rejected", str(rejected)
        except _DroppedError:
            walk.trace.verdict = "dropped"
        else:
            self._confirm(walk)
        walk.trace.source = (walk.packet.saddr, walk.packet.sport)
        walk.trace.destination = (walk.packet.daddr, walk.packet.dport)
        return walk.trace

    def connect(self, packet: Packet) -> Trace:
        """Send the packet and, where it is accepted, its answer: the connection is established."""
        trace = self.trace(packet)
        if trace.verdict == "accepted":
            self.answer(packet)
        return trace

    def answer(self, packet: Packet) -> None:
        """Note that the packet's connection was answered."""
        found = self._find(_tuple(packet))
        assert found is not None, f"no connection for {packet}"
        found[0].answered = True

    def forget(self, packet: Packet) -> bool:
        """Delete the packet's connection, as `conntrack -D` does; whether there was one."""
        found = self._find(_tuple(packet))
        if found is not None:
            self.connections.remove(found[0])
        return found is not None

    def _find(self, wanted: _Tuple) -> tuple[Connection, bool] | None:
        """The connection of a packet, and whether the packet is an answer."""
        for connection in self.connections:
            if wanted in (connection.original, connection.reply):
                return connection, wanted == connection.reply and wanted != connection.original
        return None

    def _confirm(self, walk: "_Walk") -> None:
        connection = walk.connection
        if connection is None:
            return
        if walk.answer:
            connection.answered = True
        elif not any(connection is known for known in self.connections):
            self.connections.append(connection)


def _tuple(packet: Packet) -> _Tuple:
    return (packet.proto, packet.saddr, packet.sport, packet.daddr, packet.dport)


def _reversed(original: _Tuple) -> _Tuple:
    proto, saddr, sport, daddr, dport = original
    return (proto, daddr, dport, saddr, sport)


def _begins(flags: frozenset[str], tcp_loose: bool) -> bool:
    """Whether a TCP packet makes a new connection; others without one are invalid (nf_conntrack_proto_tcp.c)."""
    if flags & {"rst", "fin"} or flags >= {"syn", "ack"}:
        return False
    return "syn" in flags or ("ack" in flags and tcp_loose)


def _packed(word: Word) -> bytes:
    """As it lies in the kernel's registers, on a little-endian machine."""
    return word.to_bytes(4, "little") if isinstance(word, int) else ipaddress.ip_address(word).packed


class _Walk:
    """One packet on its way."""

    def __init__(self, tracer: Tracer, packet: Packet) -> None:
        self._tracer = tracer
        self.packet = packet
        self.trace = Trace()
        self.answer = False
        self.connection: Connection | None = None
        self._track()

    def _track(self) -> None:
        packet, wanted = self.packet, _tuple(self.packet)
        found = self._tracer._find(wanted)
        if found is not None:
            self.connection, self.answer = found
            self.trace.state = "established" if self.answer or self.connection.answered else "new"
        elif packet.proto == "udp" or _begins(packet.flags, self._tracer._tcp_loose):
            self.connection = Connection(wanted, _reversed(wanted))
            self.trace.state = "new"
        else:
            self.trace.state = "invalid"

    # --- Hooks and chains ----------------------------------------------------------------------------------------

    def hook(self, hook: str) -> None:
        nft = self._tracer._nft
        chains = sorted(nft.hooked(hook).items(), key=lambda item: item[1].priority)
        steps: list[tuple[int, Callable[[], object]]] = [
            (attached.priority, partial(self._chain, name)) for name, attached in chains if attached.type == "filter"
        ]
        nat = [name for name, attached in chains if attached.type == "nat"]
        steps.append((NAT_PRIORITY[hook], partial(self._translate, hook, nat)))
        for _, step in sorted(steps, key=lambda each: each[0]):
            step()

    def _translate(self, hook: str, chains: list[str]) -> None:
        connection, which = self.connection, "source" if hook == "postrouting" else "destination"
        if connection is None:
            return
        if not self.answer and which not in connection.decided:
            for name in chains:
                self._chain(name)
                if which in connection.decided:
                    break
            connection.decided.add(which)
        _, saddr, sport, daddr, dport = _reversed(connection.original if self.answer else connection.reply)
        if which == "destination":
            self.packet = self.packet._replace(daddr=daddr, dport=dport)
        else:
            self.packet = self.packet._replace(saddr=saddr, sport=sport)

    def _chain(self, name: str) -> bool:
        """Walk one chain; whether the packet is done with the base chain that this began in."""
        for rule in self._tracer._nft.rules(name):
            try:
                verdict = self._rule(name, rule)
            except _BreakError:
                continue
            if verdict is None:
                continue
            match verdict.verb:
                case "accept":
                    return True
                case "return":
                    return False
                case "drop":
                    raise _DroppedError
                case "goto":
                    return self._chain(verdict.chain)
                case "jump":
                    if self._chain(verdict.chain):
                        return True
        return False

    def _rule(self, chain: str, rule: str) -> rules.Verdict | None:
        verdict = None
        for statement in rules.parse(rule):
            if verdict is not None:
                raise rules.UnknownStatementError(f"{chain}: {rule!r} goes on after its verdict")
            verdict = self._statement(statement, f"{chain}: {rule}")
        self.trace.rules.append(f"{chain}: {rule}")
        return verdict

    # --- Statements ----------------------------------------------------------------------------------------------

    def _statement(self, statement: rules.Statement, where: str) -> rules.Verdict | None:
        match statement:
            case rules.Match(of, values, negated):
                if (not values.isdisjoint(self._words_of(of))) == negated:
                    raise _BreakError
            case rules.Flags(mask, value):
                if self.packet.proto != "tcp" or self.packet.flags & mask != value:
                    raise _BreakError
            case rules.In(key, name, negated):
                if (self._lookup(name, key) is not None) == negated:
                    raise _BreakError
            case rules.Vmap(key, name):
                found = self._lookup(name, key)
                if found is None:
                    raise _BreakError
                verb, _, target = str(found.value).partition(" ")
                return rules.Verdict(verb, target)
            case rules.Dnat(family, key, name):
                return self._dnat(family, key, name)
            case rules.Update():
                self._learn(statement)
            case rules.Reject(how):
                self.trace.rules.append(where)
                if how == "tcp reset" and self.packet.proto != "tcp":
                    raise _BreakError
                raise _RejectedError(how)
            case rules.Count(counter):
                self._tracer._nft.count(counter)
            case rules.Masquerade():
                return self._masquerade()
            case rules.Verdict():
                return statement
        return None

    def _lookup(self, name: str, key: rules.Expression) -> Entry | None:
        return self._tracer._nft.lookup(name, self._values(key))

    def _learn(self, update: rules.Update) -> None:
        key, value = self._values(update.key), self._values(update.value)
        if not self._tracer._nft.update(update.map, key, value, update.timeout, prolong=update.prolong):
            raise _BreakError
        self.trace.learned.append((update.map, key, value, update.timeout))

    def _dnat(self, family: int, key: rules.Expression, name: str) -> rules.Verdict:
        found = self._lookup(name, key)
        if found is None or family != self.packet.family or self.connection is None:
            raise _BreakError
        assert isinstance(found.value, tuple), f"@{name} is no map to addresses and ports"
        address, port = found.value
        proto, saddr, sport, *_ = self.connection.original
        self.connection.reply = (proto, str(address), int(port), saddr, sport)
        self.connection.dnat = (str(address), int(port)) != self.connection.original[3:]
        self.connection.decided.add("destination")
        return rules.Verdict("accept")

    def _masquerade(self) -> rules.Verdict:
        assert self.connection is not None
        proto, answering, port, _, sport = self.connection.reply
        self.connection.reply = (proto, answering, port, self._tracer._node[self.packet.family], sport)
        self.connection.masquerade = True
        self.connection.decided.add("source")
        self.trace.masqueraded = True
        return rules.Verdict("accept")

    # --- Expressions ---------------------------------------------------------------------------------------------

    def _values(self, expression: rules.Expression) -> tuple[Word, ...]:
        return tuple(self._value(part) for part in expression)

    def _value(self, part: rules.Field | rules.Jhash | rules.Random) -> Word:
        match part:
            case rules.Jhash(of, modulus, seed, offset):
                data = b"".join(_packed(self._value(each)) for each in of)
                return reciprocal_scale(jhash(data, seed), modulus) + offset
            case rules.Random(modulus, offset):
                return self._tracer._random(modulus) + offset
        return self._field(part.name)

    def _words_of(self, of: rules.Field) -> set[str]:
        if of.name == "ct state":
            return {self.trace.state}
        if of.name == "ct status":
            if self.connection is None:
                raise _BreakError
            connection = self.connection
            return {word for word, is_so in (("dnat", connection.dnat), ("snat", connection.masquerade)) if is_so}
        return {str(self._field(of.name))}

    def _field(self, name: str) -> Word:
        packet = self.packet
        if name.startswith("ct original"):
            if self.connection is None:
                raise _BreakError
            _, saddr, sport, daddr, dport = self.connection.original
            packet = packet._replace(saddr=saddr, sport=sport, daddr=daddr, dport=dport)
            name = name.removeprefix("ct original ").replace("proto-src", "th sport").replace("proto-dst", "th dport")
        header, _, which = name.partition(" ")
        if header in ("ip", "ip6") and (packet.family == 6) != (header == "ip6"):
            raise _BreakError
        if header in ("tcp", "udp") and header != packet.proto:
            raise _BreakError
        match which:
            case "protocol" | "l4proto":
                return packet.proto
            case "hour":
                return int(self._tracer._clock()) % 86_400
            case "saddr":
                return packet.saddr
            case "daddr":
                return packet.daddr
            case "sport":
                return packet.sport
            case "dport":
                return packet.dport
        raise rules.UnknownStatementError(f"cannot read {name!r}")

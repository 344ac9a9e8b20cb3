"""Carry out what was decided: bring the kernel to the state that a node should carry."""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from moorage.dataplane import nft, sessions
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.changes import DIVIDED, LARGE, SMALL, Element, Ledger, keys_of
from moorage.dataplane.conntrack import Conntrack, Flow, stale
from moorage.dataplane.model import Key, NodeState, ServicePort, Target
from moorage.dataplane.refusals import Refusals, Refused
from moorage.dataplane.ruleset import (
    PROTOCOLS,
    TABLE,
    Elements,
    base,
    elements_of_chain,
    is_policy_chain,
    key_of,
    slots_map,
    text,
)
from moorage.errors import MoorageError
from moorage.log import get_logger

SWEEPS = 3
"""Most rounds of looking for flows and sessions that went to an endpoint while it was being taken out."""
CORRECTION_ATTEMPTS = 5
SEARCHES = 10
"""Most of them in a sync for what nft does not take."""
MOST_DOUBTS = 2
"""Syncs that may begin, one after another, before one ends well, and still trust digests in the kernel."""

log = get_logger("moorage.dataplane")


class Synced(NamedTuple):
    """What one call of `Synchronizer.sync` did."""

    transactions: int = 0
    sessions: int = 0
    """Sessions forgotten or given another timeout."""
    flows: int = 0
    """Flows whose clients will be reset at their next packet."""


class Synchronizer:
    """The kernel of one node, and what is known of it.

    At start the kernel is read, and what differs is changed; digests in the kernel, of all and of each port, spare
    reading what is as it should be. After a second error in a row they are not trusted: transactions are all or
    nothing, so one that failed for a passing reason left them true, but somebody else may have changed elements.
    """

    def __init__(self, nft: nft.Nft, conntrack: Conntrack, capabilities: Capabilities) -> None:
        self._nft = nft
        self._conntrack = conntrack
        self._learn6 = capabilities.learn6
        self._limit = LARGE if capabilities.large_transactions else SMALL
        self._learns = frozenset({4, 6} if capabilities.learn6 else {4})
        self._refusals = Refusals(nft, self._learns, self._limit)
        self._ledger: Ledger | None = None
        self.unfinished = False
        """Some sessions changed whenever they were to be corrected: the next sync tries again."""
        self._doubts = 0
        """Syncs that failed in a row."""
        self._script = ""
        """That was run last."""

    async def sync(self, desired: Mapping[Key, ServicePort], changed: Collection[Key]) -> Synced:
        """Make the kernel carry `desired`, of which `changed` may differ from the last call that succeeded.

        A port that nft does not take is left out; it is in `refused` until it is wanted otherwise. Raises NftError
        with nft's words, or another MoorageError; the kernel then has its last good state, or one between two
        transactions, each of which is whole for every Service.
        """
        ledger, self._ledger = self._ledger, None
        self._doubts += 1
        wanted = self._refusals.without(desired)
        suspects = {key: wanted[key] for key in (changed if ledger else wanted) if key in wanted}
        kept = {key: ledger.state.get(key) for key in changed} if ledger else {}
        for _ in range(SEARCHES):
            try:
                synced = await (self._change(ledger, wanted, changed) if ledger else self._start(wanted))
            except Exception as error:
                if isinstance(error, MoorageError) and not isinstance(error, nft.NftError):
                    raise
                # Those of the transaction that failed, if it tells: to ask about all takes long where they are many.
                named = {key: suspects[key] for key in keys_of(self._script) if key in suspects}
                if not (await self._refusals.find(named, kept) or await self._refusals.find(suspects, kept)):
                    raise
                ledger, wanted = None, self._refusals.without(desired)
                suspects = {key: port for key, port in wanted.items() if key not in self.refused}
            else:
                self._doubts = 0
                return synced
        raise MoorageError(
            f"nft does not take more than it was found in {SEARCHES} searches; the rest is tried later"
        )

    @property
    def refused(self) -> Mapping[Key, Refused]:
        """What nft does not take, and the kernel has the last good state of; `sync` carries all the rest."""
        return self._refusals.refused

    def forgive(self) -> set[Key]:
        """Try again what was refused, in the next sync: returns the keys that it has to be given as changed."""
        return self._refusals.forgive()

    async def _change(self, ledger: Ledger, desired: Mapping[Key, ServicePort], changed: Collection[Key]) -> Synced:
        before = {key: ledger.state.get(key) for key in changed}
        after = {key: desired.get(key) for key in changed}
        count = await self._run(ledger.scripts(after)) if before != after else 0
        affected = {key for key in changed if _lets_go(before[key], after[key])}
        pinned = {key for key in affected if (old := before[key]) and old.affinity_seconds}
        forgotten, ended = await self._sweep(ledger.state, affected, None if self.unfinished else pinned)
        self._ledger = ledger
        return Synced(count, forgotten, ended)

    async def intact(self) -> bool:
        """Whether the kernel still holds what was last programmed; if not, the next `sync` reads it anew."""
        ledger = self._ledger
        if ledger is not None and await self._comment("digest") != ledger.digest:
            self._ledger = None
            self._doubts = MOST_DOUBTS
        return self._ledger is not None

    async def _start(self, desired: Mapping[Key, ServicePort]) -> Synced:
        """Take over whatever an earlier process, whole or killed in the middle, left in the kernel."""
        ledger = Ledger(dict(desired), self._learns, self._limit)
        rules = base(self._learn6)
        rules_digest = hashlib.sha256("\n".join(rules).encode()).hexdigest()[:32]
        count, gone = 0, set[Key]()
        if await self._comment("rules-digest") != rules_digest:
            mark = [
                f"flush set {TABLE} rules-digest",
                f'add element {TABLE} rules-digest {{ 1 comment "{rules_digest}" }}',
            ]
            # New rules may need other elements of the same Services: until they have them, all is to be read.
            unknown = [f"flush set {TABLE} digest", f"add element {TABLE} digest {{ {DIVIDED} }}"]
            count += await self._run(["\n".join([*rules, *unknown, *mark]) + "\n"])
        if await self._comment("digest") != ledger.digest:
            held = await self._read(ledger)
            chains = set(filter(is_policy_chain, await self._nft.chains()))
            count += await self._run(ledger.rebuild(held.ports, held.shared, chains, held.same, divided=held.divided))
            gone = {key_of(each) for each in held.ports}.difference(ledger.state)
        forgotten, ended = await self._sweep(ledger.state, None, None, gone)
        self._ledger = ledger
        return Synced(count, forgotten, ended)

    async def _comment(self, name: str) -> str | None:
        for element in await self._nft.elements(name):
            return element.comment
        return None

    async def _run(self, scripts: Iterable[str]) -> int:
        count = 0
        remaining = iter(scripts)
        script = next(remaining, None)
        while script is not None:
            self._script = script
            running = asyncio.create_task(self._nft.run(script))
            try:
                # Made while nft is at this one, and in a thread, so that others get their turn: it takes 50 ms each.
                script = await asyncio.to_thread(next, remaining, None)
            finally:
                await running
            count += 1
        return count

    async def _read(self, ledger: Ledger) -> "_Held":
        marks = {
            _text(element.key): element.comment or ""
            for number in (4, 6)
            for element in await self._nft.elements(f"carried{number}")
        }
        shared = {
            Element(name, _text(element.key))
            for name in ("addresses4", "addresses6", "hairpin4", "hairpin6")
            for element in await self._nft.elements(name)
        }
        divided = any(element.key == (int(DIVIDED),) for element in await self._nft.elements("digest"))
        divided = divided or self._doubts > MOST_DOUBTS
        if divided:
            ports = await self._read_all()
            same: set[str] = set()
        else:
            wanted = {text(key): ledger.mark(port) for key, port in ledger.state.items()}
            same = {key for key, mark in marks.items() if wanted.get(key) == mark}
            ports = await self._read_live(marks.keys() - same)
            for key in marks.keys() - same:
                learns = ledger.learns(_family(key))
                ports.setdefault(key, {}).update(elements_of_chain(key, marks[key].partition(" ")[2], learns))
        for key in marks.keys() - same:
            ports.setdefault(key, {})[f"carried{_family(key)}"] = {key: marks[key]}
        return _Held(ports, shared, same, divided)

    async def _read_all(self) -> dict[str, Elements]:
        """The kernel's elements, by the text of their port's key."""
        ports: dict[str, Elements] = {}
        for number in (4, 6):
            slots = {slots_map(protocol, number): protocol for protocol in PROTOCOLS}
            for name in (f"services{number}", f"learners{number}", f"live{number}", *slots):
                for element in await self._nft.elements(name):
                    address, *rest = element.key
                    protocol, port = (slots[name], rest[0]) if name in slots else rest[:2]
                    elements = ports.setdefault(f"{address} . {protocol} . {port}", {}).setdefault(name, {})
                    elements[_text(element.key)] = _value(element)
        return ports

    async def _read_live(self, keys: Collection[str]) -> dict[str, Elements]:
        """What may be learned of the ports with these keys, by their text."""
        ports: dict[str, Elements] = {}
        for number in sorted({_family(each) for each in keys}):
            for element in await self._nft.elements(f"live{number}"):
                key = _text(element.key[:3])
                if key in keys:
                    ports.setdefault(key, {}).setdefault(f"live{number}", {})[_text(element.key)] = ""
        return ports

    async def _sweep(
        self,
        state: NodeState,
        keys: Collection[Key] | None,
        pinned: Collection[Key] | None,
        gone: Collection[Key] = (),
    ) -> tuple[int, int]:
        """Forget sessions and end flows that lead where the state no longer leads; how many of each.

        `keys`: whose flows; None: those of every port of an address that the state has, and of those in `gone`.
        `pinned`: whose sessions; None: all. Packets that were under way while the slots changed can still make a flow
        to the old endpoint, so this goes on until nothing is found.
        """
        forgotten = ended = 0
        for _ in range(SWEEPS if keys is None or keys or pinned is None else 0):
            forgotten += await self._correct_sessions(state, pinned) if pinned is None or pinned else 0
            flows = await self._end_flows(state, keys, gone)
            ended += flows
            if not flows:
                break
        return forgotten, ended

    async def _correct_sessions(self, state: NodeState, keys: Collection[Key] | None) -> int:
        for _ in range(CORRECTION_ATTEMPTS):
            wrong = sessions.corrections(await sessions.read(self._nft), state, keys)
            refused = None
            for script in sessions.scripts(wrong):
                try:
                    await self._nft.run(script)
                except nft.NftError as error:
                    refused = error
            self.unfinished = refused is not None
            if refused is None:
                return len(wrong)
            log.info("a session changed while it was being corrected; reading them again", nft=str(refused))
        # A client that connects all the time can do so for ever; all others are not to wait for it.
        log.warning("some sessions went on changing while they were being corrected; trying later")
        return 0

    async def _end_flows(self, state: NodeState, keys: Collection[Key] | None, gone: Collection[Key]) -> int:
        addresses = {key.address for key in state}
        with_flows = [key for key in ({*state, *gone} if keys is None else keys) if _may_end(key, addresses)]
        ended = 0
        for family in sorted({key.family for key in with_flows}):
            flows = await self._conntrack.flows(family)
            looked_at = with_flows if keys is not None else _keys(flows, addresses).union(with_flows)
            found = stale(flows, {key: _may_keep(state.get(key)) for key in looked_at})
            if found:
                await self._conntrack.delete(found)
            ended += len(found)
        return ended


class _Held(NamedTuple):
    """What the kernel holds."""

    ports: dict[str, Elements]
    """By the text of the port's key: the elements of those that differ from what they should be, or may do so."""
    shared: set[Element]
    same: set[str]
    """The keys of those that are as they should be."""
    divided: bool
    """Digests of ports are not to be trusted, and all was read."""


def _lets_go(old: ServicePort | None, new: ServicePort | None) -> bool:
    """Whether sessions or flows may now lead where they should not."""
    if old is None or new is None:
        return True
    fewer = old.targets - new.targets or _may_keep(old) - _may_keep(new)
    return bool(fewer) or old.affinity_seconds != new.affinity_seconds


def _may_end(key: Key, addresses: Collection[str]) -> bool:
    """Whether flows to `key` can be ended well, where these are the addresses that are carried.

    TCP clients of an address that is gone would get no reset from us, so their flows stay. UDP needs none, and a
    client that goes on sending would keep its flow for ever.
    """
    return key.protocol == "udp" or key.address in addresses


def _may_keep(port: ServicePort | None) -> frozenset[Target]:
    return port.targets | port.keeps if port else frozenset()


def _keys(flows: Iterable[Flow], addresses: Collection[str]) -> set[Key]:
    """The ports of `addresses` that flows came to."""
    return {
        Key(flow.destination, flow.protocol, flow.destination_port) for flow in flows if flow.destination in addresses
    }


def _family(key: str) -> int:
    return 6 if ":" in key else 4


def _value(element: nft.Element) -> str:
    if isinstance(element.value, str):
        return f"goto {element.value}"
    return _text(element.value or ())


def _text(parts: Iterable[str | int]) -> str:
    return " . ".join(map(str, parts))

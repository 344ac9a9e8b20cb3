"""Brings the kernel to the state that a node should carry."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from moorage.dataplane import nft, reading, sessions, units
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.changes import MAX_ELEMENTS_LARGE, MAX_ELEMENTS_SMALL, NOTHING, Ledger, Transaction
from moorage.dataplane.conntrack import Conntrack, Flow, service_of, stale
from moorage.dataplane.crowding import Crowding
from moorage.dataplane.elements import MAX_LARGE, MAX_SMALL
from moorage.dataplane.ended import forget
from moorage.dataplane.model import (
    ClientTarget,
    MooringKey,
    ServiceAddress,
    ServicePort,
    Target,
    Unit,
    UnitKey,
    moored_to,
    port_of,
)
from moorage.dataplane.reading import Recalled
from moorage.dataplane.refusals import Refusals, Refused
from moorage.dataplane.removal import REMOVAL
from moorage.dataplane.ruleset import base, rules_digest
from moorage.dataplane.schema import DIGEST, RULES_DIGEST, TABLE, UNDER_WAY, WHOLE
from moorage.dataplane.waking import Waker
from moorage.errors import MoorageError
from moorage.log import get_logger

MAX_SWEEPS = 3
"""How many times to look for flows and sessions that still reached an endpoint while it was being taken out."""
MAX_CORRECTIONS = 5
"""How many times one sync tries to correct sessions that keep changing."""
DIVISOR = 10
"""How many times smaller the transactions of each of these attempts are."""
MAX_SEARCHES = 10
"""How many times one sync searches for units that nft refuses."""
MAX_NARROWED = 8
"""The flows of up to so many clients that have moved are read client by client."""
MAX_FAILED_SYNCS = 2
"""How many syncs may fail in a row before the digests in the kernel are no longer trusted."""

log = get_logger("moorage.dataplane")


class Synced(NamedTuple):
    """What one call of `Synchronizer.sync` did."""

    transactions: int = 0
    sessions: int = 0
    """Sessions that were forgotten or got another timeout."""
    flows: int = 0
    """Flows whose clients will be reset at their next packet."""


class Synchronizer:
    """Brings the kernel of one node to the desired state, and remembers what it has programmed.

    At start it reads the kernel and changes what differs; digests in the kernel, of everything and of each port, make
    it unnecessary to read what is right. After a second error in a row they are not trusted: transactions are all or
    nothing, so one that failed for a passing reason left them true, but somebody else may have changed elements.
    """

    def __init__(
        self, nft: nft.Nft, conntrack: Conntrack, capabilities: Capabilities, waker: Waker | None = None
    ) -> None:
        """`waker`: wakes clients that only read; None: they wait until they send something."""
        self._nft = nft
        self._waker = waker
        self._conntrack = conntrack
        self._learn6 = capabilities.learn6
        self._limit = MAX_ELEMENTS_LARGE if capabilities.large_transactions else MAX_ELEMENTS_SMALL
        self._learns = frozenset({4, 6} if capabilities.learn6 else {4})
        self._refusals = Refusals(nft, self._learns, self._limit)
        self.crowding = Crowding(nft, self._learns)
        self._ledger: Ledger | None = None
        self.unfinished = False
        """Some sessions changed during each attempt to correct them; the next sync tries again."""
        self._failed_syncs = 0
        """Syncs that failed in a row."""
        self._moves: dict[MooringKey, set[Target]] = {}
        """Where moorings led that have moved since the last sync that succeeded: the kernel does not know it."""
        self._last = Transaction("")
        """The transaction that was run last."""

    async def sync(
        self, desired: Mapping[UnitKey, Unit], changed: Collection[UnitKey], ended: Collection[str] = ()
    ) -> Synced:
        """Make the kernel carry `desired`. Only `changed` may differ from the last successful call.

        `ended`: addresses of pods that are no more and that no other pod has by now; what was learned of them at
        moored ports is forgotten.

        A unit that nft refuses is left out, and listed in `refused` until its desired state changes. Raises NftError
        with nft's words, or another MoorageError. Then the kernel has its last good state, or one between two
        transactions; every Service is whole in it.
        """
        ledger, self._ledger = self._ledger, None
        self._failed_syncs += 1
        wanted = self._refusals.without(desired)
        suspects = {key: wanted[key] for key in (changed if ledger else wanted) if key in wanted}
        kept = {key: ledger.state.get(key) for key in changed} if ledger else {}
        for _ in range(MAX_SEARCHES):
            try:
                synced = await (self._change(ledger, wanted, changed) if ledger else self._start(wanted))
            except Exception as error:
                if isinstance(error, MoorageError) and not isinstance(error, nft.NftError):
                    raise
                # First the units of the failed transaction: asking about all of many units takes long.
                named = {key: suspects[key] for key in self._last.units if key in suspects}
                if not (await self._refusals.find(named, kept) or await self._refusals.find(suspects, kept)):
                    raise
                ledger, wanted = None, self._refusals.without(desired)
                suspects = {key: unit for key, unit in wanted.items() if key not in self.refused}
            else:
                self._failed_syncs = 0
                if not self.unfinished:
                    self._moves.clear()
                return synced._replace(sessions=synced.sessions + await forget(self._nft, ended, wanted))
        raise MoorageError(
            f"nft still refuses a transaction after {MAX_SEARCHES} searches for what is at fault; trying again later"
        )

    @property
    def refused(self) -> Mapping[UnitKey, Refused]:
        """The units that nft refuses. The kernel has their last good state; all others are carried."""
        return self._refusals.refused

    def retry_refused(self) -> set[UnitKey]:
        """Let the next sync try refused units again; returns their keys, which must be among `changed` of that
        sync."""
        return self._refusals.retry_refused()

    async def _change(self, ledger: Ledger, desired: Mapping[UnitKey, Unit], changed: Collection[UnitKey]) -> Synced:
        before = {key: ledger.state.get(key) for key in changed}
        after = {key: desired.get(key) for key in changed}
        self._note_moves(before, after)
        count = await self._run(ledger.change_to(after)) if before != after else 0
        ports = [key for key in changed if isinstance(key, ServiceAddress)]
        affected = {key for key in ports if _lets_go(port_of(before, key), port_of(after, key))}
        pinned = {key for key in affected if (old := port_of(before, key)) and old.affinity.session_seconds}
        doubts = _Doubts(affected, None if self.unfinished else pinned, self._moves)
        forgotten, ended = await self._sweep(ledger.state, doubts)
        self._ledger = ledger
        return Synced(count, forgotten, ended)

    async def intact(self) -> bool:
        """Whether the kernel still holds what was last programmed; if not, the next `sync` reads it again."""
        ledger = self._ledger
        if ledger is not None and await reading.comment(self._nft, DIGEST) != ledger.digest:
            self._ledger = None
            self._failed_syncs = MAX_FAILED_SYNCS
        return self._ledger is not None

    async def _start(self, desired: Mapping[UnitKey, Unit]) -> Synced:
        """Take over whatever an earlier process has left in the kernel, even if it was killed in the middle."""
        ledger = Ledger(dict(desired), self._learns, self._limit)
        count, gone = 0, set[ServiceAddress]()
        if not await self._nft.chains():
            # Not even a chain: the table was deleted, or there never was one. To read it would run nft thirty times.
            count += await self._run(iter([Transaction(REMOVAL + self._rules())]))
            count += await self._run(ledger.repair(NOTHING))
        else:
            made, gone = await self._repair(ledger)
            count += made
        forgotten, ended = await self._sweep(ledger.state, _Doubts(None, None, self._moves, gone))
        self._ledger = ledger
        return Synced(count, forgotten, ended)

    async def _repair(self, ledger: Ledger) -> tuple[int, set[ServiceAddress]]:
        """Change what differs; returns how many transactions that took, and the ports that are no longer carried."""
        count = 0
        if await reading.comment(self._nft, RULES_DIGEST) != rules_digest(self._learn6):
            # New rules may need other elements for the same units: until they have them, everything must be read.
            unknown = f"flush set {TABLE} {DIGEST.name}\nadd element {TABLE} {DIGEST.name} {{ {UNDER_WAY} }}\n"
            count += await self._run(iter([Transaction(self._rules() + unknown)]))
        if await reading.comment(self._nft, DIGEST) == ledger.digest:
            return count, set()
        under_way = self._failed_syncs > MAX_FAILED_SYNCS or await reading.is_under_way(self._nft)
        if under_way:
            held = Recalled(await reading.read_all(self._nft))
        else:
            held = await reading.recall(self._nft, ledger)
        count += await self._run(ledger.repair(held.content, held.same, under_way=under_way))
        self._note_moves(units.moorings(held.content.units), ledger.state)
        return count, {key for key in held.content.units if isinstance(key, ServiceAddress)}.difference(ledger.state)

    def _rules(self) -> str:
        """A script that makes the table, or gives it the rules of this version."""
        mark = f'add element {TABLE} {RULES_DIGEST.name} {{ {WHOLE} comment "{rules_digest(self._learn6)}" }}'
        lines = [*base(self._learn6), f"flush set {TABLE} {RULES_DIGEST.name}", mark]
        return "\n".join(lines) + "\n"

    async def _run(self, transactions: Iterator[Transaction]) -> int:
        count = 0
        transaction = next(transactions, None)
        while transaction is not None:
            self._last = transaction
            running = asyncio.create_task(self._nft.run(transaction.script))
            try:
                # Made while nft works on this one, and in a thread, so that other tasks get their turn: each takes 50
                # ms.
                transaction = await asyncio.to_thread(next, transactions, None)
            finally:
                await running
            count += 1
        return count

    def _note_moves(self, before: Mapping[UnitKey, Unit | None], after: Mapping[UnitKey, Unit | None]) -> None:
        """Remember where moorings led. One that is new takes nothing from its client, nor does one that goes."""
        for key, old in before.items():
            new = after.get(key)
            if isinstance(old, ClientTarget) and isinstance(new, ClientTarget) and old.target != new.target:
                self._moves.setdefault(old.key, set()).add(old.target)

    async def _sweep(self, state: Mapping[UnitKey, Unit], doubts: "_Doubts") -> tuple[int, int]:
        """Forget sessions and end flows that contradict the state; returns how many of each.

        Packets on their way while the slots changed can still make a flow to the old endpoint, so this repeats until
        nothing is found.
        """
        forgotten = ended = 0
        for _ in range(MAX_SWEEPS if doubts.any else 0):
            forgotten += await self._correct_sessions(state, doubts)
            flows = await self._end_flows(state, doubts)
            ended += flows
            if not flows:
                break
        return forgotten, ended

    async def _correct_sessions(self, state: Mapping[UnitKey, Unit], doubts: "_Doubts") -> int:
        if doubts.pinned is not None and not doubts.pinned and not doubts.moves:
            return 0
        for attempt in range(MAX_CORRECTIONS):
            wrong = sessions.corrections(await sessions.read(self._nft), state, doubts.pinned, doubts.moves)
            # In ever smaller transactions: one session that keeps changing holds up those of its own.
            most = (MAX_LARGE if self._limit == MAX_ELEMENTS_LARGE else MAX_SMALL) // DIVISOR**attempt
            refused = await sessions.correct(self._nft, wrong, max(most, 1))
            self.unfinished = refused is not None
            if refused is None:
                return len(wrong)
            log.info("a session changed while it was being corrected; reading them again", nft=str(refused))
        # A client that connects all the time can make this go on for ever; others must not wait for it.
        log.warning("some sessions went on changing while they were being corrected; trying later")
        return 0

    async def _end_flows(self, state: Mapping[UnitKey, Unit], doubts: "_Doubts") -> int:
        only_moves = doubts.ports is not None and not doubts.ports
        carried = [] if only_moves else [key for key in state if isinstance(key, ServiceAddress)]
        addresses = {key.address for key in carried}
        ports = {*carried, *doubts.gone} if doubts.ports is None else doubts.ports
        ports = {key for key in ports if _may_end(key, addresses)}
        ended = 0
        for family in sorted({key.family for key in ports} | {key.family for key in doubts.moves}):
            every = doubts.ports is None or any(key.family == family for key in ports)
            flows = await self._flows(family, None if every else doubts.clients(family))
            looked_at = ports if doubts.ports is not None else _keys(flows, addresses) | ports
            found = stale(flows, {key: _may_keep(port_of(state, key)) for key in looked_at}, doubts.moves)
            found = [flow for flow in found if not _is_moored_there(flow, state)]
            if found:
                await self._conntrack.delete(found)
                if self._waker is not None:
                    await self._waker.wake(found)
            ended += len(found)
        return ended

    async def _flows(self, family: int, clients: Collection[str] | None) -> list[Flow]:
        """The flows that these clients have opened, and possibly others; None: all."""
        if clients is None or len(clients) > MAX_NARROWED:
            return await self._conntrack.flows(family)
        return [flow for client in clients for flow in await self._conntrack.flows(family, client)]


class _Doubts(NamedTuple):
    """What may contradict the state after a change."""

    ports: Collection[ServiceAddress] | None
    """Ports whose flows to look at; None: every port of an address in the state, and those in `gone`."""
    pinned: Collection[ServiceAddress] | None
    """Ports whose sessions to look at; None: all."""
    moves: Mapping[MooringKey, Collection[Target]]
    """Moorings that have moved, and the endpoints that they led to before."""
    gone: Collection[ServiceAddress] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.ports is None or self.ports or self.pinned is None or self.moves)

    def clients(self, family: int) -> set[str]:
        """The clients that have moved."""
        return {key.client for key in self.moves if key.family == family}


def _lets_go(old: ServicePort | None, new: ServicePort | None) -> bool:
    """Whether sessions or flows may now be wrong."""
    if old is None or new is None:
        return True
    fewer = old.targets - new.targets or _may_keep(old) - _may_keep(new)
    return bool(fewer) or old.affinity != new.affinity


def _is_moored_there(flow: Flow, state: Mapping[UnitKey, Unit]) -> bool:
    """Whether the flow leads where its client is moored; its port may have more endpoints than it can name."""
    return moored_to(state, MooringKey(flow.source, service_of(flow))) == (flow.reply_source, flow.reply_source_port)


def _may_end(key: ServiceAddress, addresses: Collection[str]) -> bool:
    """Whether flows to `key` can be ended properly; `addresses` are those that are carried.

    TCP clients of an address that is gone would get no reset from us, so their flows stay. UDP needs no reset, and a
    client that goes on sending would keep its flow for ever.
    """
    return key.protocol == "udp" or key.address in addresses


def _may_keep(port: ServicePort | None) -> frozenset[Target]:
    return port.targets | port.keeps if port else frozenset()


def _keys(flows: Iterable[Flow], addresses: Collection[str]) -> set[ServiceAddress]:
    """The ports of `addresses` that flows go to."""
    return {service_of(flow) for flow in flows if flow.destination in addresses}

"""The nft transactions from one state of the node to another. No half of a Service is ever visible. Pure.

The elements of a unit change in the steps that `schema.Step` names. *Prepare*: slots, and what may be learned, that
nothing looks up yet. *Replace*, *flip*, *revoke*: the slots that change their endpoint, the verdict, and what may no
longer be learned, always in one transaction. *Clear*: slots that nothing looks up any more. Slot tables of different
sizes have no slot number in common, so a change of the size never shows a mixture. If everything is small enough, it
is one transaction. Only a flip that does not fit into any transaction, of hundreds of endpoints at once, goes slot by
slot.

In an unprivileged user namespace nft cannot enlarge its socket buffer: about 4,400 elements fit into a transaction.
Elsewhere larger transactions save commits in the kernel, but nft takes 2.4 KB of memory for each element. Hence the
limits.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from moorage.dataplane import units
from moorage.dataplane.model import MooringKey, NodeState, PodPrefixKey, ServiceAddress, Unit, UnitKey
from moorage.dataplane.nft import FAMILY, TRIAL_NAME
from moorage.dataplane.ruleset import Chain, foundation
from moorage.dataplane.schema import DIGEST, TABLE, UNDER_WAY, WHOLE, Container, Element, Elements, Step
from moorage.dataplane.units import Learns

MAX_ELEMENTS_SMALL, MAX_ELEMENTS_LARGE = 1_500, 40_000
"""How many elements one transaction may have if nft cannot enlarge its socket buffer, and if it can."""

MAX_GATHERED = 5_000
"""How many elements of several units go into one transaction. Larger ones save no time: the next one is made while
nft works on one, and the first units are there early."""

MAX_UNDIVIDED = 3_000
"""A flip of up to this many elements is not divided, even if it exceeds the limit: nft can still send it."""


class Content(NamedTuple):
    """Elements and chains of the table, by which units need them."""

    units: Mapping[UnitKey, Elements]
    """Elements that belong to one unit alone."""
    shared: set[Element]
    """Elements that several units may need."""
    chains: set[str]
    """Chains that are made on first use."""


NOTHING = Content({}, set(), set())


class Difference(NamedTuple):
    """An element that differs. Values are as nft writes them; empty in a set."""

    container: Container
    key: str
    have: str | None
    """None: it does not exist."""
    want: str | None
    """None: it should not exist."""


def compare(have: Elements, want: Elements) -> Iterator[Difference]:
    """Every element that differs."""
    for container in sorted(have.keys() | want.keys(), key=attrgetter("name")):
        here, there = have.get(container, {}), want.get(container, {})
        for key, value in there.items():
            if (old := here.get(key)) != value:
                yield Difference(container, key, old, value)
        for key in here.keys() - there.keys():
            yield Difference(container, key, here[key], None)


class Change:
    """What to delete and add, step by step; each step deletes first."""

    def __init__(self, unit: UnitKey | None = None) -> None:
        """`unit`: the unit that the elements belong to; None: several."""
        self.unit = unit
        self.delete: dict[Step, list[Difference]] = {step: [] for step in Step}
        self.add: dict[Step, list[Difference]] = {step: [] for step in Step}

    def take(self, differences: Iterable[Difference]) -> "Change":
        """Correct these elements, too; returns itself."""
        for each in differences:
            if each.want is None:
                self.delete[each.container.delete].append(each)
            elif each.have is None:
                self.add[each.container.add].append(each)
            else:
                self.delete[each.container.replace].append(each)
                self.add[each.container.replace].append(each)
        return self

    def several(self, *steps: Step) -> tuple[list[Difference], list[Difference]]:
        """The elements that these steps delete and add."""
        return [each for step in steps for each in self.delete[step]], [
            each for step in steps for each in self.add[step]
        ]


class Transaction(NamedTuple):
    """A script that nft carries out as a whole or not at all."""

    script: str
    units: frozenset[UnitKey] = frozenset()
    """The units whose elements it changes, apart from shared ones."""


class Ledger:
    """Knows what has been programmed, and makes the transactions that change it. Pure, apart from its own state.

    `change_to` plans a change and records it as done: if carrying it out fails, drop the ledger and read the kernel.
    """

    def __init__(self, state: Mapping[UnitKey, Unit], learns: Learns, limit: int = MAX_ELEMENTS_SMALL) -> None:
        """`state`: what the kernel holds; `learns`: the families (4, 6) whose sessions can be learned.

        `limit`: how many elements a transaction may have.
        """
        self.state: NodeState = {}
        self.learns = learns
        self._limit = limit
        self._shared: Counter[Element] = Counter()
        self._chains: Counter[str] = Counter()
        self._digest = 0
        for unit in state.values():
            self._note(unit, 1)

    @property
    def digest(self) -> str:
        """Identifies the state, whatever led to it: the sum of all units' digests."""
        return f"{self._digest:032x}"

    @property
    def content(self) -> Content:
        """Everything that the kernel holds while it carries this state."""
        own = {key: units.own(unit, self.learns) for key, unit in self.state.items()}
        return Content(own, set(+self._shared), set(+self._chains))

    def change_to(self, changed: Mapping[UnitKey, Unit | None]) -> Iterator[Transaction]:
        """Transactions that bring the kernel from the present state to one with `changed`."""
        pairs = [(key, self.state.get(key), new) for key, new in changed.items()]
        pairs = sorted((each for each in pairs if each[1] != each[2]), key=lambda each: _rank(each[0], each[2]))
        chains, shared = set(+self._chains), set(+self._shared)
        for _, old, new in pairs:
            for unit, count in ((new, 1), (old, -1)):
                if unit is not None:
                    self._note(unit, count)
        return transactions(
            (Change(key).take(compare(self._own(old), self._own(new))) for key, old, new in pairs),
            make=self._commands(set(+self._chains) - chains),
            drop=sorted(chains - set(+self._chains)),
            shared=_shared_change(shared, set(+self._shared)),
            digest=self.digest,
            limit=self._limit,
        )

    def repair(
        self, held: Content, same: Iterable[UnitKey] = (), *, under_way: bool = False
    ) -> Iterator[Transaction]:
        """Transactions that bring a kernel with known content to this ledger's state.

        `held`: what was read, without the units in `same`, which are right already. Chains are written again, because
        their rules may be from an older version. `under_way`: the mark of an unfinished change was there; it stays
        until everything is right.
        """
        keys = (held.units.keys() | self.state.keys()).difference(same)
        return transactions(
            (
                Change(key).take(compare(held.units.get(key, {}), self._own(self.state.get(key))))
                for key in sorted(keys, key=lambda key: (_rank(key, self.state.get(key)), str(key)))
            ),
            make=self._commands(set(+self._chains)),
            drop=sorted(held.chains - set(+self._chains)),
            shared=_shared_change(held.shared, set(+self._shared)),
            digest=self.digest,
            limit=self._limit,
            under_way=under_way,
        )

    def trial(self) -> Iterator[str]:
        """Scripts to ask nft about, one at a time: all chains and elements of this state, in a separate table.

        If nft refuses one of them, the fault is in this state and not in what the kernel holds. There is at least one
        script; that of an empty state shows whether nft accepts anything at all.
        """
        head = [*foundation(), *self._commands(set(+self._chains))]
        own = (self._own(unit) for unit in self.state.values())
        adds = [Difference(container, key, None, value) for container, key, value in self._shared]
        adds += (each for elements in own for each in compare({}, elements))
        for start in range(0, max(len(adds), 1), self._limit):
            lines = [*head, *_lines("add", adds[start : start + self._limit])]
            yield "\n".join(line.replace(f" {TABLE}", f" {FAMILY} {TRIAL_NAME}", 1) for line in lines) + "\n"

    def chains(self) -> dict[str, Chain]:
        """The chains that the state needs, by name."""
        return self._made(set(+self._chains))

    def _own(self, unit: Unit | None) -> Elements:
        return units.own(unit, self.learns) if unit is not None else {}

    def _note(self, unit: Unit, count: int) -> None:
        if count > 0:
            self.state[unit.key] = unit
        elif self.state.get(unit.key) is unit:
            del self.state[unit.key]
        self._shared.update(dict.fromkeys(units.shared(unit), count))
        self._chains.update(dict.fromkeys(units.chain_names(unit, self.learns), count))
        self._digest = (self._digest + count * units.digest(unit)) % 2**128

    def _made(self, names: set[str]) -> dict[str, Chain]:
        made: dict[str, Chain] = {}
        for unit in self.state.values() if names else ():
            if names.intersection(units.chain_names(unit, self.learns)) - made.keys():
                made |= {chain.name: chain for chain in units.chains(unit, self.learns) if chain.name in names}
        return made

    def _commands(self, names: set[str]) -> list[str]:
        return [line for _, chain in sorted(self._made(names).items()) for line in chain.commands]


def _rank(key: UnitKey, new: Unit | None) -> int:
    """Where a unit stands in the order of changes.

    Moorings come before the ports whose clients they lead, and go after them: in between the hash leads nobody.
    Ranges of addresses go before others come, because a set takes none that overlap.
    """
    match key:
        case PodPrefixKey():
            return 1 if new else 0
        case MooringKey():
            return 1 if new else 3
        case ServiceAddress():
            return 2


def _shared_change(have: set[Element], want: set[Element]) -> Change:
    differences = (
        Difference(each.container, each.key, *(("", None) if each in have else (None, "")))
        for each in sorted(have ^ want, key=lambda each: (each.container.name, each.key))
    )
    return Change().take(differences)


def transactions(
    changes: Iterable[Change],
    *,
    make: list[str],
    drop: list[str],
    shared: Change,
    digest: str,
    limit: int,
    under_way: bool = False,
) -> Iterator[Transaction]:
    """The transactions in order, generated on demand; at least one.

    The first removes the digest, the last writes it again. `make` holds commands that make chains, `drop` names of
    chains to delete.
    """
    head = [f"flush set {TABLE} {DIGEST.name}", *make]
    deletes: list[Difference] = []
    adds: list[Difference] = [_UNDER_WAY] if under_way else []
    touched: set[UnitKey] = set()
    for unit, delete, add in _pieces(changes, shared, limit):
        if (deletes or adds) and len(deletes) + len(adds) + len(delete) + len(add) > min(limit, MAX_GATHERED):
            yield Transaction(_script(head, deletes, adds), frozenset(touched))
            head, deletes, adds, touched = [], [], [], set()
        deletes += delete
        adds += add
        if unit is not None:
            touched.add(unit)
        under_way = under_way or add == [_UNDER_WAY]
    tail = [f"delete chain {TABLE} {name}" for name in drop]
    tail += [f"delete element {TABLE} {DIGEST.name} {{ {UNDER_WAY} }}"] if under_way else []
    tail += [f'add element {TABLE} {DIGEST.name} {{ {WHOLE} comment "{digest}" }}']
    yield Transaction(_script(head, deletes, adds, tail), frozenset(touched))


_UNDER_WAY = Difference(DIGEST, UNDER_WAY, None, "")


class _Piece(NamedTuple):
    """Elements that must be deleted and added in one transaction."""

    unit: UnitKey | None
    delete: list[Difference]
    add: list[Difference]


def _pieces(changes: Iterable[Change], shared: Change, limit: int) -> Iterator[_Piece]:
    """The pieces, in order. A unit that fits into one transaction is one piece."""
    for each in shared.add[Step.PREPARE]:
        yield _Piece(None, [], [each])
    for change in changes:
        whole = _Piece(change.unit, *change.several(*Step))
        if len(whole.delete) + len(whole.add) <= limit:
            yield whole
            continue
        yield _Piece(None, [], [_UNDER_WAY])
        yield from _parts(change, Step.PREPARE, limit)
        flip = _Piece(change.unit, *change.several(Step.REPLACE, Step.FLIP, Step.REVOKE))
        if len(flip.delete) + len(flip.add) <= max(limit, MAX_UNDIVIDED):
            yield flip
        else:
            # Each slot leads to its old or its new endpoint. A client may still get pinned to one that goes: sessions
            # are put right afterwards.
            yield from _parts(change, Step.REPLACE, limit)
            yield _Piece(change.unit, change.delete[Step.FLIP], change.add[Step.FLIP])
            yield from _parts(change, Step.REVOKE, limit)
        yield from _parts(change, Step.CLEAR, limit)
    # An address becomes ours only when something carries it: until then we must not reject its packets.
    for each in shared.add[Step.FLIP]:
        yield _Piece(None, [], [each])
    for each in shared.delete[Step.CLEAR]:
        yield _Piece(None, [each], [])


def _parts(change: Change, step: Step, limit: int) -> Iterator[_Piece]:
    """A step in parts; an element that is replaced is deleted and added in the same part."""
    delete, add = change.delete[step], change.add[step]
    size = limit // 2 if delete and add else limit
    for start in range(0, max(len(delete), len(add)), size):
        yield _Piece(change.unit, delete[start : start + size], add[start : start + size])


def _script(head: list[str], deletes: list[Difference], adds: list[Difference], tail: Iterable[str] = ()) -> str:
    return "\n".join([*head, *_lines("delete", deletes), *_lines("add", adds), *tail]) + "\n"


def _lines(command: str, differences: Iterable[Difference]) -> list[str]:
    """One command for each set or map."""
    by_container: dict[Container, list[str]] = {}
    for container, key, _, want in differences:
        if want and command == "add":
            key += f" : {want}" if container.value else f' comment "{want}"'
        by_container.setdefault(container, []).append(key)
    return [
        f"{command} element {TABLE} {container.name} {{ {', '.join(each)} }}"
        for container, each in by_container.items()
    ]

"""From one state of the node to another: nft transactions, cut so that no half of a Service is ever visible. Pure.

What belongs to one port of a Service changes in three steps. *Before*: slots, and what may be learned, that nothing
looks up yet. *Flip*: the verdict, the slots that change their endpoint and what may no longer be learned, always in
one transaction. *After*: slots that nothing looks up any more. Slot tables of different sizes have no slot number in
common, so the step from one size to another never shows a mixture. Where all of it is small it is one transaction.
Only a flip that no transaction would take, of hundreds of endpoints at once, goes slot by slot.

In an unprivileged user namespace nft cannot enlarge its socket buffer: about 4,400 elements fit into a transaction.
Elsewhere a larger one spares the kernel commits, and nft takes 2.4 KB of memory for each element. Hence the limits.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from moorage.dataplane.model import Key, NodeState, ServicePort
from moorage.dataplane.nft import FAMILY, TRIAL
from moorage.dataplane.ruleset import (
    TABLE,
    Elements,
    Policy,
    containers,
    elements,
    key_of,
    learn_chain,
    policy_chain,
    policy_of,
    shared,
    text,
)

SMALL, LARGE = 1_500, 40_000
"""Most elements in one transaction where nft cannot, and where it can, enlarge its socket buffer."""

WHOLE = 3_000
"""A flip of so many elements is not divided even where they are more than the most: nft can still send them."""

DIVIDED = "2"
"""The element of the set `digest` that is there while digests of ports are not to be trusted: a port's change that
takes several transactions is under way, or rules are new. 1 is there, with the digest of all, while all is well."""


class Element(NamedTuple):
    """An element to add or delete; the value is empty in sets, but for `carried`, where it is the comment."""

    name: str
    key: str
    value: str = ""


class Change(NamedTuple):
    """What to do with the elements of one port, in this order."""

    before: list[Element]
    delete: list[Element]
    add: list[Element]
    after: list[Element]


def change(old: Elements, new: Elements) -> Change:
    """The steps from one port's elements to another's."""
    result = Change([], [], [], [])
    for name in sorted(old.keys() | new.keys()):
        have, want = old.get(name, {}), new.get(name, {})
        visible_when_added = name.startswith("services")
        visible_until_deleted = not name.startswith("slots")
        for key, value in want.items():
            if key not in have:
                (result.add if visible_when_added else result.before).append(Element(name, key, value))
            elif have[key] != value:
                result.delete.append(Element(name, key, have[key]))
                result.add.append(Element(name, key, value))
        for key in have.keys() - want.keys():
            (result.delete if visible_until_deleted else result.after).append(Element(name, key, have[key]))
    return result


class Ledger:
    """What has been programmed, and the scripts that change it. Pure but for its own bookkeeping.

    `scripts` both plans and takes note: if carrying it out fails, throw the ledger away and read the kernel.
    """

    def __init__(self, state: NodeState, learns: frozenset[int], limit: int = SMALL) -> None:
        """`state`: what the kernel holds; `learns`: the families (4, 6) whose sessions can be learned.

        `limit`: most elements in a transaction.
        """
        self.state: NodeState = {}
        self._learns = learns
        self._limit = limit
        self._uses: Counter[Element] = Counter()
        self._chains: Counter[str] = Counter()
        self._digest = 0
        for port in state.values():
            self._note(port, 1)

    @property
    def digest(self) -> str:
        """Identifies the state, whatever the order in which it came about: a sum of each port's hash."""
        return f"{self._digest:032x}"

    def scripts(self, changed: Mapping[Key, ServicePort | None]) -> Iterator[str]:
        """Transactions that bring the kernel from the present state to one with `changed` in it."""
        pairs = [(self.state.get(key), new) for key, new in changed.items()]
        pairs = [(old, new) for old, new in pairs if old != new]
        chains, used = set(+self._chains), set(+self._uses)
        for old, new in pairs:
            for port, count in ((new, 1), (old, -1)):
                if port is not None:
                    self._note(port, count)
        return transactions(
            (change(self.elements(old), self.elements(new)) for old, new in pairs),
            make=self._chain_commands(set(+self._chains) - chains),
            drop=sorted(chains - set(+self._chains)),
            shared_change=_shared_change(used, set(+self._uses)),
            digest=self.digest,
            limit=self._limit,
        )

    def rebuild(
        self,
        actual: Mapping[str, Elements],
        shared_actual: set[Element],
        chains: set[str],
        same: Collection[str] = (),
        *,
        divided: bool = False,
    ) -> Iterator[str]:
        """Transactions that bring a kernel whose content was read to this ledger's state.

        `actual`: elements by the text of their port's key, but for the ports in `same`, which are as they should be;
        `chains`: the policy and learn chains that exist. Chains are written anew: their rules may be an older
        version's. `divided`: the mark of a change under way was there, and stays until all is as it should be.
        """
        wanted = {text(key): port for key, port in self.state.items() if text(key) not in same}
        return transactions(
            (
                change(actual.get(key, {}), self.elements(wanted.get(key)))
                for key in sorted(actual.keys() | wanted.keys())
            ),
            make=self._chain_commands(set(+self._chains)),
            drop=sorted(chains - set(+self._chains)),
            shared_change=_shared_change(shared_actual, set(+self._uses)),
            digest=self.digest,
            limit=self._limit,
            divided=divided,
        )

    def trial(self) -> Iterator[str]:
        """Scripts to ask nft about, each by itself: all chains and elements of this state, in a table of its own.

        Where nft does not take one of them, what is wrong is in this state, and not in what the kernel holds. There
        is at least one script; that of an empty state says whether nft takes anything at all.
        """
        head = [*containers(), *self._chain_commands(set(+self._chains))]
        ports = (self.elements(port) for port in self.state.values())
        own = [Element(name, *each) for port in ports for name, found in port.items() for each in found.items()]
        adds = [*self._uses, *own]
        for start in range(0, max(len(adds), 1), self._limit):
            lines = [*head, *_lines("add", adds[start : start + self._limit])]
            yield "\n".join(line.replace(f" {TABLE}", f" {FAMILY} {TRIAL}", 1) for line in lines) + "\n"

    def elements(self, port: ServicePort | None) -> Elements:
        """The elements of `port` alone; none for None."""
        if port is None:
            return {}
        mark = {f"carried{port.key.family}": {text(port.key): self.mark(port)}}
        return elements(port, self.learns(port.key.family)) | mark

    def mark(self, port: ServicePort) -> str:
        """What tells whether the kernel carries `port` as it is, and by which chain if not: `DIGEST CHAIN`."""
        policy = policy_of(port)
        return f"{_hash(port):032x} {policy.chain if policy else '-'}"

    def learns(self, family: int) -> bool:
        """Whether sessions of that family, 4 or 6, can be learned."""
        return family in self._learns

    def _note(self, port: ServicePort, count: int) -> None:
        if count > 0:
            self.state[port.key] = port
        elif self.state.get(port.key) is port:
            del self.state[port.key]
        self._uses.update({Element(*element): count for element in shared(port)})
        self._chains.update(dict.fromkeys(self._chain_names(policy_of(port)), count))
        self._digest = (self._digest + count * _hash(port)) % 2**128

    def _chain_names(self, policy: Policy | None) -> list[str]:
        if policy is None:
            return []
        learns = policy.affinity_seconds and policy.family in self._learns
        return [policy.chain, policy.learn_chain] if learns else [policy.chain]

    def _chain_commands(self, names: set[str]) -> list[str]:
        commands: dict[str, list[str]] = {}
        for port in self.state.values() if names else ():
            policy = policy_of(port)
            if policy is not None and policy.chain in names | commands.keys():
                commands[policy.chain] = policy_chain(policy, policy.family in self._learns)
            if policy is not None and policy.learn_chain in names:
                commands[policy.learn_chain] = learn_chain(policy)
        return [line for name in sorted(commands) for line in commands[name]]


def _hash(port: ServicePort) -> int:
    plain = msgspec.structs.replace(port, keeps=frozenset())
    encoded = msgspec.json.encode((plain, sorted(port.keeps)))
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=16).digest())


def _shared_change(have: set[Element], want: set[Element]) -> Change:
    added = sorted(want - have)
    return Change(
        before=[each for each in added if each.name.startswith("hairpin")],
        delete=[],
        # An address is ours only once something carries it: until then its packets are nobody's to reject.
        add=[each for each in added if not each.name.startswith("hairpin")],
        after=sorted(have - want),
    )


def transactions(
    changes: Iterable[Change],
    *,
    make: list[str],
    drop: list[str],
    shared_change: Change,
    digest: str,
    limit: int,
    divided: bool = False,
) -> Iterator[str]:
    """The scripts, in order, made as they are taken; at least one. A script is a transaction: all or nothing.

    The digest element goes with the first and comes back with the last. `make` and `drop` are commands that make
    chains, and names of chains to delete.
    """
    head = [f"flush set {TABLE} digest", *make]
    deletes: list[Element] = []
    adds: list[Element] = [_UNDER_WAY] if divided else []
    for delete, add in _indivisible(changes, shared_change, limit):
        if (deletes or adds) and len(deletes) + len(adds) + len(delete) + len(add) > limit:
            yield _script(head, deletes, adds)
            head, deletes, adds = [], [], []
        deletes += delete
        adds += add
        divided = divided or add == [_UNDER_WAY]
    tail = [f"delete chain {TABLE} {name}" for name in drop]
    tail += [f"delete element {TABLE} digest {{ {DIVIDED} }}"] if divided else []
    yield _script(head, deletes, adds, [*tail, f'add element {TABLE} digest {{ 1 comment "{digest}" }}'])


_UNDER_WAY = Element("digest", DIVIDED)


def _indivisible(
    changes: Iterable[Change], shared_change: Change, limit: int
) -> Iterator[tuple[list[Element], list[Element]]]:
    """What must be deleted and added together, in order. A port that fits into one transaction is not divided."""
    for each in shared_change.before:
        yield [], [each]
    for before, delete, add, after in changes:
        if len(before) + len(delete) + len(add) + len(after) <= limit:
            yield delete + after, before + add
            continue
        yield [], [_UNDER_WAY]
        for start in range(0, len(before), limit):
            yield [], before[start : start + limit]
        if len(delete) + len(add) <= max(limit, WHOLE):
            yield delete, add
        else:
            yield from _divided(delete, add, limit)
        for start in range(0, len(after), limit):
            yield after[start : start + limit], []
    for each in shared_change.add:
        yield [], [each]
    for each in shared_change.after:
        yield [each], []


def _divided(delete: list[Element], add: list[Element], limit: int) -> Iterator[tuple[list[Element], list[Element]]]:
    """A flip in parts: slots, each of which leads to its old or its new endpoint; verdicts; what may be learned.

    Between the parts a client may still be pinned to an endpoint that goes: sessions are put right afterwards.
    """
    old, new = ([each for each in some if each.name.startswith("slots")] for some in (delete, add))
    for start in range(0, len(old), limit // 2):
        yield old[start : start + limit // 2], new[start : start + limit // 2]
    yield (
        [each for each in delete if not each.name.startswith(("slots", "live"))],
        [each for each in add if not each.name.startswith("slots")],
    )
    live = [each for each in delete if each.name.startswith("live")]
    for start in range(0, len(live), limit):
        yield live[start : start + limit], []


def keys_of(script: str) -> set[Key]:
    """The ports whose elements a script completes."""
    return {key_of(each) for each in _CARRIED.findall(script)}


_CARRIED = re.compile(r"(\S+ \. \w+ \. \d+) comment ")


def _script(head: list[str], deletes: list[Element], adds: list[Element], tail: Iterable[str] = ()) -> str:
    return "\n".join([*head, *_lines("delete", deletes), *_lines("add", adds), *tail]) + "\n"


def _lines(command: str, elements: list[Element]) -> list[str]:
    """One command for each set or map."""
    by_name: dict[str, list[str]] = {}
    for name, key, value in elements:
        if value and command == "add":
            key += f' comment "{value}"' if name.startswith("carried") else f" : {value}"
        by_name.setdefault(name, []).append(key)
    return [f"{command} element {TABLE} {name} {{ {', '.join(each)} }}" for name, each in by_name.items()]

"""nftables in memory, behind the interface of `moorage.dataplane.nft`, for tests.

It knows exactly the commands that Moorage emits and refuses all others; transactions are all or nothing, and errors
are the kernel's. One test suite checks that it and the kernel behave the same. One difference: an expired element is
gone at once, while the kernel counts it against the size of its set for about a second more.

Rules are kept as text; the packet tracer in the tests interprets them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from moorage.dataplane.elements import RawElement
from moorage.dataplane.fake_syntax import (
    Entry,
    RefusedError,
    Set,
    listed_value,
    overlap,
    parse_elements,
    parse_seconds,
    parse_set,
    raw,
    references,
    written,
)
from moorage.dataplane.nft import (
    FAMILY,
    TABLE_NAME,
    TRIAL_NAME,
    Hook,
    ListedChain,
    ListedElement,
    NftError,
    Outline,
    Word,
)

ENOENT = "No such file or directory"
EEXIST = "File exists"
EBUSY = "Device or resource busy"
ENFILE = "Too many open files in system"
EINVAL = "Invalid argument"
ERANGE = "Numerical result out of range"
EOPNOTSUPP = "Operation not supported"
OVERLAP = "interval overlaps with an existing one"


class Chain:
    """A chain with its rules, as text."""

    def __init__(self, hook: Hook | None) -> None:
        self.hook = hook
        self.rules: tuple[str, ...] = ()


class _Table:
    def __init__(self) -> None:
        self.sets: dict[str, Set] = {}
        self.chains: dict[str, Chain] = {}
        self.counters: dict[str, int] = {}
        self.chain_uses: Counter[str] = Counter()
        self.set_uses: Counter[str] = Counter()


class FakeNft:
    """An `Nft` in memory. `clock` returns seconds; only differences matter."""

    def __init__(self, clock: Callable[[], float], version: str = "nftables v1.1.3 (Commodore Bullmoose #4)") -> None:
        self._clock = clock
        self._version = version
        self._table: _Table | None = None
        self._undo: list[Callable[[], object]] = []
        self.scripts: list[str] = []
        """Every script that was carried out, in order."""

    # --- The interface -------------------------------------------------------------------------------------------

    async def run(self, script: str) -> None:
        self._transaction(script, keep=True)
        self.scripts.append(script)

    async def refusal(self, script: str) -> str | None:
        there = FakeNft(self._clock) if f" {FAMILY} {TRIAL_NAME} " in script else self
        try:
            there._transaction(script.replace(f" {FAMILY} {TRIAL_NAME}", f" {FAMILY} {TABLE_NAME}"), keep=False)
        except NftError as error:
            return str(error)
        return None

    async def check(self, script: str) -> bool:
        return await self.refusal(script) is None

    async def elements(self, name: str) -> list[ListedElement]:
        return [
            ListedElement(key, listed_value(each.value), each.timeout, _left(each, self._clock()), each.comment)
            for _, key, each in self._alive(name)
        ]

    async def learned(self, name: str) -> list[RawElement]:
        return [raw(found, key, entry, self._clock()) for found, key, entry in self._alive(name)]

    async def learned_count(self, name: str) -> int:
        return len(await self.learned(name))

    async def relearn(self, name: str, old: Sequence[RawElement], new: Sequence[RawElement]) -> None:
        found = self._set(None, name)
        ageless = [written(found, replace(each, timeout=None, expires=None)) for each in old]
        lines = [
            f"{command} element {FAMILY} {TABLE_NAME} {name} {{ {', '.join(elements)} }}\n"
            for command, elements in (
                ("add", ageless),
                ("delete", [each.partition(" : ")[0] for each in ageless]),
                ("add", [written(found, each) for each in new]),
            )
            if elements
        ]
        await self.run("".join(lines))

    async def chains(self) -> set[str]:
        return set(self._table.chains) if self._table else set()

    async def outline(self) -> Outline:
        if self._table is None:
            return Outline(frozenset(), {}, frozenset())
        chains = {name: ListedChain(each.hook, len(each.rules)) for name, each in self._table.chains.items()}
        return Outline(frozenset(self._table.sets), chains, frozenset(self._table.counters))

    async def packets(self, counter: str) -> int:
        return self._table.counters.get(counter, 0) if self._table else 0

    async def version(self) -> str:
        return self._version

    def _alive(self, name: str) -> list[tuple[Set, tuple[Word, ...], Entry]]:
        found, now = (self._table.sets.get(name) if self._table else None), self._clock()
        return [(found, key, each) for key, each in found.entries.items() if each.deadline > now] if found else []

    # --- What packets do: for the tracer -------------------------------------------------------------------------

    def hooked(self, hook: str) -> dict[str, Hook]:
        """The base chains at a hook, by name."""
        chains = self._table.chains if self._table else {}
        return {name: chain.hook for name, chain in chains.items() if chain.hook and chain.hook.hook == hook}

    def rules(self, chain: str) -> tuple[str, ...]:
        """The rules of a chain as text. Raises KeyError if there is no such chain."""
        return self._existing().chains[chain].rules

    def lookup(self, name: str, key: tuple[Word, ...]) -> Entry | None:
        """The entry of a set or map that a packet finds. Raises KeyError (no such set), ValueError (wrong key)."""
        found = self._existing().sets[name]
        if len(key) != len(found.key):
            raise ValueError(f"@{name} is looked up with {key}, but its key is {' . '.join(found.key)}")
        if found.intervals:
            key = next((each for each in found.entries if overlap(each, key)), key)
        return self._live(found, key)

    def update(
        self, name: str, key: tuple[Word, ...], value: tuple[Word, ...], timeout: int, *, prolong: bool = True
    ) -> bool:
        """What a rule's `update` does: add an element, or prolong it and KEEP its value and timeout. False: the set
        is full. `prolong`: without that it is a rule's `add`."""
        found = self._existing().sets[name]
        old = self.lookup(name, key)
        if old is None and self._full(found):
            return False
        if len(value) != len(found.data):
            raise ValueError(f"@{name} is updated with {value}, but its data is {' . '.join(found.data)}")
        deadline = self._clock() + timeout
        if old is None:
            found.entries[key] = Entry(value or None, timeout, deadline, None)
        elif prolong:
            found.entries[key] = old._replace(deadline=deadline)
        return True

    def count(self, counter: str) -> None:
        """Count one packet. Raises KeyError if there is no such counter."""
        self._existing().counters[counter] += 1

    # --- Transactions --------------------------------------------------------------------------------------------

    def _existing(self) -> _Table:
        if self._table is None:
            raise RefusedError(ENOENT)
        return self._table

    def _transaction(self, script: str, *, keep: bool) -> None:
        self._undo = []
        done = False
        try:
            for line in script.splitlines():
                if line.strip():
                    try:
                        self._command(line.strip())
                    except RefusedError as error:
                        raise NftError(f"nft: {error}: {line[:120]}") from None
            done = True
        finally:
            if not (done and keep):
                for step in reversed(self._undo):
                    step()
            self._undo.clear()

    def _command(self, line: str) -> None:
        for pattern, method in _COMMANDS:
            if match := pattern.fullmatch(line):
                method(self, **match.groupdict())
                return
        raise RefusedError("the fake does not know this command")

    def _add_table(self) -> None:
        if self._table is None:
            self._table = _Table()
            self._undo.append(lambda: setattr(self, "_table", None))

    def _delete_table(self) -> None:
        old = self._existing()
        self._table = None
        self._undo.append(lambda: setattr(self, "_table", old))

    def _add_counter(self, name: str) -> None:
        counters = self._existing().counters
        if name not in counters:
            counters[name] = 0
            self._undo.append(lambda: counters.pop(name))

    def _add_set(self, kind: str, name: str, spec: str) -> None:
        made = parse_set(kind, spec)
        sets = self._existing().sets
        old = sets.get(name)
        if old is None:
            sets[name] = made
            self._undo.append(lambda: sets.pop(name))
        elif _form(old) != _form(made):
            raise RefusedError(EEXIST)

    def _delete_set(self, kind: str, name: str) -> None:
        table = self._existing()
        found = self._set(kind, name)
        if table.set_uses[name]:
            raise RefusedError(EBUSY)
        self._flush_set(kind, name)
        del table.sets[name]
        self._undo.append(lambda: table.sets.__setitem__(name, found))

    def _flush_set(self, kind: str, name: str) -> None:
        found = self._set(kind, name)
        for key in list(found.entries):
            self._remove(found, key)

    def _add_chain(self, name: str, type: str | None, hook: str | None, priority: str | None) -> None:
        chains = self._existing().chains
        attached = Hook(type, hook, int(priority)) if type and hook and priority else None
        old = chains.get(name)
        if old is None:
            chains[name] = Chain(attached)
            self._undo.append(lambda: chains.pop(name))
        elif attached is not None and old.hook != attached:
            raise RefusedError(EEXIST if old.hook is None else EOPNOTSUPP)

    def _flush_chain(self, name: str) -> None:
        self._set_rules(self._chain(name), ())

    def _delete_chain(self, name: str) -> None:
        table, chain = self._existing(), self._chain(name)
        if table.chain_uses[name]:
            raise RefusedError(EBUSY)
        self._set_rules(chain, ())
        del table.chains[name]
        self._undo.append(lambda: table.chains.__setitem__(name, chain))

    def _add_rule(self, name: str, rule: str) -> None:
        table, chain = self._existing(), self._chain(name)
        for seconds in re.findall(r" timeout (\S+)s\b", rule):
            parse_seconds(seconds)
        chains, sets, counters = references(rule)
        if not (chains <= table.chains.keys() and sets <= table.sets.keys() and counters <= table.counters.keys()):
            raise RefusedError(ENOENT)
        self._set_rules(chain, (*chain.rules, rule))

    def _add_elements(self, name: str, elements: str) -> None:
        found = self._set(None, name)
        for key, value, timeout, expires, comment in parse_elements(found, elements):
            if bool(found.data) != (value is not None) or (timeout is not None and not found.timeouts):
                raise RefusedError(EINVAL)
            old = self._live(found, key)
            if old is not None and old.value != value:
                raise RefusedError(EEXIST)
            if old is None and self._full(found):
                raise RefusedError(ENFILE)
            if old is None and found.intervals and any(overlap(key, each) for each in found.entries):
                raise RefusedError(OVERLAP)
            if found.data == ("verdict",):
                self._chain(str(value).partition(" ")[2])
            left = timeout if expires is None else expires
            if left is not None and timeout is not None and left > timeout:
                raise RefusedError(ERANGE)
            deadline = self._clock() + left if left is not None else math.inf
            # The kernel renews the timeout of an element that exists (since 6.12), and never its comment.
            self._put(found, key, Entry(value, timeout, deadline, comment if old is None else old.comment))

    def _delete_elements(self, name: str, elements: str) -> None:
        found = self._set(None, name)
        for key, *_ in parse_elements(found, elements):
            if self._live(found, key) is None:
                raise RefusedError(ENOENT)
            self._remove(found, key)

    # --- Steps that can be undone --------------------------------------------------------------------------------

    def _set(self, kind: str | None, name: str) -> Set:
        found = self._existing().sets.get(name)
        if found is None or kind not in (None, found.kind):
            raise RefusedError(ENOENT)
        return found

    def _chain(self, name: str) -> Chain:
        found = self._existing().chains.get(name)
        if found is None:
            raise RefusedError(ENOENT)
        return found

    def _live(self, found: Set, key: tuple[Word, ...]) -> Entry | None:
        entry = found.entries.get(key)
        return entry if entry is not None and entry.deadline > self._clock() else None

    def _full(self, found: Set) -> bool:
        now = self._clock()
        return len(found.entries) >= found.size and (
            sum(entry.deadline > now for entry in found.entries.values()) >= found.size
        )

    def _put(self, found: Set, key: tuple[Word, ...], entry: Entry) -> None:
        if key in found.entries:
            self._remove(found, key)
        found.entries[key] = entry
        self._undo.append(lambda: found.entries.pop(key))
        self._use(found, entry, 1)

    def _remove(self, found: Set, key: tuple[Word, ...]) -> None:
        entry = found.entries.pop(key)
        self._undo.append(lambda: found.entries.__setitem__(key, entry))
        self._use(found, entry, -1)

    def _use(self, found: Set, entry: Entry, count: int) -> None:
        if found.data == ("verdict",):
            self._change(self._existing().chain_uses, str(entry.value).partition(" ")[2], count)

    def _set_rules(self, chain: Chain, rules: tuple[str, ...]) -> None:
        table, old = self._existing(), chain.rules
        chain.rules = rules
        self._undo.append(lambda: setattr(chain, "rules", old))
        for several, count in ((old, -1), (rules, 1)):
            for rule in several:
                chains, sets, _ = references(rule)
                for name in chains:
                    self._change(table.chain_uses, name, count)
                for name in sets:
                    self._change(table.set_uses, name, count)

    def _change(self, uses: Counter[str], name: str, count: int) -> None:
        uses[name] += count
        self._undo.append(lambda: uses.update({name: -count}))


_NAME = r"(?P<name>[\w-]+)"
_COMMANDS: list[tuple[re.Pattern[str], Callable[..., None]]] = [
    (re.compile(pattern), method)
    for pattern, method in (
        (r"add table inet moorage", FakeNft._add_table),
        (r"delete table inet moorage", FakeNft._delete_table),
        (rf"add counter inet moorage {_NAME}", FakeNft._add_counter),
        (rf"add (?P<kind>set|map) inet moorage {_NAME} \{{ (?P<spec>.*;) \}}", FakeNft._add_set),
        (rf"delete (?P<kind>set|map) inet moorage {_NAME}", FakeNft._delete_set),
        (rf"flush (?P<kind>set|map) inet moorage {_NAME}", FakeNft._flush_set),
        (
            rf"add chain inet moorage {_NAME}(?: \{{ type (?P<type>filter|nat) hook (?P<hook>\w+) "
            r"priority (?P<priority>-?\d+); (?:policy accept; )?\})?",
            FakeNft._add_chain,
        ),
        (rf"flush chain inet moorage {_NAME}", FakeNft._flush_chain),
        (rf"delete chain inet moorage {_NAME}", FakeNft._delete_chain),
        (rf"add rule inet moorage {_NAME} (?P<rule>.+)", FakeNft._add_rule),
        (rf"add element inet moorage {_NAME} \{{ (?P<elements>.+) \}}", FakeNft._add_elements),
        (rf"delete element inet moorage {_NAME} \{{ (?P<elements>.+) \}}", FakeNft._delete_elements),
    )
]


def _form(found: Set) -> tuple[object, ...]:
    return found.kind, found.key, found.data, found.timeouts, found.intervals


def _left(entry: Entry, now: float) -> int | None:
    return int(entry.deadline - now) if entry.timeout is not None else None

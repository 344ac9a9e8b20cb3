"""Compares the kernel's table with what it should be, and gives every difference as data. It repairs nothing.

`read` says what the kernel has, `wanted` what it should have, `compare` what differs. The synchronizer reads and
compares by the same functions (`reading`, `changes.compare`) and then repairs; `verify` and `status` only look.

The text of rules cannot be compared, because nft prints them in another form than it was given. Their number is
compared, and the digest of the version that wrote them.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moorage.dataplane import changes, reading, sessions
from moorage.dataplane.changes import Content, Difference, Ledger
from moorage.dataplane.model import NodeState, UnitKey
from moorage.dataplane.nft import Hook, ListedChain, Nft, Outline
from moorage.dataplane.ruleset import IGNORE, REFUSE, base_chains, rules_digest
from moorage.dataplane.schema import (
    CONTAINERS,
    COUNTERS,
    DIGEST,
    RULES_DIGEST,
    TABLE,
    WHOLE,
    Container,
    Element,
    Elements,
    text,
    value_of,
)
from moorage.dataplane.units import Learns


class Kernel(NamedTuple):
    """The table, as it is or as it should be."""

    outline: Outline
    content: Content
    digests: Elements
    """RULES_DIGEST and DIGEST: their one element's comment."""


class Finding(NamedTuple):
    """One difference."""

    subject: str
    """What differs: `map services4`, `chain dnat-output`, `counter misses`, `table inet moorage`."""
    have: str | None
    """What the kernel has; for a chain, its hook and the number of its rules. None: it does not exist. Empty: it
    does."""
    want: str | None
    """What it should be. None: it should not exist. Empty: it should."""
    key: str = ""
    """The key of an element, as nft writes it."""
    unit: UnitKey | None = None
    """The unit that the element belongs to; None: several units, or none."""

    def __str__(self) -> str:
        """One line for a person."""
        subject = f"{self.subject}: {self.key}" if self.key else self.subject
        if self.have is None:
            return f"{subject} is missing" + (f"; it should be {self.want}" if self.want else "")
        if self.want is None:
            return f"{subject} should not be there" + (f"; it is {self.have}" if self.have else "")
        return f"{subject} is {self.have or 'without comment'}; it should be {self.want or 'without comment'}"


async def audit(nft: Nft, state: NodeState, learns: Learns) -> list[Finding]:
    """All differences between the kernel and `state`. Raises NftError.

    `learns`: the families whose sessions can be learned. While an agent is changing the table, its unfinished changes
    show up as well: look again before you call it a fault.
    """
    return [
        *compare(await read(nft), wanted(state, learns)),
        *_sessions(sessions.corrections(await sessions.read(nft), state)),
    ]


async def read(nft: Nft) -> Kernel:
    """What the kernel has. Raises NftError."""
    digests = {
        container: {text(each.key): value_of(container, each) for each in await nft.elements(container.name)}
        for container in (RULES_DIGEST, DIGEST)
    }
    return Kernel(await nft.outline(), await reading.read_all(nft), digests)


def wanted(state: NodeState, learns: Learns) -> Kernel:
    """What the kernel should have while it carries `state`. Pure."""
    ledger, learn6 = Ledger(state, learns), 6 in learns
    chains = [*base_chains(learn6), REFUSE, IGNORE, *ledger.chains().values()]
    outline = Outline(
        frozenset(each.name for each in CONTAINERS),
        {each.name: ListedChain(each.hook, len(each.rules)) for each in chains},
        frozenset(COUNTERS),
    )
    digests = {RULES_DIGEST: {WHOLE: rules_digest(learn6)}, DIGEST: {WHOLE: ledger.digest}}
    return Kernel(outline, ledger.content, digests)


def compare(have: Kernel, want: Kernel) -> list[Finding]:
    """Every difference. A set or map that is missing is one finding, not one for each of its elements. Pure."""
    if not have.outline.containers and not have.outline.chains:
        return [Finding(f"table {TABLE}", None, "")]
    found = list(_outline(have.outline, want.outline))
    for key in sorted(have.content.units.keys() | want.content.units.keys(), key=str):
        own = changes.compare(have.content.units.get(key, {}), want.content.units.get(key, {}))
        found += _elements(own, have.outline, key)
    found += _elements(
        changes.compare(_by_container(have.content.shared), _by_container(want.content.shared)), have.outline
    )
    return found + _elements(changes.compare(have.digests, want.digests), have.outline)


def _outline(have: Outline, want: Outline) -> Iterator[Finding]:
    kinds = {each.name: each.kind for each in CONTAINERS}
    for name in sorted(have.containers ^ want.containers):
        yield _presence(f"{kinds.get(name, 'set or map')} {name}", name in have.containers)
    for name in sorted(have.counters ^ want.counters):
        yield _presence(f"counter {name}", name in have.counters)
    for name in sorted(have.chains.keys() | want.chains.keys()):
        here, there = have.chains.get(name), want.chains.get(name)
        if here != there:
            yield Finding(f"chain {name}", _chain(here), _chain(there))


def _presence(subject: str, is_there: bool) -> Finding:
    return Finding(subject, "", None) if is_there else Finding(subject, None, "")


def _chain(chain: ListedChain | None) -> str | None:
    if chain is None:
        return None
    return f"{_hook(chain.hook)} with {chain.rules} rule{'' if chain.rules == 1 else 's'}"


def _hook(hook: Hook | None) -> str:
    return f"{hook.type} hook {hook.hook} priority {hook.priority}" if hook else "no hook"


def _by_container(elements: Iterable[Element]) -> Elements:
    result: Elements = {}
    for container, key, value in elements:
        result.setdefault(container, {})[key] = value
    return result


def _elements(differences: Iterable[Difference], outline: Outline, unit: UnitKey | None = None) -> list[Finding]:
    return [
        Finding(_subject(container), have, want, key, unit)
        for container, key, have, want in differences
        if container.name in outline.containers
    ]


def _subject(container: Container) -> str:
    return f"{container.kind} {container.name}"


def _sessions(corrections: Iterable[sessions.Correction]) -> Iterator[Finding]:
    for each in corrections:
        session = each.session
        have = f"{text(session.target)} timeout {session.timeout}s"
        want = f"{text(session.target)} timeout {each.timeout}s" if each.timeout else None
        yield Finding(f"map {session.container.name}", have, want, session.text, session.key)

"""Node states for tests: strategies, and what a fake kernel holds of them."""

from collections.abc import Iterable

from hypothesis import strategies as st

from moorage.dataplane.changes import Ledger
from moorage.dataplane.elements import RawElement
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import (
    Affinity,
    Balanced,
    ByClientIP,
    Endpoint,
    NodeState,
    ServiceAddress,
    ServicePort,
    Target,
)
from moorage.dataplane.nft import ListedElement
from moorage.dataplane.ruleset import base
from moorage.dataplane.schema import CONTAINERS, DIGEST, ReadBack

BOTH = frozenset({4, 6})

KEYS = [
    ServiceAddress("10.96.0.1", "tcp", 80),
    ServiceAddress("10.96.0.1", "udp", 80),
    ServiceAddress("10.96.0.2", "tcp", 80),
    ServiceAddress("fd00:10:96::1", "tcp", 80),
]


def endpoint(number: int, *, weight: int = 1, local: bool = False, family: int = 4, port: int = 80) -> Endpoint:
    """An endpoint whose address ends in `number`, which is its name, too."""
    address = f"203.0.113.{number}" if family == 4 else f"2001:db8::{number:x}"
    return Endpoint(f"backend{number:03}", Target(address, port), weight, local)


def port(key: ServiceAddress, numbers: Iterable[int], affinity: int = 0, weight: int = 1) -> ServicePort:
    """A port with the endpoints of these numbers."""
    endpoints = tuple(endpoint(number, family=key.family, weight=weight) for number in sorted(numbers))
    return ServicePort(service="frontend/backend", key=key, endpoints=endpoints, affinity=affinity_of(affinity))


def affinity_of(seconds: int) -> Affinity:
    """By client IP for so many seconds; 0: balanced."""
    return ByClientIP(seconds) if seconds else Balanced()


@st.composite
def states(draw: st.DrawFn, keys: list[ServiceAddress] = KEYS, most: int = 9) -> NodeState:
    """Some of `keys`, each with none to `most` endpoints, with and without affinity."""
    state = {}
    for key in draw(st.sets(st.sampled_from(keys))):
        numbers = draw(st.sets(st.integers(1, most)))
        weights = draw(st.sampled_from([1, 1, 1, 2]))
        ends = tuple(
            endpoint(number, family=key.family, weight=weights if number == 1 else 1, local=number == 2)
            for number in sorted(numbers)
        )
        affinity = draw(st.sampled_from([0, 60, 10800]))
        state[key] = ServicePort(service="frontend/backend", key=key, endpoints=ends, affinity=affinity_of(affinity))
    return state


async def content(nft: FakeNft) -> dict[str, dict[str, str]]:
    """All that the ruleset put into the fake's sets and maps, by name, as text."""
    result = {}
    for name in (each.name for each in CONTAINERS if each is DIGEST or each.read_back is not ReadBack.APART):
        elements = await nft.elements(name)
        result[name] = {" . ".join(map(str, each.key)): each.comment or _value(each.value) for each in elements}
    return result


def _value(value: object) -> str:
    return " . ".join(map(str, value)) if isinstance(value, tuple) else str(value or "")


async def programmed(state: NodeState, limit: int = 1000) -> tuple[FakeNft, Ledger]:
    """A fake kernel that carries `state`, and the ledger that knows it."""
    nft = FakeNft(lambda: 0.0)
    await nft.run("\n".join(base(learn6=True)) + "\n")
    ledger = Ledger({}, BOTH, limit)
    for transaction in ledger.change_to(dict(state)):
        await nft.run(transaction.script)
    return nft, ledger


class ReadingNft(FakeNft):
    """Notes which sets and maps were listed."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.listed: list[str] = []

    async def elements(self, name: str) -> list[ListedElement]:
        self.listed.append(name)
        return await super().elements(name)

    async def learned(self, name: str) -> list[RawElement]:
        self.listed.append(name)
        return await super().learned(name)

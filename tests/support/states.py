"""Node states for tests: strategies, and what a fake kernel holds of them."""

from collections.abc import Iterable

from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.dataplane.changes import Ledger
from moorage.dataplane.elements import RawElement
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import (
    Affinity,
    Balanced,
    ByClientIP,
    ClientTarget,
    Endpoint,
    Moored,
    MooringKey,
    NodeState,
    PodPrefix,
    PodPrefixKey,
    ServiceAddress,
    ServicePort,
    Target,
    Unit,
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

AFFINITIES: list[Affinity] = [Balanced(), ByClientIP(60), ByClientIP(10800), Moored(60), Moored(60, holds=True)]
MOORED_CLIENTS = {4: ["10.244.1.2", "10.244.1.3"], 6: ["fd00:10:244:1::2", "fd00:10:244:1::3"]}
PREFIXES = [[], ["10.244.1.0/24"], ["10.244.0.0/16", "fd00:10:244:1::/64"], ["10.244.1.2/32", "10.244.1.3/32"]]


def endpoint(number: int, *, weight: int = 1, local: bool = False, family: int = 4, port: int = 80) -> Endpoint:
    """An endpoint whose address ends in `number`, which is its name, too."""
    address = f"203.0.113.{number}" if family == 4 else f"2001:db8::{number:x}"
    return Endpoint(f"backend{number:03}", Target(address, port), weight, local)


def port(key: ServiceAddress, numbers: Iterable[int], affinity: int | Affinity = 0, weight: int = 1) -> ServicePort:
    """A port with the endpoints of these numbers."""
    endpoints = tuple(endpoint(number, family=key.family, weight=weight) for number in sorted(numbers))
    affinity = affinity_of(affinity) if isinstance(affinity, int) else affinity
    return ServicePort(service="frontend/backend", key=key, endpoints=endpoints, affinity=affinity)


def mooring(client: str, key: ServiceAddress, number: int) -> ClientTarget:
    """The client is moored to the endpoint of this number."""
    return ClientTarget(MooringKey(client, key), endpoint(number, family=key.family).target)


def prefix(text: str) -> PodPrefix:
    """The pods of the node have these addresses."""
    return PodPrefix(PodPrefixKey(text))


def node_state(units: Iterable[Unit]) -> NodeState:
    """The state of these units."""
    return {unit.key: unit for unit in units}


def ports_of(state: NodeState) -> dict[ServiceAddress, ServicePort]:
    """Only the ports of Services."""
    return {unit.key: unit for unit in state.values() if isinstance(unit, ServicePort)}


def affinity_of(seconds: int) -> Affinity:
    """By client IP for so many seconds; 0: balanced."""
    return ByClientIP(seconds) if seconds else Balanced()


@st.composite
def states(draw: st.DrawFn, keys: list[ServiceAddress] = KEYS, most: int = 9) -> NodeState:
    """Some of `keys`, each with none to `most` endpoints, with each affinity; moorings to these; ranges of pods."""
    state: NodeState = node_state(map(prefix, draw(st.sampled_from(PREFIXES))))
    for key in draw(st.sets(st.sampled_from(keys))):
        numbers = draw(st.sets(st.integers(1, most)))
        weights = draw(st.sampled_from([1, 1, 1, 2]))
        ends = tuple(
            endpoint(number, family=key.family, weight=weights if number == 1 else 1, local=number == 2)
            for number in sorted(numbers)
        )
        affinity = draw(st.sampled_from(AFFINITIES))
        state[key] = ServicePort(service="frontend/backend", key=key, endpoints=ends, affinity=affinity)
        if not numbers:
            state[key] = replace(state[key], ignores=draw(st.booleans()))
        if numbers and isinstance(affinity, Moored):
            for client in draw(st.sets(st.sampled_from(MOORED_CLIENTS[key.family]))):
                number = draw(st.sampled_from(sorted(numbers)))
                state |= node_state([mooring(client, key, number)])
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

"""Leaders that are lost after one write each: the next one goes on from what there is, and nobody is led astray."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from moorage.api.discovery_v1 import Endpoint, EndpointSlice
from moorage.api.moorings_v1alpha1 import Mooring
from testing.eventually import eventually
from testing.kube_proxy import allowed, used
from tests.support.moored import address_of, apart, moored
from tests.support.operators import Operator

NODES = [f"n{number}" for number in range(6)]
MAX_TERMS = 60


@pytest.fixture
def op(op: Operator) -> Operator:
    """With a grace period that never ends."""
    op.grace_seconds = 10**6
    return op


# --- What changes -------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A change, and what comes of it."""

    change: Callable[[Operator, "Case"], Awaitable[None]]
    moved: int
    """How many clients have another endpoint afterwards."""
    without: Sequence[str] = ()
    """Endpoints without clients afterwards."""
    before: Callable[[Operator, "Case"], Awaitable[None]] | None = None
    """What has happened before that; None: there is nothing yet."""
    client: str = "Node"
    on_recovery: str = "Stay"
    group: str = "backend"
    """In which the clients are in the end."""

    @property
    def clients(self) -> list[str]:
        return NODES if self.client == "Node" else ["default"]

    async def apply(self, op: Operator, *names: str, **spec: Any) -> None:
        """Have these endpoints."""
        mooring = {"onRecovery": self.on_recovery}
        await op.apply(moored(client=self.client, mooring=mooring, endpoints=apart(*names), **spec))


async def it_is_made(op: Operator, case: Case) -> None:
    for each in NODES:
        await op.node(each)
    await case.apply(op)


async def nothing(op: Operator, case: Case) -> None:
    pass


async def an_endpoint_fails(op: Operator, case: Case) -> None:
    op.down.add(address_of("one"))


async def it_is_back(op: Operator, case: Case) -> None:
    op.down.clear()


async def the_active_one_fails(op: Operator, case: Case) -> None:
    (active,) = (await op.moorings()).values()
    op.down.add(address_of(active))


async def an_endpoint_is_taken_away(op: Operator, case: Case) -> None:
    await case.apply(op, "two", "three")


async def an_endpoint_is_drained(op: Operator, case: Case) -> None:
    """By a time that has passed."""
    await case.apply(op, drain=[{"endpoint": "one", "before": "2026-01-01T00:00:00Z"}])


async def two_change_places(op: Operator, case: Case) -> None:
    at = await op.moorings()
    first, second = (next(node for node in NODES if at[node] == name) for name in ("one", "two"))
    for node, endpoint in ((first, "two"), (second, "one")):
        name = (await op.mooring(node)).metadata.name
        await op.client.patch(Mooring, "default", name, {"spec": {"endpoint": endpoint}})


async def its_group_becomes_another(op: Operator, case: Case) -> None:
    await case.apply(op, group=case.group)


CASES = [
    Case(it_is_made, 6),
    Case(an_endpoint_fails, 2, ["one"], nothing),
    Case(it_is_back, 2, [], an_endpoint_fails, on_recovery="Return"),
    Case(an_endpoint_is_taken_away, 2, ["one"], nothing),
    Case(an_endpoint_is_drained, 2, ["one"], nothing),
    Case(two_change_places, 2, [], nothing),
    Case(its_group_becomes_another, 0, [], nothing, group="all"),
    Case(it_is_made, 1, client="Namespace"),
    Case(the_active_one_fails, 1, [], nothing, client="Namespace"),
]


# --- What becomes of it -------------------------------------------------------------------------------------------


async def where(op: Operator, case: Case) -> dict[str, str]:
    """Client -> endpoint, by the Moorings of its group."""
    found = (await op.client.list(Mooring, "default")).items
    return {each.spec.client.name: str(each.status.endpoint) for each in found if each.spec.group == case.group}


async def led(op: Operator, case: Case) -> dict[str, str]:
    """The same by the slices; of a Namespace by which endpoint is ready."""
    hints = await op.hints()
    if case.client == "Namespace":
        return dict.fromkeys(case.clients, *hints) if len(hints) == 1 else {}
    return {node: name for name, nodes in hints.items() for node in nodes if node in NODES}


async def come_about(op: Operator, case: Case, before: dict[str, str]) -> bool:
    now = await where(op, case)
    return (
        sorted(now) == case.clients
        and sum(now[each] != before.get(each) for each in case.clients) == case.moved
        and not set(case.without) & set(now.values())
        and await led(op, case) == now
    )


def states(op: Operator, since: int) -> Iterator[list[list[Endpoint]]]:
    """What the slices held at that version, and after each write since then."""
    there: dict[str, list[Endpoint]] = {}
    for change in op.server.store.changes(op.server.store.oldest):
        if change.kind.plural != "endpointslices":
            continue
        if change.version > since:
            yield list(there.values())
        name = change.last["metadata"]["name"]
        there.pop(name, None)
        if change.after is not None:
            there[name] = msgspec.convert(change.after, EndpointSlice).endpoints or []
    yield list(there.values())


async def at_rest(op: Operator) -> None:
    """A leader finishes all that there is to do."""
    async with op.running():
        await op.rests()
        op.prober.check(times=3)
        await op.rests()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.client}-{case.change.__name__}")
async def test_leaders_that_write_once_each_do_together_what_one_would_do(op: Operator, case: Case) -> None:
    before: dict[str, str] = {}
    if case.before is not None:
        await it_is_made(op, case)
        await at_rest(op)
        await case.before(op, case)
        await at_rest(op)
        before = await where(op, case._replace(group="backend"))
        assert await led(op, case) == before
    since = op.server.store.version
    await case.change(op, case)
    for _ in range(MAX_TERMS):
        async with op.running():
            op.leading.leave_after(1)

            async def lost_or_done() -> bool:
                if op.term.synced:
                    op.prober.check()
                return op.leading.refused > 0 or await come_about(op, case, before)

            await eventually(lost_or_done)
        if await come_about(op, case, before):
            break
    await at_rest(op)
    assert await come_about(op, case, before)
    await op.next_leader_writes_nothing()
    if case.client == "Node":
        assert len(set(Counter((await where(op, case)).values()).values())) == 1, "evenly"
    moments = list(states(op, since))
    first, last = moments[0], moments[-1]
    for moment in moments:
        for node in NODES:
            now = used(moment, node)
            assert now <= allowed(first, last, node), node
            assert now or not used(first, node), node

"""Random histories of everything that moorings depend on, with faults, on a real operator and the lab's API server.

tests/core/test_mooring_histories.py has many more of them, without loops, watches and requests.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import pytest

from moorage.api.core_v1 import Node
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.errors import ApiError
from testing.eventually import eventually
from tests.support.moored import ENDS, address_of, apart, moored
from tests.support.operators import Operator

NODES = [f"n{number}" for number in range(9)]
STEPS = 30


@pytest.fixture
def op(op: Operator) -> Operator:
    """With a grace period that never ends."""
    op.grace_seconds = 10**6
    return op


class Walk:
    """One history. Each thing that can happen is a method whose name has no underscore in front."""

    def __init__(self, op: Operator, seed: int) -> None:
        self.op = op
        self.chance = random.Random(seed)
        self.nodes: set[str] = set()
        self.names = {"one", "two"}
        self.drained: list[str] = []
        self.term = AsyncExitStack()

    async def apply(self) -> None:
        drain = [{"endpoint": each, "before": "2026-01-01T00:00:00Z"} for each in self.drained if each in self.names]
        await self.op.apply(moored(endpoints=apart(*sorted(self.names)), drain=drain))

    # What others do.

    async def a_node_comes_or_goes(self) -> None:
        node = self.chance.choice(NODES)
        if node in self.nodes:
            await self.op.client.delete(Node, None, node)
        else:
            await self.op.node(node)
        self.nodes ^= {node}

    async def an_endpoint_is_added_or_taken_away(self) -> None:
        self.names = self.names ^ {self.chance.choice(sorted(ENDS))} or {"one"}
        await self.apply()

    async def a_drain_begins_or_ends(self) -> None:
        self.drained = [] if self.drained else [self.chance.choice(sorted(ENDS))]
        await self.apply()

    async def an_endpoint_fails_or_is_back(self) -> None:
        self.op.down ^= {address_of(self.chance.choice(sorted(ENDS)))}
        self.op.prober.check(times=2)

    async def somebody_edits(self) -> None:
        found = (await self.op.client.list(Mooring, "default")).items
        if found:
            name, wish = self.chance.choice(found).metadata.name, self.chance.choice(sorted(ENDS))
            with suppress(ApiError):  # a fault that was meant for the operator
                await self.op.client.patch(Mooring, "default", name, {"spec": {"endpoint": wish}})

    # What goes wrong.

    async def watches_end(self) -> None:
        self.op.server.faults.drop_watches()

    async def watches_end_and_changes_are_forgotten(self) -> None:
        self.op.server.store.compact()
        self.op.server.faults.drop_watches()

    async def writes_fail(self) -> None:
        code, path = self.chance.choice([409, 500, 503]), self.chance.choice(["/moorings", "/endpointslices"])
        self.op.server.faults.fail(self.chance.randint(1, 3), code=code, path=path, method="PATCH")

    async def the_leader_is_lost_soon(self) -> None:
        self.op.leading.leave_after(self.chance.randint(0, 4))

    async def another_one_leads(self) -> None:
        await self.lead()

    async def nothing_happens_for_a_while(self) -> None:
        await self.op.has_time()

    async def lead(self) -> None:
        await self.term.aclose()
        self.op.server.faults.clear()
        await self.term.enter_async_context(self.op.running())

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *(self.a_node_comes_or_goes, self.an_endpoint_fails_or_is_back, self.somebody_edits) * 3,
            *(self.an_endpoint_is_added_or_taken_away, self.a_drain_begins_or_ends),
            *(self.watches_end, self.watches_end_and_changes_are_forgotten, self.writes_fail),
            *(self.the_leader_is_lost_soon, self.another_one_leads, self.nothing_happens_for_a_while),
        ]


def each_move_is_one_write(op: Operator, since: int) -> None:
    """No write of a Mooring records more than one move, and each tells where its client came from."""
    for change in op.server.store.changes(since):
        if change.kind.plural != "moorings" or change.after is None:
            continue
        was, is_ = ((each or {}).get("status", {}) for each in (change.before, change.after))
        if was.get("endpoint") == is_.get("endpoint"):
            assert was.get("moves") == is_.get("moves")
            continue
        assert is_.get("previous") == was.get("endpoint")
        assert is_["moves"][1:] == was.get("moves", [])[: len(is_["moves"]) - 1]
        assert is_["moves"][0]["endpoint"] == is_["endpoint"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_it_ends_with_everybody_led_to_where_they_are_moored(op: Operator, seed: int) -> None:
    walk = Walk(op, seed)
    async with walk.term:
        await walk.lead()
        await walk.apply()
        for _ in range(STEPS):
            await walk.chance.choice(walk.steps())()
        op.down.clear()
        walk.drained, walk.names = [], set(ENDS)
        await walk.apply()
        await walk.lead()

        async def led() -> bool:
            op.prober.check()
            hints = await op.hints()
            moored_ = {node: name for node, name in (await op.moorings()).items() if node in walk.nodes}
            return (
                moored_.keys() == walk.nodes
                and hints.keys() == ENDS.keys()
                and {node: name for name, nodes in hints.items() for node in nodes if node in NODES} == moored_
            )

        await eventually(led)
        await op.rests()
        assert await led()
    await op.next_leader_writes_nothing()
    each_move_is_one_write(op, op.server.store.oldest)

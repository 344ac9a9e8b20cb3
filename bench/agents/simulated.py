"""Node agents without kernels: they read what agents read, by the same code, and decide nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from bench.agents import things
from bench.namespaces import BenchError
from bench.objects import NAMESPACE
from moorage.api.meta import ObjectKey
from moorage.cluster.client import Client
from moorage.core.mooring_model import ClientKey
from moorage.dataplane.services import Scope
from moorage.node.moorings import GroupClient
from moorage.node.world import World

AT_ONCE = 20
"""Agents that start at a time."""
START_SECONDS = 60
"""How long one may take for that."""
POLL_SECONDS = 0.01


@asynccontextmanager
async def reading(client: Client, nodes: Sequence[int]) -> AsyncIterator[list[World]]:
    """An agent of each of these nodes, which has read all, until the end of the block."""
    worlds = [World(client, Scope(things.node(number))) for number in nodes]
    async with asyncio.TaskGroup() as tasks:
        running = []
        for start in range(0, len(worlds), AT_ONCE):
            some = worlds[start : start + AT_ONCE]
            running += [tasks.create_task(each.run()) for each in some]
            try:
                async with asyncio.timeout(START_SECONDS):
                    for each in some:
                        await each.until_known()
                        each.clientele.want({NAMESPACE}, None)
                        await each.clientele.until_answered()
            except TimeoutError:
                raise BenchError(f"agents {start} to {start + AT_ONCE} did not start in {START_SECONDS} s") from None
        yield worlds
        for task in running:
            task.cancel()


async def until(worlds: Sequence[World], what: str, holds: Callable[[World], bool], seconds: float) -> float:
    """When it held for the last of them, by the monotonic clock. Raises BenchError."""
    deadline = time.monotonic() + seconds
    left = list(worlds)
    while left := [each for each in left if not holds(each)]:
        if time.monotonic() > deadline:
            raise BenchError(f"not within {seconds:.0f} s: {len(left)} of {len(worlds)} agents have {what}")
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic()


def has_slice(key: ObjectKey, version: str) -> Callable[[World], bool]:
    """Whether an agent has this state of an EndpointSlice."""

    def holds(world: World) -> bool:
        found = world.slices.store.get(key)
        return found is not None and found.metadata.resource_version == version

    return holds


def has_mooring(number: int, version: str) -> Callable[[World], bool]:
    """Whether an agent has this state of the Mooring of a pod."""
    client = GroupClient(things.group(0), ClientKey("Pod", things.pod(number)))

    def holds(world: World) -> bool:
        return any(each.metadata.resource_version == version for each in world.clientele.moorings(NAMESPACE, client))

    return holds

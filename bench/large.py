"""What one large Service costs the agent of a node: with a thousand endpoints, and with fifty thousand sessions.

Then a thousand Services, whose table somebody deletes. Everything is measured in one process, in a network namespace
of its own. What nft takes to list the sessions is measured beside what it takes to read them over netlink. Run by
`python -m bench`; prints JSON.
"""

import os
import time
from collections.abc import Awaitable

import msgspec

from bench import states
from bench.namespaces import BenchError, output
from bench.running import run
from moorage.dataplane import sessions
from moorage.dataplane.capabilities import probe
from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.elements import MAX_LARGE
from moorage.dataplane.model import ServicePort
from moorage.dataplane.nft import KernelNft
from moorage.dataplane.presence import Presence
from moorage.dataplane.schema import OF_FAMILY
from moorage.dataplane.sessions import Session
from moorage.dataplane.sync import Synchronizer

SESSIONS_KEPT = 5_000
"""Sessions with an endpoint that stays."""


DELETIONS = 5
"""How often the table is deleted."""


class Options(msgspec.Struct):
    endpoints: int
    changes: int
    sessions: int
    services: int
    """Of 10 endpoints, in the table that is deleted."""


class Cost(msgspec.Struct):
    """Seconds."""

    took: float
    processor: float
    """With that of nft and conntrack."""


class Result(msgspec.Struct):
    changes: list[Cost]
    """One of the Service's endpoints goes: until flows and sessions are swept."""
    listed: Cost
    """nft lists all sessions, and they are parsed."""
    read: Cost
    """The same, over netlink."""
    removed: Cost
    """The endpoint of most of the sessions goes: until these are forgotten."""
    restored: list[Cost]
    """Somebody deletes the table: until all of it is there again."""


async def _cost(doing: Awaitable[object]) -> Cost:
    before, began = _processor(), time.perf_counter()
    await doing
    return Cost(time.perf_counter() - began, _processor() - before)


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


async def measure(options: Options) -> Result:
    nft = KernelNft()
    synchronizer = Synchronizer(nft, KernelConntrack(), await probe(nft))

    async def carry(port: ServicePort) -> None:
        await synchronizer.sync({port.key: port}, {port.key})

    addresses = states.endpoint_addresses(0, options.endpoints)
    await carry(states.service_port(states.service_address(0), addresses))
    changes = []
    for number in range(options.changes):
        fewer = states.service_port(states.service_address(0), addresses[: -number - 1])
        changes.append(await _cost(carry(fewer)))

    small = states.service_port(states.service_address(0), addresses[:3])
    await carry(small)
    await _learn(nft, small, options.sessions)
    listed = await _cost(nft.elements(OF_FAMILY[4].sessions.name))
    read = await _cost(sessions.read(nft))
    removed = await _cost(carry(states.service_port(states.service_address(0), addresses[1:3])))
    if (left := len(await sessions.read(nft))) != SESSIONS_KEPT:
        raise BenchError(f"{left} sessions are left, and not {SESSIONS_KEPT}")
    return Result(changes, listed, read, removed, await _restored(nft, options.services))


async def _restored(nft: KernelNft, services: int) -> list[Cost]:
    """As the agent does it: it asks from time to time whether the table is there."""
    synchronizer = Synchronizer(nft, KernelConntrack(), await probe(nft))
    state = states.state(services, 10)
    await synchronizer.sync(state, state.keys())
    presence = Presence()

    async def restore() -> None:
        await presence.until_deleted()
        if await synchronizer.intact():
            raise BenchError("the table was deleted, and that was not noticed")
        await synchronizer.sync(state, set())

    costs = []
    for _ in range(DELETIONS):
        output(["nft", "flush", "ruleset"])
        costs.append(await _cost(restore()))
    presence.close()
    return costs


async def _learn(nft: KernelNft, port: ServicePort, count: int) -> None:
    """That many sessions with the first endpoint, and some with the second."""
    seconds = states.AFFINITY_SECONDS
    learned = [
        Session.of(
            f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", port.key, endpoint.target, seconds, seconds
        )
        for endpoint, numbers in zip(
            port.endpoints, (range(count), range(count, count + SESSIONS_KEPT)), strict=False
        )
        for number in numbers
    ]
    corrections = [sessions.Correction(each, seconds, seconds) for each in learned]
    if refused := await sessions.correct(nft, corrections, MAX_LARGE):
        raise refused


if __name__ == "__main__":
    run(measure, Options)

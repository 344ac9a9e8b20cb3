"""Each namespace's share of what all sources use together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moorage.cluster.pace import Pace
from moorage.cluster.room import House, Room
from moorage.discovery.resolver import Addresses, AddressType, Names, Servers, account

MAX_QUESTIONS = 8
"""Of one namespace at once. All namespaces share one queue, and a question keeps its place for up to 5 seconds: a
namespace with thousands of names, or with name servers that never answer, would fill it."""
QUESTIONS_PER_SECOND, QUESTIONS_BURST = 50.0, 200.0
"""Of one namespace; large answers count as several questions."""
MAX_CLUSTERS = 32
"""Watches of one namespace. Each takes up to 768 KiB of buffers, which a server can fill and leave full."""
BYTES_PER_SECOND, BURST_BYTES = 2**20, 16 * 2**20
"""From all servers of a namespace. Whatever they send, reading it must leave processor time for others."""
HANDSHAKE_SECONDS_PER_SECOND, HANDSHAKE_BURST_SECONDS = 0.02, 2.0
"""Processor time for TLS handshakes with all servers of a namespace; after a pause, one second at once. An
ordinary handshake takes 1 to 4 ms."""
MAX_HELD_BYTES = 8 * 2**20
"""Answers to one namespace that are held at once, until they have been decoded."""
MAX_ALL_HELD_BYTES = 48 * 2**20
"""The same for all namespaces together, divided among those that hold any at the time."""


class Share(Names):
    """Look-ups by `names`, at most `MAX_QUESTIONS` at a time."""

    def __init__(self, names: Names, house: House | None = None) -> None:
        self.pace = Pace(BYTES_PER_SECOND, BURST_BYTES)
        """Limits the bytes that servers send."""
        self.handshakes = Pace(HANDSHAKE_SECONDS_PER_SECOND, HANDSHAKE_BURST_SECONDS)
        """Limits the seconds of processor time: the next connection waits until they are paid off."""
        self.room = Room(MAX_HELD_BYTES, house or House(MAX_ALL_HELD_BYTES))
        self.clusters = asyncio.Semaphore(MAX_CLUSTERS)
        """Every watch of a cluster takes one."""
        self._names = names
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)
        self._questions = Pace(QUESTIONS_PER_SECOND, QUESTIONS_BURST)

    async def addresses(self, name: str, type: AddressType) -> Addresses:
        async with self._turn():
            return await self._names.addresses(name, type)

    async def servers(self, name: str) -> Servers:
        async with self._turn():
            return await self._names.servers(name)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        await self._questions.turn()
        async with self._slots:
            account.set(self._questions.take)
            yield

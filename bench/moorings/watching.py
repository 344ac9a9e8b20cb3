"""What a watch of the API sees of moorings, and when. Times are of the monotonic clock."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bench.namespaces import BenchError
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change


class Seen:
    """Moorings, and which nodes the endpoints of slices are for."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.at: dict[ObjectKey, str] = {}
        """Where the client of each Mooring is."""
        self.came: dict[ObjectKey, float] = {}
        """When a Mooring was seen first."""
        self.went: dict[ObjectKey, float] = {}
        """When its client was seen to have moved last."""
        self.changed: Counter[ObjectKey] = Counter()
        """How often each Mooring was seen to change."""
        self._ready: dict[ObjectKey, dict[str, list[str]]] = {}
        """By slice: names of ready endpoints, and the nodes that their hints name."""
        self._moorings = Reflector(client, Mooring, namespace, on_change=self._mooring_told)
        self._slices = Reflector(client, EndpointSlice, namespace, on_change=self._slice_told)
        self._told = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Until the end of the block."""
        running = [asyncio.create_task(each.run()) for each in (self._moorings, self._slices)]
        try:
            await self._moorings.synced.wait()
            await self._slices.synced.wait()
            yield
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def until(self, what: str, condition: Callable[[], bool], seconds: float) -> float:
        """When it was so. Raises BenchError."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            raise BenchError(f"not within {seconds:.0f} s: {what}") from None
        return time.monotonic()

    def clients(self, group: str, endpoint: str) -> set[ObjectKey]:
        """The Moorings of a group's clients that are at this endpoint."""
        start = f"{group}."
        return {key for key, at in self.at.items() if at == endpoint and key.name.startswith(start)}

    def hints(self) -> dict[str, list[str]]:
        """The ready endpoints, and the nodes that each is for."""
        return {name: nodes for each in self._ready.values() for name, nodes in each.items()}

    def named(self) -> Counter[str]:
        """How many ready endpoints are for each node."""
        return Counter(node for nodes in self.hints().values() for node in nodes)

    def _mooring_told(self, change: Change[Mooring]) -> None:
        key, _, mooring = change
        if mooring is None:
            self.at.pop(key, None)
            return
        now, at = time.monotonic(), mooring.status.endpoint or ""
        self.changed[key] += 1
        self.came.setdefault(key, now)
        if self.at.get(key, at) != at:
            self.went[key] = now
        self.at[key] = at
        self._told.set()

    def _slice_told(self, change: Change[EndpointSlice]) -> None:
        key, _, slice_ = change
        self._ready[key] = {
            each.hostname or "": [node.name for node in (each.hints.for_nodes if each.hints else None) or ()]
            for each in (slice_.endpoints if slice_ else None) or ()
            if each.conditions.ready
        }
        self._told.set()

"""What a watch of the API sees of the operator's work, and when."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.namespaces import BenchError
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change


class Watching:
    """Follows collections by reflectors, and wakes whoever waits for what they show.

    Subclasses set `_changed` after each change.
    """

    def __init__(self, *reflectors: Reflector[Any]) -> None:
        self._reflectors = reflectors
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Until the end of the block."""
        running = [asyncio.create_task(each.run()) for each in self._reflectors]
        try:
            for each in self._reflectors:
                await each.synced.wait()
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def until(self, what: str, condition: Callable[[], bool], seconds: float) -> float:
        """When it was so. Raises BenchError."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise BenchError(f"not within {seconds:.0f} s: {what}") from None
        return time.monotonic()


class Seen(Watching):
    """Which endpoints are ready, and since when; times are of the monotonic clock."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.ready: dict[ObjectKey, set[str]] = {}
        """By slice: the addresses of its ready endpoints."""
        self.came: dict[tuple[str, str], float] = {}
        """When a Service's address became ready last."""
        self.went: dict[tuple[str, str], float] = {}
        """When a Service's address ceased to be, last."""
        self.settled: set[str] = set()
        """ExternalServices whose status is of their newest spec and says Ready."""
        super().__init__(
            Reflector(client, EndpointSlice, namespace, on_change=self._slice_told),
            Reflector(client, ExternalService, namespace, on_change=self._xsvc_told),
        )

    def _slice_told(self, change: Change[EndpointSlice]) -> None:
        key, _, slice_ = change
        if slice_ is None:
            return
        now = time.monotonic()
        service = (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL, "")
        before = self.ready.get(key, set())
        after = {each.addresses[0] for each in slice_.endpoints or () if each.conditions.ready}
        self.came.update(((service, each), now) for each in after - before)
        self.went.update(((service, each), now) for each in before - after)
        self.ready[key] = after
        self._changed.set()

    def _xsvc_told(self, change: Change[ExternalService]) -> None:
        key, _, xsvc = change
        if xsvc is None:
            return
        status = xsvc.status
        ready = any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())
        (self.settled.add if ready and status.observed_generation else self.settled.discard)(key.name)
        self._changed.set()

"""What a watch of the API sees of the operator's work, and when."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bench.namespaces import BenchError
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change


class Seen:
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
        self._slices = Reflector(client, EndpointSlice, namespace, on_change=self._slice_told)
        self._xsvcs = Reflector(client, ExternalService, namespace, on_change=self._xsvc_told)
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Until the end of the block."""
        running = [asyncio.create_task(each.run()) for each in (self._slices, self._xsvcs)]
        try:
            await self._slices.synced.wait()
            await self._xsvcs.synced.wait()
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
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise BenchError(f"not within {seconds:.0f} s: {what}") from None
        return time.monotonic()

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

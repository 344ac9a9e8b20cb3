"""Watch Services and their EndpointSlices, and keep the kernel in step."""

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.cluster.backoff import backoff
from moorage.cluster.client import Client
from moorage.cluster.dirty import Dirty
from moorage.cluster.reflector import Reflector
from moorage.dataplane.model import Key
from moorage.dataplane.services import PROXY_NAME, PROXY_NAME_LABEL, Desired, Scope, carried
from moorage.dataplane.sync import Synchronizer
from moorage.errors import MoorageError
from moorage.log import get_logger

log = get_logger("moorage.node")

ServiceName = tuple[str, str]
"""Namespace and name."""


class Agent:
    """One node's loop. `run` ends only when cancelled."""

    CHECK_SECONDS = 30.0
    """How often the kernel is asked whether its digest is still ours: somebody may have flushed the ruleset."""

    def __init__(self, client: Client, synchronizer: Synchronizer, scope: Scope) -> None:
        self._synchronizer = synchronizer
        self._scope = scope
        selector = f"{PROXY_NAME_LABEL}={PROXY_NAME}" if scope.labelled_only else None
        self._services = Reflector(client, Service, label_selector=selector, on_change=self._service_changed)
        self._slices = Reflector(
            client, EndpointSlice, label_selector=SERVICE_NAME_LABEL, on_change=self._slice_changed
        )
        self._slices_of: dict[ServiceName, dict[str, EndpointSlice]] = {}
        self._owner: dict[tuple[str, str], ServiceName] = {}
        """Of each slice, by namespace and name."""
        self._desired = Desired()
        self._dirty: Dirty[ServiceName] = Dirty()
        self._warned: dict[str, tuple[str, ...]] = {}
        self._check_at = 0.0
        """When to ask the kernel next, by the event loop's clock."""

    @property
    def warnings(self) -> list[str]:
        """What is left out of what the API asks for, and why: a line each."""
        return [warning for each in self._warned.values() for warning in each]

    async def run(self) -> None:
        """Follow the API and program the kernel until cancelled. Raises MoorageError only if it cannot start."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._services.run())
            tasks.create_task(self._slices.run())
            await self._services.synced.wait()
            await self._slices.synced.wait()
            await self._program()

    async def _program(self) -> None:
        """Decide and do, whenever something changes. The first round clears up what an earlier agent left."""
        changed: set[Key] = set()
        failures = 0
        while True:
            changed |= self._decide(self._dirty.take_now())
            try:
                synced = await self._synchronizer.sync(self._desired.state, changed)
                if any(synced) or failures:
                    log.info("synced", changed=len(changed), **synced._asdict())
                failures = 0
                changed = self._decide(await self._next())
            except MoorageError as error:
                failures += 1
                wait = backoff(failures, random.random())
                log.error("the kernel keeps its last good state", error=str(error), retry_seconds=round(wait, 1))
                await asyncio.sleep(wait)

    async def _next(self) -> list[ServiceName]:
        """The Services that changed, once one did; none where it is the kernel that changed, by another's hand."""
        now = asyncio.get_running_loop().time
        while True:
            if now() >= self._check_at:
                self._check_at = now() + self.CHECK_SECONDS
                if not await self._synchronizer.intact():
                    log.warning("table inet moorage was changed by somebody else; programming it again")
                    return []
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._check_at):
                    return await self._dirty.take()

    def _decide(self, dirty: Iterable[ServiceName]) -> set[Key]:
        """Take Services into the desired state; returns the keys whose state differs."""
        changed: set[Key] = set()
        for key in dirty:
            namespace, name = key
            service = self._services.store.get(key)
            result = carried(service, self._slices_of.get(key, {}).values(), self._scope) if service else None
            changed |= self._desired.put(f"{namespace}/{name}", result.ports if result else ())
            self._warn(f"{namespace}/{name}", result.warnings if result else ())
        self._warn("", self._desired.conflicts())
        return changed

    def _warn(self, service: str, warnings: Iterable[str]) -> None:
        """Say each warning once, until it goes away."""
        warnings = tuple(warnings)
        for warning in warnings:
            if warning not in self._warned.get(service, ()):
                log.warning(warning)
        if warnings:
            self._warned[service] = warnings
        else:
            self._warned.pop(service, None)

    def _service_changed(self, key: tuple[str, str], service: Service | None) -> None:
        self._dirty.add(key)

    def _slice_changed(self, key: tuple[str, str], slice_: EndpointSlice | None) -> None:
        namespace, name = key
        service = (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL) if slice_ else None
        previous = self._owner.pop(key, None)
        if previous:
            del self._slices_of[previous][name]
            self._dirty.add(previous)
        if slice_ and service:
            owner = self._owner[key] = (namespace, service)
            self._slices_of.setdefault(owner, {})[name] = slice_
            self._dirty.add(owner)

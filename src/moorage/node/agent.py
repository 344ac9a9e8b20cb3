"""Watch Services and their EndpointSlices, and keep the kernel in step."""

import asyncio
import itertools
import math
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from moorage.api import contract, topology
from moorage.api.core_v1 import Node, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import Object, ObjectKey
from moorage.cluster.backoff import backoff
from moorage.cluster.client import Client
from moorage.cluster.dirty import Dirty
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index
from moorage.dataplane import endpoints, services
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.services import Carried, Desired, Scope, carried
from moorage.dataplane.sync import Synchronizer
from moorage.errors import MoorageError
from moorage.log import get_logger

log = get_logger("moorage.node")

T = TypeVar("T", bound=Object)


def _service_of(slice_: EndpointSlice) -> tuple[ObjectKey, ...]:
    service = contract.service_of(slice_.metadata)
    return (service,) if service else ()


BY_SERVICE = Index(_service_of)

RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 300.0
"""How long to wait before trying again what nft refused: the first time, and at most."""
MAX_LOGGED_REFUSALS = 20


class Agent:
    """One node's loop. `run` ends only when cancelled.

    A fault in one Service or EndpointSlice affects no others: its last good state stays in use, and `warnings` says
    what is wrong. That is also true for bugs of this program.
    """

    CHECK_SECONDS = 30.0
    """How often to check that the kernel's digest is still ours: somebody may have flushed the ruleset."""

    def __init__(self, client: Client, synchronizer: Synchronizer, scope: Scope) -> None:
        self._synchronizer = synchronizer
        self._scope = scope
        self._desired = Desired()
        self._dirty: Dirty[ObjectKey] = Dirty()
        self._services = Reflector(
            client,
            Service,
            label_selector=contract.CARRIED_SELECTOR if scope.labelled_only else None,
            on_change=lambda change: self._dirty.add(change.key),
            transform=services.needed,
            fault=lambda service: services.fault(service, scope),
        )
        self._slices = Reflector(
            client,
            EndpointSlice,
            label_selector=SERVICE_NAME_LABEL,
            on_change=self._slice_changed,
            transform=endpoints.needed,
            fault=endpoints.fault,
            indexes=[BY_SERVICE],
        )
        self._node = Reflector(
            client,
            Node,
            field_selector=f"metadata.name={scope.node}",
            on_change=self._node_changed,
            transform=_located,
        )
        self._warned: dict[str, tuple[str, ...]] = {}
        self._check_at = -math.inf
        """When to check the kernel next, by the event loop's clock."""
        self._refusals = 0
        """How often in a row nft has refused something."""
        self._retry_at = math.inf
        """When to try that again."""

    @property
    def warnings(self) -> list[str]:
        """A line for each thing that is left out or kept in its old state, with the reason."""
        warned = (warning for each in self._warned.values() for warning in each)
        return [*_left_out(self._services), *_left_out(self._slices), *warned]

    async def run(self) -> None:
        """Follow the API and program the kernel until cancelled. Raises MoorageError only if it cannot start."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._services.run())
            tasks.create_task(self._slices.run())
            tasks.create_task(self._node.run())
            # Whoever may not read its Node has no zone: that is no reason to carry nothing.
            await self._node.answered.wait()
            await self._services.synced.wait()
            await self._slices.synced.wait()
            await self._program()

    async def _program(self) -> None:
        """Decide and act whenever something changes. The first round also cleans up after an earlier agent."""
        changed: set[ServiceAddress] = set()
        failures = 0
        while True:
            changed |= self._decide(self._dirty.take_now())
            try:
                synced = await self._synchronizer.sync(self._desired.state, changed)
                if any(synced) or failures:
                    log.info("synced", changed=len(changed), **synced._asdict())
                failures = 0
                self._take_refusals()
                changed = await self._next()
            except Exception as error:
                failures += 1
                wait = backoff(failures, random.random())
                what = "the kernel keeps its last good state"
                if isinstance(error, MoorageError):
                    log.error(what, error=str(error), retry_seconds=round(wait, 1))
                else:
                    log.error(f"{what} because of a bug in Moorage", exc_info=error, retry_seconds=round(wait, 1))
                await asyncio.sleep(wait)

    def _take_refusals(self) -> None:
        """Warn about ports that nft refuses, and plan when to try again."""
        refused = self._synchronizer.refused
        self._warn(
            "nft",
            [
                f"Service {each.port.service}: {key.address} {key.protocol} {key.port} stays as it was: {each.words}"
                for key, each in itertools.islice(sorted(refused.items()), MAX_LOGGED_REFUSALS)
            ],
        )
        if not refused:
            self._refusals, self._retry_at = 0, math.inf
        elif self._retry_at == math.inf:
            self._refusals += 1
            wait = backoff(self._refusals, random.random(), first=RETRY_SECONDS, longest=MAX_RETRY_SECONDS)
            self._retry_at = asyncio.get_running_loop().time() + wait

    async def _next(self) -> set[ServiceAddress]:
        """Wait for a change. Returns the keys that changed; none if it is time to check the kernel."""
        now = asyncio.get_running_loop().time
        while True:
            if now() >= self._check_at:
                self._check_at = now() + self.CHECK_SECONDS
                if self._synchronizer.unfinished:
                    return set()
                if not await self._synchronizer.intact():
                    log.warning("table inet moorage was changed by somebody else; programming it again")
                    return set()
            if now() >= self._retry_at:
                self._retry_at = math.inf
                return self._synchronizer.retry_refused()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._check_at, self._retry_at)):
                    return self._decide(await self._dirty.take())

    def _decide(self, dirty: Iterable[ObjectKey]) -> set[ServiceAddress]:
        """Take Services into the desired state; returns the keys whose state differs."""
        changed: set[ServiceAddress] = set()
        for key in dirty:
            name = str(key)
            try:
                result = self._carried(key)
                changed |= self._desired.put(name, result.ports)
                self._warn(f"Service {name}", result.warnings)
            except Exception as error:
                self._mistaken(f"Service {name}", error)
        self._warn("conflicts", self._desired.conflicts())
        return changed

    def _carried(self, key: ObjectKey) -> Carried:
        service = self._services.store.get(key)
        return carried(service, self._slices.store.by(BY_SERVICE, key), self._scope) if service else Carried(())

    def _mistaken(self, subject: str, error: Exception) -> None:
        what = f"{type(error).__name__}, a bug in Moorage; the log says more, and its last good state stays in use"
        if self._warn(subject, [f"{subject}: {what}"]):
            log.error("the mistake", subject=subject, exc_info=error)

    def _warn(self, subject: str, warnings: Iterable[str]) -> bool:
        """Log each warning about `subject` once until it goes away. Returns whether any is new."""
        warnings = tuple(warnings)
        new = [each for each in warnings if each not in self._warned.get(subject, ())]
        for warning in new:
            log.warning(warning)
        if warnings:
            self._warned[subject] = warnings
        else:
            self._warned.pop(subject, None)
        return bool(new)

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        for service in BY_SERVICE.touched(change):
            self._dirty.add(service)

    def _node_changed(self, change: Change[Node]) -> None:
        zone = topology.zone_of(change.new.metadata) if change.new else ""
        if zone != self._scope.zone:
            self._scope = self._scope._replace(zone=zone)
            for key in self._services.store:
                self._dirty.add(key)


def _located(node: Node) -> Node:
    """The Node without all that changes every few seconds."""
    return Node(metadata=node.metadata)


def _left_out(reflector: Reflector[T]) -> Iterator[str]:
    """A line for each object whose present state is not used."""
    for key, each in reflector.unreadable.items():
        stays = "its last good state stays in use" if key in reflector.store else "nothing of it is carried"
        yield f"{reflector.kind} {key}: {each.why}; {stays}"

"""Records what a cluster's API tells, in a thread of its own, and makes requests for others.

It watches the ExternalServices, EndpointSlices, Moorings and pods of one namespace. It also knows who leads, and the
pods of operator and agents, for those who wait for them.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from msgspec.structs import replace

from e2e.churn import history, seen
from e2e.churn.history import AnyRecord
from e2e.harness.errors import HarnessError
from e2e.harness.world import wait
from moorage.api.coordination_v1 import Lease
from moorage.api.core_v1 import Pod
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import Object
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.check.facts import Names
from moorage.check.rights import LEASE
from moorage.cluster.client import Client
from moorage.cluster.events import Event
from moorage.cluster.kubeconfig import Config
from moorage.errors import MoorageError

T = TypeVar("T", bound=Object)
R = TypeVar("R")

OPERATORS, AGENTS = Names().operator, Names().agents
"""Namespaces of Moorage's own pods."""
_PATIENCE_SECONDS = 60.0
"""For an API server that is down meanwhile."""
_AGAIN_SECONDS = 0.1
_TIMEOUT_SECONDS = 5.0


class Journal:
    """A file of records, which several threads write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, record: AnyRecord) -> None:
        os.write(self._file, history.line(record))

    def close(self) -> None:
        os.close(self._file)


class Program(NamedTuple):
    """A pod of Moorage's own. It has one container."""

    name: str
    node: str
    container: str
    """Its id; empty while there is none."""
    ready: bool


class Recorder:
    """A context manager: within it, the attributes have what the API told last."""

    def __init__(self, config: Config, enter: Callable[[], None], namespace: str, journal: Journal) -> None:
        """`enter` takes a thread to where the API server can be reached."""
        self.namespace = namespace
        self.specs: dict[str, history.Spec] = {}
        self.slices: dict[str, history.Slices] = {}
        """Both by name of the Service."""
        self.moorings: dict[str, history.Mooring] = {}
        """By name of the Mooring."""
        self.pods: dict[str, history.Pod] = {}
        """By uid."""
        self.leader = ""
        """The identity of whoever leads; empty: nobody."""
        self.programs: dict[str, dict[str, Program]] = {OPERATORS: {}, AGENTS: {}}
        """By namespace and name."""
        self._config, self._enter, self._journal = config, enter, journal
        self._published: dict[str, EndpointSlice] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._followed: tuple[tuple[type[Any], str, Callable[[Any, bool], None]], ...] = (
            (ExternalService, namespace, self._take_spec),
            (EndpointSlice, namespace, self._take_slice),
            (Mooring, namespace, self._take_mooring),
            (Pod, namespace, self._take_pod),
            (Pod, OPERATORS, self._take_program),
            (Pod, AGENTS, self._take_program),
            (Lease, OPERATORS, self._take_lease),
        )
        self._unread = len(self._followed)
        """How many of them have not been listed yet."""
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        wait("a first look at everything", lambda: not self._unread, _PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def request(self, what: str, send: Callable[[Client], Awaitable[R]]) -> R:
        """The answer to a request, which is sent again while the API server is down. Raises HarnessError."""
        return asyncio.run_coroutine_threadsafe(self._request(what, send), self._loop).result()

    async def _request(self, what: str, send: Callable[[Client], Awaitable[R]]) -> R:
        assert self._client is not None
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await send(self._client)
            except MoorageError as error:
                if time.monotonic() > end:
                    raise HarnessError(f"{what}: {error}") from None
            await asyncio.sleep(_AGAIN_SECONDS)

    # --- The thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._enter()
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._watch())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _watch(self) -> None:
        async with Client(self._config, timeout=_TIMEOUT_SECONDS) as self._client, asyncio.TaskGroup() as tasks:
            for each in self._followed:
                tasks.create_task(self._follow(*each))

    async def _follow(self, kind: type[T], namespace: str, take: Callable[[T, bool], None]) -> None:
        """Call `take` with each object that is new or has changed, and whether it is gone.

        No reflector does it: after failures that waits for longer than a history may be late (`Bounds.seen`).
        """
        assert self._client is not None
        known: dict[str, T] = {}

        def changed(found: T, gone: bool = False) -> None:
            before = known.pop(found.metadata.name, None)
            if before and before.metadata.uid != found.metadata.uid:
                take(before, True)  # another of the same name
            if not gone:
                known[found.metadata.name] = found
            if gone or before is None or before.metadata.resource_version != found.metadata.resource_version:
                take(found, gone)

        first = True
        while True:
            try:
                listing = await self._client.list(kind, namespace)
                for each in listing.items:
                    changed(each)
                for name in known.keys() - {each.metadata.name for each in listing.items}:
                    changed(known[name], gone=True)
                self._unread -= first
                first = False
                events = self._client.watch(kind, namespace, resource_version=listing.resource_version)
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, Event):
                            changed(event.object, event.type == "DELETED")
            except MoorageError:
                pass
            await asyncio.sleep(_AGAIN_SECONDS)

    # --- What it is told -----------------------------------------------------------------------------------------

    def _take_spec(self, xsvc: ExternalService, gone: bool) -> None:
        spec = seen.spec_of(time.monotonic(), xsvc)
        self._note_change(self.specs.get(spec.service), spec)
        self.specs[spec.service] = spec

    def _take_slice(self, slice_: EndpointSlice, gone: bool) -> None:
        self._published.pop(slice_.metadata.name, None)
        if not gone:
            self._published[slice_.metadata.name] = slice_
        service = _service_of(slice_)
        slices = seen.slices_of(time.monotonic(), service, self._of(service))
        self._note_change(self.slices.get(service), slices)
        self.slices[service] = slices

    def _of(self, service: str) -> Iterable[EndpointSlice]:
        return (each for each in self._published.values() if _service_of(each) == service)

    def _take_mooring(self, mooring: Mooring, gone: bool) -> None:
        name, record = mooring.metadata.name, seen.mooring_of(time.monotonic(), mooring, gone)
        self._note_change(self.moorings.pop(name, None), record)
        if not gone:
            self.moorings[name] = record

    def _take_pod(self, pod: Pod, gone: bool) -> None:
        record = seen.pod_of(time.monotonic(), pod, gone)
        self._note_change(self.pods.pop(record.uid, None), record)
        if not gone:
            self.pods[record.uid] = record

    def _take_program(self, pod: Pod, gone: bool) -> None:
        of = self.programs[pod.metadata.namespace or ""]
        of.pop(pod.metadata.name, None)
        if not gone and not pod.metadata.deletion_timestamp:
            [container] = pod.status.container_statuses or [{}]
            of[pod.metadata.name] = Program(
                pod.metadata.name,
                pod.spec.node_name or "",
                str(container.get("containerID", "")),
                bool(container.get("ready")),
            )

    def _take_lease(self, lease: Lease, gone: bool) -> None:
        if lease.metadata.name == LEASE:
            self.leader = "" if gone else lease.spec.holder_identity or ""

    def _note_change(self, before: AnyRecord | None, record: AnyRecord) -> None:
        if before is None or replace(before, at=record.at) != record:
            self._journal.note(record)


def _service_of(slice_: EndpointSlice) -> str:
    return (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL, "")

"""One term of leadership: everything that runs while this process leads, and only then."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from moorage.api.meta import ObjectKey
from moorage.cluster.client import Client
from moorage.cluster.clock import timestamp
from moorage.cluster.queue import Queue
from moorage.cluster.recorder import Recorder
from moorage.core.admission import Gate
from moorage.core.assignment import decide_group
from moorage.core.health import Outcome
from moorage.discovery.secrets import OPERATOR
from moorage.log import get_logger
from moorage.operator.apart import Apart
from moorage.operator.config import Configuration
from moorage.operator.deferred import Deferred
from moorage.operator.gather import Gatherer, ProberLike, SourcesLike
from moorage.operator.groups import Groups
from moorage.operator.metrics import Metrics
from moorage.operator.mooring_events import MooringEvents
from moorage.operator.mooring_writes import MooringWriter
from moorage.operator.outcomes import Outcomes
from moorage.operator.publish import Publisher
from moorage.operator.reconcile import Reconciler
from moorage.operator.records import Records
from moorage.operator.world import World
from moorage.operator.writer import Writer
from moorage.outside.checks import RemoteProber
from moorage.outside.process import start_checks, start_sources
from moorage.outside.sources import RemoteSources

log = get_logger("moorage.operator")

COMPONENT = "moorage-operator"
"""The reporter that Events name."""


class RunningSources(SourcesLike, Protocol):
    def gate_changed(self) -> None: ...

    def addresses_changed(self, addresses: frozenset[str], /) -> None: ...

    async def close(self) -> None: ...


class RunningProber(ProberLike, Protocol):
    async def close(self) -> None: ...


class MakeSources(Protocol):
    def __call__(
        self,
        client: Client,
        gate: Callable[[], Gate],
        on_change: Callable[[ObjectKey], None],
        *,
        restarted: Callable[[], None],
        now: Callable[[], str],
    ) -> RunningSources: ...


class MakeProber(Protocol):
    def __call__(
        self,
        on_outcome: Callable[[ObjectKey, str, Outcome], None],
        *,
        on_late: Callable[[float], None],
        on_skipped: Callable[[], None],
        changed: Callable[[], None],
        restarted: Callable[[], None],
        now: Callable[[], str],
    ) -> RunningProber: ...


class Makers(NamedTuple):
    """Makes the parts that reach beyond this cluster; tests make others."""

    sources: MakeSources = partial(RemoteSources, start_sources, account=OPERATOR)
    prober: MakeProber = partial(RemoteProber, start_checks)
    now: Callable[[], str] = timestamp
    """RFC 3339."""


class Term:
    """One term. A new one is made each time, so nothing is left from an earlier term.

    `check` is called right before each write. It raises NotLeadingError once this process may no longer write.
    """

    def __init__(
        self,
        client: Client,
        configuration: Configuration,
        metrics: Metrics,
        makers: Makers,
        *,
        identity: str,
        check: Callable[[], None],
        may_write: Callable[[], bool],
    ) -> None:
        self.synced = False
        """Whether everything that decisions need has been read."""
        self.queue: Queue[ObjectKey] = Queue()
        """All keys that are read are added at once, and have to wait until everything has been read."""
        self._configuration = configuration
        self._metrics = metrics
        self._records = Records()
        self._world = World(
            client,
            configuration.admission,
            touched=self.queue.add,
            gate_changed=self._gate_changed,
            addresses_changed=self._addresses_changed,
            group_touched=lambda group: self.groups.touch(group),
        )
        self._recorder = Recorder(client, COMPONENT, host=identity, now=makers.now, may_write=may_write)
        # A group that is at work is not waited for: thousands of Moorings may take a minute.
        self._events = Deferred(self._recorder, lambda: not self.queue.idle or len(self.groups.queue) > 0)
        self._sources = makers.sources(
            client,
            lambda: self._world.gate,
            self.queue.add,
            restarted=metrics.restarts.labels("sources").inc,
            now=makers.now,
        )
        self._prober = makers.prober(
            Outcomes(self._records, self.queue.add, metrics, makers.now).take,
            on_late=metrics.probe_lateness_seconds.observe,
            on_skipped=metrics.probes_skipped.inc,
            changed=self._all_touched,
            restarted=metrics.restarts.labels("checks").inc,
            now=makers.now,
        )
        self._gatherer = Gatherer(self._world, self._sources, self._prober, self._records, self.queue.add, makers.now)
        writer = Writer(client, metrics, check, self._world.wrote, self._world.gone)
        publisher = Publisher(writer, self._events, makers.now)
        self._apart = Apart()
        self.groups = Groups(
            self._world,
            MooringWriter(writer, self._world.clients),
            decide_group,
            self._apart,
            metrics,
            self.queue.add,
            MooringEvents(self._world, self._events).tell,
            makers.now,
            configuration.moorings.grace_seconds,
        )
        self._reconciler = Reconciler(
            self._world, self._gatherer, publisher, self._records, self.groups, self._apart, metrics
        )

    async def run(self) -> None:
        """Follow, decide and write until cancelled. Nothing is decided before everything has been read."""
        self._metrics.refresh = self._refresh
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._world.run())
                await self._world.until_synced()
                # The garbage collector need not walk through objects that stay, which takes 50 ms and more each time.
                gc.collect()
                gc.freeze()
                self.synced = True
                self._metrics.synced.set(1)
                keys = self._world.names()
                log.info("everything has been read", external_services=len(keys))
                tasks.create_task(self._recorder.run())
                tasks.create_task(self._events.run())
                for key in keys:
                    # So their sources are asked while the first ones are worked on.
                    with suppress(Exception):  # what is wrong with one is reported when it is worked on
                        self._gatherer.follow(key)
                tasks.create_task(self.queue.run(self._reconciler, workers=self._configuration.workers))
                tasks.create_task(self.groups.queue.run(self.groups, workers=self._configuration.workers))
        finally:
            self._apart.close()
            await self._prober.close()
            self._gatherer.close()
            await self._sources.close()

    def _gate_changed(self) -> None:
        self._sources.gate_changed()
        self._all_touched()

    def _all_touched(self) -> None:
        for key in self._world.names():
            self.queue.add(key)

    def _addresses_changed(self, addresses: frozenset[str]) -> None:
        self._sources.addresses_changed(addresses)
        for key in self._records.users(addresses):
            self.queue.add(key)

    def _refresh(self) -> None:
        metrics = self._metrics
        counts: Counter[str] = Counter()
        total = failing = 0
        for record in self._records:
            counts.update(record.health.counts)
            total, failing = total + record.sources, failing + record.failing_sources
        metrics.set_endpoints(counts)
        metrics.set_sources(total - failing, failing)
        for kind, count in self._world.unreadable_counts().items():
            metrics.unreadable.labels(kind).set(count)
        metrics.queue_depth.set(len(self.queue))
        self.groups.count()
        metrics.external_services.set(len(self._world.names()))

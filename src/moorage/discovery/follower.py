"""Follows sources in this process."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakValueDictionary

from moorage.api.moorage_v1alpha1 import ExternalServicePort
from moorage.api.sources_v1alpha1 import EndpointSource
from moorage.cluster.room import House
from moorage.core.admission import Gate
from moorage.core.model import Problem
from moorage.discovery.cluster import ClusterServices
from moorage.discovery.dns import AddressRecords, ServiceRecords
from moorage.discovery.loadbalancers import LoadBalancers, SelectedServices
from moorage.discovery.resolver import Names
from moorage.discovery.secrets import Secrets
from moorage.discovery.share import MAX_ALL_HELD_BYTES, Share
from moorage.discovery.shared import Shared, supervised
from moorage.discovery.source import Setting, Source, State

RECOVERED_SECONDS = 30.0
"""How long a source must run after an internal error until the error is forgotten."""


class _Running:
    """A source and the task that runs it."""

    def __init__(self, source: Source, what: str) -> None:
        self._source = source
        self._crashed: Problem | None = None
        """Why it is not running at the moment."""
        self.task = asyncio.create_task(supervised(self._run, self._crash, what=what))

    @property
    def state(self) -> State:
        state = self._source.state
        return state._replace(problem=self._crashed) if self._crashed else state

    def set_ports(self, ports: Sequence[ExternalServicePort]) -> None:
        self._source.set_ports(ports)

    def set_failing(self, addresses: Mapping[str, str]) -> None:
        self._source.set_failing(addresses)

    def gate_changed(self) -> None:
        self._source.gate_changed()

    def stop(self) -> None:
        self.task.cancel()

    async def _run(self) -> None:
        timer = asyncio.get_running_loop().call_later(RECOVERED_SECONDS, self._recovered) if self._crashed else None
        try:
            await self._source.run()
        finally:
            if timer:
                timer.cancel()

    def _crash(self, error: Exception) -> None:
        what = f"internal error ({type(error).__name__}): what was known stays; the operator's log says more"
        self._crashed = self._crashed or Problem("InternalError", what, self._source.setting.now())
        self._source.setting.on_change()

    def _recovered(self) -> None:
        self._crashed = None
        self._source.setting.on_change()


class LocalFollower:
    """Follows sources, and limits what the sources of each namespace use.

    `names` answers look-ups, `secrets` has the Secrets with kubeconfigs. Every connection must pass `gate`. `now`
    returns the time in RFC 3339.
    """

    def __init__(self, names: Names, gate: Callable[[], Gate], secrets: Secrets, now: Callable[[], str]) -> None:
        self._names = names
        self._gate = gate
        self._secrets = secrets
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        """By namespace, as long as one of its sources is followed."""
        self.clusters: Shared[SelectedServices, LoadBalancers] = Shared(
            lambda selected, changed: LoadBalancers(selected, self._share(selected.tenant), gate, changed, now)
        )
        self._house = House(MAX_ALL_HELD_BYTES)
        self._running: set[_Running] = set()

    def follow(self, namespace: str, label: str, entry: EndpointSource, setting: Setting) -> _Running:
        """As `discovery.sources.Follower`."""
        running = _Running(self._source(namespace, entry, setting), label)
        self._running.add(running)
        running.task.add_done_callback(lambda task: self._running.discard(running))
        return running

    def gate_changed(self) -> None:
        """As `discovery.sources.Follower`."""
        for balancers in self.clusters.running:
            balancers.hang_up()
        for each in self._running:
            each.gate_changed()

    async def close(self) -> None:
        """End everything, and wait for it."""
        tasks = [each.task for each in self._running]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _source(self, namespace: str, entry: EndpointSource, setting: Setting) -> Source:
        names = self._share(namespace)
        if entry.cluster is not None:
            return ClusterServices(entry.cluster, namespace, names, self._gate, self._secrets, self.clusters, setting)
        assert entry.dns is not None
        match entry.dns.type:
            case "A" | "AAAA" as type:
                return AddressRecords(entry.dns, type, names, setting)
            case _:
                return ServiceRecords(entry.dns, names, setting)

    def _share(self, namespace: str) -> Share:
        return self._shares.get(namespace) or self._shares.setdefault(namespace, Share(self._names, self._house))

"""All sources of all ExternalServices, kept running."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from moorage.api.moorage_v1alpha1 import EndpointSource, ExternalService
from moorage.cluster.clock import timestamp
from moorage.cluster.reflector import Key, ListWatch
from moorage.core.admission import Gate
from moorage.core.model import Problem, Resolution
from moorage.discovery import addresses
from moorage.discovery.choice import families_of
from moorage.discovery.cluster import ClusterServices
from moorage.discovery.dns import AddressRecords, ServiceRecords
from moorage.discovery.loadbalancers import LoadBalancers, Selected
from moorage.discovery.resolver import Names
from moorage.discovery.secrets import SecretKey, WatchedSecret
from moorage.discovery.share import Share
from moorage.discovery.shared import Shared, supervised
from moorage.discovery.source import Setting, Source, State

OPERATOR = "moorage-system:moorage-operator"
"""Namespace and name of the operator's service account, as `deploy/operator` has them."""

RECOVERED = 30.0
"""Seconds that a source must run again after an internal error before it counts as well."""


class _Running(NamedTuple):
    source: Source
    task: asyncio.Task[None]
    crashed: list[Problem]
    """Empty, or why it does not run just now."""


class _Followed:
    """The sources of one ExternalService."""

    def __init__(self) -> None:
        self.spec: tuple[object, ...] | None = None
        self.entries: list[tuple[str, str, _Running | Resolution]] = []
        """Of each entry of `spec.endpoints`: its name for people, its field, and what follows it."""
        self.running: dict[bytes, _Running] = {}
        self.said: tuple[Resolution, ...] = ()


class Sources:
    """Follows the sources of every ExternalService that is set.

    `resolutions` is what they know at this time; `on_change(key)` is called when that has changed, though not from
    within `set`. A source that a new spec still has is not started again, so its last good answer stays; one that
    is new has `endpoints=None` until its first answer. Needs a running event loop.
    """

    def __init__(
        self,
        client: ListWatch,
        names: Names,
        gate: Callable[[], Gate],
        on_change: Callable[[Key], None],
        *,
        account: str = OPERATOR,
        now: Callable[[], str] = timestamp,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`client` reads Secrets of this cluster; `account` is who it is, for messages about what it may not."""
        self._names = names
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        """By namespace, for as long as a source of it is followed."""
        self._gate = gate
        self._on_change = on_change
        self._now = now
        self._jitter = jitter
        self._followed: dict[Key, _Followed] = {}
        self.secrets: Shared[SecretKey, WatchedSecret] = Shared(
            lambda key, changed: WatchedSecret(key, client, changed, now, account)
        )
        self._clusters: Shared[Selected, LoadBalancers] = Shared(
            lambda selected, changed: LoadBalancers(selected, self._share(selected.tenant), gate, changed, now)
        )

    def set(self, key: Key, xsvc: ExternalService) -> None:
        """Follow the sources of an ExternalService as its spec has them now. Cheap where the spec is the same."""
        followed = self._followed.setdefault(key, _Followed())
        spec = xsvc.spec.endpoints, xsvc.spec.ports, xsvc.spec.ip_families
        if spec == followed.spec:
            return
        followed.spec = spec
        before, followed.running, followed.entries = followed.running, {}, []
        known = {each.name: each.address for each in xsvc.status.endpoints or ()}
        setting = Setting(
            partial(self._changed, key),
            families_of(xsvc.spec.ip_families),
            tuple(xsvc.spec.ports),
            known,
            self._now,
            self._jitter,
        )
        labels: set[str] = set()
        for index, entry in enumerate(xsvc.spec.endpoints or ()):
            kind, label = _label(entry)
            label = label if label not in labels else f"{label}[{index}]"
            labels.add(label)
            field = f"spec.endpoints[{index}].{kind}" if kind else f"spec.endpoints[{index}]"
            follows: _Running | Resolution
            if kind == "addresses":
                follows = Resolution(label, addresses.found(entry.addresses or ()))
            elif not kind:
                follows = Resolution(
                    label,
                    None,
                    Problem("Invalid", "is no source; give one of addresses, dns and cluster", self._now()),
                )
            else:
                # Two entries that are the same are followed once.
                identity = msgspec.json.encode((entry, setting.families))
                follows = (
                    followed.running.get(identity)
                    or before.pop(identity, None)
                    or self._start(key, entry, setting, label)
                )
                follows.source.set_ports(setting.ports)
                followed.running[identity] = follows
            followed.entries.append((label, field, follows))
        for gone in before.values():
            gone.task.cancel()
        followed.said = self._resolve(followed)

    def remove(self, key: Key) -> None:
        """Follow this ExternalService no more."""
        followed = self._followed.pop(key, None)
        for running in followed.running.values() if followed else ():
            running.task.cancel()

    def resolutions(self, key: Key) -> tuple[Resolution, ...]:
        """What each source knows, in the order of `spec.endpoints`; none for a key that is not set."""
        followed = self._followed.get(key)
        return self._resolve(followed) if followed else ()

    async def close(self) -> None:
        """End everything, and wait for it."""
        tasks = [running.task for each in self._followed.values() for running in each.running.values()]
        for key in list(self._followed):
            self.remove(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Key, entry: EndpointSource, setting: Setting, label: str) -> _Running:
        namespace, name = key
        source = self._source(entry, namespace, setting)
        crashed: list[Problem] = []

        def crash(error: Exception) -> None:
            what = f"internal error ({type(error).__name__}): what was known stays; the operator's log says more"
            crashed[:] = crashed or [Problem("InternalError", what, self._now())]
            self._changed(key)

        def recovered() -> None:
            crashed.clear()
            self._changed(key)

        async def run() -> None:
            timer = asyncio.get_running_loop().call_later(RECOVERED, recovered) if crashed else None
            try:
                await source.run()
            finally:
                if timer:
                    timer.cancel()

        task = asyncio.create_task(supervised(run, crash, what=f"{namespace}/{name} {label}"))
        return _Running(source, task, crashed)

    def _source(self, entry: EndpointSource, namespace: str, setting: Setting) -> Source:
        names = self._share(namespace)
        if entry.cluster is not None:
            return ClusterServices(entry.cluster, namespace, names, self._gate, self.secrets, self._clusters, setting)
        assert entry.dns is not None
        match entry.dns.type:
            case "A" | "AAAA" as type:
                return AddressRecords(entry.dns, type, names, setting)
            case _:
                return ServiceRecords(entry.dns, names, setting)

    def _share(self, namespace: str) -> Share:
        return self._shares.get(namespace) or self._shares.setdefault(namespace, Share(self._names))

    def _changed(self, key: Key) -> None:
        followed = self._followed.get(key)
        if followed is None:
            return
        now = self._resolve(followed)
        if now != followed.said:
            followed.said = now
            self._on_change(key)

    def _resolve(self, followed: _Followed) -> tuple[Resolution, ...]:
        found = []
        for label, field, follows in followed.entries:
            if isinstance(follows, Resolution):
                state = State(follows.endpoints, follows.problem, follows.notes)
            else:
                state = follows.source.state
                if follows.crashed:
                    state = state._replace(problem=follows.crashed[0])
            problem = state.problem and state.problem._replace(message=f"{field}: {state.problem.message}")
            found.append(Resolution(label, state.endpoints, problem, state.notes))
        return tuple(found)


def _label(entry: EndpointSource) -> tuple[str, str]:
    """The field of a source, and its name for people; "" for the field of what is none."""
    given = [kind for kind in ("addresses", "dns", "cluster") if getattr(entry, kind) is not None]
    if len(given) != 1:
        return "", "unknown"
    if entry.dns is not None:
        return ("dns", f"dns/{entry.dns.name}") if entry.dns.type in ("A", "AAAA", "SRV") else ("", "unknown")
    if entry.cluster is not None:
        return "cluster", f"cluster/{entry.cluster.namespace}"
    return "addresses", "addresses"

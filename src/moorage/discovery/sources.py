"""The sources of all ExternalServices, and what they have found."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServicePort
from moorage.api.sources_v1alpha1 import EndpointSource
from moorage.cluster.clock import timestamp
from moorage.cluster.reflector import ListWatch
from moorage.core.admission import Gate
from moorage.core.model import Problem, Resolution
from moorage.discovery import addresses
from moorage.discovery.choice import families_of
from moorage.discovery.follower import LocalFollower
from moorage.discovery.resolver import Names
from moorage.discovery.secrets import OPERATOR, SecretKey, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.discovery.source import Setting, State


class FollowedSource(Protocol):
    """One source that is being followed."""

    @property
    def state(self) -> State: ...

    def set_ports(self, ports: Sequence[ExternalServicePort]) -> None:
        """Set the ports. They only matter for notes."""

    def set_failing(self, addresses: Mapping[str, str]) -> None:
        """Set which endpoints fail their checks: name -> the address that fails."""

    def stop(self) -> None:
        """Stop following it. `on_change` is not called any more."""


class Follower(Protocol):
    """Follows sources in this process (`discovery.follower`) or in another one (`outside.sources`)."""

    def follow(self, namespace: str, label: str, entry: EndpointSource, setting: Setting) -> FollowedSource:
        """Start following a `dns` or `cluster` entry of an ExternalService in `namespace`.

        `label` is its name in the log. `setting.on_change` is called after the state has changed, but not from within
        this call.
        """

    def gate_changed(self) -> None:
        """The gate has changed: end connections to servers that it now refuses."""

    async def close(self) -> None:
        """End everything, and wait for it."""


class _Entries:
    """The sources of one ExternalService."""

    def __init__(self) -> None:
        self.spec: tuple[object, ...] | None = None
        self.entries: list[tuple[str, str, FollowedSource | Resolution]] = []
        """For each entry of `spec.endpoints`: its name for people, its field, and what follows it."""
        self.running: dict[bytes, FollowedSource] = {}
        self.failing: Mapping[str, str] = {}
        self.said: tuple[Resolution, ...] = ()


class FollowedSources:
    """Follows the sources of every ExternalService that is set.

    `resolutions` is what they know at the moment; `on_change(key)` is called when that has changed, but not from
    within `set`. A source that a new spec still has is not started again, so its last good answer stays; a new one
    has `endpoints=None` until its first answer. Needs a running event loop.
    """

    def __init__(
        self,
        follower: Follower,
        on_change: Callable[[ObjectKey], None],
        *,
        now: Callable[[], str] = timestamp,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._follower = follower
        self._on_change = on_change
        self._now = now
        self._jitter = jitter
        self._entries: dict[ObjectKey, _Entries] = {}

    def set(self, key: ObjectKey, xsvc: ExternalService) -> None:
        """Follow the sources in the present spec of an ExternalService. Cheap if the spec is the same."""
        followed = self._entries.setdefault(key, _Entries())
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
            follows: FollowedSource | Resolution
            if kind == "addresses":
                follows = Resolution(label, addresses.found(entry.addresses or ()))
            elif not kind:
                follows = Resolution(
                    label,
                    None,
                    Problem("Invalid", "is not a source; give one of addresses, dns and cluster", self._now()),
                )
            else:
                # Two equal entries are followed once.
                identity = msgspec.json.encode((entry, setting.families))
                follows = (
                    followed.running.get(identity)
                    or before.pop(identity, None)
                    or self._follow(key, label, entry, setting)
                )
                follows.set_ports(setting.ports)
                followed.running[identity] = follows
            followed.entries.append((label, field, follows))
        for gone in before.values():
            gone.stop()
        followed.said = _resolve(followed)

    def _follow(self, key: ObjectKey, label: str, entry: EndpointSource, setting: Setting) -> FollowedSource:
        followed = self._follower.follow(key.namespace, f"{key} {label}", entry, setting)
        followed.set_failing(self._entries[key].failing)
        return followed

    def remove(self, key: ObjectKey) -> None:
        """Stop following this ExternalService."""
        followed = self._entries.pop(key, None)
        for running in followed.running.values() if followed else ():
            running.stop()

    def resolutions(self, key: ObjectKey) -> tuple[Resolution, ...]:
        """What each source knows, in the order of `spec.endpoints`; empty for a key that is not set."""
        followed = self._entries.get(key)
        return _resolve(followed) if followed else ()

    def failing(self, key: ObjectKey, addresses: Mapping[str, str]) -> None:
        """These endpoints of an ExternalService fail their checks or do not pass the gate: name -> address.

        An endpoint that has other addresses moves to another one. Cheap if nothing has changed.
        """
        followed = self._entries.get(key)
        if followed is not None and addresses != followed.failing:
            followed.failing = addresses
            for each in followed.running.values():
                each.set_failing(addresses)

    def gate_changed(self) -> None:
        """The gate has changed: end connections to servers that it now refuses."""
        self._follower.gate_changed()

    async def close(self) -> None:
        """End everything, and wait for it."""
        for key in list(self._entries):
            self.remove(key)
        await self._follower.close()

    def _changed(self, key: ObjectKey) -> None:
        followed = self._entries.get(key)
        if followed is None:
            return
        now = _resolve(followed)
        if now != followed.said:
            followed.said = now
            self._on_change(key)


class Sources(FollowedSources):
    """Sources that are followed in this process."""

    def __init__(
        self,
        client: ListWatch,
        names: Names,
        gate: Callable[[], Gate],
        on_change: Callable[[ObjectKey], None],
        *,
        account: str = OPERATOR,
        now: Callable[[], str] = timestamp,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`client` reads Secrets of this cluster; `account` is who it is, for messages about what it may not."""
        self.secrets: Shared[SecretKey, WatchedSecret] = Shared(
            lambda key, changed: WatchedSecret(key, client, changed, now, account)
        )
        self.follower = LocalFollower(names, gate, self.secrets, now)
        super().__init__(self.follower, on_change, now=now, jitter=jitter)


def _resolve(followed: _Entries) -> tuple[Resolution, ...]:
    found = []
    for label, field, follows in followed.entries:
        if isinstance(follows, Resolution):
            state = State(follows.endpoints, follows.problem, follows.notes)
        else:
            state = follows.state
        problem = state.problem and state.problem._replace(message=f"{field}: {state.problem.message}")
        found.append(Resolution(label, state.endpoints, problem, state.notes))
    return tuple(found)


def _label(entry: EndpointSource) -> tuple[str, str]:
    """The field of a source, and its name for people. The field is "" if the entry is no source."""
    given = [kind for kind in ("addresses", "dns", "cluster") if getattr(entry, kind) is not None]
    if len(given) != 1:
        return "", "unknown"
    if entry.dns is not None:
        return ("dns", f"dns/{entry.dns.name}") if entry.dns.type in ("A", "AAAA", "SRV") else ("", "unknown")
    if entry.cluster is not None:
        return "cluster", f"cluster/{entry.cluster.namespace}"
    return "addresses", "addresses"

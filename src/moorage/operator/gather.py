"""Gathers what is known about an ExternalService for a decision, and keeps its sources and checks running."""

from collections.abc import Callable, Mapping
from typing import Protocol

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.health import Subject
from moorage.core.model import Problem, Resolution
from moorage.core.snapshot import Snapshot
from moorage.discovery.secrets import SecretKey, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.errors import MoorageError
from moorage.operator.authorities import CheckAuthority
from moorage.operator.records import Record, Records
from moorage.operator.world import World
from moorage.probe.check import Check, Target, check_of, targets


class SourcesLike(Protocol):
    """The part of `outside.sources.RemoteSources` that is used here."""

    @property
    def secrets(self) -> Shared[SecretKey, WatchedSecret]: ...

    def set(self, key: ObjectKey, xsvc: ExternalService) -> None: ...

    def remove(self, key: ObjectKey) -> None: ...

    def resolutions(self, key: ObjectKey) -> tuple[Resolution, ...]: ...

    def failing(self, key: ObjectKey, addresses: Mapping[str, str]) -> None: ...


class ProberLike(Protocol):
    """The part of `outside.checks.RemoteProber` that is used here."""

    @property
    def problem(self) -> Problem | None:
        """Why nothing is checked at the moment."""

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None: ...

    def remove(self, key: ObjectKey) -> None: ...


class Gatherer:
    """`touched(key)` is called when the snapshot of this ExternalService may have changed."""

    def __init__(
        self,
        world: World,
        sources: SourcesLike,
        prober: ProberLike,
        records: Records,
        touched: Callable[[ObjectKey], None],
        now: Callable[[], str],
    ) -> None:
        self._world = world
        self._sources = sources
        self._prober = prober
        self._records = records
        self._touched = touched
        self._now = now

    def follow(self, key: ObjectKey) -> ExternalService | None:
        """Follow this ExternalService's sources. Returns it; None if it is gone or being deleted."""
        xsvc = self._world.xsvcs.get(key)
        gone = xsvc is None or xsvc.metadata.deletion_timestamp is not None
        if gone or (xsvc and xsvc.spec.suspend):
            self._leave(key)
        if xsvc is None or gone:
            if self._world.unreadable(ExternalService, key) is None:
                self._records.drop(key)
            return None
        if not xsvc.spec.suspend:
            self._sources.set(key, xsvc)
        return xsvc

    def _leave(self, key: ObjectKey) -> None:
        self._sources.remove(key)
        self._prober.remove(key)
        if (record := self._records.get(key)) is not None:
            self._trust_nothing(record)
            self._records.use(record, frozenset())
            record.sources = record.failing_sources = 0

    def close(self) -> None:
        """Stop watching Secrets."""
        for record in self._records:
            self._trust_nothing(record)

    def snapshot(self, record: Record, xsvc: ExternalService) -> Snapshot:
        """The snapshot without its endpoints: call `merge` next, and then `checked`."""
        key = record.key
        slices = self._world.slices_of(key)
        names = {each.metadata.name for each in slices}
        obstacles = (self._world.slices.get(each) for each in record.obstacles)
        unreadable = self._world.unreadable(ExternalService, key)
        return Snapshot(
            xsvc,
            () if xsvc.spec.suspend else self._sources.resolutions(key),
            self._world.gate,
            self._now(),
            [*slices, *(each for each in obstacles if each is not None and each.metadata.name not in names)],
            self._world.services.get(key),
            unreadable=unreadable.why if unreadable else None,
        )

    def checked(self, record: Record, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the health of its endpoints. From now on they are checked."""
        key, xsvc, merged = record.key, snapshot.xsvc, snapshot.merged
        if xsvc.spec.suspend:
            return snapshot
        found = {one.address for each in snapshot.resolutions for one in each.endpoints or ()}
        self._records.use(record, frozenset(found.union(each.address for each in merged.endpoints)))
        problem = self._check(record, xsvc, record.health.follow(xsvc, merged.endpoints, self._now()))
        self._sources.failing(key, {**merged.refused, **record.health.failing})
        record.sources = len(snapshot.resolutions) + bool(problem)
        record.failing_sources = sum(each.problem is not None for each in snapshot.resolutions) + bool(problem)
        return snapshot._replace(verdicts=record.health.verdicts, check_problem=problem, now=self._now())

    def _check(self, record: Record, xsvc: ExternalService, subjects: Mapping[str, Subject]) -> Problem | None:
        """Start to check the endpoints. Returns why they cannot be checked."""
        key, spec = record.key, xsvc.spec.health_check
        checked = targets(subjects)
        if spec is None or not checked:
            self._prober.remove(key)
            self._trust_nothing(record)
            return None
        if record.authority is None:
            record.authority = CheckAuthority(self._sources.secrets, lambda: self._touched(key), self._now)
        authority = record.authority.of(key.namespace, xsvc.spec)
        problem = authority.problem
        if problem is None:
            try:
                self._prober.set(key, checked, check_of(spec, authority.pem))
                return self._prober.problem
            except MoorageError as error:
                problem = Problem("InvalidCheck", str(error), xsvc.metadata.creation_timestamp or self._now())
        self._prober.remove(key)
        # A Secret that has not been read yet is no problem.
        return problem if problem.reason != "Pending" else None

    @staticmethod
    def _trust_nothing(record: Record) -> None:
        if record.authority is not None:
            record.authority.close()

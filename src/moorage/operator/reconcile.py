"""What is done about one ExternalService: read what is known, decide, write."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec
from moorage.cluster.backoff import backoff
from moorage.cluster.errors import UnreachableError
from moorage.cluster.pace import Pace
from moorage.core.decide import decide
from moorage.core.health import Outcome, Subject
from moorage.core.model import Create, Problem, Resolution, Verdict, Write
from moorage.core.snapshot import Snapshot
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage.operator.apart import Apart
from moorage.operator.authorities import Authority
from moorage.operator.board import Board
from moorage.operator.deferred import Deferred
from moorage.operator.metrics import Metrics
from moorage.operator.troubles import Troubles
from moorage.operator.world import World
from moorage.operator.writer import RefusedError, StaleError, TakenError, Writer, describe
from moorage.probe.check import Check, Target, check_of, targets

log = get_logger("moorage.operator")


class SourcesLike(Protocol):
    """What is needed of `discovery.sources.Sources`."""

    def set(self, key: ObjectKey, xsvc: ExternalService) -> None: ...

    def remove(self, key: ObjectKey) -> None: ...

    def resolutions(self, key: ObjectKey) -> tuple[Resolution, ...]: ...

    def failing(self, key: ObjectKey, addresses: Mapping[str, str]) -> None: ...


class ProberLike(Protocol):
    """What is needed of `outside.checks.RemoteProber`."""

    @property
    def problem(self) -> Problem | None:
        """Why nothing is checked at the moment."""

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None: ...

    def remove(self, key: ObjectKey) -> None: ...


class AuthoritiesLike(Protocol):
    """What is needed of `Authorities`."""

    def of(self, key: ObjectKey, spec: ExternalServiceSpec) -> Authority: ...

    def remove(self, key: ObjectKey) -> None: ...


class Reconciler:
    """Level-triggered: whatever has happened, each call looks at all that there is now and does what is missing.

    `again(key, after)` has an ExternalService looked at again, in so many seconds.
    """

    FIRST_VERDICTS = 0.05
    """Seconds in which the first verdicts of an ExternalService's endpoints may come together, for one write."""
    SETTLING = 1.0
    """Seconds that a new ExternalService's sources and first checks are waited for before anything is written."""
    SHARE, BURST = 0.1, 4.0
    """The share of the time that may go into changes of one ExternalService, and the seconds that may at once: one
    whose endpoints come and go without end, or which somebody else changes back, must leave the API server and this
    process to the others. What fails is held by back-off, so one change counts for a second at most. So does a
    refusal that is told: the watch then tells of the status, which ends the back-off."""
    NAMED = 10
    """How many addresses of this cluster the log names at once."""
    REWORDED = 60.0
    """Seconds after which another reason of the same verdict is written: most change again before that."""

    def __init__(
        self,
        world: World,
        sources: SourcesLike,
        prober: ProberLike,
        authorities: AuthoritiesLike,
        writer: Writer,
        events: Deferred,
        metrics: Metrics,
        *,
        now: Callable[[], str],
        again: Callable[[ObjectKey, float], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._world = world
        self._sources = sources
        self._prober = prober
        self._authorities = authorities
        self._writer = writer
        self._events = events
        self._metrics = metrics
        self._now = now
        self._again = again
        self._jitter = jitter
        self._apart = Apart()
        self._troubles = Troubles(writer, events, now, self._charge)
        self.board = Board(
            now, self._verdict_changed, lambda key: again(key, 0.0), lambda key: again(key, self.REWORDED)
        )
        self.problems: dict[ObjectKey, tuple[int, int]] = {}
        """How many sources each ExternalService has, and how many of them have a problem."""
        self._conflicts: dict[ObjectKey, int] = {}
        """In a row."""
        self._unreached: dict[ObjectKey, int] = {}
        """How often in a row the API server could not be reached to write."""
        self._paces: dict[ObjectKey, Pace] = {}
        """Of seconds of work, of those that were changed."""
        self._new: dict[ObjectKey, float] = {}
        """Until when those of which nothing was ever written may settle."""
        self._in_the_way: dict[ObjectKey, set[ObjectKey]] = {}
        """Slices of others whose names ours would have had."""
        self._addresses: dict[ObjectKey, frozenset[str]] = {}
        """Those that its sources have found, admitted or not, and those that are kept of sources that are silent."""
        self._users: dict[str, set[ObjectKey]] = {}
        """The reverse."""

    async def __call__(self, key: ObjectKey) -> float | None:
        """Look at this ExternalService. Returns the seconds after which to look again, None for when it is touched.

        A write that met another state than was thought is no failure: the watch will tell of that state, and if it
        does not soon, the write is tried again. Raises MoorageError for failures.
        """
        if (pace := self._paces.get(key)) and (rest := pace.wait()) > 0:
            return rest
        started = asyncio.get_running_loop().time()
        result: str | None = "error"
        try:
            changed, wait = await self._look(key)
            result = "changed" if changed else "unchanged"
            if changed:
                self._charge(key, min(asyncio.get_running_loop().time() - started, 1.0))
            self._conflicts.pop(key, None)
            self._unreached.pop(key, None)
            return wait
        except StaleError as stale:
            result = "conflict"
            count = self._conflicts[key] = self._conflicts.get(key, 0) + 1
            wait = backoff(count, self._jitter(), first=0.05)
            log.debug(
                "decided from a state that has passed", key=str(key), error=str(stale), retry_seconds=round(wait, 2)
            )
            return wait
        except RefusedError as refused:
            raise MoorageError(str(refused)) from None
        except UnreachableError as error:
            # Everything that is to be written fails alike: that is said once.
            count = self._unreached[key] = self._unreached.get(key, 0) + 1
            wait = backoff(count, self._jitter())
            if len(self._unreached) == 1 and count == 1:
                log.warning("cannot write; endpoints stay as they are", error=str(error))
            return wait
        except MoorageError:
            raise
        except asyncio.CancelledError:
            result = None  # the term is over
            raise
        except Exception:
            self._metrics.failed_decisions.inc()
            await self._tell_of_failure(key)
            raise
        finally:
            if result is not None:
                self._metrics.reconciles.labels(result).inc()
                self._metrics.reconcile_seconds.observe(asyncio.get_running_loop().time() - started)

    def close(self) -> None:
        """Decide nothing any more."""
        self._apart.close()

    def observe(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        """Take the outcome of one check."""
        self._metrics.count_probe(outcome.success, outcome.seconds)
        try:
            self.board.observe(key, name, outcome)
        except Exception:
            log.exception("a check counts for nothing because of a mistake in Moorage", key=str(key), endpoint=name)

    def users(self, addresses: Iterable[str]) -> set[ObjectKey]:
        """The ExternalServices that have, or would have, an endpoint at one of these addresses."""
        return {key for address in addresses for key in self._users.get(address, ())}

    def follow(self, key: ObjectKey) -> ExternalService | None:
        """Have this ExternalService's sources followed. Returns it; None where it is gone, or going."""
        xsvc = self._world.xsvcs.get(key)
        if xsvc is None or xsvc.metadata.deletion_timestamp is not None:
            self._leave(key)
            self.board.remove(key)
            return None
        if xsvc.spec.suspend:
            self._leave(key)
        else:
            self._sources.set(key, xsvc)
        return xsvc

    def _leave(self, key: ObjectKey) -> None:
        self._sources.remove(key)
        self._prober.remove(key)
        self._authorities.remove(key)
        self._use(key, frozenset())
        self._conflicts.pop(key, None)
        self._unreached.pop(key, None)
        self._in_the_way.pop(key, None)
        self._new.pop(key, None)
        self._paces.pop(key, None)
        self.problems.pop(key, None)

    async def _look(self, key: ObjectKey) -> tuple[bool, float | None]:
        """Whether anything had to be written, and the seconds after which to look again at the latest."""
        xsvc = self.follow(key)
        unread = self._world.unreadable(ExternalService, key)
        if unread is None:
            self._troubles.forget(key)
        else:
            self._troubles.tell_of_unreadable(key, unread)
        if xsvc is None:
            if unread is not None:
                await self._troubles.unreadable(key, unread)
            return False, None
        bad_service = self._world.unreadable(Service, key)
        if bad_service is not None and self._world.services.get(key) is None:
            await self._troubles.service_unreadable(xsvc, bad_service)
            return False, None
        resolutions = () if xsvc.spec.suspend else self._sources.resolutions(key)
        slices = self._slices(key)
        size = sum(len(each.endpoints or ()) for each in resolutions)
        snapshot = Snapshot(
            xsvc,
            resolutions,
            self._world.gate,
            self._now(),
            slices,
            self._world.services.get(key),
            unreadable=unread.why if unread else None,
        )
        snapshot = await self._apart.call(size, snapshot.merge)
        if not xsvc.spec.suspend:
            merged = snapshot.merged
            found = {one.address for each in resolutions for one in each.endpoints or ()}
            self._use(key, frozenset(found.union(each.address for each in merged.endpoints)))
            problem = self._check(key, xsvc, self.board.expect(key, xsvc, merged.endpoints))
            self._sources.failing(key, {**snapshot.merged.refused, **self.board.failing(key)})
            wrong = [each.problem for each in resolutions if each.problem] + ([problem] if problem else [])
            self.problems[key] = len(resolutions) + bool(problem), len(wrong)
            snapshot = snapshot._replace(check_problem=problem)
            wait = self._unsettled(key, xsvc, resolutions)
            if wait is not None:
                return False, wait
        snapshot = snapshot._replace(verdicts=self.board.verdicts(key), now=self._now())
        decision = await self._apart.call(size, decide, snapshot)
        try:
            for write in decision.writes:
                await self._write(key, write)
        except RefusedError as refused:
            await self._troubles.refused(xsvc, decision.status, refused)
            raise
        changed = bool(decision.writes) or decision.status != xsvc.status
        if decision.writes:
            log.info("written", object=str(key), writes=[describe(write) for write in decision.writes])
        if decision.status != xsvc.status:
            try:
                xsvc = await self._writer.status(xsvc, decision.status)
            except RefusedError as refused:
                await self._troubles.status_refused(xsvc, decision.status, refused)
                raise
        for each in decision.news:
            self._events.record(xsvc, *each)
        if any(each.reason == "AddressRefused" for each in decision.news):
            self._name_owners(key)
        return changed, None

    def _name_owners(self, key: ObjectKey) -> None:
        """Log whose the refused addresses are: in the status, others' objects are not named."""
        whose = ((each, self._world.whose(each)) for each in sorted(self._addresses.get(key, ())))
        if found := dict(islice((each for each in whose if each[1]), self.NAMED)):
            log.info("addresses of this cluster are no endpoints", object=str(key), addresses=found)

    def _unsettled(self, key: ObjectKey, xsvc: ExternalService, resolutions: Sequence[Resolution]) -> float | None:
        """Seconds for which a new ExternalService is left for a moment, because more is about to be known of it.

        Otherwise each would begin with news that are no longer true when they are read, and with twice the writes.
        """
        if xsvc.status.observed_generation is not None:
            self._new.pop(key, None)
            return None
        now = asyncio.get_running_loop().time()
        left = self._new.setdefault(key, now + self.SETTLING) - now
        asked = any(each.endpoints is None and each.problem is None for each in resolutions)
        checking = any(each.health == "Unknown" for each in self.board.verdicts(key).values())
        return left if left > 0 and (asked or checking) else None

    def _check(self, key: ObjectKey, xsvc: ExternalService, subjects: Mapping[str, Subject]) -> Problem | None:
        """Have the endpoints checked; why they cannot be, if so."""
        spec = xsvc.spec.health_check
        checked = targets(subjects)
        if spec is None or not checked:
            self._prober.remove(key)
            self._authorities.remove(key)
            return None
        authority = self._authorities.of(key, xsvc.spec)
        problem = authority.problem
        if problem is None:
            try:
                self._prober.set(key, checked, check_of(spec, authority.pem))
                return self._prober.problem
            except MoorageError as error:
                problem = Problem("InvalidCheck", str(error), xsvc.metadata.creation_timestamp or self._now())
        self._prober.remove(key)
        # Before a Secret has been read once there is nothing to tell.
        return problem if problem.reason != "Pending" else None

    def _slices(self, key: ObjectKey) -> Sequence[EndpointSlice]:
        slices = self._world.slices_of(key)
        known = {each.metadata.name for each in slices}
        for obstacle in self._in_the_way.get(key, ()):
            slice_ = self._world.slices.get(obstacle)
            if slice_ is not None and slice_.metadata.name not in known:
                slices.append(slice_)
        return slices

    async def _write(self, key: ObjectKey, write: Write) -> None:
        try:
            await self._writer.do(write)
        except TakenError:
            if isinstance(write, Create) and isinstance(write.obj, EndpointSlice):
                self._in_the_way.setdefault(key, set()).add(write.obj.metadata.key)
            raise

    async def _tell_of_failure(self, key: ObjectKey) -> None:
        xsvc = self._world.xsvcs.get(key)
        if xsvc is None or xsvc.spec.suspend:
            return
        try:
            await self._troubles.failed(xsvc)
        except (MoorageError, StaleError, RefusedError) as error:
            log.warning("cannot say that nothing could be decided", object=str(key), error=str(error))
        except Exception:
            log.exception("cannot say that nothing could be decided", object=str(key))

    def _charge(self, key: ObjectKey, seconds: float) -> None:
        self._paces.setdefault(key, Pace(self.SHARE, self.BURST)).take(seconds)

    def _use(self, key: ObjectKey, addresses: frozenset[str]) -> None:
        before = self._addresses.pop(key, frozenset())
        if addresses:
            self._addresses[key] = addresses
        for address in before - addresses:
            users = self._users[address]
            users.discard(key)
            if not users:
                del self._users[address]
        for address in addresses - before:
            self._users.setdefault(address, set()).add(key)

    def _verdict_changed(self, key: ObjectKey, name: str, before: Verdict, after: Verdict) -> None:
        level = (
            log.warning if after.health == "Unhealthy" else log.info if before.health == "Unhealthy" else log.debug
        )
        level("an endpoint turned", object=str(key), endpoint=name, health=after.health, why=after.message)
        self._metrics.verdicts.labels(after.health).inc()
        self._again(key, self.FIRST_VERDICTS if before.health == "Unknown" else 0.0)

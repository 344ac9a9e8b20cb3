"""The loop for one ExternalService: gather what is known, decide, publish."""

import asyncio
import random
from itertools import islice

from moorage.api.core_v1 import Service
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.backoff import backoff
from moorage.cluster.errors import UnreachableError
from moorage.core.decide import decide
from moorage.core.groups import member_of
from moorage.core.mooring_model import Member
from moorage.core.services import group_of
from moorage.core.snapshot import Snapshot
from moorage.core.view import view_of
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage.operator.apart import Apart
from moorage.operator.gather import Gatherer
from moorage.operator.groups import Groups
from moorage.operator.metrics import Metrics
from moorage.operator.publish import Publisher
from moorage.operator.records import NOT_REPORTED, Record, Records
from moorage.operator.world import World
from moorage.operator.writer import RefusedError, StaleError

log = get_logger("moorage.operator")

SETTLING_SECONDS = 1.0
"""How long to wait for the sources and first checks of a new ExternalService before writing anything."""
MAX_NAMED_ADDRESSES = 10
"""How many addresses of this cluster one log record names."""


class Reconciler:
    """Level-triggered: whatever has happened, each call looks at the present state and does what is missing."""

    def __init__(
        self,
        world: World,
        gatherer: Gatherer,
        publisher: Publisher,
        records: Records,
        groups: Groups,
        apart: Apart,
        metrics: Metrics,
    ) -> None:
        self._world = world
        self._gatherer = gatherer
        self._publisher = publisher
        self._records = records
        self._groups = groups
        self._apart = apart
        self._metrics = metrics

    async def __call__(self, key: ObjectKey) -> float | None:
        """Look at this ExternalService. Returns the seconds after which to look again; None: when it is touched.

        A write that met an unexpected state is no failure: the watch will show that state, and if it does not, the
        decision is soon made again. Raises MoorageError for failures.
        """
        record = self._records.get(key)
        if record is not None and (rest := record.pace.wait()) > 0:
            return rest
        started = asyncio.get_running_loop().time()
        result: str | None = "error"
        try:
            changed, wait = await self._look(key)
        except StaleError as stale:
            result = "conflict"
            return self._conflict(self._records.of(key), stale)
        except RefusedError as refused:
            raise MoorageError(str(refused)) from None
        except UnreachableError as error:
            return self._unreached(self._records.of(key), error)
        except MoorageError:
            raise
        except asyncio.CancelledError:
            result = None  # the term is over
            raise
        except Exception:
            self._metrics.failed_decisions.inc()
            await self._report_failure(key)
            raise
        else:
            result = "changed" if changed else "unchanged"
            if (record := self._records.get(key)) is not None:
                record.conflicts = record.unreached = 0
                if changed:
                    record.pace.take(min(asyncio.get_running_loop().time() - started, 1.0))
            return wait
        finally:
            if result is not None:
                self._metrics.reconciles.labels(result).inc()
                self._metrics.reconcile_seconds.observe(asyncio.get_running_loop().time() - started)

    async def _look(self, key: ObjectKey) -> tuple[bool, float | None]:
        """Whether anything had to be written, and the seconds after which to look again at the latest."""
        failures = self._publisher.failures
        xsvc = self._gatherer.follow(key)
        unreadable = self._world.unreadable(ExternalService, key)
        if xsvc is None and unreadable is None:
            self._groups.withdraw(key)
            return False, None
        record = self._records.of(key)
        if unreadable is None:
            record.unreadable_event = record.unreadable_status = NOT_REPORTED
        else:
            failures.report_unreadable(record, unreadable)
        if xsvc is None:
            if unreadable is not None:
                await failures.unreadable(record, unreadable)
            return False, None
        bad_service = self._world.unreadable(Service, key)
        if bad_service is not None and self._world.services.get(key) is None:
            await failures.service_unreadable(record, xsvc, bad_service)
            return False, None
        snapshot = self._gatherer.snapshot(record, xsvc)
        size = sum(len(each.endpoints or ()) for each in snapshot.resolutions)
        snapshot = self._gatherer.checked(record, await self._apart.call(size, snapshot.merge))
        of_moorings = await self._offer(snapshot, size)
        if (wait := _settling(record, snapshot)) is not None or (wait := of_moorings) is not None:
            return False, wait
        snapshot = snapshot._replace(moored=self._groups.moored(key))
        decision = await self._apart.call(size, decide, snapshot)
        changed = await self._publisher.publish(record, xsvc, decision)
        if any(each.reason == "AddressRefused" for each in decision.news):
            self._name_owners(record)
        return changed, None

    async def _offer(self, snapshot: Snapshot, size: int) -> float | None:
        """Tell its group what it says of its endpoints. Returns the seconds to wait for what follows from it."""
        xsvc = snapshot.xsvc
        if xsvc.spec.session_affinity != "Mooring":
            self._groups.withdraw(xsvc.metadata.key)
            return None
        member = await self._apart.call(size, _member, snapshot)
        if member is None:
            self._groups.withdraw(xsvc.metadata.key)
            return None
        return self._groups.offer(xsvc.metadata.key, group_of(xsvc), member)

    def _conflict(self, record: Record, stale: StaleError) -> float:
        record.conflicts += 1
        wait = backoff(record.conflicts, random.random(), first=0.05)
        log.debug(
            "decided from a state that has passed", key=record.key, error=str(stale), retry_seconds=round(wait, 2)
        )
        return wait

    def _unreached(self, record: Record, error: UnreachableError) -> float:
        record.unreached += 1
        # All writes fail for the same reason: log it once.
        if record.unreached == 1 and not any(each.unreached for each in self._records if each is not record):
            log.warning("cannot write; endpoints stay as they are", error=str(error))
        return backoff(record.unreached, random.random())

    def _name_owners(self, record: Record) -> None:
        """Log whose addresses were refused: the status does not name objects of others."""
        whose = ((each, self._world.whose(each)) for each in sorted(record.addresses))
        if found := dict(islice((each for each in whose if each[1]), MAX_NAMED_ADDRESSES)):
            log.info("addresses of this cluster are no endpoints", object=str(record.key), addresses=found)

    async def _report_failure(self, key: ObjectKey) -> None:
        xsvc = self._world.xsvcs.get(key)
        if xsvc is None or xsvc.spec.suspend:
            return
        try:
            await self._publisher.failures.failed(self._records.of(key), xsvc)
        except (MoorageError, StaleError, RefusedError) as error:
            log.warning("cannot say that nothing could be decided", object=str(key), error=str(error))
        except Exception:
            log.exception("cannot say that nothing could be decided", object=str(key))


def _member(snapshot: Snapshot) -> Member | None:
    return member_of(view_of(snapshot), snapshot)


def _settling(record: Record, snapshot: Snapshot) -> float | None:
    """Seconds for which to leave a new ExternalService alone, because more will soon be known about it.

    Otherwise its first Events would be out of date when somebody reads them, and it would be written twice.
    """
    if snapshot.xsvc.status.observed_generation is not None or snapshot.xsvc.spec.suspend:
        return None
    now = asyncio.get_running_loop().time()
    if record.settled_at is None:
        record.settled_at = now + SETTLING_SECONDS
    left = record.settled_at - now
    asked = any(each.endpoints is None and each.problem is None for each in snapshot.resolutions)
    checking = any(each.health == "Unknown" for each in snapshot.verdicts.values())
    return left if left > 0 and (asked or checking) else None

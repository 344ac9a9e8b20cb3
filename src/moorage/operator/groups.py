"""The loop for one group: gather who its clients are and where they may go, decide, write Moorings."""

import asyncio
import random
import time
from collections.abc import Callable

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS, MooringConfig
from moorage.cluster.backoff import backoff
from moorage.cluster.errors import UnreachableError
from moorage.cluster.queue import Queue
from moorage.core.groups import leading
from moorage.core.mooring_model import GroupDecision, Member, Moored, Move
from moorage.core.moorings import as_written
from moorage.core.snapshot import GroupSnapshot
from moorage.log import get_logger
from moorage.operator.apart import Apart
from moorage.operator.group_records import ATTEMPTS_OF_A_SECOND, GroupRecord, absences
from moorage.operator.metrics import Metrics
from moorage.operator.mooring_writes import Attempt, MooringWriter
from moorage.operator.world import World

log = get_logger("moorage.operator.moorings")

MOORINGS_FIRST_SECONDS = 2.0
"""How long a change of an ExternalService waits for the moorings that follow from it."""
MEMBERS_FIRST_SECONDS = 10.0
"""How long a group waits for an ExternalService that should be a member and has not been looked at."""
ATTEMPT_SECONDS = 1.0
"""How long a group writes before it looks up, or ten times as long as its decision took, if that is more. What has
happened meanwhile, such as another endpoint's failure, must not wait for thousands of writes."""
DECISION_SECONDS = 5.0
"""How long a group goes on to write from one decision, if nothing has happened. To decide takes time from writing."""
GATHERING_SECONDS = 0.1
"""How long after one decision the next one is made, if it is only for clients that have come or gone: of a hundred
pods that come at once each few would else have one, and take turns from those who come later."""
COUNTS_SECONDS = 5.0
"""How long members are left alone when only clients of endpoints have come or gone: their status counts them."""


class Groups:
    """Groups of ExternalServices, each with its moorings.

    Members are offered as they are looked at. `queue` holds groups to be decided about; run it with this object as
    its work. `member_touched(key, seconds)` is called when a member's moorings have changed: look at it again, after
    so many seconds at the latest.
    """

    def __init__(
        self,
        world: World,
        writer: MooringWriter,
        decide: Callable[[GroupSnapshot], GroupDecision],
        apart: Apart,
        metrics: Metrics,
        member_touched: Callable[[ObjectKey, float], None],
        tell: Callable[[ObjectKey, list[Move]], None],
        now: Callable[[], str],
        grace_seconds: float,
    ) -> None:
        self.queue: Queue[ObjectKey] = Queue()
        self._world = world
        self._writer = writer
        self._decide = decide
        self._apart = apart
        self._metrics = metrics
        self._member_touched = member_touched
        self._tell = tell
        self._now = now
        self._grace_seconds = grace_seconds
        self._records: dict[ObjectKey, GroupRecord] = {}
        self._group_of: dict[ObjectKey, ObjectKey] = {}
        """Of members."""

    # --- Members -------------------------------------------------------------------------------------------------

    def offer(self, key: ObjectKey, group: ObjectKey, member: Member) -> float | None:
        """This ExternalService is a member of `group`, and this is how it sees its endpoints.

        Returns the seconds to wait for moorings that follow from a change; None: go on with what `moored` says.
        """
        if self._group_of.get(key, group) != group:
            self.withdraw(key)
        record = self._records.setdefault(group, GroupRecord(group))
        self._group_of[key] = group
        now = asyncio.get_running_loop().time()
        record.await_endpoints(member, now)
        if record.members.get(key) != member:
            record.members[key] = member
            record.missed.pop(key, None)
            record.changes += 1
            record.waiting.setdefault(key, now)
            self._world.clients.want(group, _config(record))
            self.queue.add(group)
        since = record.waiting.get(key)
        left = since + MOORINGS_FIRST_SECONDS - now if since is not None else 0.0
        return left if left > 0 else None

    def withdraw(self, key: ObjectKey) -> None:
        """This ExternalService is gone, or its clients are not moored."""
        group = self._group_of.pop(key, None)
        if group is None:
            return
        record = self._records[group]
        del record.members[key]
        record.waiting.pop(key, None)
        record.forget_endpoints(key)
        record.changes += 1
        self._world.clients.want(group, _config(record))
        self.queue.add(group)

    def moored(self, key: ObjectKey) -> Moored | None:
        """Where the clients of a member are; None: that has not been decided yet since this process leads."""
        group = self._group_of.get(key)
        return self._records[group].moored if group is not None else None

    def count(self) -> None:
        """Set the metrics of how much there is."""
        self._metrics.groups.set(sum(bool(each.members) for each in self._records.values()))
        self._metrics.refused_moorings.set(sum(len(each.refusals) for each in self._records.values()))
        self._metrics.moorings.set(self._world.clients.count)

    def touch(self, group: ObjectKey) -> None:
        """Something has changed that decisions about this group read."""
        record = self._records.get(group)
        wait = 0.0
        if record is not None:
            record.touches += 1
            wait = record.decided_at + GATHERING_SECONDS - asyncio.get_running_loop().time()
        self.queue.add(group, max(0.0, wait))

    # --- One group -----------------------------------------------------------------------------------------------

    async def __call__(self, key: ObjectKey) -> float | None:
        """Decide about a group and write its Moorings. Returns the seconds after which to look at it again.

        Raises MoorageError if nothing can be written at the moment.
        """
        clients = self._world.clients
        record = self._records.get(key)
        if record is None:
            if not clients.moorings(key):
                return None
            record = self._records[key] = GroupRecord(key)
        if record.changes == record.basis[0] and (rest := record.pace.wait()) > 0:
            return rest
        if (wait := self._wait(record)) is not None:
            return wait
        await clients.until_indexed(key)
        if not clients.knows(_config(record)):
            return None  # it is touched once that has been read
        decision = self._going_on(record) or await self._decided(record)
        changes, attempts = record.basis[0], ATTEMPTS_OF_A_SECOND * record.decision_seconds
        attempt = await self._writer.attempt(key, decision.writes, record.refusals, max(ATTEMPT_SECONDS, attempts))
        record.pace.take(bool(attempt.done))
        return self._settle(record, changes, decision, attempt)

    def _going_on(self, record: GroupRecord) -> GroupDecision | None:
        """What is left to write of the last decision; None: it is time for the next one."""
        left, record.left = record.left, None
        age = asyncio.get_running_loop().time() - record.decided_at
        return left if record.basis == record.now and age < DECISION_SECONDS else None

    async def _decided(self, record: GroupRecord) -> GroupDecision:
        loop = asyncio.get_running_loop()
        record.basis, record.decided_at = record.now, loop.time()
        snapshot = self._snapshot(record)
        try:
            decision, record.decision_seconds = await self._apart.call(
                snapshot.roster.size, _timed, self._decide, snapshot
            )
        except Exception:
            self._metrics.failed_decisions.inc()
            raise
        self._metrics.group_decision_seconds.observe(loop.time() - record.decided_at)
        record.pace.take(ATTEMPTS_OF_A_SECOND * record.decision_seconds)
        return decision

    def _wait(self, record: GroupRecord) -> float | None:
        """Seconds to wait for ExternalServices of the group that have not been looked at; None: there are none.

        A decision without one of them would take its endpoints for something that they are not.
        """
        now = asyncio.get_running_loop().time()
        missing = {each.metadata.key for each in self._world.members(record.key)} - record.members.keys()
        record.missed = {key: record.missed.get(key, now) for key in missing}
        left = max((since + MEMBERS_FIRST_SECONDS - now for since in record.missed.values()), default=0.0)
        if left > 0:
            return left
        if not record.members and self._world.has_unknown(record.key.namespace):
            return MEMBERS_FIRST_SECONDS
        return None

    def _snapshot(self, record: GroupRecord) -> GroupSnapshot:
        """What is known now, for another thread: it does not change."""
        clients, key = self._world.clients, record.key
        past = {each.previous_group for each in record.members.values() if each.previous_group}
        snapshot = GroupSnapshot(
            key=key,
            members=record.members_now(asyncio.get_running_loop().time()),
            roster=clients.roster(key),
            expected=clients.expected(key),
            absent={},
            now=self._now(),
            past=[each for group in sorted(past) for each in clients.moorings(ObjectKey(key.namespace, group))],
            grace_seconds=self._grace_seconds,
        )
        record.absent = absences(record.absent, snapshot)
        return snapshot._replace(absent=record.absent)

    def _settle(self, record: GroupRecord, changes: int, decision: GroupDecision, attempt: Attempt) -> float | None:
        """Tell what has been done. Returns the seconds after which to go on."""
        key, now = record.key, asyncio.get_running_loop().time()
        undone = []
        for number, move in enumerate(decision.moves):
            if number not in attempt.done:
                undone.append(move)
                continue
            self._metrics.moves.labels(move.reason).inc()
            record.moves.append(move)
        moored = as_written(decision.moored, undone)
        self._told(record, moored._replace(problems=(*moored.problems, *record.refusals.problems())))
        if attempt.error is not None:
            if not isinstance(attempt.error, UnreachableError):
                raise attempt.error
            record.unreached += 1
            if record.unreached == 1:
                log.warning("cannot write moorings", group=str(key), error=str(attempt.error))
            return backoff(record.unreached, random.random())
        record.unreached = 0
        if attempt.stale is not None:
            record.conflicts += 1
            wait = backoff(record.conflicts, random.random(), first=0.05)
            log.debug("decided from a state that has passed", group=str(key), error=str(attempt.stale))
            return wait
        record.conflicts = 0
        if attempt.left:
            record.left = decision.without(attempt.done)
            self.queue.add(key)
            return None
        if record.moves:
            self._tell(key, record.moves)
            record.moves = []
        if changes == record.changes:
            waited, record.waiting = record.waiting, {}
            for each in waited:
                self._member_touched(each, 0.0)
        if not record.members and not self._world.clients.moorings(key):
            del self._records[key]
        waits = (decision.again_seconds, record.refusals.wait(now))
        return min((each for each in waits if each is not None), default=None)

    def _told(self, record: GroupRecord, moored: Moored) -> None:
        before, record.moored = record.moored, moored
        if before == moored:
            return
        # Whether somebody is at an endpoint decides how it is published; how many there are is only shown.
        same = (
            before is not None
            and before.kind == moored.kind in KINDS_OF_PODS
            and before.at.keys() == moored.at.keys()
            and (before.problems, before.pending) == (moored.problems, moored.pending)
        )
        for each in record.members:
            self._member_touched(each, COUNTS_SECONDS if same else 0.0)


def _config(record: GroupRecord) -> MooringConfig | None:
    first = leading(record.members.values())
    return first.config if first else None


def _timed(decide: Callable[[GroupSnapshot], GroupDecision], snapshot: GroupSnapshot) -> tuple[GroupDecision, float]:
    """The decision, and the seconds of processor that this took. It can be made in another thread."""
    began = time.thread_time()
    return decide(snapshot), time.thread_time() - began

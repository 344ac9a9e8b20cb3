"""The loop for one group: gather who its clients are and where they may go, decide, write Moorings."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from moorage.api.core_v1 import Node, Pod
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS, MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.backoff import backoff
from moorage.cluster.errors import UnreachableError
from moorage.cluster.queue import Queue
from moorage.core.clients import Owners, clients_of
from moorage.core.groups import leading
from moorage.core.mooring_model import ClientKey, Clients, GroupDecision, GroupSnapshot, Member, Moored, Move
from moorage.core.moorings import as_written
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
"""How long a group writes before it decides again, or ten times as long as its decision took, if that is more. What
has happened meanwhile, such as another endpoint's failure, must not wait for thousands of writes."""
MIN_GATHERING_SECONDS, MAX_GATHERING_SECONDS = 0.01, 0.2
"""How long changes of clients are gathered before the next decision: as long as the last one took; if that was less
than the first of these, not at all."""
COUNTS_SECONDS = 5.0
"""How long members are left alone when only clients of endpoints have come or gone: their status counts them."""
_NO_CLIENTS = Clients()


class _Facts(NamedTuple):
    """What one decision is made from, as plain data for another thread."""

    key: ObjectKey
    members: tuple[Member, ...]
    config: MooringConfig | None
    pods: list[Pod]
    nodes: list[Node]
    owners: Owners
    moorings: list[Mooring]
    past: list[Mooring]
    absent: Mapping[ClientKey, str]
    now: str

    @property
    def size(self) -> int:
        return len(self.pods) + len(self.nodes) + len(self.moorings)


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
        """Something has changed that decisions about this group read.

        A hundred pods that come at once get one decision, not one for the first of them and a second for the rest:
        among 10,000 clients a decision takes as long for one as for all.
        """
        record = self._records.get(group)
        seconds = record.decision_seconds if record else 0.0
        self.queue.add(group, min(seconds, MAX_GATHERING_SECONDS) if seconds >= MIN_GATHERING_SECONDS else 0.0)

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
        if record.changes == record.decided and (rest := record.pace.wait()) > 0:
            return rest
        if (wait := self._wait(record)) is not None:
            return wait
        if not clients.knows(_config(record)):
            return None  # it is touched once that has been read
        changes = record.decided = record.changes
        facts = self._facts(record)
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            decision, record.absent, record.decision_seconds = await self._apart.call(
                facts.size, _decided, self._decide, facts, self._grace_seconds
            )
        except Exception:
            self._metrics.failed_decisions.inc()
            raise
        self._metrics.group_decision_seconds.observe(loop.time() - started)
        attempts = ATTEMPTS_OF_A_SECOND * record.decision_seconds
        attempt = await self._writer.attempt(key, decision.writes, record.refusals, max(ATTEMPT_SECONDS, attempts))
        record.pace.take(attempts + bool(attempt.done))
        return self._settle(record, changes, decision, attempt)

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

    def _facts(self, record: GroupRecord) -> _Facts:
        clients, config = self._world.clients, _config(record)
        namespace = record.key.namespace
        of_pods = config is not None and config.client in KINDS_OF_PODS
        past = {each.previous_group for each in record.members.values() if each.previous_group}
        return _Facts(
            record.key,
            record.members_now(asyncio.get_running_loop().time()),
            config,
            clients.pods(namespace) if of_pods else [],
            clients.nodes(),
            clients.owners(namespace) if of_pods else Owners(),
            clients.moorings(record.key),
            [each for group in sorted(past) for each in clients.moorings(ObjectKey(namespace, group))],
            record.absent,
            self._now(),
        )

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


def _decided(
    decide: Callable[[GroupSnapshot], GroupDecision], facts: _Facts, grace_seconds: float
) -> tuple[GroupDecision, Mapping[ClientKey, str], float]:
    """The decision, who is absent, and the seconds of processor that this took. It can be made in another thread."""
    began = time.thread_time()
    clients = _NO_CLIENTS
    if facts.config is not None:
        clients = clients_of(facts.config, facts.key.namespace, facts.pods, facts.nodes, facts.owners)
    absent = absences(facts.absent, clients, facts.moorings, facts.now)
    snapshot = GroupSnapshot(
        key=facts.key,
        members=facts.members,
        clients=clients,
        moorings=facts.moorings,
        absent=absent,
        now=facts.now,
        past=facts.past,
        grace_seconds=grace_seconds,
    )
    return decide(snapshot), absent, time.thread_time() - began

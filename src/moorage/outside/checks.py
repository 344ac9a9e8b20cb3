"""Health checks in a process of their own: the operator's side, and the child's."""

from collections.abc import Callable, Mapping
from typing import Protocol

from moorage.api.meta import ObjectKey
from moorage.cluster.clock import timestamp
from moorage.core.health import Outcome
from moorage.core.model import Problem
from moorage.outside.channel import Channel, Coalesced
from moorage.outside.checks_messages import CheckJob, FromChecks, Outcomes, RemoveChecks, SetChecks, ToChecks
from moorage.outside.link import Link, Start
from moorage.probe.check import Check, Target
from moorage.probe.prober import Prober

COLLECT_SECONDS = 0.01
"""How long to collect outcomes: a message costs as much as some twenty outcomes."""


class RemoteProber:
    """Checks endpoints in a child process, like `probe.prober.Prober` in this one.

    `on_outcome`, `on_late` and `on_skipped` are those of the Prober. `changed()` is called after `problem` has
    changed, `restarted()` before the child is started again.
    """

    def __init__(
        self,
        start: Start[FromChecks],
        on_outcome: Callable[[ObjectKey, str, Outcome], None],
        *,
        on_late: Callable[[float], None] = lambda seconds: None,
        on_skipped: Callable[[], None] = lambda: None,
        changed: Callable[[], None] = lambda: None,
        restarted: Callable[[], None] = lambda: None,
        now: Callable[[], str] = timestamp,
    ) -> None:
        self._on_outcome = on_outcome
        self._on_late = on_late
        self._on_skipped = on_skipped
        self._checked: dict[ObjectKey, SetChecks] = {}
        self._numbers: dict[int, tuple[ObjectKey, str]] = {}
        """The endpoint of each job: outcomes of earlier jobs are ignored."""
        self._last = 0
        self._link = Link("health checks", start, self._take, now=now, changed=changed, restarted=restarted)

    @property
    def problem(self) -> Problem | None:
        """Why nothing is being checked."""
        return self._link.problem

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None:
        """Check these endpoints of `key`, by name, and no others of it. Unchanged ones go on undisturbed."""
        before = self._checked.get(key)
        known = before.jobs if before is not None and before.check == check else {}
        jobs = {}
        for name, target in targets.items():
            job = known.get(name)
            jobs[name] = job if job is not None and job.target == target else self._job(target)
        if before is not None and jobs == before.jobs:
            return
        self._forget(before)
        self._numbers.update({job.number: (key, name) for name, job in jobs.items()})
        these = self._checked[key] = SetChecks(key, check, jobs)
        self._link.set(key, lambda: [these])

    def remove(self, key: ObjectKey) -> None:
        """Stop checking the endpoints of `key`."""
        self._forget(self._checked.pop(key, None))
        self._link.unset(key, RemoveChecks(key))

    async def close(self) -> None:
        """End all checks, without outcomes."""
        await self._link.close()

    def _job(self, target: Target) -> CheckJob:
        self._last += 1
        return CheckJob(self._last, target)

    def _forget(self, these: SetChecks | None) -> None:
        for job in these.jobs.values() if these else ():
            del self._numbers[job.number]

    def _take(self, message: FromChecks) -> None:
        assert isinstance(message, Outcomes)
        for seconds in message.late:
            self._on_late(seconds)
        for _ in range(message.skipped):
            self._on_skipped()
        for number, failure, seconds in message.ended:
            if endpoint := self._numbers.get(number):
                self._on_outcome(*endpoint, Outcome(failure is None, failure, seconds))


class LocalProber(Protocol):
    """As `probe.prober.Prober`."""

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None: ...

    def remove(self, key: ObjectKey) -> None: ...

    def close(self) -> None: ...


class ChecksWorker:
    """The child: makes the checks and reports their outcomes."""

    def __init__(self, channel: Channel[ToChecks], prober: Callable[..., LocalProber] = Prober) -> None:
        self._channel = channel
        self._numbers: dict[ObjectKey, dict[str, int]] = {}
        self._ended: list[tuple[int, str | None, float]] = []
        self._late: list[float] = []
        self._skipped = 0
        self._flush_soon = Coalesced(self._flush, COLLECT_SECONDS)
        self._prober = prober(self._outcome, on_late=self._began, on_skipped=self._skip)

    def take(self, message: ToChecks) -> None:
        match message:
            case SetChecks(key, check, jobs):
                self._numbers[key] = {name: job.number for name, job in jobs.items()}
                self._prober.set(key, {name: job.target for name, job in jobs.items()}, check)
            case RemoveChecks(key):
                self._numbers.pop(key, None)
                self._prober.remove(key)

    async def close(self) -> None:
        self._prober.close()

    def _outcome(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        self._ended.append((self._numbers[key][name], outcome.message, outcome.seconds))
        self._flush_soon()

    def _began(self, seconds: float) -> None:
        self._late.append(seconds)
        self._flush_soon()

    def _skip(self) -> None:
        self._skipped += 1
        self._flush_soon()

    def _flush(self) -> bool:
        if self._channel.full:
            # The operator does not run at the moment. When it does again, only the newest outcomes will matter.
            self._ended = list({each[0]: each for each in self._ended}.values())
            self._late.clear()
            return False
        self._channel.send(Outcomes(self._ended, self._late, self._skipped))
        self._ended, self._late, self._skipped = [], [], 0
        return True

"""Health checks in a process of their own: the operator's side, and the child's."""

from collections.abc import Callable, Mapping
from typing import Protocol

from moorage.api.meta import ObjectKey
from moorage.cluster.clock import timestamp
from moorage.core.health import Outcome
from moorage.core.model import Problem
from moorage.outside.channel import Channel, Soon
from moorage.outside.checks_messages import CheckNone, CheckThese, FromChecks, Job, Outcomes, ToChecks
from moorage.outside.link import Link, Start
from moorage.probe.check import Check, Target
from moorage.probe.prober import Prober

COLLECT_SECONDS = 0.01
"""For which outcomes are collected: a message costs as much as some twenty outcomes."""


class RemoteProber:
    """Has endpoints checked by a child process, as `probe.prober.Prober` does here.

    `on_outcome`, `on_late` and `on_skipped` are those of the Prober. `changed()` is called after `problem` has
    changed, `restarted()` when another child is to be started.
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
        self._checked: dict[ObjectKey, CheckThese] = {}
        self._numbers: dict[int, tuple[ObjectKey, str]] = {}
        """Whose outcomes these are: those of what an endpoint was before count for nothing."""
        self._last = 0
        self._link = Link("health checks", start, self._take, now=now, changed=changed, restarted=restarted)

    @property
    def problem(self) -> Problem | None:
        """Why nothing is checked at the moment."""
        return self._link.problem

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None:
        """Check these endpoints of `key`, by name, and no others of it. What is as it was goes on undisturbed."""
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
        these = self._checked[key] = CheckThese(key, check, jobs)
        self._link.say(key, lambda: [these])

    def remove(self, key: ObjectKey) -> None:
        """Check nothing of `key` any more."""
        self._forget(self._checked.pop(key, None))
        self._link.unsay(key, CheckNone(key))

    async def close(self) -> None:
        """End all checks; nobody is told."""
        await self._link.close()

    def _job(self, target: Target) -> Job:
        self._last += 1
        return Job(self._last, target)

    def _forget(self, these: CheckThese | None) -> None:
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


class ProbesHere(Protocol):
    """As `probe.prober.Prober`."""

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None: ...

    def remove(self, key: ObjectKey) -> None: ...

    def close(self) -> None: ...


class Checks:
    """What the child does: check, and tell."""

    def __init__(self, channel: Channel[ToChecks], prober: Callable[..., ProbesHere] = Prober) -> None:
        self._channel = channel
        self._numbers: dict[ObjectKey, dict[str, int]] = {}
        self._ended: list[tuple[int, str | None, float]] = []
        self._late: list[float] = []
        self._skipped = 0
        self._flush_soon = Soon(self._flush, COLLECT_SECONDS)
        self._prober = prober(self._outcome, on_late=self._began, on_skipped=self._skip)

    def take(self, message: ToChecks) -> None:
        match message:
            case CheckThese(key, check, jobs):
                self._numbers[key] = {name: job.number for name, job in jobs.items()}
                self._prober.set(key, {name: job.target for name, job in jobs.items()}, check)
            case CheckNone(key):
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
            # The operator does not run. What it will want to know is how things are when it does again.
            self._ended = list({each[0]: each for each in self._ended}.values())
            self._late.clear()
            return False
        self._channel.send(Outcomes(self._ended, self._late, self._skipped))
        self._ended, self._late, self._skipped = [], [], 0
        return True

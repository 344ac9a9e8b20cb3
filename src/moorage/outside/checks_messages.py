"""What the operator and the child process for health checks tell each other."""

from moorage.api.meta import ObjectKey
from moorage.outside.messages import Message, Ping, Pong
from moorage.probe.check import Check, Target

"""Namespace and name of an ExternalService."""


class Job(Message, frozen=True):
    """An endpoint that is to be checked."""

    number: int
    """By which the outcomes are told; another one whenever the target or the check is another."""
    target: Target


class CheckThese(Message, frozen=True):
    """To the checks: check these endpoints of this ExternalService, by name, and no others of it."""

    key: ObjectKey
    check: Check
    jobs: dict[str, Job]


class CheckNone(Message, frozen=True):
    key: ObjectKey


class Outcomes(Message, frozen=True):
    """From the checks: how some went."""

    ended: list[tuple[int, str | None, float]]
    """Of each the Job's number, why it failed (None: it did not), and the seconds that it took."""
    late: list[float]
    """Of each that was begun, how many seconds later than it was due."""
    skipped: int
    """Those that could not be made for want of files, ports or memory."""


ToChecks = Ping | CheckThese | CheckNone
FromChecks = Pong | Outcomes

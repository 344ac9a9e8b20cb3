"""What the operator and the child process for health checks send each other."""

from moorage.api.meta import ObjectKey
from moorage.outside.messages import Message, Ping, Pong
from moorage.probe.check import Check, Target


class CheckJob(Message, frozen=True):
    """An endpoint that is to be checked."""

    number: int
    """Identifies it in outcomes. It changes with the target and the check."""
    target: Target


class SetChecks(Message, frozen=True):
    """To the child: check these endpoints of this ExternalService, by name, and no others of it."""

    key: ObjectKey
    check: Check
    jobs: dict[str, CheckJob]


class RemoveChecks(Message, frozen=True):
    key: ObjectKey


class Outcomes(Message, frozen=True):
    """From the child: outcomes of some checks."""

    ended: list[tuple[int, str | None, float]]
    """For each check: the number of its CheckJob, why it failed (None: success), and how many seconds it took."""
    late: list[float]
    """For each check that was begun: how many seconds late it was."""
    skipped: int
    """How many checks could not be made for lack of files, ports or memory."""


ToChecks = Ping | SetChecks | RemoveChecks
FromChecks = Pong | Outcomes

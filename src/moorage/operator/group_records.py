"""What the leader remembers of groups."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.api.meta import ObjectKey
from moorage.cluster.pace import Pace
from moorage.core.mooring_model import ClientKey, GroupDecision, Member, Moored, Move
from moorage.core.snapshot import GroupSnapshot
from moorage.operator.refusals import Refusals

ATTEMPTS_PER_SECOND, ATTEMPTS_BURST = 1.0, 20.0
"""Of one group: one that somebody else changes back without end must leave the API server to the others."""
ATTEMPTS_OF_A_SECOND = 10.0
"""What a second of calculation counts for, which is done in one thread for all groups."""


def _pace() -> Pace:
    return Pace(ATTEMPTS_PER_SECOND, ATTEMPTS_BURST)


@dataclass(slots=True)
class GroupRecord:
    """What is remembered of one group."""

    key: ObjectKey
    members: dict[ObjectKey, Member] = field(default_factory=dict)
    """As they were offered last."""
    changes: int = 0
    """Of members, so far."""
    touches: int = 0
    """How often something else has changed."""
    basis: tuple[int, int] = (0, 0)
    """How many of both the last decision knew. A change of a member need not wait for `pace`: an endpoint may have
    failed, and each member has a pace of its own."""
    decided_at: float = -math.inf
    """When that was, by the event loop's clock."""
    left: GroupDecision | None = None
    """What there was no time to write of it."""
    waiting: dict[ObjectKey, float] = field(default_factory=dict)
    """Members with a change that the group has not settled -> since when, by the event loop's clock."""
    missed: dict[ObjectKey, float] = field(default_factory=dict)
    """ExternalServices that should be members and have not been offered -> since when, likewise."""
    awaited: dict[ObjectKey, float] = field(default_factory=dict)
    """Members with endpoints that are about to take clients -> until when clients wait for them, likewise."""
    begun: set[ObjectKey] = field(default_factory=set)
    """Members of which all endpoints were known at one time since they count. New clients do not wait for others."""
    moored: Moored | None = None
    """What members are told; None: nothing has been decided yet in this term."""
    absent: Mapping[ClientKey, str] = field(default_factory=dict)
    """Since when (RFC 3339) clients that have a mooring are neither present nor expected."""
    moves: list[Move] = field(default_factory=list)
    """Those that were written and of which no Event tells yet."""
    refusals: Refusals = field(default_factory=Refusals)
    decision_seconds: float = 0.0
    """Of a processor, that the last decision took."""
    pace: Pace = field(default_factory=_pace)
    conflicts: int = 0
    """In a row."""
    unreached: int = 0
    """How often in a row the API server could not be reached to write."""

    @property
    def now(self) -> tuple[int, int]:
        """What `basis` is after a decision now."""
        return self.changes, self.touches

    def await_endpoints(self, member: Member, now: float) -> None:
        """Begin to wait for endpoints of this member, or end that."""
        if not member.counts:
            self.forget_endpoints(member.key)
        elif member.awaited_seconds:
            self.awaited.setdefault(member.key, now + member.awaited_seconds)
        else:
            self.awaited.pop(member.key, None)
            self.begun.add(member.key)

    def forget_endpoints(self, key: ObjectKey) -> None:
        """This member does not count any more."""
        self.awaited.pop(key, None)
        self.begun.discard(key)

    def members_now(self, now: float) -> tuple[Member, ...]:
        """By name, each with the time that is left to wait for its endpoints."""
        return tuple(
            member._replace(
                awaited_seconds=max(0.0, self.awaited.get(key, now) - now), beginning=key not in self.begun
            )
            for key, member in sorted(self.members.items())
        )


def absences(before: Mapping[ClientKey, str], snapshot: GroupSnapshot) -> dict[ClientKey, str]:
    """Since when each client that has a mooring is neither present nor expected."""
    away, expected = snapshot.roster.away, snapshot.expected
    return {key: before.get(key, snapshot.now) for key in away if key not in expected}

"""What goes wrong when: the faults of a run, planned before it. Pure; a seed says all.

Faults come in lanes. In a lane one fault ends before the next begins, and in the end all are over. So whatever takes
longer than planned, at most one endpoint fails, and at most one is removed or drained, at a time.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

What = Literal[
    "kill endpoint", "start endpoint", "silence endpoint", "hear endpoint",
    "remove endpoint", "restore endpoint", "drain endpoint", "keep endpoint", "weigh endpoint",
    "edit mooring",
    "replace pod", "move pod",
    "kill agent", "replace agent", "freeze agent", "thaw agent",
    "kill leader", "replace leader", "stop API server", "start API server",
]  # fmt: skip

FEWEST_ENDPOINTS = 3
"""One fails, one is removed or drained, and one is left."""


class Cast(NamedTuple):
    """Whom faults are about."""

    services: Sequence[str]
    endpoints: Sequence[str]
    """The same of each Service; at least `FEWEST_ENDPOINTS`."""
    nodes: Sequence[str]
    workloads: Sequence[str]
    """What makes the pods that connect."""


class Step(NamedTuple):
    """Something to be done."""

    at: float
    """Seconds since the beginning."""
    lane: str
    what: What
    target: str = ""
    """The endpoint, node or workload."""
    service: str = ""
    """The ExternalService, where only one is changed."""
    number: int = 0
    """By which whoever does it chooses, where that depends on what there is then."""

    def __str__(self) -> str:
        return " ".join(filter(None, (f"{self.at:7.1f}", self.what, self.target, self.service)))


class _Fault(NamedTuple):
    begin: What
    end: What | None = None
    seconds: tuple[float, float] = (0.0, 0.0)
    """How long it lasts, at least and at most; where nobody ends it, how long it takes to get over it."""
    of: Literal["endpoints", "nodes", "workloads"] | None = None
    """What it picks its target from."""
    of_service: bool = False


class _Lane(NamedTuple):
    pause: tuple[float, float]
    """Seconds between two faults, at least and at most."""
    faults: tuple[_Fault, ...]
    """All have had their turn before one has its second."""


_FAILING, _SETTLING = (6.0, 14.0), (6.0, 12.0)
LANES = {
    "endpoints": _Lane(
        (2, 6),
        (
            _Fault("kill endpoint", "start endpoint", _FAILING, "endpoints"),
            _Fault("silence endpoint", "hear endpoint", _FAILING, "endpoints"),
        ),
    ),
    "specs": _Lane(
        (2, 6),
        (
            _Fault("remove endpoint", "restore endpoint", _SETTLING, "endpoints", of_service=True),
            _Fault("drain endpoint", "keep endpoint", _SETTLING, "endpoints", of_service=True),
            _Fault("weigh endpoint", None, (0, 0), "endpoints", of_service=True),
        ),
    ),
    "moorings": _Lane((1, 4), (_Fault("edit mooring", of_service=True),)),
    "pods": _Lane(
        (2, 6), (_Fault("replace pod", None, (4, 4), "workloads"), _Fault("move pod", None, (4, 4), "workloads"))
    ),
    "agents": _Lane(
        (4, 8),
        (
            _Fault("kill agent", None, (5, 5), "nodes"),
            _Fault("freeze agent", "thaw agent", (2, 6), "nodes"),
            _Fault("replace agent", None, (5, 5), "nodes"),
        ),
    ),
    "control plane": _Lane(
        (4, 10),
        (
            _Fault("kill leader", None, (20, 20)),
            _Fault("stop API server", "start API server", (1, 4)),
            _Fault("replace leader", None, (6, 6)),
        ),
    ),
}


def plan(seed: int, seconds: float, cast: Cast) -> list[Step]:
    """The faults of so many seconds, by time. Raises ValueError where there are not enough endpoints."""
    if len(cast.endpoints) < FEWEST_ENDPOINTS:
        raise ValueError(f"there must be at least {FEWEST_ENDPOINTS} endpoints, not {len(cast.endpoints)}")
    steps = [
        step
        for name, lane in LANES.items()
        for step in _steps(name, lane, seconds, cast, random.Random(f"{seed} {name}"))
    ]
    return sorted(steps, key=lambda step: step.at)


def _steps(name: str, lane: _Lane, seconds: float, cast: Cast, chance: random.Random) -> Iterator[Step]:
    deal, at = _dealer(lane.faults, chance), 0.0
    while True:
        fault = deal()
        at += chance.uniform(*lane.pause)
        until = at + chance.uniform(*fault.seconds)
        if until > seconds:
            return
        target = chance.choice(getattr(cast, fault.of)) if fault.of else ""
        service = chance.choice(cast.services) if fault.of_service else ""
        begin = Step(at, name, fault.begin, target, service, chance.getrandbits(32))
        yield begin
        if fault.end:
            yield begin._replace(at=until, what=fault.end)
        at = until


def _dealer(faults: Sequence[_Fault], chance: random.Random) -> Callable[[], _Fault]:
    """As from a pack of cards, which is shuffled whenever all have been dealt."""
    pack: list[_Fault] = []

    def deal() -> _Fault:
        if not pack:
            pack.extend(chance.sample(faults, len(faults)))
        return pack.pop()

    return deal

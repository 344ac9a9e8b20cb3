"""Judges a history: which of the promises were not kept. Pure; it knows nothing of who made the history.

A rule says that a promise was broken only where no reading of the history keeps it. The history may learn of a write
later than those who act on it. So a rule asks what held at any moment of a span, and spans are longer where somebody
was down or the machine stood still (`Bounds`).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from e2e.churn import connections, kernels, moves
from e2e.churn.facts import Bounds, Facts, Found
from e2e.churn.history import AnyRecord

RULES: dict[str, Callable[[Facts], Found]] = {
    "kept": connections.kept,
    "reset": connections.reset,
    "led": connections.led,
    "served": connections.served,
    "answered": connections.answered,
    "verdicts": connections.verdicts,
    "missed": kernels.missed,
    "agreed": kernels.agreed,
    "least": moves.least,
    "caused": moves.caused,
}


class Violation(NamedTuple):
    """A promise that was broken."""

    rule: str
    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.rule}: {self.what}"


class Judgement(NamedTuple):
    """What came out."""

    violations: tuple[Violation, ...]
    """By time."""
    looked_at: Counter[str]
    """What there was to judge: one who saw nothing has nothing to complain about."""


def judge(records: Iterable[AnyRecord], bounds: Bounds = Bounds()) -> Judgement:  # noqa: B008
    """By all rules."""
    facts = Facts(records, bounds)
    found = [Violation(name, at, what) for name, rule in RULES.items() for at, what in rule(facts)]
    return Judgement(tuple(sorted(found, key=lambda each: each.at)), _looked_at(facts))


def _looked_at(facts: Facts) -> Counter[str]:
    return Counter(
        {
            "connections": len(facts.connections),
            **Counter(f"connections to {each.service}" for each in facts.connections),
            "connections that failed": len(facts.failed),
            "connections that were broken": sum(each.broken for each in facts.connections),
            **Counter(f"moves: {each.record.reason}" for each in facts.moves),
            **Counter(f"downs: {what}" for what in facts.every_down()),
            "looks into kernels": len(facts.kernels),
        }
    )


def report(judgement: Judgement) -> str:
    """All that came out, in lines."""
    counts = [f"{count:>7} {what}" for what, count in sorted(judgement.looked_at.items())]
    return "\n".join([*counts, f"{len(judgement.violations):>7} promises broken", *map(str, judgement.violations)])

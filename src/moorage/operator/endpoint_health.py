"""The health of one ExternalService's endpoints, from the outcomes of their checks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core import health
from moorage.core.health import Outcome, State, Subject
from moorage.core.model import Endpoint, Verdict


class Change(NamedTuple):
    """What a check has changed about an endpoint.

    Turned: while an endpoint is unhealthy, its checks begin or cease to contradict the verdict, which may change
    which endpoints are ready. Reworded: only the reason has changed.
    """

    kind: Literal["Verdict", "Turned", "Reworded"]
    before: Verdict
    after: Verdict


class EndpointHealth:
    """The states of the endpoints. They start from the status."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many endpoints have each health."""
        return self._counts

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The present states, by name of the endpoint."""
        return {name: state.verdict for name, state in self._states.items()}

    @property
    def failing(self) -> dict[str, str]:
        """The addresses of the unhealthy endpoints, by name."""
        return {
            name: each.subject.address for name, each in self._states.items() if each.verdict.health == "Unhealthy"
        }

    def follow(self, xsvc: ExternalService, endpoints: Sequence[Endpoint], now: str) -> dict[str, Subject]:
        """Set the endpoints. Returns what to check of each, by name."""
        wanted = health.subjects(xsvc.spec, endpoints)
        self._states = health.follow(self._states, wanted, xsvc.status.endpoints or [], now)
        self._counts = Counter(state.verdict.health for state in self._states.values())
        return wanted

    def observe(self, name: str, outcome: Outcome, now: str) -> Change | None:
        """Take the outcome of one check. It is ignored if the endpoint is gone by now."""
        before = self._states.get(name)
        if before is None:
            return None
        after = self._states[name] = health.observe(before, outcome, now)
        old, new = before.verdict, after.verdict
        if old.health != new.health:
            self._counts[old.health] -= 1
            self._counts[new.health] += 1
            return Change("Verdict", old, new)
        if old.turning != new.turning and self._counts["Unhealthy"] > 0:
            return Change("Turned", old, new)
        return Change("Reworded", old, new) if old.message != new.message else None

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
    which endpoints are ready. Checked: what an earlier leader found is checked for the first time, or confirmed, and
    clients are to be moored. Reworded: only the reason has changed.
    """

    kind: Literal["Verdict", "Turned", "Checked", "Reworded"]
    before: Verdict
    after: Verdict


class EndpointHealth:
    """The states of the endpoints. They start from the status."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        self._counts: Counter[str] = Counter()
        self._passing = 0
        self._panic_threshold_percent = 0
        self._moors = False

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
        self._passing = sum(health.passes(state.verdict) for state in self._states.values())
        self._moors = xsvc.spec.session_affinity == "Mooring"
        check = xsvc.spec.health_check
        self._panic_threshold_percent = check.panic_threshold_percent if check else 0
        return wanted

    def observe(self, name: str, outcome: Outcome, now: str) -> Change | None:
        """Take the outcome of one check. It is ignored if the endpoint is gone by now."""
        before = self._states.get(name)
        if before is None:
            return None
        after = health.observe(before, outcome, now)
        if after is before:
            return None  # the usual case
        self._states[name] = after
        old, new = before.verdict, after.verdict
        doubted = self._too_few_pass()
        self._passing += health.passes(new) - health.passes(old)
        self._counts[old.health] -= 1
        self._counts[new.health] += 1
        if doubted and not self._too_few_pass() and old.health != "Unknown":
            self._doubt_failures()
        if old.health != new.health:
            return Change("Verdict", old, new)
        if old.turning != new.turning and self._counts["Unhealthy"] > 0:
            return Change("Turned", old, new)
        if self._moors and old.resumed and (old.turning, old.resumed) != (new.turning, new.resumed):
            return Change("Checked", old, new)
        return Change("Reworded", old, new) if old.message != new.message else None

    def _too_few_pass(self) -> bool:
        checked = self._counts["Healthy"] + self._counts["Unhealthy"]
        return health.too_few(self._passing, checked, self._panic_threshold_percent)

    def _doubt_failures(self) -> None:
        """Until now the checks were not to be believed, and one that began before may fail only now."""
        for name, state in self._states.items():
            if state.verdict.health == "Unhealthy":
                self._states[name] = health.doubt(state, failures=2)

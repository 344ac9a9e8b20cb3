"""What the checks of every endpoint have come to."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core import health
from moorage.core.health import Outcome, State, Subject
from moorage.core.model import Endpoint, Verdict


class Board:
    """The states of the endpoints of all ExternalServices, begun from what their status says.

    `verdict_changed(key, name, before, after)` is called when a check changes what is said of an endpoint's health,
    `turned(key)` when a check begins or ceases to say otherwise while one of the endpoints is unhealthy, because then
    it may count which are ready, `reworded(key)` when only the reason is another one.
    """

    def __init__(
        self,
        now: Callable[[], str],
        verdict_changed: Callable[[ObjectKey, str, Verdict, Verdict], None],
        turned: Callable[[ObjectKey], None] = lambda key: None,
        reworded: Callable[[ObjectKey], None] = lambda key: None,
    ) -> None:
        self._now = now
        self._verdict_changed = verdict_changed
        self._turned = turned
        self._reworded = reworded
        self._states: dict[ObjectKey, dict[str, State]] = {}
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many endpoints have each health."""
        return self._counts

    def expect(self, key: ObjectKey, xsvc: ExternalService, endpoints: Sequence[Endpoint]) -> dict[str, Subject]:
        """These are the endpoints from now on. Returns what is to be checked of each, by name."""
        wanted = health.subjects(xsvc.spec, endpoints)
        states = health.follow(self._states.get(key, {}), wanted, xsvc.status.endpoints or [], self._now())
        self._put(key, states)
        return wanted

    def observe(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        """Take the outcome of one check; that of an endpoint which has gone meanwhile counts for nothing."""
        states = self._states.get(key)
        before = states.get(name) if states else None
        if states is None or before is None:
            return
        after = states[name] = health.observe(before, outcome, self._now())
        if after.verdict.health != before.verdict.health:
            self._counts[before.verdict.health] -= 1
            self._counts[after.verdict.health] += 1
            self._verdict_changed(key, name, before.verdict, after.verdict)
            return
        turned = after.verdict.turning != before.verdict.turning
        if turned and any(each.verdict.health == "Unhealthy" for each in states.values()):
            self._turned(key)
        if after.verdict.message != before.verdict.message:
            self._reworded(key)

    def verdicts(self, key: ObjectKey) -> dict[str, Verdict]:
        """By name of the endpoint."""
        return {name: state.verdict for name, state in self._states.get(key, {}).items()}

    def failing(self, key: ObjectKey) -> dict[str, str]:
        """Those that are unhealthy, by name, and at which address."""
        states = self._states.get(key, {})
        return {name: each.subject.address for name, each in states.items() if each.verdict.health == "Unhealthy"}

    def remove(self, key: ObjectKey) -> None:
        """Forget the endpoints of this ExternalService."""
        self._put(key, {})

    def _put(self, key: ObjectKey, states: dict[str, State]) -> None:
        self._counts.subtract(state.verdict.health for state in self._states.get(key, {}).values())
        self._counts.update(state.verdict.health for state in states.values())
        if states:
            self._states[key] = states
        else:
            self._states.pop(key, None)

"""From the outcomes of checks to verdicts, and from verdicts to which endpoints are ready."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage.core.model import Endpoint, Verdict


class Outcome(NamedTuple):
    """How one check of one endpoint went."""

    success: bool
    message: str | None = None
    """Why it failed, in one line for people; the same words for the same failure."""
    seconds: float = 0.0
    """How long it took."""


class Subject(NamedTuple):
    """What a verdict is about; if it changes, the verdict may no longer hold."""

    address: str
    port: int
    """Where clients' connections go. A check may have a port of its own."""
    check: HealthCheck | None
    """None: the endpoint is not checked."""
    own_port: int | None = None
    """The endpoint's own port, as in the status; None: `port` is the target of spec.ports."""


class State(NamedTuple):
    """The verdict about one endpoint, and the checks in a row that may change it."""

    subject: Subject
    verdict: Verdict
    successes: int = 0
    """In a row."""
    failures: int = 0
    """In a row."""


class Published(NamedTuple):
    """Which endpoints take new connections."""

    ready: frozenset[str]
    frozen: bool
    """Whether unhealthy endpoints are among them, because too few are healthy to believe the checks, or were so until
    a moment ago."""


def subjects(spec: ExternalServiceSpec, endpoints: Iterable[Endpoint]) -> dict[str, Subject]:
    """What to check of each endpoint, by name: its own port, else the target of the first TCP port.

    UDP has no handshake that a check could see: if no port is TCP and the check has none, endpoints are not checked.
    """
    tcp = any(port.protocol == "TCP" for port in spec.ports)
    check = spec.health_check if tcp or (spec.health_check and spec.health_check.port) else None
    port = _target(spec)
    return {each.name: Subject(each.address, each.port or port, check, each.port) for each in endpoints}


def checked_port(spec: ExternalServiceSpec, own: int | None) -> int:
    """The port that is checked of an endpoint; `own` is its own port, if it has one."""
    return (spec.health_check.port if spec.health_check else None) or own or _target(spec)


def _target(spec: ExternalServiceSpec) -> int:
    """The target of the first TCP port, else of the first."""
    first = next((port for port in spec.ports if port.protocol == "TCP"), next(iter(spec.ports), None))
    return (first.target_port or first.port) if first else 0


def initial(subject: Subject, now: str) -> State:
    """The state of an endpoint that nobody has checked yet; `now` is RFC 3339."""
    return State(subject, Verdict("Unknown" if subject.check else "Unchecked", since=now))


def resume(status: EndpointStatus, subject: Subject, now: str) -> State:
    """The state that a new leader begins with: the verdict in the status, if it is about this address and port.

    An endpoint that is unhealthy and ready was kept by a panic: its verdict is doubted until its first check.
    """
    same_port = subject.own_port is None if status.port is None else subject.port == status.port
    if status.address != subject.address or not same_port:
        return initial(subject, now)
    match status.health:
        case "Healthy" if subject.check:
            return State(subject, Verdict("Healthy", status.since))
        case "Unhealthy" if subject.check:
            return State(subject, Verdict("Unhealthy", status.since, status.message, turning=status.ready))
        case "Unknown" if subject.check:
            return State(subject, Verdict("Unknown", status.since))
        case "Unchecked" if not subject.check:
            return State(subject, Verdict("Unchecked", status.since))
    return initial(subject, now)


def revise(state: State, subject: Subject, now: str) -> State:
    """The state of an endpoint whose subject has become `subject`.

    Another address or port is another instance, of which nothing is known. With another check the verdict stays, so
    that editing a check takes no endpoint out of use, and counting begins anew. Other times and thresholds change
    nothing.
    """
    old = state.subject
    if old == subject:
        return state
    if (old.address, old.port) != (subject.address, subject.port) or (old.check is None) != (subject.check is None):
        return initial(subject, now)
    if old.check and subject.check and _what(old.check) != _what(subject.check):
        return State(subject, state.verdict)
    return state._replace(subject=subject)


def _what(check: HealthCheck) -> tuple[object, ...]:
    return check.http, check.port


def follow(
    states: Mapping[str, State],
    wanted: Mapping[str, Subject],
    status: Sequence[EndpointStatus],
    now: str,
) -> dict[str, State]:
    """The states of the endpoints that there are now, by name: kept, resumed from the status, or new.

    An endpoint under a new name is the same instance if it has the same address and port. It keeps its verdict, so
    that no service is without endpoints until they are checked under their new names.
    """
    written = {each.name: each for each in status}
    renamed = {(each.address, each.port): each for each in status if each.name not in wanted}

    def state(name: str, subject: Subject) -> State:
        if name in states:
            return revise(states[name], subject, now)
        address, port = subject.address, subject.port
        known = written.get(name) or renamed.get((address, port)) or renamed.get((address, None))
        return resume(known, subject, now) if known else initial(subject, now)

    return {name: state(name, subject) for name, subject in wanted.items()}


def observe(state: State, outcome: Outcome, now: str) -> State:
    """The state after one more check; `now` is RFC 3339.

    The first outcome decides about an endpoint of which nothing is known; after that `fall` failures in a row make it
    unhealthy, and `rise` successes in a row healthy. The verdict has a failure's message only once it is unhealthy,
    and keeps the last one until it is healthy.
    """
    check = state.subject.check
    if check is None:
        return state
    health = state.verdict.health
    if outcome.success and health == "Healthy" and not state.failures:
        return state  # nearly always, and there is nothing to count
    if outcome.success:
        successes = state.successes + 1
        if health == "Unknown" or (health == "Unhealthy" and successes >= check.rise):
            return State(state.subject, Verdict("Healthy", since=now), successes)
        return State(state.subject, state.verdict._replace(turning=health == "Unhealthy"), successes)
    failures = state.failures + 1
    if health == "Unknown" or (health == "Healthy" and failures >= check.fall):
        return State(state.subject, Verdict("Unhealthy", since=now, message=outcome.message), failures=failures)
    verdict = state.verdict._replace(turning=health == "Healthy")
    if health == "Unhealthy":
        verdict = verdict._replace(message=outcome.message)
    return State(state.subject, verdict, failures=failures)


def ready_set(previous: AbstractSet[str], verdicts: Mapping[str, Verdict], threshold_percent: int) -> Published:
    """Which endpoints take new connections, by name.

    Healthy and unchecked ones do; an unknown one does if it did before (`previous`, as last published). If at most
    `threshold_percent` of those that were checked are healthy (0: none is), the checks are doubted rather than the
    endpoints: those that took connections go on doing so, whatever their verdicts.

    Checks do not all fail at the same moment: when the operator's own network is down, the first verdict must not
    take an endpoint out before the last one shows that all fail. So only those that passed their last check count as
    healthy for this. And an endpoint that was kept stays as long as its own last check passed: else those that
    recover first would have to serve all clients.
    """
    healthy = {name for name, verdict in verdicts.items() if verdict.health == "Healthy"}
    unhealthy = {name for name, verdict in verdicts.items() if verdict.health == "Unhealthy"}
    ready = {
        name
        for name, verdict in verdicts.items()
        if verdict.health in ("Healthy", "Unchecked") or (verdict.health == "Unknown" and name in previous)
    }
    passing = sum(not verdicts[name].turning for name in healthy)
    panic = 100 * passing <= threshold_percent * (len(healthy) + len(unhealthy))
    kept = {name for name in unhealthy & previous if panic or verdicts[name].turning}
    return Published(frozenset(ready | kept), frozen=bool(kept))

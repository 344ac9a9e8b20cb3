"""Turns outcomes of checks into verdicts, and verdicts into which endpoints are ready."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage.core.model import Endpoint, Verdict


class Outcome(NamedTuple):
    """The outcome of one check of one endpoint."""

    success: bool
    message: str | None = None
    """Why it failed, in one line for people; the same words for the same failure."""
    seconds: float = 0.0
    """How many seconds it took."""


class Subject(NamedTuple):
    """What a verdict is about. If it changes, the verdict may no longer hold."""

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
    doubts: int = 0
    """How many more failures of an unhealthy endpoint say nothing, because the checks of all were doubted before."""


class Published(NamedTuple):
    """Which endpoints take new connections."""

    ready: frozenset[str]
    frozen: bool
    """Whether unhealthy endpoints are among them, because so few are healthy that the checks are doubted, or were
    until a moment ago."""


def subjects(spec: ExternalServiceSpec, endpoints: Iterable[Endpoint]) -> dict[str, Subject]:
    """What to check of each endpoint, by name: its own port, or else the target of the first TCP port.

    UDP has no handshake that a check could see: if no port is TCP and the check names none, endpoints are not
    checked.
    """
    tcp = any(port.protocol == "TCP" for port in spec.ports)
    check = spec.health_check if tcp or (spec.health_check and spec.health_check.port) else None
    port = _target(spec)
    return {each.name: Subject(each.address, each.port or port, check, each.port) for each in endpoints}


def checked_port(spec: ExternalServiceSpec, own: int | None) -> int:
    """Which port of an endpoint is checked; `own` is its own port, if it has one."""
    return (spec.health_check.port if spec.health_check else None) or own or _target(spec)


def _target(spec: ExternalServiceSpec) -> int:
    """The target of the first TCP port, or else of the first port."""
    first = next((port for port in spec.ports if port.protocol == "TCP"), next(iter(spec.ports), None))
    return (first.target_port or first.port) if first else 0


def initial(subject: Subject, now: str) -> State:
    """The state of an endpoint that has not been checked yet; `now` is RFC 3339."""
    return State(subject, Verdict("Unknown" if subject.check else "Unchecked", since=now))


def resume(status: EndpointStatus, subject: Subject, now: str) -> State:
    """The state that a new leader starts with: the verdict in the status, if it is about this address and port.

    An endpoint that is unhealthy but ready was kept by a panic: its verdict is doubted until its first check.
    """
    same_port = subject.own_port is None if status.port is None else subject.port == status.port
    if status.address != subject.address or not same_port:
        return initial(subject, now)
    match status.health:
        case "Healthy" if subject.check:
            return State(subject, Verdict("Healthy", status.since, resumed=True))
        case "Unhealthy" if subject.check:
            state = State(subject, Verdict("Unhealthy", status.since, status.message))
            return doubt(state, failures=1) if status.ready else state
        case "Unknown" if subject.check:
            return State(subject, Verdict("Unknown", status.since))
        case "Unchecked" if not subject.check:
            return State(subject, Verdict("Unchecked", status.since))
    return initial(subject, now)


def revise(state: State, subject: Subject, now: str) -> State:
    """The state of an endpoint whose subject is now `subject`.

    With another address or port it is another instance, about which nothing is known. With another check the verdict
    stays, so that editing a check takes no endpoint out of use, but counting starts again. Other times and thresholds
    change nothing.
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
    """The states of the present endpoints, by name: kept, resumed from the status, or new.

    An endpoint with a new name but the same address and port is the same instance. It keeps its verdict, or a service
    would have no endpoints until they are checked under their new names.
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


def doubt(state: State, failures: int) -> State:
    """An unhealthy endpoint that stays, if it was kept until now, until this many checks in a row have failed."""
    return state._replace(verdict=state.verdict._replace(turning=True), doubts=failures)


def observe(state: State, outcome: Outcome, now: str) -> State:
    """The state after one more check; `now` is RFC 3339.

    The first outcome decides if nothing is known about the endpoint; after that, `fall` failures in a row make it
    unhealthy, and `rise` successes in a row make it healthy. The verdict has the message of a failure only while the
    endpoint is unhealthy, and then the newest one.
    """
    check = state.subject.check
    if check is None:
        return state
    health = state.verdict.health
    if outcome.success and health == "Healthy" and not (state.failures or state.verdict.resumed):
        return state  # the usual case: there is nothing to count
    if outcome.success:
        successes = state.successes + 1
        if health == "Unknown" or (health == "Unhealthy" and successes >= check.rise):
            return State(state.subject, Verdict("Healthy", since=now), successes)
        return State(state.subject, state.verdict._replace(turning=health == "Unhealthy", resumed=False), successes)
    failures = state.failures + 1
    if health == "Unknown" or (health == "Healthy" and failures >= check.fall):
        return State(state.subject, Verdict("Unhealthy", since=now, message=outcome.message), failures=failures)
    doubts = max(state.doubts - 1, 0)
    verdict = state.verdict._replace(turning=health == "Healthy" or doubts > 0)
    if health == "Unhealthy":
        verdict = verdict._replace(message=outcome.message)
    return State(state.subject, verdict, failures=failures, doubts=doubts)


def ready_set(previous: AbstractSet[str], verdicts: Mapping[str, Verdict], threshold_percent: int) -> Published:
    """Which endpoints take new connections, by name.

    Healthy and unchecked ones do; an unknown one does if it did before (`previous`, as last published). If at most
    `threshold_percent` of the checked ones are healthy (0: none is), the checks are doubted and not the endpoints:
    those that took connections go on doing so, whatever their verdicts.

    Checks do not all fail at the same moment: when the operator's own network is down, the first verdict must not
    take an endpoint out before the last one shows that all fail. So only endpoints that passed their last check count
    as healthy here. And an endpoint that was kept stays while its own last check passed, or is in doubt (`doubt`):
    otherwise those that recover first would have to serve all clients.
    """
    healthy = {name for name, verdict in verdicts.items() if verdict.health == "Healthy"}
    unhealthy = {name for name, verdict in verdicts.items() if verdict.health == "Unhealthy"}
    ready = {
        name
        for name, verdict in verdicts.items()
        if verdict.health in ("Healthy", "Unchecked") or (verdict.health == "Unknown" and name in previous)
    }
    passing = sum(passes(verdicts[name]) for name in healthy)
    panic = too_few(passing, len(healthy) + len(unhealthy), threshold_percent)
    kept = {name for name in unhealthy & previous if panic or verdicts[name].turning}
    return Published(frozenset(ready | kept), frozen=bool(kept))


def passes(verdict: Verdict) -> bool:
    """Whether an endpoint counts as healthy where the checks themselves may be wrong."""
    return verdict.health == "Healthy" and not verdict.turning


def too_few(passing: int, checked: int, threshold_percent: int) -> bool:
    """Whether so few of the checked endpoints pass that the checks are doubted."""
    return 100 * passing <= threshold_percent * checked

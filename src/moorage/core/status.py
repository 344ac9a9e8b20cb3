"""The status apart from its conditions: endpoints and problems, in a size that etcd accepts."""

from collections.abc import Sequence

from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalServiceStatus, ProblemStatus
from moorage.core import conditions, drains
from moorage.core.model import Complaint
from moorage.core.readiness import EndpointRow
from moorage.core.view import View
from moorage.core.words import cut

MAX_ENDPOINT_CHARACTERS = 200
"""In the message of an endpoint."""
MAX_PROBLEM_CHARACTERS = 500
"""In the message of a problem."""
MAX_PROBLEMS = 100
"""In one status."""

ProblemKey = tuple[str, str | None, str | None, str | None]
"""Identifies a problem, however it is worded: reason, source, endpoint, address."""


def status_of(view: View, now: str) -> ExternalServiceStatus:
    """The status for `view`; `now` is RFC 3339."""
    xsvc, values = view.xsvc, conditions.values(view)
    # Without moorings nothing is said of them, so that condition goes; those of other people stay.
    others = [each for each in xsvc.status.conditions or () if each.type not in conditions.TYPES]
    return ExternalServiceStatus(
        observed_generation=xsvc.metadata.generation,
        conditions=conditions.conditions(xsvc, values, now, others),
        endpoints=endpoint_statuses(view, now) or None,
        healthy=healthy_of(view.endpoints),
        problems=problem_statuses(view, now) or None,
    )


def endpoint_statuses(view: View, now: str) -> list[EndpointStatus]:
    """What is known about each endpoint, by name."""
    previous = {each.name: each for each in view.xsvc.status.endpoints or ()}
    drained_since = {name: since or now for name, since in drains.started(view.xsvc).items()}
    return [
        _endpoint(row, view.priority, previous.get(row.endpoint.name), drained_since.get(row.endpoint.name), now)
        for row in view.endpoints
    ]


def healthy_of(rows: Sequence[EndpointRow]) -> str:
    """`2/3`: two of three are healthy; `-/3`: none of three is checked."""
    total = len(rows)
    if rows and all(each.verdict.health == "Unchecked" for each in rows):
        return f"-/{total}"
    return f"{sum(each.verdict.health == 'Healthy' for each in rows)}/{total}"


def _endpoint(
    row: EndpointRow, priority: int | None, previous: EndpointStatus | None, drained_since: str | None, now: str
) -> EndpointStatus:
    endpoint, verdict = row.endpoint, row.verdict
    since = verdict.since
    if since is None and previous and previous.health == verdict.health:
        since = previous.since
    message = verdict.message if verdict.health == "Unhealthy" else None
    if row.withheld and verdict.health != "Unhealthy":
        message = conditions.withheld(row, priority)
    return EndpointStatus(
        name=endpoint.name,
        address=endpoint.address,
        source=endpoint.source,
        health=verdict.health,
        ready=row.ready,
        since=since or now,
        port=endpoint.port,
        message=cut(message, MAX_ENDPOINT_CHARACTERS) if message else None,
        weight=endpoint.weight if endpoint.weight != 1 else None,
        priority=endpoint.priority or None,
        leaving=endpoint.leaving or None,
        zone=endpoint.zone or None,
        drained_since=drained_since,
        moorings=row.moorings,
    )


def problem_key(problem: ProblemStatus | Complaint) -> ProblemKey:
    """Identifies a problem, however it is worded."""
    return problem.reason, problem.source, problem.endpoint, problem.address


def problem_statuses(view: View, now: str) -> list[ProblemStatus]:
    """The first MAX_PROBLEMS: sources without a current answer, then what is not done of the spec."""
    found: dict[ProblemKey, ProblemStatus] = {}
    for source in view.sources:
        if problem := source.problem:
            message = cut(problem.message.rstrip("."), MAX_PROBLEM_CHARACTERS)
            status = ProblemStatus(reason=problem.reason, message=message, since=problem.since, source=source.name)
            found.setdefault(problem_key(status), status)
    if not view.complaints:
        return list(found.values())
    previous = {problem_key(each): each.since for each in view.xsvc.status.problems or ()}
    for complaint in view.complaints:
        if len(found) >= MAX_PROBLEMS:
            break
        key = problem_key(complaint)
        if key not in found:
            found[key] = ProblemStatus(
                reason=complaint.reason,
                message=cut(complaint.message, MAX_PROBLEM_CHARACTERS),
                since=previous.get(key) or now,
                source=complaint.source,
                endpoint=complaint.endpoint,
                address=complaint.address,
            )
    return list(found.values())

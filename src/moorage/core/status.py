"""What the status says of each endpoint, in a size that etcd takes."""

from collections.abc import Sequence

from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService
from moorage.core.conditions import cut
from moorage.core.readiness import Standing

LONGEST = 200
"""Characters of an endpoint's message."""


def endpoint_statuses(xsvc: ExternalService, standings: Sequence[Standing], now: str) -> list[EndpointStatus]:
    """What is known of each endpoint, by name."""
    previous = {each.name: each for each in xsvc.status.endpoints or ()}
    return [_status(each, previous.get(each.endpoint.name), now) for each in standings]


def healthy_of(standings: Sequence[Standing]) -> str:
    """`2/3`: so many are healthy of so many; `-/3` where none is checked."""
    total = len(standings)
    if standings and all(each.verdict.health == "Unchecked" for each in standings):
        return f"-/{total}"
    return f"{sum(each.verdict.health == 'Healthy' for each in standings)}/{total}"


def _status(standing: Standing, previous: EndpointStatus | None, now: str) -> EndpointStatus:
    endpoint, verdict = standing.endpoint, standing.verdict
    since = verdict.since
    if since is None and previous and previous.health == verdict.health:
        since = previous.since
    message = verdict.message if verdict.health == "Unhealthy" else standing.why
    return EndpointStatus(
        name=endpoint.name,
        address=endpoint.address,
        source=endpoint.source,
        health=verdict.health,
        ready=standing.ready,
        since=since or now,
        port=endpoint.port,
        message=cut(message, LONGEST) if message else None,
        weight=endpoint.weight if endpoint.weight != 1 else None,
        priority=endpoint.priority or None,
        leaving=endpoint.leaving or None,
    )

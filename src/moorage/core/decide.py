"""What is to be done about one ExternalService."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceStatus
from moorage.core import conditions, readiness, services, slices
from moorage.core.conditions import Said
from moorage.core.endpoints import unknown_drains
from moorage.core.happenings import happenings, of_conditions
from moorage.core.model import Decision, Resolution, Write
from moorage.core.snapshot import Snapshot
from moorage.core.status import endpoint_statuses, healthy_of

CHECK_SOURCE = "spec.healthCheck"
"""What a check that cannot be made is called among the sources."""


def decide(snapshot: Snapshot) -> Decision:
    """What is to be written, said in the status, and told as Events.

    If nothing has changed, the decision is to do nothing and to keep the status. It may take a second decision, from
    what the first one wrote, to arrive: some changes must wait until the Service has changed.
    """
    xsvc, now = snapshot.xsvc, snapshot.now
    if xsvc.metadata.deletion_timestamp is not None:
        return Decision((), xsvc.status, ())
    if why := services.unsupported(xsvc):
        return _left_alone(xsvc, conditions.refused(why), now)
    if xsvc.spec.suspend:
        return _left_alone(xsvc, conditions.suspended(xsvc), now)

    merged, resolutions, found = snapshot.merged, snapshot.resolutions, snapshot.slices
    if snapshot.check_problem:
        resolutions = (*resolutions, Resolution(CHECK_SOURCE, (), snapshot.check_problem))
    taken = services.taken(xsvc, snapshot.service)
    service = None if taken else snapshot.service
    families = service.spec.ip_families if service else None
    standings = readiness.standings(xsvc, merged.endpoints, snapshot.verdicts, slices.ours(xsvc, found), families)
    if taken:
        standings = readiness.withheld(standings, "the Service of this name is not ours")
    unknown = unknown_drains(xsvc, resolutions, merged)
    accepted = conditions.accepted(merged, services.unchangeable(xsvc, service), unknown)
    said = {
        "Accepted": conditions.unread(snapshot.unreadable) if snapshot.unreadable else accepted,
        "Resolved": conditions.resolved(xsvc, merged, resolutions),
        "Healthy": conditions.healthy(xsvc, standings),
    }
    said["Ready"] = conditions.ready(xsvc, standings, found, taken, said)
    status = ExternalServiceStatus(
        observed_generation=xsvc.metadata.generation,
        conditions=conditions.conditions(xsvc, said, now),
        endpoints=endpoint_statuses(xsvc, standings.each, now) or None,
        healthy=healthy_of(standings.each),
    )
    # Slices of ours that are still there go: by their label Kubernetes takes them for those of the other Service.
    writes = slices.changes(xsvc, None, (), found) if taken else _writes(xsvc, service, standings.each, found)
    return Decision(writes, status, happenings(xsvc, merged, resolutions, unknown, status))


def _writes(
    xsvc: ExternalService,
    service: Service | None,
    standings: Sequence[readiness.Standing],
    found: Sequence[EndpointSlice],
) -> tuple[Write, ...]:
    """A new Service comes before its slices, lest they end up with one that somebody else makes; a change of one
    comes after them, so that its ports have endpoints from the first moment."""
    of_service = services.changes(xsvc, service)
    of_slices = slices.changes(xsvc, service, standings, found)
    return of_service + of_slices if service is None else of_slices + of_service


def _left_alone(xsvc: ExternalService, said: Mapping[str, Said], now: str) -> Decision:
    """Nothing is written, and of the status only what must be said."""
    status = replace(
        xsvc.status,
        observed_generation=xsvc.metadata.generation,
        conditions=conditions.conditions(xsvc, said, now),
    )
    return Decision((), status, of_conditions(xsvc, status))

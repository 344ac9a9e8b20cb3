"""What is to be done about one ExternalService."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceStatus
from moorage.core import conditions, readiness, services, slices
from moorage.core.conditions import Said
from moorage.core.endpoints import Merged, unknown_drains
from moorage.core.happenings import happenings, of_conditions
from moorage.core.model import Decision, Resolution, Verdict, Write
from moorage.core.status import endpoint_statuses, healthy_of


def decide(
    xsvc: ExternalService,
    merged: Merged,
    resolutions: Sequence[Resolution],
    verdicts: Mapping[str, Verdict],
    service: Service | None,
    found: Sequence[EndpointSlice],
    now: str,
    *,
    unread: str | None = None,
) -> Decision:
    """What is to be written, said in the status, and told as Events.

    `verdicts` are by endpoint name, `service` is the one of the same name whoever owns it, `found` are all slices
    that say they are that Service's, or owned by `xsvc`; `now` is RFC 3339. `unread` is why the present spec cannot
    be read, where `xsvc` has the last one that could. Where nothing has changed the decision is to do nothing, and to
    keep the status. It may take a second decision, from what the first one wrote, to arrive: what must wait until the
    Service has changed comes with that.
    """
    if xsvc.metadata.deletion_timestamp is not None:
        return Decision((), xsvc.status, ())
    if why := services.unsupported(xsvc):
        return _left_alone(xsvc, conditions.refused(why), now)
    if xsvc.spec.suspend:
        return _left_alone(xsvc, conditions.suspended(xsvc), now)

    taken = services.taken(xsvc, service)
    own_service = None if taken else service
    families = own_service.spec.ip_families if own_service else None
    standings = readiness.standings(xsvc, merged.endpoints, verdicts, slices.ours(xsvc, found), families)
    if taken:
        standings = readiness.withheld(standings, "the Service of this name is not ours")
    unknown = unknown_drains(xsvc, resolutions, merged)
    accepted = conditions.accepted(merged, services.unchangeable(xsvc, own_service), unknown)
    said = {
        "Accepted": conditions.unread(unread) if unread else accepted,
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
    writes = slices.changes(xsvc, None, (), found) if taken else _writes(xsvc, own_service, standings.each, found)
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

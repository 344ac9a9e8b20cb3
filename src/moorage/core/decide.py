"""Decides what to do about one ExternalService."""

from collections.abc import Mapping

from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core import conditions, services, slices
from moorage.core.model import Decision, Write
from moorage.core.news import news, news_of_readiness
from moorage.core.snapshot import Snapshot
from moorage.core.status import status_of
from moorage.core.view import View, view_of
from moorage.core.words import ConditionValue


def decide(snapshot: Snapshot) -> Decision:
    """What to write, the new status, and which Events to record.

    If nothing has changed, the decision is to do nothing and to keep the status. Some changes must wait until the
    Service has changed; they take a second decision, which starts from what the first one wrote.
    """
    xsvc, now = snapshot.xsvc, snapshot.now
    if xsvc.metadata.deletion_timestamp is not None:
        return Decision((), xsvc.status, ())
    if why := services.unsupported(xsvc):
        return _left_alone(xsvc, conditions.refused(why), now)
    if xsvc.spec.suspend:
        return _left_alone(xsvc, conditions.suspended(xsvc), now)

    view = view_of(snapshot)
    status = status_of(view, now)
    # If the Service is somebody else's, our slices go: Kubernetes would use them for it because of their label.
    writes = slices.changes(xsvc, None, (), snapshot.slices) if view.taken else _writes(snapshot, view)
    return Decision(writes, status, news(view, status))


def _writes(snapshot: Snapshot, view: View) -> tuple[Write, ...]:
    """Puts writes in order. A new Service is made before its slices, or they might belong to one that somebody else
    makes. A Service is changed after its slices, so that its new ports have endpoints from the first moment."""
    service = snapshot.service
    of_service = services.changes(snapshot.xsvc, service)
    of_slices = slices.changes(snapshot.xsvc, service, view.endpoints, snapshot.slices)
    return of_service + of_slices if service is None else of_slices + of_service


def _left_alone(xsvc: ExternalService, values: Mapping[str, ConditionValue], now: str) -> Decision:
    """Write nothing but these conditions."""
    status = replace(
        xsvc.status,
        observed_generation=xsvc.metadata.generation,
        conditions=conditions.conditions(xsvc, values, now),
    )
    return Decision((), status, news_of_readiness(xsvc, status))

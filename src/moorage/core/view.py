"""What is known about one ExternalService, as rows of facts. Conditions, status and news put them into words."""

from collections.abc import Sequence
from typing import NamedTuple

from moorage.api import contract
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core import hints, services, slices
from moorage.core.endpoints import unknown_drains
from moorage.core.model import Complaint, Problem
from moorage.core.mooring_model import Moored
from moorage.core.ownership import owns, predecessor_owns
from moorage.core.readiness import EndpointRow, readiness_of, without_service
from moorage.core.snapshot import Snapshot

CHECK_SOURCE = "spec.healthCheck"
"""The source that a problem with making the checks is listed under."""
_RANKS = ("AddressRefused", "Unchangeable", "TooManyEndpoints", "UnknownEndpoint", "EndpointConflict")


class SourceRow(NamedTuple):
    """One source of endpoints."""

    name: str
    """`addresses`, `dns/db.example.com`, `cluster/backend`."""
    found: int | None
    """How many endpoints it has found; None: it has not answered yet."""
    problem: Problem | None = None
    """Why its answer is not current."""
    kept: int = 0
    """How many endpoints stay in use although there is a problem or no answer yet."""
    notes: tuple[str, ...] = ()


class View(NamedTuple):
    """The facts about one ExternalService."""

    xsvc: ExternalService
    endpoints: tuple[EndpointRow, ...]
    """By name."""
    panic: bool
    """Whether unhealthy endpoints stay ready, because the checks are doubted."""
    priority: int | None
    """The SRV priority that is in use."""
    sources: tuple[SourceRow, ...]
    asked: bool
    """Whether all sources have been asked."""
    complaints: tuple[Complaint, ...]
    """What is not done of the spec, the most serious first."""
    taken: Complaint | None
    """Why the Service of this name must not be touched."""
    foreign: tuple[EndpointSlice, ...]
    """Slices of our Service that others have written."""
    unreadable: str | None
    """Why the present spec cannot be read."""
    moored: Moored | None = None
    """Where the clients of its group are; None: that has not been decided yet, or there are no moorings."""
    unhinted: tuple[EndpointSlice, ...] = ()
    """Of `foreign`, those with a ready endpoint that has no hint of the kind that moorings use here."""
    families: tuple[str, ...] = ()
    """Those of the Service's cluster IPs, as far as they are known."""


def view_of(snapshot: Snapshot) -> View:
    """The facts in a snapshot."""
    xsvc, merged = snapshot.xsvc, snapshot.merged
    taken = services.taken(xsvc, snapshot.service)
    service = None if taken else snapshot.service
    families = service.spec.ip_families if service else None
    moored = snapshot.moored if xsvc.spec.session_affinity == "Mooring" else None
    kind = hints.carried_kind(xsvc, moored)
    mine = slices.ours(xsvc, snapshot.slices)
    readiness = readiness_of(
        xsvc,
        merged.endpoints,
        snapshot.verdicts,
        mine,
        families,
        None if kind is None else moored.at if moored else (),
    )
    if taken:
        readiness = without_service(readiness)
    foreign = _foreign(xsvc, snapshot.slices)
    unchangeable = services.unchangeable(xsvc, service)
    complaints = [
        *merged.complaints,
        *unknown_drains(xsvc, snapshot.resolutions, merged),
        *([unchangeable] if unchangeable else []),
    ]
    return View(
        xsvc=xsvc,
        endpoints=hints.published(xsvc, readiness.rows, moored, mine),
        panic=readiness.panic,
        priority=readiness.priority,
        sources=_sources(snapshot),
        asked=len(snapshot.resolutions) >= len(xsvc.spec.endpoints or ()),
        complaints=tuple(sorted(complaints, key=lambda each: _RANKS.index(each.reason))),
        taken=taken,
        foreign=foreign,
        unreadable=snapshot.unreadable,
        moored=moored,
        unhinted=tuple(each for each in foreign if hints.lacks_hint(xsvc, kind, each)),
        families=tuple(families or ()),
    )


def _sources(snapshot: Snapshot) -> tuple[SourceRow, ...]:
    rows = []
    for name, found, problem, notes in snapshot.resolutions:
        current = problem is None and found is not None
        kept = 0 if current else sum(each.source == name for each in snapshot.merged.endpoints)
        rows.append(SourceRow(name, None if found is None else len(found), problem, kept, notes))
    if snapshot.check_problem:
        rows.append(SourceRow(CHECK_SOURCE, 0, snapshot.check_problem))
    return tuple(rows)


def _foreign(xsvc: ExternalService, found: Sequence[EndpointSlice]) -> tuple[EndpointSlice, ...]:
    return tuple(
        each
        for each in found
        if not owns(xsvc, each.metadata)
        and not predecessor_owns(xsvc, each.metadata)
        and contract.service_of(each.metadata) == xsvc.metadata.key
    )

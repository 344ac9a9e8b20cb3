"""Combines the ExternalServices of a group: whose configuration holds, which endpoints take and keep clients."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from moorage.api import contract
from moorage.api.meta import LabelSelector
from moorage.api.moorage_v1alpha1 import KINDS_OF_NODES, ExternalService, MooringConfig
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage.api.topology import MAX_HINTS
from moorage.core import drains, services, slices, times
from moorage.core.endpoints import listed
from moorage.core.model import Complaint
from moorage.core.mooring_model import Drained, Member, MemberEndpoint
from moorage.core.ownership import owns
from moorage.core.readiness import EndpointRow
from moorage.core.snapshot import Snapshot
from moorage.core.view import View

MAX_AWAITED_SECONDS = 10.0
"""How long clients wait for first checks at most, whatever the spec says of checks."""

# --- One member ---------------------------------------------------------------------------------------------------


def member_of(view: View, snapshot: Snapshot) -> Member | None:
    """An ExternalService as a member of its group; None if it has no moorings. `view` must be that of `snapshot`."""
    xsvc, spec = view.xsvc, view.xsvc.spec
    config = services.mooring_of(xsvc)
    if config is None:
        return None
    published = {
        endpoint.hostname or "" for each in slices.ours(xsvc, snapshot.slices) for endpoint in each.endpoints or ()
    }
    drained = _drained(xsvc)
    return Member(
        key=xsvc.metadata.key,
        created=xsvc.metadata.creation_timestamp or "",
        config=config,
        by_kube_proxy=services.proxy_of(xsvc) is None,
        counts=_counts(view, snapshot)
        and (not view.endpoints or (bool(published) and any(map(_known, view.endpoints)))),
        panic_threshold_percent=spec.health_check.panic_threshold_percent if spec.health_check else 0,
        endpoints=tuple(
            _member_endpoint(each, drained.get(each.endpoint.name), each.endpoint.name in published)
            for each in view.endpoints
        ),
        panic=view.panic,
        previous_group=_previous_group(snapshot),
        awaited_seconds=_awaited_seconds(view, config, published),
    )


def _counts(view: View, snapshot: Snapshot) -> bool:
    """Whether this member may move clients.

    A source that has not answered since this process started does not prevent that if the status lists endpoints of
    it: the decision is then the same as before the start.
    """
    xsvc = view.xsvc
    return (
        xsvc.metadata.deletion_timestamp is None
        and not xsvc.spec.suspend
        and services.unsupported(xsvc) is None
        and snapshot.service is not None
        and view.taken is None
        and view.asked
        and all(each.found is not None or each.kept for each in view.sources)
    )


def _known(row: EndpointRow) -> bool:
    return row.takes or row.verdict.health != "Unknown"


def _awaited_seconds(view: View, config: MooringConfig, published: Collection[str]) -> float:
    """How long it may take until all endpoints that are fine take clients.

    The first check of an endpoint decides, and is made at once; if that cannot be done, it is made an interval later.
    A Namespace is one client, so it does not matter that endpoints begin to take clients at different times.
    """
    awaited = any(row.takes and row.verdict.resumed and not row.verdict.turning for row in view.endpoints)
    if config.client != "Namespace":
        awaited = awaited or any(
            row.endpoint.name not in published
            if row.takes
            else row.verdict.health == "Unknown" and row.withheld is None
            for row in view.endpoints
        )
    if not awaited:
        return 0.0
    check = view.xsvc.spec.health_check or HealthCheck()
    return min(MAX_AWAITED_SECONDS, float(check.interval_seconds + check.timeout_seconds))


def _drained(xsvc: ExternalService) -> dict[str, Drained]:
    since = drains.started(xsvc)
    return {each.endpoint: Drained(since[each.endpoint], each.before) for each in xsvc.spec.drain or ()}


def _member_endpoint(row: EndpointRow, drained: Drained | None, published: bool) -> MemberEndpoint:
    """An endpoint that has not been checked yet keeps its clients. Otherwise they would all leave when its address
    changes, and when a new member joins the group."""
    return MemberEndpoint(
        name=row.endpoint.name,
        takes=row.takes and published,
        keeps=row.keeps or (row.reachable and row.verdict.health == "Unknown"),
        weight=row.endpoint.weight,
        zone=row.endpoint.zone,
        drained=drained,
        doubted=row.takes and row.verdict.resumed,
    )


def _previous_group(snapshot: Snapshot) -> str:
    """The Service is changed last, so it names the old group until the clients have Moorings in the new one."""
    service = snapshot.service
    if service is None or not owns(snapshot.xsvc, service.metadata):
        return ""
    moored = contract.decode_service(service.metadata).contract.moored
    return moored.group if moored and moored.group != services.group_of(snapshot.xsvc).name else ""


# --- All members --------------------------------------------------------------------------------------------------


class GroupEndpoint(NamedTuple):
    """An endpoint as seen by all members that count."""

    name: str
    in_all: bool
    """Every member has it."""
    takes: bool
    """It takes new clients, in every member. A doubted one only does if there is no other left to wait for."""
    keeps: bool
    """Its clients stay: it serves in every member."""
    weight: int
    """The smallest of all members."""
    zone: str
    drained: Drained | None
    """The drain that ends first; None if no member drains it."""
    lost: str
    """Why it does not keep its clients, as a clause; empty if it does."""

    @property
    def deadline(self) -> float | None:
        """When the last client has to be gone, in seconds since 1970; None if clients stay."""
        return times.seconds(self.drained.before) if self.drained else None


class Group(NamedTuple):
    """The members of a group, combined."""

    config: MooringConfig
    """That of the oldest member."""
    members: tuple[Member, ...]
    """Those that count and agree with the oldest one. If there are none, nobody is moved or assigned."""
    endpoints: Mapping[str, GroupEndpoint]
    """By name, in order; every endpoint that one of these members has."""
    panic: bool
    """The checks are doubted, by a member or because too few endpoints serve in all members."""
    limit: int | None
    """How many clients an endpoint can have; None: any number."""
    awaited_seconds: float
    """How long clients of endpoints that are gone wait at most for those that are about to take clients; 0: they do
    not."""
    beginning: bool
    """New clients wait as well."""
    problems: tuple[Complaint, ...]

    @property
    def names(self) -> list[str]:
        """The endpoints that a client can be moored to, in order."""
        return [each.name for each in self.endpoints.values() if each.in_all]


def leading(members: Iterable[Member]) -> Member | None:
    """The member whose configuration holds: the oldest, and of equally old ones the first by name; None if there are
    no members.

    A member that does not count can lead, too. Otherwise all clients would become others while it is suspended.
    """
    return min(members, key=lambda each: (each.created, each.key), default=None)


def combined(members: Iterable[Member]) -> Group:
    """The members of one group, combined; their order does not matter."""
    members = sorted(members, key=lambda each: each.key)
    first = leading(members)
    config = first.config if first else MooringConfig()
    agreeing = [each for each in members if _shared(each.config) == _shared(config)]
    counting = tuple(each for each in agreeing if each.counts)
    awaited_seconds = max((each.awaited_seconds for each in counting), default=0.0)
    endpoints = _without_doubted(_combined_endpoints(counting), counting, awaited=awaited_seconds > 0)
    too_few = _too_few(counting, endpoints)
    problems = [_disagreement(each, first) for each in members if first and each not in agreeing]
    hinted = config.client in KINDS_OF_NODES and any(each.by_kube_proxy for each in counting)
    return Group(
        config=config,
        members=counting,
        endpoints=endpoints,
        panic=too_few is not None or any(each.panic for each in counting),
        limit=MAX_HINTS if hinted else None,
        awaited_seconds=awaited_seconds,
        beginning=any(each.beginning and each.awaited_seconds for each in counting),
        problems=(*problems, too_few) if too_few and len(counting) > 1 else tuple(problems),
    )


def _shared(config: MooringConfig) -> tuple[str, str | None, LabelSelector | None, str]:
    """The fields in which members must agree. whilePending is the affair of each Service."""
    return config.client, config.label, config.pod_selector, config.on_recovery


def _combined_endpoints(members: Sequence[Member]) -> dict[str, GroupEndpoint]:
    found: dict[str, list[tuple[Member, MemberEndpoint]]] = {}
    for member in members:
        for endpoint in member.endpoints:
            found.setdefault(endpoint.name, []).append((member, endpoint))
    return {name: _combined_endpoint(name, found[name], members) for name in sorted(found)}


def _combined_endpoint(
    name: str, found: Sequence[tuple[Member, MemberEndpoint]], members: Sequence[Member]
) -> GroupEndpoint:
    having = {member.key for member, _ in found}
    missing = [each.key.name for each in members if each.key not in having]
    failing = [member.key.name for member, each in found if not each.keeps]
    lost = ""
    if missing:
        lost = f"{name} is no endpoint of ExternalService {missing[0]}"
    elif failing:
        lost = f"{name} does not serve ExternalService {failing[0]}"
    return GroupEndpoint(
        name=name,
        in_all=not missing,
        takes=not missing and all(each.takes for _, each in found),
        keeps=not lost,
        weight=min(each.weight for _, each in found),
        zone=next((each.zone for _, each in found if each.zone), ""),
        drained=min((each.drained for _, each in found if each.drained), key=_end_of_drain, default=None),
        lost=lost,
    )


def _without_doubted(
    endpoints: dict[str, GroupEndpoint], members: Sequence[Member], *, awaited: bool
) -> dict[str, GroupEndpoint]:
    """The same, where doubted endpoints take no new clients while they are about to be checked, or others take some.

    Otherwise clients would come to an endpoint that has died while nobody led, and move again.
    """
    doubted = {each.name for member in members for each in member.endpoints if each.doubted}
    if not awaited and all(name in doubted for name, each in endpoints.items() if each.takes):
        return endpoints
    return {name: each._replace(takes=each.takes and name not in doubted) for name, each in endpoints.items()}


def _end_of_drain(drained: Drained) -> tuple[float, float]:
    return times.seconds(drained.before) or math.inf, times.seconds(drained.since) or math.inf


def _too_few(members: Sequence[Member], endpoints: Mapping[str, GroupEndpoint]) -> Complaint | None:
    """The complaint if the endpoints that serve in all members are too few to believe the checks.

    Drained endpoints do not count, as in the panic threshold of one ExternalService.
    """
    judged = [each for each in endpoints.values() if each.in_all and each.drained is None]
    serving = sum(each.keeps for each in judged)
    threshold = max((each.panic_threshold_percent for each in members), default=0)
    if not judged or 100 * serving > threshold * len(judged):
        return None
    return Complaint(
        "GroupPanic",
        f"{serving} of {len(judged)} endpoints serve in all of ExternalServices "
        f"{listed([each.key.name for each in members])}, too few to believe the checks "
        "(spec.healthCheck.panicThresholdPercent): nobody is moved",
    )


def _disagreement(member: Member, first: Member) -> Complaint:
    fields = ("client", "label", "podSelector", "onRecovery")
    values = zip(fields, _shared(member.config), _shared(first.config), strict=True)
    return Complaint(
        "MooringConfigDiffers",
        f"ExternalService {member.key}: spec.sessionAffinityConfig.mooring differs from that of {first.key.name}, "
        f"which is older, in {listed([field for field, mine, other in values if mine != other])}. Clients are moored "
        "without it until they agree; make them equal, or give it a group of its own (spec.group)",
    )

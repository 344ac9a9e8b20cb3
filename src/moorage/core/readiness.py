"""Decides which endpoints take new connections, and says why others do not."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.topology import NO_HINTS, Hints
from moorage.core.health import ready_set
from moorage.core.model import Endpoint, Verdict

Withheld = Literal["Drained", "Leaving", "NoFamily", "StandsBy", "NotMoored", "NameTaken"]
"""Why an endpoint takes no new connections, apart from its health: `spec.drain` names it; it is being deleted at its
source; the Service has no address of its family; a lower SRV priority is in use; the Namespace is moored to another
one; the Service is not ours."""


class EndpointRow(NamedTuple):
    """One endpoint: the verdict of its checks, and what is published about it."""

    endpoint: Endpoint
    verdict: Verdict
    ready: bool
    """It is published as ready: new connections may go to it."""
    serving: bool
    """It keeps its present connections."""
    withheld: Withheld | None = None
    takes: bool = False
    """It takes new clients. Without moorings that is the same as `ready`."""
    hints: Hints = NO_HINTS
    """Who should use it."""
    moorings: int | None = None
    """How many clients are moored to it; None: nobody has decided about that, or there are no moorings."""

    @property
    def reachable(self) -> bool:
        """Clients of the Service can get to it at all."""
        return self.withheld not in ("NoFamily", "NameTaken")

    @property
    def keeps(self) -> bool:
        """Clients that are moored to it stay."""
        return self.serving and self.reachable


class Readiness(NamedTuple):
    """All endpoints of an ExternalService, in the given order."""

    rows: tuple[EndpointRow, ...]
    panic: bool
    """Whether unhealthy endpoints stay ready, because the checks are doubted."""
    priority: int | None = None
    """The SRV priority that is in use; None: none is."""


def readiness_of(
    xsvc: ExternalService,
    endpoints: Sequence[Endpoint],
    verdicts: Mapping[str, Verdict],
    slices: Sequence[EndpointSlice],
    families: Sequence[str] | None,
    moored_to: Collection[str] | None = None,
) -> Readiness:
    """Decides which of `endpoints` take new clients. Without moorings, these are the ones to publish as ready.

    Endpoints that `spec.drain` names take no new connections, nor do those that are leaving or are of a family that
    the Service does not have, so these do not count for the panic threshold. Of the others, the lowest SRV priority
    with a ready endpoint is in use (RFC 2782), and the rest stand by; an endpoint that is ready only because its
    checks are doubted does not hold back others that are up. What was published last is read from our `slices`, which
    are written before the status. `families` are those of the Service's cluster IPs; None: unknown.
    """
    drained = {each.endpoint for each in xsvc.spec.drain or ()}
    unchecked = Verdict("Unknown" if xsvc.spec.health_check else "Unchecked")
    known = {each.name: verdicts.get(each.name, unchecked) for each in endpoints}
    if moored_to is None:
        ready_before, serving_before = _published(xsvc, slices, endpoints)
    else:
        ready_before = serving_before = _took(xsvc, endpoints) | {*moored_to}
    threshold = xsvc.spec.health_check.panic_threshold_percent if xsvc.spec.health_check else 0
    carried = [each for each in endpoints if not families or family_of(each) in families]
    judged = {each.name: known[each.name] for each in carried if each.name not in drained and not each.leaving}
    published = ready_set(ready_before, judged, threshold)
    usable = [each for each in carried if each.name in published.ready]
    priority = min((each.priority for each in _sound(usable, known)), default=None)
    in_use = {each.name for each in usable if each.priority == priority}

    def row(endpoint: Endpoint) -> EndpointRow:
        name, verdict = endpoint.name, known[endpoint.name]
        if name in in_use:
            return EndpointRow(endpoint, verdict, ready=True, serving=True, takes=True)
        doubted = verdict.health == "Unknown" or published.frozen
        serving = verdict.health in ("Healthy", "Unchecked") or (doubted and name in serving_before)
        withheld: Withheld | None = None
        if name in drained:
            withheld = "Drained"
        elif endpoint.leaving:
            withheld = "Leaving"
        elif families and family_of(endpoint) not in families:
            withheld = "NoFamily"
        elif name in published.ready and verdict.health != "Unhealthy":
            withheld = "StandsBy"
        return EndpointRow(endpoint, verdict, False, serving, withheld)

    panic = any(known[name].health == "Unhealthy" for name in in_use)
    return Readiness(tuple(row(each) for each in endpoints), panic, priority)


def _sound(usable: Sequence[Endpoint], verdicts: Mapping[str, Verdict]) -> Sequence[Endpoint]:
    """Endpoints that decide which priority is used: if one is surely up, those that are up or coming up; else all."""
    known = [verdicts[each.name] for each in usable]
    if all(verdict.health == "Unhealthy" or verdict.turning for verdict in known):
        return usable
    return [
        each for each, verdict in zip(usable, known, strict=True) if verdict.health != "Unhealthy" or verdict.turning
    ]


def without_service(readiness: Readiness) -> Readiness:
    """The readiness while the Service of this name is not ours, so that nothing can be published."""
    rows = (each._replace(ready=False, takes=False, withheld="NameTaken") for each in readiness.rows)
    return readiness._replace(rows=tuple(rows))


def family_of(endpoint: Endpoint) -> str:
    """IPv4 or IPv6."""
    return "IPv6" if ":" in endpoint.address else "IPv4"


def _published(
    xsvc: ExternalService, slices: Sequence[EndpointSlice], endpoints: Sequence[Endpoint]
) -> tuple[set[str], set[str]]:
    """The names of `endpoints` that were published as ready, and as serving, maybe under another name."""
    names = {each.name for each in endpoints}
    now = {(each.address, each.port): each.name for each in endpoints}
    ready, serving, seen = set(), set(), set()
    for slice_ in slices:
        for endpoint in slice_.endpoints or ():
            name = endpoint.hostname
            if not name:
                continue
            seen.add(name)
            if endpoint.conditions.ready is not False:
                ready.add(name)
            if endpoint.conditions.serving is not False:
                serving.add(name)
    for each in xsvc.status.endpoints or ():
        if each.ready and each.name not in seen:
            ready.add(each.name)
            serving.add(each.name)
        renamed = now.get((each.address, each.port)) if each.name not in names else None
        if renamed and renamed not in seen and each.name in ready:
            ready.add(renamed)
            serving.add(renamed)
    return ready, serving


def _took(xsvc: ExternalService, endpoints: Sequence[Endpoint]) -> set[str]:
    """The names of `endpoints` that took clients by the status: of a Namespace that is moored to one endpoint, the
    others are not published as ready, and take it when that one fails."""
    names = {each.name for each in endpoints}
    now = {(each.address, each.port): each.name for each in endpoints}
    return {
        each.name if each.name in names else now.get((each.address, each.port), each.name)
        for each in xsvc.status.endpoints or ()
        if each.ready or each.health in ("Healthy", "Unchecked")
    }

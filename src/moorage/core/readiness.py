"""Which endpoints take new connections, and why others do not."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.health import ready_set
from moorage.core.model import Endpoint, Verdict


class Standing(NamedTuple):
    """One endpoint, what is known of it, and what is published of it."""

    endpoint: Endpoint
    verdict: Verdict
    ready: bool
    """It takes new connections."""
    serving: bool
    """It goes on with those that it has."""
    why: str | None = None
    """Why it is not ready though not unhealthy."""


class Standings(NamedTuple):
    """All endpoints of an ExternalService, in the order in which they were given."""

    each: tuple[Standing, ...]
    panic: bool
    """Whether unhealthy endpoints stay ready, because the checks are doubted."""


def standings(
    xsvc: ExternalService,
    endpoints: Sequence[Endpoint],
    verdicts: Mapping[str, Verdict],
    slices: Sequence[EndpointSlice],
    families: Sequence[str] | None,
) -> Standings:
    """What is to be published of `endpoints`.

    Endpoints that `spec.drain` names take nothing new, nor do those that are leaving, nor those of a family that the
    Service has not; so these do not count for the panic threshold either. Of the others those of the lowest SRV
    priority are used in which one is ready (RFC 2782), the rest stands by; one whose checks are only doubted does not
    hold back others that surely are up. What was published last is taken from our `slices`, which are written before
    the status. `families` are those of the Service's cluster IPs; None: not known yet.
    """
    drained = {each.endpoint for each in xsvc.spec.drain or ()}
    unchecked = Verdict("Unknown" if xsvc.spec.health_check else "Unchecked")
    known = {each.name: verdicts.get(each.name, unchecked) for each in endpoints}
    ready_before, serving_before = _published(xsvc, slices, endpoints)
    threshold = xsvc.spec.health_check.panic_threshold_percent if xsvc.spec.health_check else 0
    carried = [each for each in endpoints if not families or _family(each) in families]
    judged = {each.name: known[each.name] for each in carried if each.name not in drained and not each.leaving}
    published = ready_set(ready_before, judged, threshold)
    usable = [each for each in carried if each.name in published.ready]
    priority = min((each.priority for each in _sound(usable, known)), default=None)
    in_use = {each.name for each in usable if each.priority == priority}

    def standing(endpoint: Endpoint) -> Standing:
        name, verdict = endpoint.name, known[endpoint.name]
        if name in in_use:
            return Standing(endpoint, verdict, ready=True, serving=True)
        doubted = verdict.health == "Unknown" or published.frozen
        serving = verdict.health in ("Healthy", "Unchecked") or (doubted and name in serving_before)
        why = None
        if name in drained:
            why = "drained: spec.drain names it"
        elif endpoint.leaving:
            why = "leaving: it is being deleted where it was found"
        elif families and _family(endpoint) not in families:
            why = f"the Service has no {_family(endpoint)} address; see spec.ipFamilyPolicy"
        elif name in published.ready and verdict.health != "Unhealthy":
            why = f"stands by: priority {endpoint.priority}, and one of priority {priority} is healthy"
        return Standing(endpoint, verdict, False, serving, why)

    panic = any(known[name].health == "Unhealthy" for name in in_use)
    return Standings(tuple(standing(each) for each in endpoints), panic)


def _sound(usable: Sequence[Endpoint], verdicts: Mapping[str, Verdict]) -> Sequence[Endpoint]:
    """Those that decide which priority is used: where one surely is up, those that are up or coming up; else all."""
    known = [verdicts[each.name] for each in usable]
    if all(verdict.health == "Unhealthy" or verdict.turning for verdict in known):
        return usable
    return [
        each for each, verdict in zip(usable, known, strict=True) if verdict.health != "Unhealthy" or verdict.turning
    ]


def withheld(standings: Standings, why: str) -> Standings:
    """The same where nothing can be published of any endpoint."""
    return standings._replace(each=tuple(each._replace(ready=False, why=why) for each in standings.each))


def _family(endpoint: Endpoint) -> str:
    return "IPv6" if ":" in endpoint.address else "IPv4"


def _published(
    xsvc: ExternalService, slices: Sequence[EndpointSlice], endpoints: Sequence[Endpoint]
) -> tuple[set[str], set[str]]:
    """The names of those of `endpoints` that are ready, and of those that are serving, if under another name."""
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

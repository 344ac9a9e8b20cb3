"""The four conditions of an ExternalService, in words that whoever is on call can act on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Condition
from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService, ExternalServiceSpec
from moorage.core.endpoints import NAMED, Merged, listed, shown
from moorage.core.health import checked_port
from moorage.core.model import Endpoint, Resolution
from moorage.core.ownership import owns, predecessor_owns
from moorage.core.readiness import Standings

MIRRORING = "endpointslicemirroring-controller.k8s.io"
TYPES = ("Accepted", "Resolved", "Healthy", "Ready")
"""In this order: the reason why a later one is not as it should be is often in an earlier one."""
LONGEST = 2000
"""Characters of a message: it is read in a terminal, and a status has to fit into etcd."""


class Said(NamedTuple):
    """A condition without its times."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def accepted(merged: Merged, unchangeable: str | None, unknown: Sequence[str]) -> Said:
    """Whether everything that was asked for is done: one refused address leaves the others in use.

    A name that nothing has (`unknown`, a sentence each) does not change that: what it is about may be gone already.
    """
    more = [f"{len(unknown) - NAMED} more names of spec.drain are unknown"] if len(unknown) > NAMED else []
    complaints = [
        *filter(None, [*merged.refused, unchangeable, merged.too_many]),
        *unknown[:NAMED],
        *more,
        *merged.conflicts,
    ]
    if merged.refused:
        return Said("False", "AddressRefused", several(complaints))
    if unchangeable:
        return Said("False", "Unchangeable", several(complaints))
    if merged.too_many:
        return Said("False", "TooManyEndpoints", several(complaints))
    if unknown:
        return Said("True", "UnknownEndpoint", several(complaints))
    return Said("True", "Accepted", several(complaints) or "The spec is valid and can be carried out.")


def resolved(xsvc: ExternalService, merged: Merged, resolutions: Sequence[Resolution]) -> Said:
    """Whether all sources have a current answer."""
    notes = [f"{each.source}: {note}" for each in resolutions for note in each.notes]
    if any(each.endpoints for each in resolutions):
        notes += [f"{each.source} has none" for each in resolutions if each.endpoints == () and not each.problem]
    problems = [each for each in resolutions if each.problem is not None]
    count = len(merged.endpoints)
    if problems:
        told = [_problem(each, merged) for each in problems]
        assert problems[0].problem is not None
        return Said("False", problems[0].problem.reason, several([*told, *notes]))
    if len(resolutions) < len(xsvc.spec.endpoints or ()):
        return Said("Unknown", "Pending", "The sources have not been asked yet.")
    silent = [each.source for each in resolutions if each.endpoints is None]
    if silent:
        return Said("Unknown", "Pending", several([f"{silent[0]} has not answered yet", *silent[1:], *notes]))
    if not resolutions:
        return Said("True", "NoSources", "spec.endpoints names no source, so there are no endpoints.")
    sources = listed(list(dict.fromkeys(each.source for each in resolutions)))
    found = any(each.endpoints for each in resolutions)
    return Said(
        "True", "Resolved" if found else "Empty", several([f"{counted(count, 'endpoint')} from {sources}", *notes])
    )


def _problem(resolution: Resolution, merged: Merged) -> str:
    assert resolution.problem is not None
    kept = sum(each.source == resolution.source for each in merged.endpoints)
    stays = (
        f"; its last {kept} endpoints stay in use" if kept > 1 else "; its last endpoint stays in use" if kept else ""
    )
    message = resolution.problem.message.rstrip(".")
    return f"{resolution.source}: {message} (since {resolution.problem.since}){stays}"


def healthy(xsvc: ExternalService, standings: Standings) -> Said:
    """Whether all endpoints pass their checks."""
    checked = [each for each in standings.each if each.verdict.health != "Unchecked"]
    total = len(standings.each)
    if not standings.each:
        return Said("Unknown", "NoEndpoints", "There are no endpoints to check.")
    if not checked:
        why = "is absent" if xsvc.spec.health_check is None else "has no port that can be checked: all are UDP"
        return Said("Unknown", "NotChecked", f"spec.healthCheck {why}, so all endpoints are taken to be healthy.")
    bad = [each for each in checked if each.verdict.health == "Unhealthy"]
    unknown = sum(each.verdict.health == "Unknown" for each in checked)
    good = total - len(bad) - unknown
    if not bad:
        if unknown:
            return Said("Unknown", "Checking", f"{counted(unknown, 'endpoint')} of {total} not checked yet.")
        return Said("True", "AllHealthy", f"{counted(total, 'endpoint')}, all healthy.")
    listed = [
        f"{each.endpoint.name} ({checked_at(xsvc.spec, each.endpoint)}) since {each.verdict.since}"
        + (f": {each.verdict.message}" if each.verdict.message else "")
        for each in bad[:NAMED]
    ]
    more = f"; and {len(bad) - NAMED} more, see status.endpoints" if len(bad) > NAMED else ""
    count, unhealthy = f"{good} of {total} healthy", "unhealthy: " + "; ".join(listed) + more
    if standings.panic:
        threshold = xsvc.spec.health_check.panic_threshold_percent if xsvc.spec.health_check else 0
        few = 100 * good <= threshold * (total - unknown)
        why = "too few to believe the checks" if few else "but their last checks say otherwise, so all are doubted"
        kept = "those that took connections last go on doing so"
        field = "spec.healthCheck.panicThresholdPercent"
        return Said("False", "Panic", f"{count}, {why} ({field}): {kept}; {unhealthy}")
    return Said("False", "NoneHealthy" if good == 0 and not unknown else "SomeUnhealthy", f"{count}; {unhealthy}")


def ready(
    xsvc: ExternalService,
    standings: Standings,
    slices: Sequence[EndpointSlice],
    taken: tuple[str, str] | None,
    others: Mapping[str, Said],
) -> Said:
    """Whether clients reach an endpoint, and only those that they should; `others`, the three before it, say why."""
    if taken:
        return Said("False", *taken)
    if foreign := _foreign(xsvc, slices):
        return Said("False", "ForeignSlices", foreign)
    total = len(standings.each)
    count = sum(each.ready for each in standings.each)
    if not total:
        bad = [each.message for type_ in ("Accepted", "Resolved") if (each := others[type_]).status != "True"]
        whys = bad or [others["Resolved"].message]
        return Said("False", "NoEndpoints", several(["There are no endpoints: connections are refused", *whys]))
    if not count:
        whys = list(dict.fromkeys(_sentence(each.why) for each in standings.each if each.why))
        if others["Healthy"].reason in ("SomeUnhealthy", "NoneHealthy", "Panic", "Checking"):
            whys.append(others["Healthy"].message)
        told = f"None of {counted(total, 'endpoint')} takes connections: they are refused"
        return Said("False", "NoneReady", several([told, *whys]))
    carrier = "node agents (proxy moorage)" if xsvc.spec.proxy == "moorage" else "kube-proxy"
    takes = "takes" if count == 1 else "take"
    message = f"{count} of {counted(total, 'endpoint')} {takes} connections, carried by {carrier}"
    if standings.panic:
        message += ", whatever their checks say: see Healthy"
    if xsvc.spec.session_affinity == "Mooring":
        message += "; moorings are not assigned by this version: clients are held by sessions, as with ClientIP"
    return Said("True", "Ready", message + ".")


def _foreign(xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> str | None:
    """What is to be done about slices of our Service that others wrote; None where there are none."""
    found = [
        each
        for each in slices
        if not owns(xsvc, each.metadata)
        and not predecessor_owns(xsvc, each.metadata)
        and (each.metadata.labels or {}).get("kubernetes.io/service-name") == xsvc.metadata.name
    ]
    if not found:
        return None
    namespace, name = xsvc.metadata.namespace, xsvc.metadata.name
    names = listed([each.metadata.name for each in found])
    managers = {(each.metadata.labels or {}).get("endpointslice.kubernetes.io/managed-by") for each in found}
    action = (
        f"kubectl delete endpoints -n {namespace} {name}, which they are copied from"
        if managers == {MIRRORING}
        else f"kubectl delete endpointslice -n {namespace} {' '.join(each.metadata.name for each in found[:NAMED])}"
    )
    return (
        f"Connections also go to endpoints that others have given Service {namespace}/{name}, in EndpointSlice "
        f"{names}; unless they are meant: {action}"
    )


def suspended(xsvc: ExternalService) -> dict[str, Said]:
    """The conditions while `spec.suspend` is set."""
    message = "spec.suspend is set: Service, endpoints and the rest of this status stay as they were."
    return {"Ready": _as_before(xsvc, "Suspended", message)}


def failed(xsvc: ExternalService) -> dict[str, Said]:
    """The conditions where a mistake of ours kept a decision from being made."""
    message = (
        "A mistake in Moorage keeps it from dealing with this ExternalService: Service and endpoints stay as they "
        "were, and it is tried again. The operator's log says more; please report it."
    )
    return {
        "Accepted": Said("False", "InternalError", message),
        "Ready": _as_before(xsvc, "InternalError", message),
    }


def unreadable(xsvc: ExternalService, what: str, why: str) -> dict[str, Said]:
    """The conditions while nothing is done because `what` (`This ExternalService`) has a field of a wrong type."""
    message = f"{what} cannot be read, so Service and endpoints stay as they were; correct it: {why}"
    return {"Accepted": Said("False", "Unreadable", message), "Ready": _as_before(xsvc, "Unreadable", message)}


def unread(why: str) -> Said:
    """Accepted while the last spec that could be read is carried out, in place of the present one."""
    message = f"This ExternalService cannot be read, so what it said before stays in force; correct it: {why}"
    return Said("False", "Unreadable", message)


def _as_before(xsvc: ExternalService, reason: str, message: str) -> Said:
    """Ready where nothing is written: clients reach what they reached."""
    ready = next((each for each in xsvc.status.conditions or () if each.type == "Ready"), None)
    match ready.status if ready else "Unknown":
        case "True" | "False" as status:
            return Said(status, reason, message)
        case _:
            return Said("Unknown", reason, message)


def refused(why: tuple[str, str]) -> dict[str, Said]:
    """The conditions of a spec of which nothing can be made."""
    return {
        "Accepted": Said("False", *why),
        "Ready": Said("False", "NotAccepted", f"What was made before stays as it is. {why[1]}"),
    }


def conditions(xsvc: ExternalService, said: Mapping[str, Said], now: str) -> list[Condition]:
    """The status's conditions with `said` in place of those of the same type; times change with the status only."""
    previous = {each.type: each for each in xsvc.status.conditions or ()}
    told = {type_: _condition(xsvc, type_, each, previous.get(type_), now) for type_, each in said.items()}
    return in_order((previous | told).values())


def in_order(found: Iterable[Condition]) -> list[Condition]:
    """In the order of `TYPES`, others last."""
    return sorted(found, key=lambda each: TYPES.index(each.type) if each.type in TYPES else len(TYPES))


def _condition(xsvc: ExternalService, type_: str, said: Said, previous: Condition | None, now: str) -> Condition:
    since = previous.last_transition_time if previous and previous.status == said.status else None
    return Condition(
        type=type_,
        status=said.status,
        reason=said.reason,
        message=cut(said.message, LONGEST),
        last_transition_time=since or now,
        observed_generation=xsvc.metadata.generation,
    )


def checked_at(spec: ExternalServiceSpec, endpoint: Endpoint | EndpointStatus) -> str:
    """Where the checks of an endpoint go: `203.0.113.11:80`."""
    return shown(endpoint.address, checked_port(spec, endpoint.port))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def several(sentences: Iterable[str]) -> str:
    """Sentences as one line."""
    return ". ".join(each.rstrip(".") for each in sentences)


def counted(count: int, what: str) -> str:
    """`1 endpoint`, `2 endpoints`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def cut(text: str, longest: int) -> str:
    """`text` in at most so many characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"

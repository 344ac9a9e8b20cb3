"""The conditions of an ExternalService, in words that people on call can act on."""

from collections.abc import Iterable, Mapping
from itertools import groupby

from moorage.api.meta import Condition
from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService, ExternalServiceSpec
from moorage.core import mooring_condition, progress
from moorage.core.endpoints import MAX_NAMES, listed, shown
from moorage.core.health import checked_port
from moorage.core.model import Complaint, Endpoint, Problem
from moorage.core.readiness import EndpointRow, family_of
from moorage.core.view import SourceRow, View
from moorage.core.words import ConditionValue, counted, cut, foreign_slices, several

TYPES = ("Accepted", "Resolved", "Healthy", "Moored", "Ready", *progress.TYPES)
"""In this order, because an earlier one often explains why a later one is not true."""
MAX_MESSAGE_CHARACTERS = 2000
"""People read it in a terminal, and a status has to fit into etcd."""
_NOT_ACCEPTED = ("AddressRefused", "Unchangeable", "TooManyEndpoints")


def values(view: View) -> dict[str, ConditionValue]:
    """All conditions that follow from the view, by type."""
    found = {"Accepted": accepted(view), "Resolved": resolved(view), "Healthy": healthy(view)}
    if view.xsvc.spec.session_affinity == "Mooring":
        found["Moored"] = mooring_condition.moored(view)
    found["Ready"] = ready(view, found)
    if progress.awaited(view):
        found["Reconciling"] = found["Resolved"]._replace(status="True")
    return found


def accepted(view: View) -> ConditionValue:
    """Accepted: whether everything in the spec is done. One refused address leaves the others in use.

    A name in `spec.drain` that no endpoint has does not matter here: that endpoint may be gone already.
    """
    if view.unreadable:
        return unread(view.unreadable)
    messages: list[str] = []
    for reason, group in groupby(view.complaints, key=lambda each: each.reason):
        found = [each.message for each in group]
        if reason == "UnknownEndpoint" and len(found) > MAX_NAMES:
            found[MAX_NAMES:] = [f"{len(found) - MAX_NAMES} more names of spec.drain are unknown"]
        messages += found
    first = view.complaints[0].reason if view.complaints else "Accepted"
    message = several(messages) or "The spec is valid and can be carried out."
    if first in _NOT_ACCEPTED:
        return ConditionValue("False", first, message)
    return ConditionValue("True", "UnknownEndpoint" if first == "UnknownEndpoint" else "Accepted", message)


def resolved(view: View) -> ConditionValue:
    """Resolved: whether all sources have a current answer."""
    sources = view.sources
    found = any(each.found for each in sources)
    notes = [f"{each.name}: {note}" for each in sources for note in each.notes]
    if found:
        notes += [f"{each.name} has none" for each in sources if each.found == 0 and not each.problem]
    if problems := [(each, each.problem) for each in sources if each.problem]:
        problems.sort(key=lambda each: each[1].reason not in progress.OF_THE_SPEC)
        messages = [_problem(source, problem) for source, problem in problems]
        return ConditionValue("False", problems[0][1].reason, several([*messages, *notes]))
    if not view.asked:
        return ConditionValue("Unknown", "Pending", "The sources have not been asked yet.")
    if silent := [each.name for each in sources if each.found is None]:
        message = several([f"{silent[0]} has not answered yet", *silent[1:], *notes])
        return ConditionValue("Unknown", "Pending", message)
    if not sources:
        return ConditionValue("True", "NoSources", "spec.endpoints names no source, so there are no endpoints.")
    names = listed(list(dict.fromkeys(each.name for each in sources)))
    message = several([f"{counted(len(view.endpoints), 'endpoint')} from {names}", *notes])
    return ConditionValue("True", "Resolved" if found else "Empty", message)


def _problem(source: SourceRow, problem: Problem) -> str:
    kept = source.kept
    stays = (
        f"; its last {kept} endpoints stay in use" if kept > 1 else "; its last endpoint stays in use" if kept else ""
    )
    return f"{source.name}: {problem.message.rstrip('.')} (since {problem.since}){stays}"


def healthy(view: View) -> ConditionValue:
    """Healthy: whether all endpoints pass their checks."""
    spec, total = view.xsvc.spec, len(view.endpoints)
    checked = [each for each in view.endpoints if each.verdict.health != "Unchecked"]
    if not total:
        return ConditionValue("Unknown", "NoEndpoints", "There are no endpoints to check.")
    if not checked:
        why = "is absent" if spec.health_check is None else "has no port that can be checked: all are UDP"
        return ConditionValue(
            "Unknown", "NotChecked", f"spec.healthCheck {why}, so all endpoints are taken to be healthy."
        )
    bad = [each for each in checked if each.verdict.health == "Unhealthy"]
    unknown = sum(each.verdict.health == "Unknown" for each in checked)
    good = total - len(bad) - unknown
    if not bad:
        if unknown:
            message = f"{counted(unknown, 'endpoint')} of {total} not checked yet."
            return ConditionValue("Unknown", "Checking", message)
        return ConditionValue("True", "AllHealthy", f"{counted(total, 'endpoint')}, all healthy.")
    named = [
        f"{each.endpoint.name} ({checked_at(spec, each.endpoint)}) since {each.verdict.since}"
        + (f": {each.verdict.message}" if each.verdict.message else "")
        for each in bad[:MAX_NAMES]
    ]
    more = f"; and {len(bad) - MAX_NAMES} more, see status.endpoints" if len(bad) > MAX_NAMES else ""
    count, unhealthy = f"{good} of {total} healthy", "unhealthy: " + "; ".join(named) + more
    if view.panic:
        threshold = spec.health_check.panic_threshold_percent if spec.health_check else 0
        few = 100 * good <= threshold * (total - unknown)
        why = "too few to believe the checks" if few else "but their last checks say otherwise, so all are doubted"
        kept = "those that took connections last go on doing so"
        field = "spec.healthCheck.panicThresholdPercent"
        return ConditionValue("False", "Panic", f"{count}, {why} ({field}): {kept}; {unhealthy}")
    reason = "NoneHealthy" if good == 0 and not unknown else "SomeUnhealthy"
    return ConditionValue("False", reason, f"{count}; {unhealthy}")


def ready(view: View, others: Mapping[str, ConditionValue]) -> ConditionValue:
    """Ready: whether clients reach an endpoint, and only the right ones; the `others` before it say why.

    A client that is not where it is moored reaches an endpoint all the same.
    """
    if view.taken:
        return ConditionValue("False", view.taken.reason, view.taken.message)
    if view.foreign:
        return ConditionValue("False", "ForeignSlices", foreign_slices(view.xsvc, view.foreign))
    spec, total = view.xsvc.spec, len(view.endpoints)
    count = sum(each.ready for each in view.endpoints)
    if not total:
        bad = [each.message for type_ in ("Accepted", "Resolved") if (each := others[type_]).status != "True"]
        whys = bad or [others["Resolved"].message]
        message = several(["There are no endpoints: connections are refused", *whys])
        return ConditionValue("False", "NoEndpoints", message)
    if not count:
        whys = list(
            dict.fromkeys(_sentence(why) for each in view.endpoints if (why := withheld(each, view.priority)))
        )
        if others["Healthy"].reason in ("SomeUnhealthy", "NoneHealthy", "Panic", "Checking"):
            whys.append(others["Healthy"].message)
        none = f"None of {counted(total, 'endpoint')} takes connections: they are refused"
        by_spec = all(each.withheld in ("Drained", "NoFamily") for each in view.endpoints)
        return ConditionValue("False", "Withheld" if by_spec else "NoneReady", several([none, *whys]))
    carrier = "node agents (proxy moorage)" if spec.proxy == "moorage" else "kube-proxy"
    takes = "takes" if count == 1 else "take"
    message = f"{count} of {counted(total, 'endpoint')} {takes} connections, carried by {carrier}"
    if view.panic:
        message += ", whatever their checks say: see Healthy"
    if (mooring := others.get("Moored")) and mooring.status == "False":
        if mooring_condition.carries_nothing(view):
            return ConditionValue("False", mooring.reason, mooring.message)
        message += "; not all clients are where they are moored: see Moored"
    return ConditionValue("True", "Ready", message + ".")


def withheld(row: EndpointRow, priority: int | None) -> str | None:
    """Why an endpoint takes no new connections, apart from its health; `priority` is the one in use."""
    match row.withheld:
        case "Drained":
            stay = counted(row.moorings, "client") if row.ready and row.moorings else None
            return "drained: spec.drain names it" + (f"; {stay} moored to it" if stay else "")
        case "Leaving":
            return "leaving: it is being deleted where it was found"
        case "NoFamily":
            return f"the Service has no {family_of(row.endpoint)} address; see spec.ipFamilyPolicy"
        case "StandsBy":
            return f"stands by: priority {row.endpoint.priority}, and one of priority {priority} is healthy"
        case "NotMoored":
            return "stands by: the namespace uses one endpoint at a time"
        case "NameTaken":
            return "the Service of this name is not ours"
        case None:
            return None


def suspended(xsvc: ExternalService) -> dict[str, ConditionValue]:
    """The conditions while `spec.suspend` is set."""
    message = "spec.suspend is set: Service, endpoints and the rest of this status stay as they were."
    return {"Ready": _as_before(xsvc, "Suspended", message)}


def failed(xsvc: ExternalService) -> dict[str, ConditionValue]:
    """The conditions after a bug of ours has prevented a decision."""
    message = (
        "A bug in Moorage keeps it from dealing with this ExternalService: Service and endpoints stay as they "
        "were, and it is tried again. The operator's log says more; please report it."
    )
    return {
        "Accepted": ConditionValue("False", "InternalError", message),
        "Ready": _as_before(xsvc, "InternalError", message),
    }


def unreadable(xsvc: ExternalService, what: str, why: str) -> dict[str, ConditionValue]:
    """The conditions while nothing is done because `what` (`This ExternalService`) cannot be read."""
    message = f"{what} cannot be read, so Service and endpoints stay as they were; correct it: {why}"
    return {
        "Accepted": ConditionValue("False", "Unreadable", message),
        "Ready": _as_before(xsvc, "Unreadable", message),
    }


def unread(why: str) -> ConditionValue:
    """Accepted while the last readable spec is carried out, because the present one cannot be read."""
    message = f"This ExternalService cannot be read, so what it said before stays in force; correct it: {why}"
    return ConditionValue("False", "Unreadable", message)


def _as_before(xsvc: ExternalService, reason: str, message: str) -> ConditionValue:
    """Ready while nothing is written: clients reach the same endpoints as before."""
    ready = next((each for each in xsvc.status.conditions or () if each.type == "Ready"), None)
    match ready.status if ready else "Unknown":
        case "True" | "False" as status:
            return ConditionValue(status, reason, message)
        case _:
            return ConditionValue("Unknown", reason, message)


def refused(why: Complaint) -> dict[str, ConditionValue]:
    """The conditions of a spec that cannot be carried out."""
    return {
        "Accepted": ConditionValue("False", why.reason, why.message),
        "Ready": ConditionValue("False", "NotAccepted", f"What was made before stays as it is. {why.message}"),
    }


def conditions(
    xsvc: ExternalService,
    values: Mapping[str, ConditionValue],
    now: str,
    others: Iterable[Condition] | None = None,
) -> list[Condition]:
    """The conditions of a status in the order of `TYPES`; those of other controllers come last.

    They are `values`, and those of other types in `others` (None: the status of `xsvc`). Stalled is added if it
    holds. The time of a condition changes only if its status does.
    """
    previous = {each.type: each for each in xsvc.status.conditions or ()}
    theirs = previous.values() if others is None else others
    kept = {each.type: each for each in theirs if each.type not in progress.TYPES}
    new = {type_: _condition(xsvc, type_, each, previous.get(type_), now) for type_, each in values.items()}
    found = kept | new
    if cause := progress.stalled_by(found):
        found.pop("Reconciling", None)
        value = ConditionValue("True", cause.reason, cause.message)
        found["Stalled"] = _condition(xsvc, "Stalled", value, previous.get("Stalled"), now)
    return sorted(found.values(), key=lambda each: TYPES.index(each.type) if each.type in TYPES else len(TYPES))


def _condition(
    xsvc: ExternalService, type_: str, value: ConditionValue, previous: Condition | None, now: str
) -> Condition:
    since = previous.last_transition_time if previous and previous.status == value.status else None
    return Condition(
        type=type_,
        status=value.status,
        reason=value.reason,
        message=cut(value.message, MAX_MESSAGE_CHARACTERS),
        last_transition_time=since or now,
        observed_generation=xsvc.metadata.generation,
    )


def checked_at(spec: ExternalServiceSpec, endpoint: Endpoint | EndpointStatus) -> str:
    """The address and port that the checks of an endpoint go to: `203.0.113.11:80`."""
    return shown(endpoint.address, checked_port(spec, endpoint.port))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

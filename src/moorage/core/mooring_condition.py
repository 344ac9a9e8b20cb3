"""The condition Moored: whether clients are where their moorings say."""

from moorage.core import hints
from moorage.core.endpoints import listed
from moorage.core.model import Complaint
from moorage.core.readiness import family_of
from moorage.core.services import proxy_of
from moorage.core.view import View
from moorage.core.words import ConditionValue, client_noun, counted, several, without

_REFUSED = ("QuotaExceeded", "WriteRefused")
"""Reasons why Moorings are not written."""


def moored(view: View) -> ConditionValue:
    """Whether all clients are moored, and reach the endpoint that they are moored to."""
    if view.moored is None:
        message = "It is being decided who is moored to which endpoint; until then clients reach what they reached"
        return ConditionValue("Unknown", "Pending", f"{message} before.")
    note, mixed = _families(view)
    found = [*_uncarried(view), *view.moored.problems]
    if mixed:
        found.append(Complaint("FamilyMissing", note))
    if found:
        return ConditionValue("False", found[0].reason, several(each.message for each in found))
    if view.moored.pending:
        return ConditionValue("Unknown", "Pending", f"{view.moored.pending}.")
    count, used = sum(map(len, view.moored.at.values())), len(view.moored.at)
    if not count:
        return ConditionValue("True", "NoClients", f"There is no {client_noun(view.moored.kind)} to be moored yet.")
    are = "is" if count == 1 else "are"
    endpoints = f"{used} of {counted(len(view.endpoints), 'endpoint')}"
    clients = counted(count, client_noun(view.moored.kind))
    message = f"{clients} {are} moored to {endpoints}, carried by {_carrier(view)}"
    return ConditionValue("True", "Moored", several([message, note] if note else [message]) + ".")


def carries_nothing(view: View) -> bool:
    """Whether no client is moored, because nothing of that can be written."""
    found = view.moored
    return found is not None and not found.at and any(each.reason in _REFUSED for each in found.problems)


def _uncarried(view: View) -> list[Complaint]:
    """Why none of the moorings is carried."""
    assert view.moored is not None
    if view.unhinted:
        names = listed([each.metadata.name for each in view.unhinted])
        return [
            Complaint(
                "ForeignSlices",
                f"Clients go to any endpoint, wherever they are moored: others have given Service "
                f"{view.xsvc.metadata.key} a ready endpoint without a hint, in EndpointSlice {names}, so kube-proxy "
                f"ignores all hints: {without(view.xsvc, view.unhinted)}",
            )
        ]
    if proxy_of(view.xsvc) is None and hints.carried_kind(view.xsvc, view.moored) is None:
        return [
            Complaint(
                "NotCarried",
                f"kube-proxy cannot lead {client_noun(view.moored.kind)}s to where they are moored, so sessions hold "
                "clients, as with ClientIP; set spec.proxy to moorage, which needs the node agent",
            )
        ]
    return []


def _carrier(view: View) -> str:
    assert view.moored is not None
    if view.moored.kind == "Namespace":
        return "readiness"
    return "hints to kube-proxy" if proxy_of(view.xsvc) is None else "node agents"


def _families(view: View) -> tuple[str, bool]:
    """What clients meet who use an address of the Service in a family that their endpoint lacks; empty: there is no
    such. And whether that is an endpoint that they are not moored to."""
    here = {family_of(each.endpoint) for each in view.endpoints if each.ready}
    if len(view.families) < 2 or not here:
        return "", False
    only = listed([each.endpoint.name for each in view.endpoints if each.moorings])
    mixed = len(here) > 1
    others = "other endpoints" if mixed else "none"
    return (
        f"The Service has addresses of {' and '.join(view.families)}, and each endpoint has one: by the other "
        f"family, clients of {only} reach {others}; set spec.ipFamilyPolicy to SingleStack if that matters"
    ), mixed

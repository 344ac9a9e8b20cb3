"""Whether an ExternalService will reach what its spec says by itself: the conditions Stalled and Reconciling.

They exist only while they hold. kstatus (sigs.k8s.io/cli-utils/pkg/kstatus), which Flux and others use to judge
objects, reads Stalled as Failed and Reconciling as InProgress; without them Ready decides. They are for tools: the
other conditions have the same information.
"""

from collections.abc import Mapping

from moorage.api.meta import Condition
from moorage.core.view import SourceRow, View

TYPES = ("Reconciling", "Stalled")

OF_THE_SPEC = frozenset({"Invalid", "InvalidCheck"})
"""Reasons of Resolved that only an edit of the ExternalService ends. The others end when a source or a Secret
changes. These are watched or asked again, so if they are deployed together with the ExternalService, it need not be
touched."""
NOT_READY = frozenset({"NameTaken", "ForeignSlices", "Withheld", "WriteRefused", "Suspended"})
"""Reasons why Ready is not True that only a person ends."""


def stalled_by(found: Mapping[str, Condition]) -> Condition | None:
    """The condition that says that nothing will change until a person acts; None if there is none."""
    if (accepted := found.get("Accepted")) and accepted.status == "False":
        return accepted
    if (resolved := found.get("Resolved")) and (resolved.reason in OF_THE_SPEC or resolved.reason == "NoSources"):
        return resolved
    if (ready := found.get("Ready")) and ready.status != "True" and ready.reason in NOT_READY:
        return ready
    return None


def awaited(view: View) -> SourceRow | None:
    """A source that has never answered, so that none of its endpoints is in use.

    A failing source whose last endpoints are in use does not count: its clients are still served.
    """
    return next((each for each in view.sources if each.found is None and not each.kept), None)

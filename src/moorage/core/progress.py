"""Whether an ExternalService will come by itself to what its spec says: the conditions Stalled and Reconciling.

They are there only while they hold. kstatus (sigs.k8s.io/cli-utils/pkg/kstatus), by which Flux and others judge
objects, takes Stalled for Failed and Reconciling for InProgress; without them Ready decides. They are for tools: what
they say is in the other conditions, too.
"""

from collections.abc import Mapping

from moorage.api.meta import Condition
from moorage.core.view import SourceRow, View

TYPES = ("Reconciling", "Stalled")

OF_THE_SPEC = frozenset({"Invalid", "InvalidCheck"})
"""Reasons of Resolved that only an edit of the ExternalService ends. The others end with a source, or with a Secret,
which are watched or asked again: whoever deploys them together with it need not touch it."""
NOT_READY = frozenset({"NameTaken", "ForeignSlices", "Withheld", "WriteRefused", "Suspended"})
"""Reasons why Ready is not True that only a person ends."""


def stalled_by(found: Mapping[str, Condition]) -> Condition | None:
    """Which of the conditions, by type, says that nothing gets on until a person acts; None: none does."""
    if (accepted := found.get("Accepted")) and accepted.status == "False":
        return accepted
    if (resolved := found.get("Resolved")) and (resolved.reason in OF_THE_SPEC or resolved.reason == "NoSources"):
        return resolved
    if (ready := found.get("Ready")) and ready.status != "True" and ready.reason in NOT_READY:
        return ready
    return None


def awaited(view: View) -> SourceRow | None:
    """A source of which nothing is in use yet, because it has never answered.

    One whose last endpoints are in use is not waited for: its clients are served, as before it failed.
    """
    return next((each for each in view.sources if each.found is None and not each.kept), None)

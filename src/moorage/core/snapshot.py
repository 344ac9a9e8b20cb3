"""Everything that a decision is made from, as one value: about one ExternalService, and about one group."""

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core.endpoints import Merged, Refusing, merge
from moorage.core.model import Problem, Resolution, Verdict
from moorage.core.mooring_model import GRACE_SECONDS, ClientKey, Member, Moored
from moorage.core.roster import Roster


class Snapshot(NamedTuple):
    """The objects and what is known about them, at one moment.

    To find out what a change would do, replace fields (`_replace`), call `merge` if they are among its inputs, and
    decide from the result.
    """

    xsvc: ExternalService
    """With the status that was written last. If the present spec cannot be read, with the last readable one."""
    resolutions: Sequence[Resolution]
    """One for each source in the spec; fewer if some have not been asked yet."""
    gate: Refusing
    now: str
    """RFC 3339."""
    slices: Sequence[EndpointSlice] = ()
    """All slices that belong to the Service of this name, by label, or to `xsvc`, by owner."""
    service: Service | None = None
    """The Service of the same name, whoever owns it."""
    merged: Merged = Merged(())
    """The endpoints; see `merge`. They must be known before they can be checked."""
    verdicts: Mapping[str, Verdict] = MappingProxyType({})
    """By the endpoint's name."""
    check_problem: Problem | None = None
    """Why the endpoints cannot be checked."""
    unreadable: str | None = None
    """Why the present spec cannot be read."""
    moored: Moored | None = None
    """Where the clients of its group are; None: that has not been decided yet, or there are no moorings."""

    def merge(self) -> "Snapshot":
        """The same with `merged` made from the ExternalService, resolutions, gate and slices."""
        return self._replace(merged=merge(self.xsvc, self.resolutions, self.gate, self.slices))


class GroupSnapshot(NamedTuple):
    """All that a decision about one group is made from."""

    key: ObjectKey
    """Namespace and name of the group."""
    members: Sequence[Member]
    """Whoever names this group, counting or not."""
    roster: Roster
    """Who is present, and all Moorings of the group."""
    expected: Container[ClientKey]
    """Whoever is not present and has a mooring to come back to; see `Clients`."""
    absent: Mapping[ClientKey, str]
    """Since when (RFC 3339) clients that have a mooring are neither present nor expected."""
    now: str
    """RFC 3339."""
    past: Sequence[Mooring] = ()
    """Those of groups that members were in before (`Member.previous_group`): their clients keep their endpoints."""
    grace_seconds: float = GRACE_SECONDS
    """How long a client may be absent until its Mooring is deleted."""

"""Everything that a decision about one ExternalService is made from, as one value."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.endpoints import Merged, Refusing, merge
from moorage.core.model import Problem, Resolution, Verdict
from moorage.core.mooring_model import Moored


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

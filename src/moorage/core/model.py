"""The plain data that sources, health, decisions and writes exchange."""

from typing import Any, Literal, NamedTuple

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalServiceStatus
from moorage.api.moorings_v1alpha1 import Mooring

Health = Literal["Healthy", "Unhealthy", "Unknown", "Unchecked"]


class Found(NamedTuple):
    """An endpoint as a source found it."""

    name: str
    """Stable, a DNS label: the same instance has the same name when its address changes."""
    address: str
    """In canonical spelling (`api.addresses.canonical`); the gate has not admitted it yet."""
    port: int | None = None
    """None: the targetPort of each port."""
    weight: int = 1
    priority: int = 0
    """As in SRV records (RFC 2782): a lower number is preferred."""
    leaving: bool = False
    """It is being deleted at its source: it keeps its clients while it serves, and takes no new ones."""
    zone: str = ""
    """Which zone of this cluster it is near, as a node's label says it; empty: none."""


class Problem(NamedTuple):
    """Why a source has no current answer."""

    reason: str
    """One CamelCase word, for a condition."""
    message: str
    """A sentence that names the object and the field, and says what to do."""
    since: str
    """RFC 3339: when the source last had a current answer, or when it was first asked."""


class Resolution(NamedTuple):
    """What one source of an ExternalService (`spec.endpoints[i]`) knows."""

    source: str
    """For people: `addresses`, `dns/db.example.com`, `cluster/backend`."""
    endpoints: tuple[Found, ...] | None
    """The last good answer; None: there has been none yet, so no endpoint may be removed for its sake."""
    problem: Problem | None = None
    """None: `endpoints` is current."""
    notes: tuple[str, ...] = ()
    """Things to know that are no failure: "Service backend/b3 has no load-balancer address yet"."""


class Endpoint(NamedTuple):
    """An endpoint, merged from all sources and admitted by the gate."""

    name: str
    address: str
    source: str
    port: int | None = None
    weight: int = 1
    priority: int = 0
    leaving: bool = False
    zone: str = ""


class Verdict(NamedTuple):
    """The result of the checks of one endpoint."""

    health: Health
    since: str | None = None
    """RFC 3339: when `health` last changed."""
    message: str | None = None
    """Why the last check failed."""
    turning: bool = False
    """Whether the last check contradicts `health`: a healthy endpoint failed it, or an unhealthy one passed it; or
    whether the failures of an unhealthy one are not to be believed yet."""
    resumed: bool = False
    """Whether it is `Healthy` by what the status says, and has not passed a check since that was read."""


class Complaint(NamedTuple):
    """Something in the spec that is not done."""

    reason: str
    """One CamelCase word, for a condition."""
    message: str
    """A sentence that names the field, and says what to do."""
    source: str | None = None
    endpoint: str | None = None
    """The endpoint's name. Source, endpoint and address identify the complaint, whatever its message says."""
    address: str | None = None


class Create(NamedTuple):
    """POST: fails if the object exists."""

    obj: Service | EndpointSlice | Mooring


class Patch(NamedTuple):
    """A merge patch (RFC 7386). `body` has uid and resourceVersion, so it fails if the object has changed."""

    kind: type[Service] | type[EndpointSlice] | type[Mooring]
    namespace: str
    name: str
    body: dict[str, Any]


class Delete(NamedTuple):
    kind: type[Service] | type[EndpointSlice] | type[Mooring]
    namespace: str
    name: str
    uid: str
    resource_version: str


Write = Create | Patch | Delete


class News(NamedTuple):
    """A future Kubernetes Event about the ExternalService."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Decision(NamedTuple):
    """What to do about one ExternalService, in this order."""

    writes: tuple[Write, ...]
    """To be made one after the other; the first failure ends the attempt."""
    status: ExternalServiceStatus
    """The status after all writes; equal to the present one if nothing has changed."""
    news: tuple[News, ...]
    """To be recorded once the status is written."""

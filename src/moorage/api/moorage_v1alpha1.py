"""`moorage.dev/v1alpha1`: ExternalService.

The CustomResourceDefinitions (`api.crds`) are made from these structs: description, default, limits and rules of a
field stand beside it; rules about several fields are in `external_rules`. Only the API server enforces limits and
rules, the structs do not: an object that an older schema let in must not make a whole list unreadable. Code that
reads an object must cope with it.

A field that is left out has the default of its struct. The API server stores the default, too, but not inside lists.
"""

from typing import Annotated

from msgspec import field

from moorage.api.core_v1 import SessionAffinityConfig as CoreSessionAffinityConfig
from moorage.api.meta import Condition, LabelSelector, Object, Resource
from moorage.api.schema import (
    LABEL,
    NAME,
    PORT,
    QUALIFIED_NAME,
    TIME,
    doc,
    list_map,
)
from moorage.api.sources_v1alpha1 import EndpointSource, HealthCheck

GROUP = "moorage.dev"
VERSION = "v1alpha1"

CLIENT_KINDS = ("Pod", "Workload", "Label", "Node", "Zone", "Namespace")
"""What counts as one client."""
KINDS_OF_PODS = ("Pod", "Workload", "Label")
"""Clients that are pods: a selector says which, and only node agents tell them apart."""
KINDS_OF_NODES = ("Node", "Zone")
"""Clients that are nodes: hints can name them, so kube-proxy tells them apart."""

MAX_SOURCES = 16
"""In one ExternalService."""


# --- ExternalService ----------------------------------------------------------------------------------------------


class ExternalServicePort(Resource, kw_only=True, frozen=True):
    """A port that clients connect to, and the endpoints' port behind it."""

    port: Annotated[int, doc("Port of the Service, which clients connect to.", **PORT)]
    name: Annotated[str | None, doc("Name of the port; needed where there are several.", LABEL, **NAME)] = None
    protocol: Annotated[str, doc("TCP or UDP.", enum=["TCP", "UDP"])] = "TCP"
    target_port: Annotated[int | None, doc("Port of the endpoints. Default: port.", **PORT)] = None
    app_protocol: Annotated[
        str | None,
        doc(
            "Kubernetes' own field of this name, passed on to Service and slices.",
            QUALIFIED_NAME,
            minLength=1,
            maxLength=317,
        ),
    ] = None


class MooringConfig(Resource, kw_only=True, frozen=True):
    """Details of Mooring."""

    client: Annotated[str, doc("What counts as one client.", enum=[*CLIENT_KINDS])] = "Pod"
    label: Annotated[
        str | None,
        doc(
            "With client Label: the label by whose value pods are told apart, such as example.com/tenant.",
            QUALIFIED_NAME,
            minLength=1,
            maxLength=317,
        ),
    ] = None
    pod_selector: Annotated[
        LabelSelector | None,
        doc("Which pods of this namespace are clients; needed with client Pod, Workload and Label."),
    ] = None
    on_recovery: Annotated[
        str,
        doc("Whether clients return to an endpoint that is healthy again.", enum=["Stay", "Return"]),
    ] = "Stay"
    while_pending: Annotated[
        str,
        doc(
            "What becomes of a new client's first connections until its mooring is known: held, or led by a hash.",
            enum=["Hold", "Hash"],
        ),
    ] = "Hold"


class SessionAffinityConfig(CoreSessionAffinityConfig, kw_only=True, frozen=True):
    """Details of sessionAffinity; not with None."""

    mooring: Annotated[MooringConfig | None, doc("For sessionAffinity Mooring.")] = None


class Drain(Resource, kw_only=True, frozen=True):
    """An endpoint that is taken out of use: it gets no new connections and keeps those that it has."""

    endpoint: Annotated[str, doc("Name of the endpoint.", LABEL, **NAME)]
    before: Annotated[
        str | None, doc("Time by which the last client has been moved.", TIME, minLength=1, maxLength=40)
    ] = None


class ExternalServiceSpec(Resource, kw_only=True, frozen=True):
    """What is wanted."""

    ports: Annotated[
        list[ExternalServicePort],
        doc("Ports of the Service.", required=True, minItems=1, maxItems=100),
    ] = field(default_factory=list)
    endpoints: Annotated[
        list[EndpointSource] | None,
        doc("Sources of endpoints, any mix. Absent or empty: the Service has no endpoints.", maxItems=MAX_SOURCES),
    ] = None
    health_check: Annotated[
        HealthCheck | None, doc("How endpoints are checked. Absent: they are not, and all are ready.")
    ] = None
    session_affinity: Annotated[
        str,
        doc(
            "None: any endpoint. ClientIP: a client address keeps its endpoint, as in a Service. Mooring: a client "
            "identity keeps it, as sessionAffinityConfig.mooring says.",
            enum=["None", "ClientIP", "Mooring"],
        ),
    ] = "None"
    session_affinity_config: Annotated[SessionAffinityConfig | None, doc("Details of sessionAffinity.")] = None
    proxy: Annotated[
        str,
        doc(
            "Who carries the packets: kube-proxy needs nothing on the nodes; moorage needs the node agent.",
            enum=["kube-proxy", "moorage"],
        ),
    ] = "kube-proxy"
    group: Annotated[
        str | None,
        doc("ExternalServices of a namespace with the same group share moorings. Default: the name.", LABEL, **NAME),
    ] = None
    traffic_distribution: Annotated[
        str | None,
        doc(
            "Kubernetes' own field of this name, passed on to the Service. PreferSameZone: clients use endpoints of "
            "their own zone, if every ready endpoint has one. Not with Mooring.",
            enum=["PreferSameZone"],
        ),
    ] = None
    ip_family_policy: Annotated[
        str | None,
        doc(
            "Kubernetes' own field of this name, passed on to the Service.",
            enum=["SingleStack", "PreferDualStack", "RequireDualStack"],
        ),
    ] = None
    ip_families: Annotated[
        list[Annotated[str, doc("IPv4 or IPv6.", enum=["IPv4", "IPv6"])]] | None,
        doc("Kubernetes' own field of this name, passed on to the Service.", maxItems=2),
    ] = None
    suspend: Annotated[bool, doc("True: the operator leaves everything as it is.")] = False
    drain: Annotated[
        list[Drain] | None, doc("Endpoints to take out of use.", maxItems=1000, **list_map("endpoint"))
    ] = None


class EndpointStatus(Resource, kw_only=True, frozen=True):
    """An endpoint that is in use."""

    name: Annotated[str, doc("Stable name.")]
    address: Annotated[str, doc("IP address.")]
    source: Annotated[str, doc("The source that found it, such as addresses, dns/db.example.com or cluster/backend.")]
    health: Annotated[
        str,
        doc(
            "What the checks say. Unknown: not checked yet. Unchecked: no health check.",
            enum=["Healthy", "Unhealthy", "Unknown", "Unchecked"],
        ),
    ]
    ready: Annotated[bool, doc("Whether new connections are sent to it.")]
    since: Annotated[str | None, doc("When health last changed.")] = None
    port: Annotated[int | None, doc("Port of the endpoint, where it is not targetPort.")] = None
    message: Annotated[str | None, doc("Why it is not healthy, or not ready.")] = None
    weight: Annotated[int | None, doc("Share of new clients, where it is not 1.")] = None
    priority: Annotated[
        int | None, doc("As of SRV: endpoints of a higher number stand by while one of a lower is healthy.")
    ] = None
    leaving: Annotated[
        bool | None, doc("Whether it is being taken down where it was found, and takes no new connections for that.")
    ] = None
    zone: Annotated[str | None, doc("The zone of this cluster that is nearest.")] = None
    drained_since: Annotated[str | None, doc("When it was first seen in spec.drain.")] = None
    moorings: Annotated[int | None, doc("How many clients are moored to it.")] = None


class ProblemStatus(Resource, kw_only=True, frozen=True):
    """A source without a current answer, or something that the spec asks for and that is not done."""

    reason: Annotated[
        str, doc("One word, such as LookupFailed or AddressRefused, as in the conditions Resolved and Accepted.")
    ]
    message: Annotated[str, doc("What is wrong, and what to do.")]
    since: Annotated[str | None, doc("When it began.")] = None
    source: Annotated[str | None, doc("The source that it is about, or that found the endpoint.")] = None
    endpoint: Annotated[str | None, doc("Name of the endpoint that it is about.")] = None
    address: Annotated[str | None, doc("IP address of that endpoint.")] = None


class ExternalServiceStatus(Resource, kw_only=True, frozen=True):
    """What the operator has found and done."""

    observed_generation: Annotated[int | None, doc("The generation of the spec that this status is of.")] = None
    conditions: Annotated[
        list[Condition] | None,
        doc(
            "Accepted, Resolved, Healthy and Ready; Moored with moorings; Reconciling and Stalled while they hold.",
            **list_map("type"),
        ),
    ] = None
    endpoints: Annotated[list[EndpointStatus] | None, doc("Each endpoint.", **list_map("name"))] = None
    healthy: Annotated[str | None, doc("How many endpoints are healthy of how many, such as 2/3.")] = None
    problems: Annotated[
        list[ProblemStatus] | None,
        doc("What keeps Accepted and Resolved from being true, and what else is not used; the first 100."),
    ] = None


PENDING = {
    "conditions": [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "The operator has not looked at this ExternalService yet; does it run?",
        }
    ]
}
"""The status until the operator writes one: it costs no write, and tells kstatus that the object is not Current."""


class ExternalService(Object, kw_only=True, frozen=True):
    """A service outside the cluster: its endpoints are found, checked, and kept in a Service of the same name."""

    spec: Annotated[ExternalServiceSpec, doc("What is wanted.", required=True)] = ExternalServiceSpec()
    status: Annotated[ExternalServiceStatus, doc("What the operator has found and done.", default=PENDING)] = (
        ExternalServiceStatus()
    )

"""`moorage.dev/v1alpha1`: ExternalService and Mooring.

The structs are the one source of the CustomResourceDefinitions (`api.crds`): a field's description, default and
limits stand beside it. The limits are for the schema only, the structs do not enforce them: an object that an older
schema let in must not make a whole list unreadable. Whoever reads an object decides what to make of it.
"""

from typing import Annotated, Any

from msgspec import Meta, field

from moorage.api.core_v1 import SessionAffinityConfig as CoreSessionAffinityConfig
from moorage.api.meta import Condition, LabelSelector, Object, Resource

GROUP = "moorage.dev"
VERSION = "v1alpha1"


def doc(description: str, **schema: Any) -> Meta:
    """What the schema says of a field: its description, and any other keywords of OpenAPI v3."""
    return Meta(description=description, extra_json_schema=schema or None)


_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_DNS_NAME = r"^[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9])?(\.[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9])?)*\.?$"
_PORT = {"minimum": 1, "maximum": 65535}


# --- where endpoints come from ------------------------------------------------------------------------------------


class SecretKeyReference(Resource, kw_only=True, frozen=True):
    """One key of a Secret in the ExternalService's own namespace, which must have granted the operator to read it."""

    name: Annotated[
        str, doc("Name of the Secret, in this namespace.", minLength=1, maxLength=253, pattern=_SUBDOMAIN)
    ]
    key: Annotated[str, doc("Key in the Secret's data.", minLength=1, maxLength=253)]


class StaticAddress(Resource, kw_only=True, frozen=True):
    address: Annotated[str, doc("IPv4 or IPv6 address, outside this cluster.", minLength=2, maxLength=45)]
    name: Annotated[
        str | None,
        doc(
            "Stable name of the endpoint, a DNS label: an endpoint whose address changes under the same name keeps "
            "its clients. Default: the address with dashes.",
            minLength=1,
            maxLength=63,
            pattern=_LABEL,
        ),
    ] = None
    port: Annotated[
        int | None, doc("Port of this endpoint in place of targetPort; only where spec.ports has one port.", **_PORT)
    ] = None
    weight: Annotated[
        int | None,
        doc(
            "Share of new clients relative to the other endpoints; default 1. Heeded with proxy moorage only.",
            minimum=1,
            maximum=256,
        ),
    ] = None


class DnsSource(Resource, kw_only=True, frozen=True):
    name: Annotated[str, doc("Name to look up.", minLength=1, maxLength=253, pattern=_DNS_NAME)]
    type: Annotated[
        str,
        doc(
            "A or AAAA: each address is an endpoint, named by itself. SRV: each target is an endpoint, named by the "
            "target, with the record's port, priority and weight.",
            enum=["A", "AAAA", "SRV"],
        ),
    ] = "A"


class ClusterSource(Resource, kw_only=True, frozen=True):
    """The LoadBalancer Services of another cluster: each is one endpoint, named by the Service."""

    kubeconfig_secret_ref: Annotated[
        SecretKeyReference,
        doc(
            "Kubeconfig of the other cluster. Only inline data and a token are read: no exec, auth-provider, "
            "proxy-url or file."
        ),
    ]
    namespace: Annotated[str, doc("Namespace in the other cluster.", minLength=1, maxLength=63, pattern=_LABEL)]
    selector: Annotated[LabelSelector, doc("Which LoadBalancer Services of that namespace; empty: all of them.")] = (
        LabelSelector()
    )


class EndpointSource(Resource, kw_only=True, frozen=True):
    """Exactly one of its fields."""

    addresses: Annotated[list[StaticAddress] | None, doc("Endpoints written by hand.", minItems=1, maxItems=1000)] = (
        None
    )
    dns: Annotated[DnsSource | None, doc("Endpoints that a DNS name has.")] = None
    cluster: Annotated[ClusterSource | None, doc("LoadBalancer Services of another cluster.")] = None


# --- health -------------------------------------------------------------------------------------------------------


class TlsCheck(Resource, kw_only=True, frozen=True):
    server_name: Annotated[
        str | None,
        doc(
            "Name sent as SNI and expected in the certificate. Default: http.host without its port, else the "
            "endpoint's address.",
            minLength=1,
            maxLength=253,
        ),
    ] = None
    ca_secret_ref: Annotated[
        SecretKeyReference | None, doc("PEM certificates to trust instead of the operator's own.")
    ] = None
    insecure_skip_verify: Annotated[bool, doc("Take any certificate.")] = False


class HttpCheck(Resource, kw_only=True, frozen=True):
    path: Annotated[
        str, doc("Path, and query, of the GET request.", minLength=1, maxLength=2048, pattern=r"^/[\x21-\x7e]*$")
    ] = "/"
    host: Annotated[str | None, doc("Host header. Default: the endpoint's address.", minLength=1, maxLength=261)] = (
        None
    )
    expected_statuses: Annotated[
        list[str] | None,
        doc(
            'Statuses, and ranges of them, that count as healthy, such as "200" and "200-399", which is the default. '
            "Redirects are not followed.",
            minItems=1,
            maxItems=20,
        ),
    ] = None
    tls: Annotated[TlsCheck | None, doc("Present, also when empty: HTTPS.")] = None


class TcpCheck(Resource, kw_only=True, frozen=True):
    """A connection that is opened and reset."""


class HealthCheck(Resource, kw_only=True, frozen=True):
    """Neither tcp nor http: tcp."""

    tcp: Annotated[TcpCheck | None, doc("Healthy when a TCP connection can be opened.")] = None
    http: Annotated[HttpCheck | None, doc("Healthy when a GET is answered with an expected status.")] = None
    port: Annotated[int | None, doc("Port to check. Default: the endpoint's own, of the first port.", **_PORT)] = None
    interval_seconds: Annotated[int, doc("Time between two checks of an endpoint.", minimum=1, maximum=3600)] = 2
    timeout_seconds: Annotated[
        int, doc("Time after which a check has failed; at most intervalSeconds.", minimum=1, maximum=300)
    ] = 1
    fall: Annotated[int, doc("Failed checks in a row that make it unhealthy.", minimum=1, maximum=100)] = 3
    rise: Annotated[int, doc("Successful checks in a row that make it healthy again.", minimum=1, maximum=100)] = 2
    panic_threshold_percent: Annotated[
        int,
        doc(
            "At or below this share of healthy endpoints the last verdicts are kept: the checks are doubted rather "
            "than all endpoints. 0: only when none is healthy.",
            minimum=0,
            maximum=100,
        ),
    ] = 0


# --- ExternalService ----------------------------------------------------------------------------------------------


class ExternalServicePort(Resource, kw_only=True, frozen=True):
    port: Annotated[int, doc("Port of the Service, which clients connect to.", **_PORT)]
    name: Annotated[
        str | None,
        doc(
            "Name of the port; needed where there are several.",
            minLength=1,
            maxLength=63,
            pattern=_LABEL,
        ),
    ] = None
    protocol: Annotated[str, doc("TCP or UDP.", enum=["TCP", "UDP"])] = "TCP"
    target_port: Annotated[int | None, doc("Port of the endpoints. Default: port.", **_PORT)] = None
    app_protocol: Annotated[
        str | None, doc("Kubernetes' own field of this name, passed on to Service and slices.", maxLength=253)
    ] = None


class MooringConfig(Resource, kw_only=True, frozen=True):
    client: Annotated[str, doc("What counts as one client.", enum=["Pod", "Workload", "Node", "Namespace"])] = "Pod"
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
    mooring: Annotated[MooringConfig | None, doc("For sessionAffinity Mooring.")] = None


class Drain(Resource, kw_only=True, frozen=True):
    endpoint: Annotated[
        str, doc("Name of the endpoint that takes no new clients.", minLength=1, maxLength=63, pattern=_LABEL)
    ]
    before: Annotated[str | None, doc("Time by which the last client has been moved.", format="date-time")] = None


class ExternalServiceSpec(Resource, kw_only=True, frozen=True):
    ports: Annotated[list[ExternalServicePort], doc("Ports of the Service.", minItems=1, maxItems=100)] = field(
        default_factory=list
    )
    endpoints: Annotated[
        list[EndpointSource] | None,
        doc("Sources of endpoints, any mix. None: the Service has no endpoints.", maxItems=100),
    ] = None
    health_check: Annotated[
        HealthCheck | None, doc("How endpoints are checked. Absent: they are not, and all are ready.")
    ] = None
    session_affinity: Annotated[
        str,
        doc(
            "None: any endpoint. ClientIP: a client address keeps its endpoint, as in a Service. Mooring: a client "
            "identity keeps it; needs proxy moorage.",
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
        doc(
            "ExternalServices of a namespace with the same group share moorings. Default: the name.",
            minLength=1,
            maxLength=63,
            pattern=_LABEL,
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
        list[str] | None, doc("Kubernetes' own field of this name, passed on to the Service.", maxItems=2)
    ] = None
    suspend: Annotated[bool, doc("True: the operator leaves everything as it is.")] = False
    drain: Annotated[list[Drain] | None, doc("Endpoints to take out of use.", maxItems=1000)] = None


class EndpointStatus(Resource, kw_only=True, frozen=True):
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
    since: Annotated[str | None, doc("When health last changed.", format="date-time")] = None
    port: Annotated[int | None, doc("Port of the endpoint, where it is not targetPort.")] = None
    message: Annotated[str | None, doc("Why it is not healthy, or not ready.")] = None
    weight: Annotated[int | None, doc("Share of new clients, where it is not 1.")] = None
    priority: Annotated[
        int | None, doc("As of SRV: endpoints of a higher number stand by while one of a lower is healthy.")
    ] = None


class ExternalServiceStatus(Resource, kw_only=True, frozen=True):
    observed_generation: Annotated[int | None, doc("The generation of the spec that this status is of.")] = None
    conditions: Annotated[
        list[Condition] | None,
        doc("Accepted, Resolved, Healthy and Ready."),
    ] = None
    endpoints: Annotated[list[EndpointStatus] | None, doc("Each endpoint, by name.")] = None
    healthy: Annotated[str | None, doc("How many endpoints are healthy of how many, such as 2/3.")] = None


class ExternalService(Object, kw_only=True, frozen=True):
    """A service outside the cluster: its endpoints are found, checked, and kept in a Service of the same name."""

    spec: ExternalServiceSpec = ExternalServiceSpec()
    status: ExternalServiceStatus = ExternalServiceStatus()


# --- Mooring ------------------------------------------------------------------------------------------------------


class MooringClient(Resource, kw_only=True, frozen=True):
    kind: Annotated[str, doc("What kind of client.", enum=["Pod", "Workload", "Node", "Namespace"])]
    name: Annotated[str, doc("Its name.", minLength=1, maxLength=253)]


class MooringSpec(Resource, kw_only=True, frozen=True):
    group: Annotated[str, doc("The group of ExternalServices.", minLength=1, maxLength=63, pattern=_LABEL)]
    client: Annotated[MooringClient, doc("Who is moored.")]
    endpoint: Annotated[
        str,
        doc("Name of the endpoint; edit it to move the client.", minLength=1, maxLength=63, pattern=_LABEL),
    ]


class MooringStatus(Resource, kw_only=True, frozen=True):
    since: Annotated[str | None, doc("When the client came to this endpoint.", format="date-time")] = None
    reason: Annotated[
        str | None, doc("Why it did.", enum=["Assigned", "FailedOver", "Drained", "Returned", "Moved"])
    ] = None
    previous: Annotated[str | None, doc("The endpoint before; empty where there was none.")] = None


class Mooring(Object, kw_only=True, frozen=True):
    """The assignment of one client to one endpoint of a group."""

    spec: MooringSpec
    status: MooringStatus = MooringStatus()

"""`moorage.dev/v1alpha1`: where the endpoints of an ExternalService come from, and how they are checked.

`moorage_v1alpha1` says how a struct becomes a schema.
"""

from typing import Annotated

from moorage.api.meta import LabelSelector, Resource
from moorage.api.schema import (
    ADDRESS,
    DNS_NAME,
    HOST,
    LABEL,
    LABEL_VALUE,
    NAME,
    NO_ADDRESS,
    PATH,
    PORT,
    SECRET_KEY,
    SERVER_NAME,
    STATUS,
    STATUS_ORDER,
    SUBDOMAIN,
    doc,
)

MAX_ADDRESSES = 128
"""In one source. The rules of the largest possible object must stay within the API server's budget for them."""


Zone = Annotated[
    str | None,
    doc(
        "The zone of this cluster that is nearest, as nodes have it in their label topology.kubernetes.io/zone.",
        LABEL_VALUE,
        minLength=1,
        maxLength=63,
    ),
]


class SecretKeyReference(Resource, kw_only=True, frozen=True):
    """One key of a Secret in the ExternalService's own namespace, which must have granted the operator to read it."""

    name: Annotated[str, doc("Name of the Secret, in this namespace.", SUBDOMAIN, minLength=1, maxLength=253)]
    key: Annotated[str, doc("Key in the Secret's data.", SECRET_KEY, minLength=1, maxLength=253)]


class StaticAddress(Resource, kw_only=True, frozen=True):
    """An endpoint written by hand."""

    address: Annotated[str, doc("IPv4 or IPv6 address, outside this cluster.", ADDRESS, minLength=2, maxLength=45)]
    name: Annotated[
        str | None,
        doc(
            "Stable name of the endpoint, a DNS label: an endpoint whose address changes under the same name keeps "
            "its clients. Default: the address with dashes.",
            LABEL,
            **NAME,
        ),
    ] = None
    port: Annotated[
        int | None, doc("Port of this endpoint in place of targetPort; only where spec.ports has one port.", **PORT)
    ] = None
    weight: Annotated[
        int | None,
        doc(
            "Share of new clients relative to the other endpoints; default 1. Heeded with moorings, and with proxy "
            "moorage.",
            minimum=1,
            maximum=256,
        ),
    ] = None
    zone: Zone = None


class DnsSource(Resource, kw_only=True, frozen=True):
    """A DNS name, looked up again when its answer expires: 1 second to 5 minutes later, as the answer says."""

    name: Annotated[
        str,
        doc(
            "Name to look up, as it stands: no search domain is added.",
            DNS_NAME,
            NO_ADDRESS,
            minLength=1,
            maxLength=253,
        ),
    ]
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
    namespace: Annotated[str, doc("Namespace in the other cluster.", LABEL, **NAME)]
    selector: Annotated[
        LabelSelector, doc("Which LoadBalancer Services of that namespace. Absent or empty: all of them.")
    ] = LabelSelector()
    zone: Zone = None


class EndpointSource(Resource, kw_only=True, frozen=True):
    """One source of endpoints: exactly one of addresses, dns and cluster."""

    addresses: Annotated[
        list[StaticAddress] | None, doc("Endpoints written by hand.", minItems=1, maxItems=MAX_ADDRESSES)
    ] = None
    dns: Annotated[DnsSource | None, doc("Endpoints that a DNS name has.")] = None
    cluster: Annotated[ClusterSource | None, doc("LoadBalancer Services of another cluster.")] = None


# --- health -------------------------------------------------------------------------------------------------------


class TlsCheck(Resource, kw_only=True, frozen=True):
    """How the endpoint's certificate is checked."""

    server_name: Annotated[
        str | None,
        doc(
            "Name sent as SNI and expected in the certificate. Default: http.host without its port, else the "
            "endpoint's address.",
            SERVER_NAME,
            minLength=1,
            maxLength=253,
        ),
    ] = None
    ca_secret_ref: Annotated[
        SecretKeyReference | None, doc("PEM certificates to trust instead of the operator's own.")
    ] = None
    insecure_skip_verify: Annotated[bool, doc("Take any certificate; not together with caSecretRef.")] = False


class HttpCheck(Resource, kw_only=True, frozen=True):
    """A GET request over HTTP, or over HTTPS where tls is given."""

    path: Annotated[str, doc("Path, and query, of the GET request.", PATH, minLength=1, maxLength=2048)] = "/"
    host: Annotated[
        str | None, doc("Host header. Default: the endpoint's address.", HOST, minLength=1, maxLength=261)
    ] = None
    expected_statuses: Annotated[
        list[Annotated[str, doc('Such as "200" or "200-399".', STATUS, STATUS_ORDER, minLength=3, maxLength=7)]]
        | None,
        doc(
            'Statuses, and ranges of them, that count as healthy, such as "200" and "200-399", which is the default. '
            "Redirects are not followed.",
            minItems=1,
            maxItems=20,
        ),
    ] = None
    tls: Annotated[TlsCheck | None, doc("Present, also when empty: HTTPS.")] = None


class TcpCheck(Resource, kw_only=True, frozen=True):
    """The connection is reset as soon as it is open."""


class HealthCheck(Resource, kw_only=True, frozen=True):
    """Active checks of every endpoint, by tcp or by http; by tcp where neither is given."""

    tcp: Annotated[TcpCheck | None, doc("Healthy when a TCP connection can be opened.")] = None
    http: Annotated[HttpCheck | None, doc("Healthy when a GET is answered with an expected status.")] = None
    port: Annotated[int | None, doc("Port to check. Default: the endpoint's own, of the first TCP port.", **PORT)] = (
        None
    )
    interval_seconds: Annotated[int, doc("Seconds between two checks of an endpoint.", minimum=1, maximum=3600)] = 2
    timeout_seconds: Annotated[
        int, doc("Seconds after which a check has failed; at most intervalSeconds.", minimum=1, maximum=300)
    ] = 1
    fall: Annotated[int, doc("Failed checks in a row that make it unhealthy.", minimum=1, maximum=100)] = 3
    rise: Annotated[int, doc("Successful checks in a row that make it healthy again.", minimum=1, maximum=100)] = 2
    panic_threshold_percent: Annotated[
        int,
        doc(
            "At or below this share of healthy endpoints, in percent, what was ready stays ready: the checks are "
            "doubted rather than all endpoints. 0: only when none is healthy.",
            minimum=0,
            maximum=100,
        ),
    ] = 0

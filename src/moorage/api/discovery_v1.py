"""`discovery.k8s.io/v1`: EndpointSlice."""

from moorage.api.core_v1 import LocalObjectReference
from moorage.api.meta import Object, Resource

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""The label by which a slice belongs to a Service of its namespace (KEP-752)."""
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
"""The label that says who looks after a slice: no other controller changes or deletes it (KEP-752)."""


class EndpointConditions(Resource, kw_only=True, frozen=True):
    """Each nil means: ready and serving unknown, to be taken as true; terminating unknown, taken as false."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForNode(Resource, kw_only=True, frozen=True):
    name: str


class ForZone(Resource, kw_only=True, frozen=True):
    name: str


class EndpointHints(Resource, kw_only=True, frozen=True):
    """Who should use an endpoint (KEP-2433, KEP-3015); `api.topology` says what kube-proxy makes of it."""

    for_nodes: list[ForNode] | None = None
    for_zones: list[ForZone] | None = None


class Endpoint(Resource, kw_only=True, frozen=True):
    addresses: list[str]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: LocalObjectReference | None = None
    hints: EndpointHints | None = None
    deprecated_topology: dict[str, str] | None = None


class EndpointPort(Resource, kw_only=True, frozen=True):
    """A nil name is the empty name; a nil port means all ports, which no proxy can carry, so it is skipped."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class EndpointSlice(Object, kw_only=True, frozen=True):
    address_type: str
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None

"""The core group `v1`, as far as Moorage uses it."""

from typing import Annotated

from msgspec import field

from moorage.api.meta import Object, Resource
from moorage.api.schema import doc


class Namespace(Object, kw_only=True, frozen=True):
    spec: dict[str, object] | None = None
    status: dict[str, object] | None = None


class LocalObjectReference(Resource, kw_only=True, frozen=True):
    api_version: str | None = None
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    field_path: str | None = None


# --- Service ---------------------------------------------------------------------------------------------------


class ServicePort(Resource, kw_only=True, frozen=True):
    name: str | None = None
    protocol: str = "TCP"
    port: int
    target_port: int | str | None = None
    node_port: int | None = None
    app_protocol: str | None = None


class ClientIPConfig(Resource, kw_only=True, frozen=True):
    """Settings of ClientIP."""

    timeout_seconds: Annotated[
        int | None,
        doc(
            "How long a client address without a new connection keeps its endpoint. Default: 10800.",
            minimum=1,
            maximum=86400,
        ),
    ] = None


class SessionAffinityConfig(Resource, kw_only=True, frozen=True):
    client_ip: Annotated[ClientIPConfig | None, doc("How long a client address keeps its endpoint.")] = field(
        default=None, name="clientIP"
    )


class ServiceSpec(Resource, kw_only=True, frozen=True):
    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    ports: list[ServicePort] | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    ip_families: list[str] | None = None
    ip_family_policy: str | None = None
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    external_name: str | None = None
    external_ips: list[str] | None = field(default=None, name="externalIPs")
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    allocate_load_balancer_node_ports: bool | None = None
    load_balancer_ip: str | None = field(default=None, name="loadBalancerIP")
    load_balancer_source_ranges: list[str] | None = None
    load_balancer_class: str | None = None
    health_check_node_port: int | None = None
    publish_not_ready_addresses: bool | None = None
    traffic_distribution: str | None = None

    @property
    def every_cluster_ip(self) -> list[str]:
        """As they are written; none for a headless Service, and none before they are allocated."""
        return [each for each in self.cluster_ips or [self.cluster_ip or ""] if each not in ("", "None")]


class LoadBalancerIngress(Resource, kw_only=True, frozen=True):
    ip: str | None = None
    hostname: str | None = None
    ip_mode: str | None = None
    ports: list[dict[str, object]] | None = None


class LoadBalancerStatus(Resource, kw_only=True, frozen=True):
    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(Resource, kw_only=True, frozen=True):
    load_balancer: LoadBalancerStatus | None = None
    conditions: list[dict[str, object]] | None = None


class Service(Object, kw_only=True, frozen=True):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


# --- Endpoints (deprecated since 1.33; read, never written) ------------------------------------------------------


class EndpointAddress(Resource, kw_only=True, frozen=True):
    ip: str
    hostname: str | None = None
    node_name: str | None = None
    target_ref: LocalObjectReference | None = None


class EndpointsPort(Resource, kw_only=True, frozen=True):
    name: str | None = None
    port: int
    protocol: str = "TCP"
    app_protocol: str | None = None


class EndpointSubset(Resource, kw_only=True, frozen=True):
    addresses: list[EndpointAddress] | None = None
    not_ready_addresses: list[EndpointAddress] | None = None
    ports: list[EndpointsPort] | None = None


class Endpoints(Object, kw_only=True, frozen=True):
    subsets: list[EndpointSubset] | None = None


# --- Pod, Node, Event --------------------------------------------------------------------------------------------


class EnvVar(Resource, kw_only=True, frozen=True):
    name: str
    value: str | None = None


class ContainerPort(Resource, kw_only=True, frozen=True):
    container_port: int
    name: str | None = None
    protocol: str = "TCP"


class Container(Resource, kw_only=True, frozen=True):
    name: str
    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[EnvVar] | None = None
    ports: list[ContainerPort] | None = None


class PodSpec(Resource, kw_only=True, frozen=True):
    containers: list[Container] = field(default_factory=list)
    node_name: str | None = None
    node_selector: dict[str, str] | None = None
    hostname: str | None = None
    subdomain: str | None = None
    host_network: bool | None = None
    termination_grace_period_seconds: int | None = None


class PodIP(Resource, kw_only=True, frozen=True):
    ip: str


class PodStatus(Resource, kw_only=True, frozen=True):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: list[PodIP] | None = field(default=None, name="podIPs")
    host_ip: str | None = field(default=None, name="hostIP")
    start_time: str | None = None
    conditions: list[dict[str, object]] | None = None
    container_statuses: list[dict[str, object]] | None = None

    @property
    def finished(self) -> bool:
        """Whether all its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")


class Pod(Object, kw_only=True, frozen=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeSpec(Resource, kw_only=True, frozen=True):
    pod_cidr: str | None = field(default=None, name="podCIDR")
    pod_cidrs: list[str] | None = field(default=None, name="podCIDRs")
    taints: list[dict[str, object]] | None = None
    unschedulable: bool | None = None


class NodeAddress(Resource, kw_only=True, frozen=True):
    type: str
    address: str


class NodeStatus(Resource, kw_only=True, frozen=True):
    addresses: list[NodeAddress] | None = None
    conditions: list[dict[str, object]] | None = None
    node_info: dict[str, object] | None = None


class Node(Object, kw_only=True, frozen=True):
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Secret(Object, kw_only=True, frozen=True):
    type: str | None = None
    data: dict[str, str] | None = None
    """Base64 (RFC 4648, 4)."""
    string_data: dict[str, str] | None = None
    immutable: bool | None = None


class Event(Object, kw_only=True, frozen=True):
    involved_object: LocalObjectReference = LocalObjectReference()
    reason: str | None = None
    message: str | None = None
    type: str | None = None
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    reporting_component: str | None = None
    source: dict[str, str] | None = None

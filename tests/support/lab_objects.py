"""Objects as a lab cluster's API server would list them, short to write."""

from moorage.api.apps_v1 import Deployment, DeploymentSpec, PodTemplate, StatefulSet, StatefulSetSpec
from moorage.api.core_v1 import (
    Container,
    ContainerPort,
    Node,
    NodeSpec,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage_lab.topology import ClusterPlan, plan

NOW = "2026-01-02T03:04:05Z"
APP = {"app": "web"}


def cluster(nodes: int = 2) -> ClusterPlan:
    """The plan of one cluster `a`, with IPv4 and IPv6."""
    return plan({"a": nodes}).clusters[0]


def template(image: str = "one", port: int = 8080) -> PodTemplate:
    """A pod template with the labels `APP` and one container whose port is named `http`."""
    ports = [ContainerPort(container_port=port, name="http")]
    return PodTemplate(
        metadata=ObjectMeta(labels=APP), spec=PodSpec(containers=[Container(name="c", image=image, ports=ports)])
    )


def deployment(replicas: int = 2, image: str = "one", name: str = "web") -> Deployment:
    meta = ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}", generation=1)
    spec = DeploymentSpec(replicas=replicas, selector=LabelSelector(match_labels=APP), template=template(image))
    return Deployment(metadata=meta, spec=spec)


def stateful_set(replicas: int = 2, image: str = "one", policy: str = "OrderedReady") -> StatefulSet:
    """The StatefulSet `web` of the Service `web`."""
    meta = ObjectMeta(name="web", namespace="ns", uid="uid-web", generation=1)
    spec = StatefulSetSpec(
        replicas=replicas,
        selector=LabelSelector(match_labels=APP),
        template=template(image),
        service_name="web",
        pod_management_policy=policy,
    )
    return StatefulSet(metadata=meta, spec=spec)


def pod(
    name: str,
    *addresses: str,
    ready: bool = True,
    leaving: bool = False,
    labels: dict[str, str] = APP,
    port: int = 8080,
    node: str | None = "node-1",
    created: str = NOW,
    phase: str = "Running",
) -> Pod:
    """A pod of namespace `ns`, with uid `uid-NAME`."""
    meta = ObjectMeta(
        name=name,
        namespace="ns",
        uid=f"uid-{name}",
        labels=labels,
        creation_timestamp=created,
        deletion_timestamp=NOW if leaving else None,
    )
    spec = PodSpec(containers=template(port=port).spec.containers, node_name=node)
    status = PodStatus(
        phase=phase,
        pod_ip=addresses[0] if addresses else None,
        pod_ips=[PodIP(ip=address) for address in addresses] or None,
        conditions=[{"type": "Ready", "status": "True" if ready else "False"}],
    )
    return Pod(metadata=meta, spec=spec, status=status)


def node(name: str, *, cordoned: bool | None = None, **labels: str) -> Node:
    """A node, with the label `kubernetes.io/hostname` and these."""
    meta = ObjectMeta(name=name, labels={"kubernetes.io/hostname": name, **labels})
    return Node(metadata=meta, spec=NodeSpec(unschedulable=cordoned))


def service(
    name: str = "web",
    *ports: ServicePort,
    families: tuple[str, ...] = ("IPv4",),
    type: str = "ClusterIP",
    cluster_ips: tuple[str, ...] = ("10.96.0.7",),
    publish: bool | None = None,
    labels: dict[str, str] | None = None,
    created: str = NOW,
    status: ServiceStatus = ServiceStatus(),  # noqa: B008 (immutable)
) -> Service:
    """A Service of namespace `ns` that selects `APP`; without ports, port 80 to the port named `http`."""
    spec = ServiceSpec(
        type=type,
        selector=APP,
        ports=list(ports) or [ServicePort(port=80, target_port="http")],
        cluster_ip=cluster_ips[0],
        cluster_ips=list(cluster_ips),
        ip_families=list(families),
        publish_not_ready_addresses=publish,
    )
    meta = ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}", labels=labels, creation_timestamp=created)
    return Service(metadata=meta, spec=spec, status=status)

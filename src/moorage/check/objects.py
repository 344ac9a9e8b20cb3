"""What objects of Kubernetes say, as facts. Pure. The structs have only the fields that are read here."""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import field
from prometheus_client.parser import text_string_to_metric_families

from moorage.api import meta
from moorage.api.core_v1 import Node
from moorage.api.meta import ObjectMeta, Resource
from moorage.check import facts
from moorage.check.facts import Cilium, Definition, Known, KubeProxy, Pod, Policy, Told
from moorage.cluster.errors import one_line

_MAX_WORDS_CHARACTERS = 300
"""Of what a pod's status says."""


class Container(Resource, kw_only=True, frozen=True):
    image: str = ""
    command: list[str] | None = None
    args: list[str] | None = None


class PodSpec(Resource, kw_only=True, frozen=True):
    node_name: str = ""
    containers: list[Container] = field(default_factory=list)


class Template(Resource, kw_only=True, frozen=True):
    spec: PodSpec = PodSpec()


class WorkloadSpec(Resource, kw_only=True, frozen=True):
    replicas: int = 1
    template: Template = Template()


class WorkloadStatus(Resource, kw_only=True, frozen=True):
    available_replicas: int = 0
    """Of a Deployment; the next two are of a DaemonSet."""
    desired_number_scheduled: int = 0
    number_ready: int = 0


class Workload(Resource, kw_only=True, frozen=True):
    """A Deployment or a DaemonSet."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def containers(self) -> list[Container]:
        return self.spec.template.spec.containers


class Waiting(Resource, kw_only=True, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerState(Resource, kw_only=True, frozen=True):
    waiting: Waiting | None = None
    running: dict[str, Any] | None = None
    terminated: Waiting | None = None


class ContainerStatus(Resource, kw_only=True, frozen=True):
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Resource, kw_only=True, frozen=True):
    pod_ip: str = field(default="", name="podIP")
    conditions: list[meta.Condition] = field(default_factory=list)
    container_statuses: list[ContainerStatus] = field(default_factory=list)


class PodObject(Resource, kw_only=True, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Pods(Resource, kw_only=True, frozen=True):
    items: list[PodObject] = field(default_factory=list)


class Nodes(Resource, kw_only=True, frozen=True):
    items: list[Node] = field(default_factory=list)


class Items(Resource, kw_only=True, frozen=True):
    """A list of which only the length matters."""

    items: list[dict[str, Any]] = field(default_factory=list)


class ConfigMap(Resource, kw_only=True, frozen=True):
    data: dict[str, str] = field(default_factory=dict)


class Schema(Resource, kw_only=True, frozen=True):
    schema: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    served: bool = False


class DefinitionSpec(Resource, kw_only=True, frozen=True):
    versions: list[Schema] = field(default_factory=list)


class Conditions(Resource, kw_only=True, frozen=True):
    conditions: list[meta.Condition] = field(default_factory=list)


class DefinitionObject(Resource, kw_only=True, frozen=True):
    spec: DefinitionSpec = DefinitionSpec()
    status: Conditions = Conditions()


class PolicySpec(Resource, kw_only=True, frozen=True):
    failure_policy: str = "Fail"
    """Of a policy; the other two are of a binding."""
    policy_name: str = ""
    validation_actions: list[str] = field(default_factory=list)


class PolicyObject(Resource, kw_only=True, frozen=True):
    spec: PolicySpec = PolicySpec()


class Version(Resource, kw_only=True, frozen=True):
    git_version: str


class GroupVersion(Resource, kw_only=True, frozen=True):
    group_version: str


class Group(Resource, kw_only=True, frozen=True):
    versions: list[GroupVersion] = field(default_factory=list)


class Groups(Resource, kw_only=True, frozen=True):
    groups: list[Group] = field(default_factory=list)


class ReviewStatus(Resource, kw_only=True, frozen=True):
    allowed: bool = False


class Review(Resource, kw_only=True, frozen=True):
    status: ReviewStatus = ReviewStatus()


def definition(found: DefinitionObject) -> Definition:
    """A CustomResourceDefinition."""
    served = (version for version in found.spec.versions if version.served)
    return Definition(
        _holds("Established", found.status.conditions),
        {version.name: version.schema.get("openAPIV3Schema", {}) for version in served},
    )


def pod(found: PodObject) -> Pod:
    """A pod of one container."""
    statuses = found.status.container_statuses
    return Pod(
        found.metadata.name,
        found.spec.node_name,
        _holds("Ready", found.status.conditions) and found.metadata.deletion_timestamp is None,
        any(status.state.running is not None for status in statuses),
        one_line(_trouble(found))[:_MAX_WORDS_CHARACTERS],
    )


def policy(found: PolicyObject, binding: PolicyObject | None, name: str) -> Policy:
    """A policy of this name and its binding."""
    bound = binding.spec if binding is not None and binding.spec.policy_name == name else None
    return Policy(found.spec.failure_policy == "Fail", bound is not None and "Deny" in bound.validation_actions)


def workload(found: Workload, pods: Known[tuple[Pod, ...]], *, of_nodes: bool) -> facts.Workload:
    """A DaemonSet, if it is `of_nodes`, or a Deployment."""
    status = found.status
    wanted = status.desired_number_scheduled if of_nodes else found.spec.replicas
    ready = status.number_ready if of_nodes else status.available_replicas
    return facts.Workload(wanted, ready, tuple(each.image for each in found.containers), pods)


def kube_proxy(workload: Workload | None, configs: Iterable[ConfigMap], static: bool) -> KubeProxy | None:
    """kube-proxy, from its DaemonSet and its ConfigMaps. `static`: it has pods without a DaemonSet.

    An option of the command line wins over the file (cmd/kube-proxy/app).
    """
    if workload is None:
        return KubeProxy("") if static else None
    words = [word for each in workload.containers for word in [*(each.command or ()), *(each.args or ())]]
    options = re.findall(r"--proxy-mode[= ](\w+)", " ".join(words))
    texts = (text for config in configs for text in config.data.values())
    written = [mode for text in texts for mode in re.findall(r"^mode: *[\"']?(\w+)", text, re.MULTILINE)]
    return KubeProxy([*options, *written, ""][0])


def cilium(config: ConfigMap | None) -> Cilium:
    """Cilium, from its ConfigMap (Documentation/network/kubernetes/kubeproxy-free: before 1.14 it said "strict")."""
    replacement = config.data.get("kube-proxy-replacement", "false") if config else "false"
    return Cilium(replacement.lower() in ("true", "strict"))


def told(text: str) -> Told:
    """The metrics of a node agent, which are Prometheus' text. Raises ValueError for text that is none.

    An agent of an older version does not have all of them.
    """
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    info = next((each.labels for each in samples if each.name == "moorage_node_info"), {})
    values = {each.name.removeprefix("moorage_node_"): each.value for each in samples if not each.labels}
    if "behind_seconds" not in values:
        raise ValueError("it has no metrics of a node agent")
    return Told(
        info.get("version", ""),
        info.get("nft", ""),
        bool(values.get("learns_ipv6", 1)),
        bool(values.get("tcp_loose", 1)),
        values["behind_seconds"],
        int(values.get("refused_ports", 0)),
        int(values.get("warnings", 0)),
    )


def _trouble(found: PodObject) -> str:
    for condition in found.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason
    for status in found.status.container_statuses:
        state = status.state.waiting or status.state.terminated
        if state is None:
            continue
        ended = status.state.terminated or status.last_state.terminated
        words = ((ended and ended.message) or state.message).strip().splitlines()
        return f"{state.reason}: {words[-1]}" if words else state.reason
    return ""


def _holds(type_: str, conditions: Iterable[meta.Condition]) -> bool:
    return any(each.type == type_ and each.status == "True" for each in conditions)

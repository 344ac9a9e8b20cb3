"""`apps/v1`: Deployment, ReplicaSet and StatefulSet, as far as the lab plays them."""

from moorage.api.core_v1 import PodSpec
from moorage.api.meta import LabelSelector, Object, ObjectMeta, Resource


class PodTemplate(Resource, kw_only=True, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class DeploymentSpec(Resource, kw_only=True, frozen=True):
    replicas: int | None = None
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    strategy: dict[str, object] | None = None
    """Deployments only."""
    min_ready_seconds: int | None = None
    revision_history_limit: int | None = None
    progress_deadline_seconds: int | None = None
    paused: bool | None = None


class DeploymentStatus(Resource, kw_only=True, frozen=True):
    observed_generation: int | None = None
    replicas: int | None = None
    updated_replicas: int | None = None
    ready_replicas: int | None = None
    available_replicas: int | None = None
    unavailable_replicas: int | None = None
    conditions: list[dict[str, object]] | None = None


class Deployment(Object, kw_only=True, frozen=True):
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class ReplicaSet(Object, kw_only=True, frozen=True):
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class StatefulSetOrdinals(Resource, kw_only=True, frozen=True):
    start: int | None = None
    """Of the first pod (KEP-3335); None: 0."""


class StatefulSetSpec(Resource, kw_only=True, frozen=True):
    replicas: int | None = None
    """None: 1, as the API server fills in."""
    ordinals: StatefulSetOrdinals | None = None
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    service_name: str | None = None
    pod_management_policy: str | None = None
    update_strategy: dict[str, object] | None = None
    min_ready_seconds: int | None = None
    revision_history_limit: int | None = None


class StatefulSetStatus(Resource, kw_only=True, frozen=True):
    observed_generation: int | None = None
    replicas: int | None = None
    ready_replicas: int | None = None
    available_replicas: int | None = None
    current_replicas: int | None = None
    updated_replicas: int | None = None
    current_revision: str | None = None
    update_revision: str | None = None


class StatefulSet(Object, kw_only=True, frozen=True):
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()

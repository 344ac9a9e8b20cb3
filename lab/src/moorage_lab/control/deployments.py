"""Turns Deployments into pods, and makes the status that `kubectl rollout status` reads.

Pods belong to their Deployment directly: no ReplicaSet objects, which nothing here needs. The rolling update has
the default parameters of `apps/v1`, maxSurge and maxUnavailable of 25 %.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from moorage.api.apps_v1 import Deployment
from moorage.api.core_v1 import Pod
from moorage.api.meta import Object, ObjectMeta, OwnerReference
from moorage.core.clients import controller_of
from moorage_lab.control.names import Suffix, generated, template_hash

HASH_LABEL = "pod-template-hash"


class Plan(NamedTuple):
    """What to do for one Deployment, and the status that it should have now."""

    create: list[Pod]
    delete: list[Pod]
    status: dict[str, object]


def owned(workload: Object, pods: Iterable[Pod]) -> list[Pod]:
    """The pods whose controller is this very object (by uid)."""
    return [pod for pod in pods if (by := controller_of(pod.metadata)) and by.uid == workload.metadata.uid]


def is_ready(pod: Pod) -> bool:
    """Whether the pod's Ready condition is true."""
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in pod.status.conditions or []
    )


def plan(deployment: Deployment, pods: Sequence[Pod], suffix: Suffix, now: str) -> Plan:
    """What `deployment` needs, given the pods that it owns and the time (RFC 3339)."""
    replicas = 1 if deployment.spec.replicas is None else deployment.spec.replicas
    current = template_hash(deployment.spec.template)
    living = [pod for pod in pods if not _leaving(pod)]
    new = [pod for pod in living if (pod.metadata.labels or {}).get(HASH_LABEL) == current]
    old = [pod for pod in living if pod not in new]
    surge, unavailable = -(-replicas // 4), replicas // 4

    lacking = min(replicas - len(new), replicas + surge - len(living))
    create = [_pod(deployment, current, suffix()) for _ in range(lacking)]
    delete = sorted(new, key=_dispensability)[: max(0, len(new) - replicas)]

    spare = sum(map(is_ready, living)) - sum(map(is_ready, delete)) - (replicas - unavailable)
    unready = [pod for pod in old if not is_ready(pod)]
    ready = [pod for pod in old if is_ready(pod)]
    delete += unready + sorted(ready, key=_dispensability)[: max(0, spare)]
    return Plan(create, delete, _status(deployment, replicas, new, old, now))


def _status(deployment: Deployment, replicas: int, new: list[Pod], old: list[Pod], now: str) -> dict[str, object]:
    ready = sum(map(is_ready, new + old))
    available = ready >= replicas - replicas // 4
    complete = len(new) == replicas and not old and all(map(is_ready, new))
    conditions = [
        _condition(
            "Available",
            available,
            "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable",
            f"Deployment {'has' if available else 'does not have'} minimum availability.",
        ),
        _condition(
            "Progressing",
            True,
            "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
            f'Pods of template "{deployment.metadata.name}-{template_hash(deployment.spec.template)}" '
            f"{'have successfully progressed' if complete else 'are progressing'}.",
        ),
    ]
    return {
        "observedGeneration": deployment.metadata.generation,
        "replicas": len(new) + len(old) or None,
        "updatedReplicas": len(new) or None,
        "readyReplicas": ready or None,
        "availableReplicas": ready or None,
        "unavailableReplicas": max(0, replicas - ready, len(new) + len(old) - ready) or None,
        "conditions": with_times(conditions, deployment.status.conditions or [], now),
    }


def with_times(
    conditions: list[dict[str, object]], before: Sequence[dict[str, object]], now: str
) -> list[dict[str, object]]:
    """`conditions` with lastTransitionTime: that in `before` if the status is unchanged, else `now`."""
    known = {condition.get("type"): condition for condition in before}
    for condition in conditions:
        previous = known.get(condition["type"], {})
        same = previous.get("status") == condition["status"]
        condition["lastTransitionTime"] = previous.get("lastTransitionTime", now) if same else now
    return conditions


def _condition(type_: str, status: bool, reason: str, message: str) -> dict[str, object]:
    return {"type": type_, "status": "True" if status else "False", "reason": reason, "message": message}


def _pod(deployment: Deployment, hash_: str, suffix: str) -> Pod:
    template, meta = deployment.spec.template, deployment.metadata
    assert meta.uid is not None, "listed objects have a uid"
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(
            name=generated(f"{meta.name}-{hash_}", suffix),
            namespace=meta.namespace,
            labels={**(template.metadata.labels or {}), HASH_LABEL: hash_},
            annotations=template.metadata.annotations,
            owner_references=[
                OwnerReference(
                    api_version="apps/v1",
                    kind="Deployment",
                    name=meta.name,
                    uid=meta.uid,
                    controller=True,
                    block_owner_deletion=True,
                )
            ],
        ),
        spec=replace(template.spec),
    )


def _dispensability(pod: Pod) -> tuple[bool, bool, int, str]:
    """Sorts pods to delete first: without node, not ready, youngest (the controller's ActivePods order)."""
    age = (pod.metadata.creation_timestamp or "").translate({ord(sign): None for sign in "-:TZ."})
    return pod.spec.node_name is not None, is_ready(pod), -int(age or 0), pod.metadata.name


def _leaving(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None or pod.status.finished

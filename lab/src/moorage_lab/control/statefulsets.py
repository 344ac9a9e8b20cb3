"""Turns StatefulSets into pods `NAME-0`, `NAME-1`, ..., and makes the status that `kubectl rollout status` reads.

A pod that is gone is made again under its name. The order is that of Kubernetes' own controller
(`pkg/controller/statefulset`): with `OrderedReady`, one pod after the other, up and down; with `Parallel`, all at
once. With both, an update goes from the highest ordinal down, one pod after the other. There are no objects of kind
ControllerRevision: a revision is known by its name, and each new pod is of the newest one.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from moorage.api.apps_v1 import StatefulSet
from moorage.api.core_v1 import Pod
from moorage.api.meta import ObjectMeta
from moorage_lab.control.deployments import Plan, is_ready
from moorage_lab.control.names import template_hash
from moorage_lab.control.slices import owner_of

REVISION_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


def plan(stateful_set: StatefulSet, pods: Sequence[Pod]) -> Plan:
    """What `stateful_set` needs next, given the pods that it owns.

    One pod, as a rule: what comes after it is known when that has happened. A pod that is on its way out has its name
    until it is gone.
    """
    spec = stateful_set.spec
    by_ordinal = {ordinal: pod for pod in pods if (ordinal := _ordinal(stateful_set, pod)) is not None}
    first = (spec.ordinals.start or 0) if spec.ordinals else 0
    wanted = range(first, first + (1 if spec.replicas is None else spec.replicas))
    surplus = [by_ordinal[ordinal] for ordinal in sorted(by_ordinal, reverse=True) if ordinal not in wanted]
    status = _status(stateful_set, [by_ordinal[each] for each in sorted(by_ordinal)], len(wanted))
    if spec.pod_management_policy == "Parallel":
        create, delete = _at_once(stateful_set, by_ordinal, wanted, surplus)
    else:
        create, delete = _in_order(stateful_set, by_ordinal, wanted, surplus)
    if not create and not delete and not surplus:
        delete = _outdated(stateful_set, by_ordinal, wanted)
    return Plan(create, delete, status)


Step = tuple[list[Pod], list[Pod]]
"""Pods to create, and pods to delete."""


def _at_once(stateful_set: StatefulSet, by_ordinal: dict[int, Pod], wanted: range, surplus: Iterable[Pod]) -> Step:
    finished = [by_ordinal[each] for each in wanted if each in by_ordinal and by_ordinal[each].status.finished]
    create = [_pod(stateful_set, each) for each in wanted if each not in by_ordinal]
    return create, [pod for pod in [*finished, *surplus] if not _leaving(pod)]


def _in_order(stateful_set: StatefulSet, by_ordinal: dict[int, Pod], wanted: range, surplus: Iterable[Pod]) -> Step:
    for ordinal in wanted:
        pod = by_ordinal.get(ordinal)
        if pod is None:
            return [_pod(stateful_set, ordinal)], []
        if pod.status.finished and not _leaving(pod):
            return [], [pod]
        if _leaving(pod) or not is_ready(pod):
            return [], []
    for pod in surplus:
        return [], [] if _leaving(pod) else [pod]
    return [], []


def _outdated(stateful_set: StatefulSet, by_ordinal: dict[int, Pod], wanted: range) -> list[Pod]:
    """The pod of an old revision with the highest ordinal, if all above it are ready."""
    if (stateful_set.spec.update_strategy or {}).get("type") == "OnDelete":
        return []
    current = _revision(stateful_set)
    for ordinal in reversed(wanted):
        pod = by_ordinal.get(ordinal)
        if pod is None or _leaving(pod):
            return []
        if _revision_of(pod) != current:
            return [pod]
        if not is_ready(pod):
            return []
    return []


def _status(stateful_set: StatefulSet, pods: Sequence[Pod], replicas: int) -> dict[str, object]:
    newest = _revision(stateful_set)
    living = [pod for pod in pods if not _leaving(pod)]
    updated = sum(_revision_of(pod) == newest for pod in living)
    ready = sum(is_ready(pod) for pod in living)
    before = stateful_set.status.current_revision
    current = newest if before is None or updated == ready == len(living) == replicas else before
    old = sum(_revision_of(pod) == current for pod in living)
    return {
        "observedGeneration": stateful_set.metadata.generation,
        "replicas": len(pods),
        "readyReplicas": ready or None,
        "availableReplicas": ready,
        "currentReplicas": old or None,
        "updatedReplicas": updated or None,
        "currentRevision": current,
        "updateRevision": newest,
    }


def _pod(stateful_set: StatefulSet, ordinal: int) -> Pod:
    template, meta = stateful_set.spec.template, stateful_set.metadata
    name = f"{meta.name}-{ordinal}"
    own = {REVISION_LABEL: _revision(stateful_set), NAME_LABEL: name, INDEX_LABEL: str(ordinal)}
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(
            name=name,
            namespace=meta.namespace,
            labels={**(template.metadata.labels or {}), **own},
            annotations=template.metadata.annotations,
            owner_references=[owner_of("apps/v1", "StatefulSet", meta)],
        ),
        spec=replace(template.spec, hostname=name, subdomain=stateful_set.spec.service_name),
    )


def _revision(stateful_set: StatefulSet) -> str:
    return f"{stateful_set.metadata.name}-{template_hash(stateful_set.spec.template)}"


def _revision_of(pod: Pod) -> str | None:
    return (pod.metadata.labels or {}).get(REVISION_LABEL)


def _ordinal(stateful_set: StatefulSet, pod: Pod) -> int | None:
    """The number in the pod's name; None for a name that this StatefulSet does not give."""
    text = pod.metadata.name.removeprefix(f"{stateful_set.metadata.name}-")
    if text == pod.metadata.name or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)


def _leaving(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None

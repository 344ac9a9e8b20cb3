"""Warnings about fields that the lab accepts but ignores (KEP-1693). Pure.

The structs of `core_v1` have the fields of a pod that the lab's kubelets read: other fields are stored and ignored.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from moorage.api.core_v1 import Container, ContainerPort, EnvVar, PodSpec
from moorage.api.kinds import Kind
from moorage.api.show import show
from moorage_lab.apiserver.objects import Obj, dig

Found = Iterator[tuple[str, str]]
"""Pairs of a field's path and what the lab does instead."""

_IMAGE = "moorage"
"""The image that holds what the lab runs if a container has no command."""
_NEEDS_NO_WORD = {
    "automountServiceAccountToken",
    "dnsPolicy",
    "enableServiceLinks",
    "imagePullPolicy",
    "imagePullSecrets",
    "schedulerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
}
"""Fields of pods and containers that make no difference although the lab ignores them."""
_INSTEAD = {
    "affinity": "the lab chooses the node with the fewest pods",
    "env.valueFrom": "the lab leaves the variable empty",
    "ephemeralContainers": "the lab does not run them",
    "initContainers": "the lab does not run them",
    "lifecycle": "the lab runs no hooks",
    "livenessProbe": "the lab restarts a container when its program ends",
    "ports.hostPort": "the lab opens no port on the node",
    "readinessProbe": "the lab takes a container for ready while its first TCP port accepts connections",
    "resources": "the lab limits nothing",
    "securityContext": "the lab runs every container as the user who started the lab",
    "serviceAccountName": "the lab has no service accounts, and pods get no token",
    "startupProbe": "the lab takes a container for started when its first TCP port accepts connections",
    "tolerations": "the lab has no taints",
    "topologySpreadConstraints": "the lab chooses the node with the fewest pods",
    "volumeMounts": "the lab mounts no volumes",
    "volumes": "the lab mounts no volumes",
}
_BY_DEFAULT: dict[str, object] = {"maxSurge": "25%", "maxUnavailable": "25%"}


def warnings(kind: Kind, obj: Obj, before: Obj | None) -> list[str]:
    """A line for each field of a stored `obj` that is not played and that `before` did not have."""
    old = set(_find(kind, before)) if before is not None else set()
    return [f"{path}: not played: {instead}" for path, instead in _find(kind, obj) if (path, instead) not in old]


def _find(kind: Kind, obj: Obj) -> Found:
    spec = dig(obj, "spec") or {}
    match kind.kind:
        case "Pod":
            yield from _pod(spec, "spec")
        case "Deployment":
            yield from _deployment(spec)
            yield from _pod(dig(spec, "template", "spec") or {}, "spec.template.spec")
        case "StatefulSet":
            yield from _stateful_set(spec)
            yield from _pod(dig(spec, "template", "spec") or {}, "spec.template.spec")
        case "ReplicaSet" | "Job":
            yield "spec", f"the lab makes no pods for a {kind.kind}; use a Deployment"
        case "Service":
            yield from _service(spec)
        case "Node":
            if spec.get("taints"):
                yield "spec.taints", "the lab goes on placing pods on the node; cordon it"
        case "ServiceCIDR":
            if dig(obj, "metadata", "name") != "kubernetes":
                yield "spec.cidrs", "the lab takes cluster IPs from the ranges that it was started with"


def _pod(spec: Obj, path: str) -> Found:
    if spec.get("restartPolicy") != "Always":
        yield f"{path}.restartPolicy", "the lab starts a container again whenever it ends"
    yield from _ignored(spec, PodSpec, path, except_for=("restartPolicy", "serviceAccount"))
    for index, container in enumerate(spec.get("containers") or ()):
        where = f"{path}.containers[{index}]"
        yield from _image(container, f"{where}.image")
        yield from _ignored(container, Container, where)
        for number, variable in enumerate(container.get("env") or ()):
            yield from _ignored(variable, EnvVar, f"{where}.env[{number}]", "env.")
        for number, port in enumerate([] if spec.get("hostNetwork") else container.get("ports") or ()):
            yield from _ignored(port, ContainerPort, f"{where}.ports[{number}]", "ports.")


def _image(container: Obj, path: str) -> Found:
    image = str(container.get("image") or "")
    if image.partition("@")[0].rpartition("/")[2].partition(":")[0] == _IMAGE:
        return
    if container.get("command"):
        yield path, f"the lab pulls no image; it runs the container's command on this machine, not in {show(image)}"
    else:
        yield path, f"the lab pulls no image; it runs moorage with the container's args in place of {show(image)}"


def _ignored(value: Obj, type_: type[Any], path: str, prefix: str = "", *, except_for: tuple[str, ...] = ()) -> Found:
    """The fields that are set and that the struct does not have."""
    played = {field.encode_name for field in msgspec.structs.fields(type_)}
    for field in sorted(value.keys() - played - _NEEDS_NO_WORD - set(except_for)):
        if value[field]:
            yield f"{path}.{show(field)}", _INSTEAD.get(prefix + field, "the lab ignores it")


def _deployment(spec: Obj) -> Found:
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        yield "spec.strategy.type", "the lab updates pods one after the other"
    for field, played in _BY_DEFAULT.items():
        if dig(strategy, "rollingUpdate", field) not in (None, played):
            yield f"spec.strategy.rollingUpdate.{field}", f"the lab uses {played}"
    yield from _min_ready_seconds(spec)
    if spec.get("paused"):
        yield "spec.paused", "the lab updates the pods all the same"


def _stateful_set(spec: Obj) -> Found:
    rolling = dig(spec, "updateStrategy", "rollingUpdate") or {}
    if rolling.get("partition"):
        yield "spec.updateStrategy.rollingUpdate.partition", "the lab updates all pods"
    if rolling.get("maxUnavailable") not in (None, 1):
        yield "spec.updateStrategy.rollingUpdate.maxUnavailable", "the lab updates one pod at a time"
    yield from _min_ready_seconds(spec)
    if spec.get("volumeClaimTemplates"):
        yield "spec.volumeClaimTemplates", "the lab mounts no volumes"


def _min_ready_seconds(spec: Obj) -> Found:
    if spec.get("minReadySeconds"):
        yield "spec.minReadySeconds", "the lab counts a pod as available when it is ready"


def _service(spec: Obj) -> Found:
    match spec.get("type"):
        case "NodePort":
            yield "spec.type", "the lab opens no node ports; use type: LoadBalancer"
        case "ExternalName":
            yield "spec.externalName", "the lab's name servers hold no aliases"
    if spec.get("externalIPs"):
        yield "spec.externalIPs", "the lab carries cluster IPs and load balancers' addresses only"
    if spec.get("externalTrafficPolicy") == "Local":
        yield "spec.externalTrafficPolicy", "the lab's load balancers send connections to all nodes"
    if spec.get("loadBalancerClass"):
        yield "spec.loadBalancerClass", "the lab has no such controller, so the Service gets no address"
    if spec.get("loadBalancerSourceRanges"):
        yield "spec.loadBalancerSourceRanges", "the lab's load balancers let everybody in"
    if spec.get("trafficDistribution") and spec.get("selector"):
        yield "spec.trafficDistribution", "the lab gives the endpoints of pods no hints"

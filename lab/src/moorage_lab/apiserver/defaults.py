"""Defaults that the server fills in (upstream `pkg/apis/*/v1/defaults.go`)."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from moorage.api.kinds import Kind
from moorage_lab.apiserver import custom
from moorage_lab.apiserver.objects import Obj, name_of

CLIENT_IP_TIMEOUT_SECONDS = 10800


def with_defaults(kind: Kind, obj: Obj) -> None:
    """Fill the object in, in place. Parts of the wrong type are left for the validation to find."""
    if custom.is_custom(kind):
        custom.fill(kind, obj)
        return
    fill = _DEFAULTS.get((kind.group, kind.kind))
    if fill is not None and all(isinstance(obj.get(part, {}), dict) for part in ("metadata", "spec", "status")):
        fill(obj)


def _dicts(value: Any) -> list[Obj]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _child(obj: Obj, field: str) -> Obj:
    child = obj.setdefault(field, {})
    return child if isinstance(child, dict) else {}


def _fill(obj: Obj, **defaults: Any) -> None:
    for field, value in defaults.items():
        obj.setdefault(field, value)


def _service(service: Obj) -> None:
    spec = _child(service, "spec")
    _fill(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        _child(_child(spec, "sessionAffinityConfig"), "clientIP").setdefault(
            "timeoutSeconds", CLIENT_IP_TIMEOUT_SECONDS
        )
    for port in _dicts(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        _fill(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        # Upstream's default is true. Nothing opens node ports here, so none are allocated, and the object says so.
        _fill(spec, allocateLoadBalancerNodePorts=False)
    _child(service, "status").setdefault("loadBalancer", {})


def _endpoints(endpoints: Obj) -> None:
    for subset in _dicts(endpoints.get("subsets")):
        for port in _dicts(subset.get("ports")):
            port.setdefault("protocol", "TCP")


def _endpoint_slice(slice_: Obj) -> None:
    for port in _dicts(slice_.get("ports")):
        _fill(port, name="", protocol="TCP")


def _pod_spec(spec: Obj) -> None:
    _fill(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    _fill(spec, terminationGracePeriodSeconds=30, securityContext={}, enableServiceLinks=True)
    for container in _dicts(spec.get("initContainers")) + _dicts(spec.get("containers")):
        image = str(container.get("image") or "")
        latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
        _fill(container, imagePullPolicy="Always" if latest else "IfNotPresent", resources={})
        _fill(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
        for port in _dicts(container.get("ports")):
            port.setdefault("protocol", "TCP")
            if spec.get("hostNetwork") and "containerPort" in port:
                port.setdefault("hostPort", port["containerPort"])
        for name in ("readinessProbe", "livenessProbe", "startupProbe"):
            if isinstance(probe := container.get(name), dict):
                _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
                if isinstance(probe.get("httpGet"), dict):
                    _fill(probe["httpGet"], path="/", scheme="HTTP")


def _pod(pod: Obj) -> None:
    _pod_spec(_child(pod, "spec"))
    _fill(_child(pod, "status"), phase="Pending", qosClass="BestEffort")


def _replica_set(replica_set: Obj) -> None:
    spec = _child(replica_set, "spec")
    spec.setdefault("replicas", 1)
    if isinstance(spec.get("template"), dict):
        _pod_spec(_child(spec["template"], "spec"))
    _child(replica_set, "status").setdefault("replicas", 0)


def _deployment(deployment: Obj) -> None:
    spec = _child(deployment, "spec")
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = _child(spec, "strategy")
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(_child(strategy, "rollingUpdate"), maxSurge="25%", maxUnavailable="25%")
    if isinstance(spec.get("template"), dict):
        _pod_spec(_child(spec["template"], "spec"))
    _child(deployment, "status")


def _stateful_set(stateful_set: Obj) -> None:
    spec = _child(stateful_set, "spec")
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    strategy = _child(spec, "updateStrategy")
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(_child(strategy, "rollingUpdate"), partition=0)
    if isinstance(spec.get("template"), dict):
        _pod_spec(_child(spec["template"], "spec"))
    _fill(_child(stateful_set, "status"), replicas=0, availableReplicas=0)


def _secret(secret: Obj) -> None:
    secret.setdefault("type", "Opaque")
    data = secret.get("data")
    if isinstance(data, dict):
        # Upstream decodes the values, and encodes them when it answers: without line breaks.
        secret["data"] = {
            key: value.replace("\r", "").replace("\n", "") if isinstance(value, str) else value
            for key, value in data.items()
        }
    given = secret.get("stringData")
    if isinstance(given, dict) and isinstance(_child(secret, "data"), dict):
        # Write-only: it overrides data, and is never shown.
        folded = {key: b64encode(value.encode()).decode() for key, value in given.items() if isinstance(value, str)}
        if len(folded) == len(given):
            secret["data"].update(folded)
            del secret["stringData"]
    if not secret.get("data"):
        secret.pop("data", None)


def _namespace(namespace: Obj) -> None:
    _child(_child(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = name_of(namespace)
    _child(namespace, "spec").setdefault("finalizers", ["kubernetes"])
    _child(namespace, "status").setdefault("phase", "Active")


_DEFAULTS: dict[tuple[str, str], Callable[[Obj], None]] = {
    ("", "Service"): _service,
    ("", "Endpoints"): _endpoints,
    ("", "Pod"): _pod,
    ("", "Namespace"): _namespace,
    ("", "Secret"): _secret,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
}

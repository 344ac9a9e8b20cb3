"""The `scale` subresource: `autoscaling/v1` Scale of a Deployment, ReplicaSet or StatefulSet."""

from typing import Any

from moorage.api.kinds import Kind
from moorage_lab.apiserver import status
from moorage_lab.apiserver.objects import Obj, dig


def view(obj: Obj) -> Obj:
    """The Scale of a workload."""
    meta = {
        field: obj["metadata"].get(field)
        for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    labels = dig(obj, "spec", "selector", "matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: value for key, value in meta.items() if value is not None},
        "spec": {"replicas": dig(obj, "spec", "replicas") or 0},
        "status": {"replicas": dig(obj, "status", "replicas") or 0, "selector": selector},
    }


def replicas(body: Any, kind: Kind, name: str) -> int:
    """The replicas that a written Scale asks for; raises StatusError 400 or 422."""
    if dig(body, "kind") not in (None, "Scale"):
        raise status.bad_request("the body of the request is not a Scale")
    wanted = dig(body, "spec", "replicas")
    wanted = 0 if wanted is None else wanted
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise status.bad_request(f"Scale: spec.replicas: {wanted!r} is not a whole number")
    if wanted < 0:
        cause = status.Cause(
            "FieldValueInvalid", f"Invalid value: {wanted}: must be greater than or equal to 0", "spec.replicas"
        )
        raise status.invalid(kind, name, [cause])
    return wanted

"""Checks whether Kubernetes would store an object. Pure; for manifests and for the lab's API server."""

from collections.abc import Callable, Iterator
from typing import Any

from moorage.api import (
    validation_cluster,
    validation_endpoints,
    validation_external,
    validation_services,
    validation_workloads,
)
from moorage.api.kinds import KINDS, find_kind
from moorage.api.show import show
from moorage.api.validation_schema import (
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    UNKNOWN,
    WRONG_TYPE,
    FieldError,
    shape_errors,
    without_nulls,
)

__all__ = ["FieldError", "validate", "validate_update", "without_nulls"]

_RULES: dict[str, Callable[[dict[str, Any]], Iterator[FieldError]]] = {
    "Deployment": validation_workloads.deployment,
    "EndpointSlice": validation_endpoints.endpoint_slice,
    "Endpoints": validation_endpoints.endpoints,
    "Event": validation_workloads.event,
    "ExternalService": validation_external.external_service,
    "Job": validation_workloads.named_only,
    "Lease": validation_cluster.lease,
    "Mooring": validation_external.mooring,
    "Namespace": validation_workloads.namespace,
    "Node": validation_workloads.node,
    "Pod": validation_workloads.pod,
    "ReplicaSet": validation_workloads.replica_set,
    "Secret": validation_cluster.secret,
    "Service": validation_services.service,
    "ServiceCIDR": validation_cluster.service_cidr,
    "StatefulSet": validation_workloads.stateful_set,
}

_UPDATE_RULES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Iterator[FieldError]]] = {
    "Deployment": validation_workloads.workload_update,
    "EndpointSlice": validation_endpoints.endpoint_slice_update,
    "Mooring": validation_external.mooring_update,
    "ReplicaSet": validation_workloads.workload_update,
    "Secret": validation_cluster.secret_update,
    "Service": validation_services.service_update,
    "ServiceCIDR": validation_cluster.service_cidr_update,
    "StatefulSet": validation_workloads.stateful_set_update,
}


def _no_rules(obj: dict[str, Any]) -> Iterator[FieldError]:
    return iter(())


def validate(obj: dict[str, Any], *, strict: bool = False) -> list[FieldError]:
    """Everything that is wrong with `obj`, mostly in the order of its fields; empty if it is valid.

    An absent field counts as its default, null as absent. `strict` also reports unknown fields, as the server does
    with `fieldValidation=Strict`. Never raises, whatever JSON `obj` holds. After `without_nulls`, an object without
    errors can be converted to the struct of its kind.
    """
    kind = find_kind(_text(obj.get("apiVersion")), _text(obj.get("kind")))
    if kind is None:
        message = f"{show(obj.get('kind'))} of {show(obj.get('apiVersion'))} is not a kind that Moorage knows; "
        return [FieldError("kind", NOT_SUPPORTED, message + f"use one of: {', '.join(kind.kind for kind in KINDS)}")]
    shape = [error for error in shape_errors(obj, kind.type) if strict or error.kind != UNKNOWN]
    rules = list(_RULES.get(kind.kind, _no_rules)(obj))
    ruled = {error.path for error in rules}
    mistyped = [error.path for error in shape if error.kind == WRONG_TYPE]
    return [error for error in shape if error.kind not in (REQUIRED, INVALID) or error.path not in ruled] + [
        error for error in rules if not any(_is_at_or_below(error.path, path) for path in mistyped)
    ]


def validate_update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """The immutable spec fields that `new` changes in `old`, the stored object of the same kind.

    Ignores metadata, which the store guards, and what `validate` checks. Never raises.
    """
    rule = _UPDATE_RULES.get(_text(new.get("kind")))
    return list(rule(new, old)) if rule else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_at_or_below(path: str, ancestor: str) -> bool:
    return path == ancestor or path.startswith((f"{ancestor}.", f"{ancestor}["))

"""How tools that deploy from Git judge objects: rules of theirs, in our own words."""

from typing import Any

Json = dict[str, Any]


def drift(written: Json, stored: Json, path: str = "") -> list[str]:
    """The fields of `written` that Argo CD shows as out of sync with what the API server has stored.

    Of mappings it compares the fields that were written, of lists everything: what a server adds to an item is a
    difference (argo-cd's gitops-engine/pkg/diff: a JSON merge patch, RFC 7396, that changes something). It looks at
    no status.
    """
    found: list[str] = []
    for name, value in written.items():
        where = f"{path}.{name}"
        there = stored.get(name)
        if where == ".status":
            continue
        if isinstance(value, dict) and isinstance(there, dict):
            found += drift(value, there, where)
        elif there != value:
            found.append(where)
    return found


def kstatus(obj: Json) -> str:
    """Current, InProgress, Failed or Terminating, as Flux and `kapply` judge an object of a custom kind.

    sigs.k8s.io/cli-utils/pkg/kstatus/status: generic.go, then checkReadyCondition of status.go.
    """
    meta, status = obj["metadata"], obj.get("status") or {}
    if meta.get("deletionTimestamp"):
        return "Terminating"
    if "generation" in meta and status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        if condition["type"] in ("Reconciling", "Stalled") and condition["status"] == "True":
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    for condition in conditions:
        if condition["type"] == "Ready" and condition["status"] in ("True", "False", "Unknown"):
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"

"""Checks and completes decoded objects on their way into the store: types, validation, names, generation."""

import copy
from typing import Any

from moorage.api import validation, validation_schema
from moorage.api.kinds import Kind
from moorage_lab.apiserver import custom
from moorage_lab.apiserver.objects import Obj, metadata, name_of
from moorage_lab.apiserver.status import Cause, bad_request, invalid

_KEEPS_STATUS_ON_CREATE = {("", "Node")}
"""A kubelet registers its node together with its status."""


def decoded(kind: Kind, body: Any, *, strict: bool) -> Obj:
    """A copy of a request's object with its type filled in and nulls taken out.

    Raises StatusError 400 if it is not an object of the kind, has a field of the wrong type, or, with `strict`, an
    unknown field.
    """
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    for field, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if body.get(field, wanted) != wanted:
            raise bad_request(
                f"{field} {body[field]!r} does not match the path, which is of {kind.api_version} {kind.kind}"
            )
    if not isinstance(body.get("metadata", {}), dict):
        raise bad_request("metadata is not an object")
    obj: Obj = validation.without_nulls(copy.deepcopy({**body, "apiVersion": kind.api_version, "kind": kind.kind}))
    obj.setdefault("metadata", {})
    errors = validation.validate(obj, strict=strict)
    mistyped = [error for error in errors if error.kind == validation_schema.WRONG_TYPE]
    if custom.is_custom(kind):
        # Only metadata is decoded into types; validation checks the rest, and answers 422.
        mistyped = [error for error in mistyped if error.path.startswith("metadata")]
    if mistyped:
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            + ", ".join(str(error) for error in mistyped)
        )
    if unknown := [error for error in errors if error.kind == validation_schema.UNKNOWN]:
        raise bad_request(
            "strict decoding error: "
            + ", ".join(f'unknown field "{error.path}": {error.message}' for error in unknown)
        )
    return custom.pruned(kind, obj) if custom.is_custom(kind) else obj


def check(kind: Kind, obj: Obj, old: Obj | None) -> None:
    """Raises StatusError 422 with every reason why the object cannot be stored in place of `old`."""
    errors = validation.validate(obj)
    if old is not None:
        errors = errors + validation.validate_update(obj, old)
    causes = [Cause(error.kind, error.message, error.path) for error in errors]
    if not causes and old is not None and metadata(old).get("deletionTimestamp"):
        added = set(metadata(obj).get("finalizers") or []) - set(metadata(old).get("finalizers") or [])
        if added:
            why = f"no new finalizers can be added if the object is being deleted, found: {', '.join(sorted(added))}"
            causes.append(Cause("FieldValueForbidden", why, "metadata.finalizers"))
    if causes:
        raise invalid(kind, name_of(obj), causes)


def has_status(kind: Kind) -> bool:
    return "status" in kind.subresources


def for_creation(kind: Kind, obj: Obj) -> None:
    """Drop, in place, the fields that a creation cannot set."""
    meta = metadata(obj)
    if meta.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        meta.pop(field, None)
    if has_status(kind) and (kind.group, kind.kind) not in _KEEPS_STATUS_ON_CREATE:
        obj.pop("status", None)


def for_update(kind: Kind, obj: Obj, live: Obj, subresource: str) -> Obj:
    """The proposed object, with fields that this path may not write taken from `live`."""
    if subresource == "status":
        result = {**live, "metadata": {**live["metadata"], "managedFields": metadata(obj).get("managedFields")}}
        result = {**result, "status": obj["status"]} if "status" in obj else _without(result, "status")
        return copy.deepcopy(result)
    meta = dict(metadata(obj))
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        meta.pop(field, None)
        if field in live["metadata"]:
            meta[field] = live["metadata"][field]
    meta.pop("selfLink", None)
    result = {**obj, "metadata": meta}
    if has_status(kind):
        result = {**result, "status": live["status"]} if "status" in live else _without(result, "status")
    return copy.deepcopy(result)


def generation(kind: Kind, obj: Obj, live: Obj) -> int:
    """The generation of `obj` after `live`: one more where anything but metadata, and a status of its own path,
    differs."""
    before = int(live["metadata"].get("generation", 1))
    apart = ("metadata", *(["status"] if has_status(kind) else []))
    return before if _without(obj, *apart) == _without(live, *apart) else before + 1


def _without(obj: Obj, *fields: str) -> Obj:
    return {key: value for key, value in obj.items() if key not in fields}

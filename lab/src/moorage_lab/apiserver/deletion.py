"""What a deletion means: preconditions, grace, finalizers, namespaces, and the garbage collection of dependents.

In a real cluster the garbage collector and the namespace controller work in the background; here their work is done
at once, in the same order.
"""

from datetime import timedelta
from typing import Any, NamedTuple

from moorage.api.kinds import Kind, find_kind
from moorage_lab.apiserver import status
from moorage_lab.apiserver.objects import Obj, dig, name_of, namespace_of, parse_timestamp, timestamp
from moorage_lab.apiserver.writer import Writer

_PROTECTED = {"default", "kube-system"}
_DEFAULT_GRACE_SECONDS = 30


class DeleteOptions(NamedTuple):
    grace_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


def delete_options(body: Any, query: dict[str, str]) -> DeleteOptions:
    """From a DELETE's body and query, as upstream reads them; raises StatusError 400.

    Dependents go in the background, also where the foreground is asked for: the difference is the order.
    """
    given = body if isinstance(body, dict) else {}
    grace = query.get("gracePeriodSeconds", given.get("gracePeriodSeconds"))
    propagation = query.get("propagationPolicy", given.get("propagationPolicy")) or (
        "Orphan" if given.get("orphanDependents") or query.get("orphanDependents") == "true" else "Background"
    )
    if propagation not in ("Background", "Foreground"):
        raise status.bad_request(
            f"DeleteOptions: propagationPolicy: {propagation!r} is not supported: in the lab dependents go "
            "with their owner; use Background"
        )
    try:
        seconds = None if grace is None else int(grace)
    except (TypeError, ValueError):
        raise status.bad_request(f"DeleteOptions: gracePeriodSeconds: {grace!r} is not a number") from None
    return DeleteOptions(
        seconds,
        dig(given, "preconditions", "uid"),
        dig(given, "preconditions", "resourceVersion"),
        bool(query.get("dryRun") or given.get("dryRun")),
    )


def delete(writer: Writer, kind: Kind, obj: Obj, options: DeleteOptions) -> tuple[Obj, bool]:
    """Delete the live object `obj`. Returns its state afterwards, and whether it is gone."""
    name, meta = name_of(obj), obj["metadata"]
    if options.uid and options.uid != meta["uid"]:
        raise status.conflict(
            kind, name, f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {meta['uid']}"
        )
    if options.resource_version and options.resource_version != meta["resourceVersion"]:
        raise status.conflict(
            kind,
            name,
            "Precondition failed: ResourceVersion in precondition: "
            f"{options.resource_version}, ResourceVersion in object meta: "
            f"{meta['resourceVersion']}",
        )
    is_namespace = (kind.group, kind.kind) == ("", "Namespace")
    if is_namespace and name in _PROTECTED:
        raise status.forbidden(kind, name, "this namespace may not be deleted")
    if options.dry_run:
        return obj, True
    grace = _grace(kind, obj, options)
    finalizers = list(meta.get("finalizers") or [])
    if is_namespace:
        obj = _terminating(writer, kind, obj)
        for dependent_kind, dependent in writer.store.in_namespace(name):
            delete(writer, dependent_kind, dependent, DeleteOptions())
    elif grace or finalizers:
        obj = _mark(writer, kind, obj, grace, finalizers)
    else:
        return remove(writer, kind, obj), True
    left = writer.store.get(kind, namespace_of(obj), name)
    if left is None:
        return obj, True
    obj = finish(writer, kind, left)
    return obj, writer.store.get(kind, namespace_of(obj), name) is None


def is_done(writer: Writer, kind: Kind, obj: Obj) -> bool:
    """Whether the object is marked for deletion and nothing holds it back any more."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("deletionGracePeriodSeconds"):
        return False
    is_namespace = (kind.group, kind.kind) == ("", "Namespace")
    return not meta.get("finalizers") and not (is_namespace and any(writer.store.in_namespace(name_of(obj))))


def finish(writer: Writer, kind: Kind, obj: Obj) -> Obj:
    """Remove the object if nothing holds it back. Returns its state afterwards."""
    return remove(writer, kind, obj) if is_done(writer, kind, obj) else obj


def collect_orphan(writer: Writer, kind: Kind, obj: Obj) -> None:
    """Delete a new object whose owners are all gone already, which its controller had not seen yet."""
    references = dig(obj, "metadata", "ownerReferences") or []
    known = [one for one in references if find_kind(one["apiVersion"], one["kind"])]
    if references and len(known) == len(references) and not _owned(writer, obj):
        delete(writer, kind, obj, DeleteOptions())


def _grace(kind: Kind, obj: Obj, options: DeleteOptions) -> int:
    """Seconds that the object has to stop; only a pod on a node gets any."""
    if (kind.group, kind.kind) != ("", "Pod"):
        return 0
    if not dig(obj, "spec", "nodeName") or dig(obj, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    own = dig(obj, "spec", "terminationGracePeriodSeconds")
    asked = options.grace_seconds
    wanted = asked if asked is not None else (own if own is not None else _DEFAULT_GRACE_SECONDS)
    running = dig(obj, "metadata", "deletionGracePeriodSeconds")
    # A second deletion may shorten the time, but never lengthen it.
    return max(wanted, 0) if running is None else min(max(wanted, 0), int(running))


def _mark(writer: Writer, kind: Kind, obj: Obj, grace: int, finalizers: list[str]) -> Obj:
    meta = obj["metadata"]
    running = meta.get("deletionGracePeriodSeconds")
    if meta.get("deletionTimestamp") and grace == running and finalizers == (meta.get("finalizers") or []):
        return obj
    now = parse_timestamp(writer.now())
    end = timestamp(now + timedelta(seconds=grace))
    if meta.get("deletionTimestamp") and grace == running:
        end = meta["deletionTimestamp"]
    return writer.touch(
        kind,
        obj,
        deletionTimestamp=end,
        deletionGracePeriodSeconds=grace,
        finalizers=finalizers or None,
        generation=int(meta.get("generation", 1)) + (0 if meta.get("deletionTimestamp") else 1),
    )


def _terminating(writer: Writer, kind: Kind, obj: Obj) -> Obj:
    if obj["metadata"].get("deletionTimestamp"):
        return obj
    obj = {**obj, "status": {**obj.get("status", {}), "phase": "Terminating"}}
    return writer.touch(kind, obj, deletionTimestamp=writer.now(), deletionGracePeriodSeconds=0)


def remove(writer: Writer, kind: Kind, obj: Obj) -> Obj:
    """Remove an object, then its dependents, and a namespace that was only waiting for this."""
    last = writer.remove(kind, obj)
    for dependent_kind, dependent in writer.store.dependents(last["metadata"]["uid"]):
        if not _owned(writer, dependent):
            _collect(writer, dependent_kind, dependent)
    namespace = namespace_of(last)
    if namespace:
        namespaces = find_kind("v1", "Namespace")
        assert namespaces is not None
        home = writer.store.get(namespaces, "", namespace)
        if home is not None:
            finish(writer, namespaces, home)
    return last


def _collect(writer: Writer, kind: Kind, obj: Obj) -> None:
    current = writer.store.get(kind, namespace_of(obj), name_of(obj))
    if current is not None and current["metadata"]["uid"] == obj["metadata"]["uid"]:
        delete(writer, kind, current, DeleteOptions())


def _owned(writer: Writer, obj: Obj) -> bool:
    """Whether any owner of the object is still there."""
    return any(writer.store.by_uid(one.get("uid", "")) for one in dig(obj, "metadata", "ownerReferences") or [])

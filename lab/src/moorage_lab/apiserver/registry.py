"""Create, update, patch and apply: turn a request into a new state of the store.

Nothing here awaits, so each call is atomic.
"""

import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from moorage.api.kinds import Kind
from moorage_lab.apiserver import admission, apply, deletion, scale, status, unplayed
from moorage_lab.apiserver.addresses import AllocationError, ClusterIPs
from moorage_lab.apiserver.apply import Manager, Managers
from moorage_lab.apiserver.defaults import with_defaults
from moorage_lab.apiserver.objects import Obj, dig, metadata, name_of
from moorage_lab.apiserver.schema import rules_of
from moorage_lab.apiserver.store import Store
from moorage_lab.apiserver.writer import Writer

NAMESPACE = "namespaces"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class Options(NamedTuple):
    """Options of a write."""

    manager: str = "unknown"
    dry_run: bool = False
    strict: bool = False
    """Unknown fields are an error."""
    force: bool = False
    """An apply takes fields from other managers."""


class Written(NamedTuple):
    obj: Obj
    created: bool = False
    warnings: Sequence[str] = ()
    """Warnings for whoever writes."""


class Registry:
    """The writes of one cluster."""

    def __init__(
        self,
        store: Store,
        addresses: ClusterIPs,
        kinds: tuple[Kind, ...],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        names: random.Random | None = None,
    ) -> None:
        self.store = store
        self.kinds = kinds
        self.writer = Writer(store, addresses, now)
        self._random = names or random.Random()
        self._namespaces = next(kind for kind in kinds if not kind.group and kind.plural == NAMESPACE)
        for name in ("default", "kube-system"):
            self.create(self._namespaces, "", {"metadata": {"name": name}}, Options("moorage"))
        for kind in kinds:
            if kind.kind == "ServiceCIDR":  # KEP-1880: the ranges that the server was started with
                ranges = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": list(addresses.cidrs)}}
                self.create(kind, "", ranges, Options("moorage"))

    def live(self, kind: Kind, namespace: str, name: str) -> Obj:
        """Raises StatusError 404."""
        obj = self.store.get(kind, namespace, name)
        if obj is None:
            raise status.not_found(kind, name)
        return obj

    def create(self, kind: Kind, namespace: str, body: Any, options: Options) -> Written:
        obj = admission.decoded(kind, body, strict=options.strict)
        self._place(kind, namespace, obj)
        admission.for_creation(kind, obj)
        meta = obj["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(self._random.choices(_SUFFIX, k=5))
        given = meta.pop("managedFields", None)
        self._fill(kind, obj, None)
        if self.store.get(kind, namespace, meta["name"]) is not None:
            raise status.already_exists(kind, meta["name"])
        manager = Manager(options.manager, "Update", kind.api_version)
        managers = apply.after_update({}, obj, rules_of(kind), apply.read_managers(given), manager, self.writer.now())
        return self._insert(kind, obj, managers, options)

    def update(self, kind: Kind, namespace: str, name: str, subresource: str, body: Any, options: Options) -> Written:
        live = self.live(kind, namespace, name)
        if subresource == "scale":
            return self._scaled(kind, live, body, options)
        obj = admission.decoded(kind, body, strict=options.strict)
        obj["metadata"].setdefault("name", name)
        if obj["metadata"]["name"] != name:
            raise status.bad_request(
                f"the name of the object ({obj['metadata']['name']}) does not match the name on the URL ({name})"
            )
        self._place(kind, namespace, obj, exists=True)
        return self._replace(kind, live, obj, subresource, options)

    def patch(
        self, kind: Kind, namespace: str, name: str, subresource: str, change: Callable[[Obj], Any], options: Options
    ) -> Written:
        """`change` returns the patched object, without changing the live one."""
        live = self.live(kind, namespace, name)
        patched = change(scale.view(live) if subresource == "scale" else live)
        uid = dig(patched, "metadata", "uid")
        if uid and uid != live["metadata"]["uid"]:
            # A uid is only a precondition of a replacement (409); in a patch it is a change of an immutable field.
            cause = status.Cause("FieldValueInvalid", f"Invalid value: {uid!r}: field is immutable", "metadata.uid")
            raise status.invalid(kind, name, [cause])
        return self.update(kind, namespace, name, subresource, patched, options)

    def apply(self, kind: Kind, namespace: str, name: str, subresource: str, body: Any, options: Options) -> Written:
        """Server-side apply; creates the object where there is none."""
        config = admission.decoded(kind, body, strict=options.strict)
        meta = config["metadata"]
        if meta.get("managedFields"):
            raise status.bad_request("metadata.managedFields must be nil")
        if meta.setdefault("name", name) != name:
            raise status.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            )
        self._place(kind, namespace, config, exists=True)
        live = self.store.get(kind, namespace, name)
        if live is not None:
            self._preconditions(kind, live, meta)
        elif subresource:
            raise status.not_found(kind, name)
        elif meta.get("uid") or meta.get("resourceVersion"):
            raise status.conflict(kind, name, "the object does not exist, but uid or resourceVersion was given")
        manager = Manager(options.manager, "Apply", kind.api_version, subresource)
        owned = apply.read_managers(dig(live, "metadata", "managedFields"))
        if subresource or admission.has_status(kind):
            config = {
                key: value
                for key, value in config.items()
                if (key == "status") is (subresource == "status") or key in ("apiVersion", "kind", "metadata")
            }
        start: Obj = live or {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}}
        obj, managers = apply.apply(
            start,
            config,
            rules_of(kind),
            owned,
            manager,
            lambda merged: with_defaults(kind, merged),
            force=options.force,
            now=self.writer.now(),
        )
        if live is None:
            self._place(kind, namespace, obj)
            admission.for_creation(kind, obj)
            self._fill(kind, obj, None)
            return self._insert(kind, obj, managers, options)
        obj = admission.for_update(kind, obj, live, subresource)
        self._fill(kind, obj, live)
        return self._store(kind, live, obj, managers, options)

    def _replace(self, kind: Kind, live: Obj, obj: Obj, subresource: str, options: Options) -> Written:
        self._preconditions(kind, live, obj["metadata"])
        given = metadata(obj).get("managedFields")
        base = given if given else metadata(live).get("managedFields")
        obj = admission.for_update(kind, obj, live, subresource)
        self._fill(kind, obj, live)
        manager = Manager(options.manager, "Update", kind.api_version, subresource)
        managers = apply.after_update(
            live, obj, rules_of(kind), apply.read_managers(base), manager, self.writer.now()
        )
        return self._store(kind, live, obj, managers, options)

    def _scaled(self, kind: Kind, live: Obj, body: Any, options: Options) -> Written:
        self._preconditions(kind, live, metadata(body if isinstance(body, dict) else {}))
        replicas = scale.replicas(body, kind, name_of(live))
        obj = {**live, "spec": {**live["spec"], "replicas": replicas}}
        written = self._replace(kind, live, obj, "", options)
        return Written(scale.view(written.obj))

    def _preconditions(self, kind: Kind, live: Obj, meta: Obj) -> None:
        """Raises StatusError 409 unless uid and resourceVersion, where given, are those of the live object."""
        uid = meta.get("uid")
        if uid and uid != live["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live['metadata']['uid']}"
            raise status.conflict(kind, name_of(live), why)
        version = meta.get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise status.modified(kind, name_of(live))

    def _place(self, kind: Kind, namespace: str, obj: Obj, *, exists: bool = False) -> None:
        """Put the namespace of the path into the object. A new object needs a namespace that exists and is not
        going."""
        meta = obj["metadata"]
        if not kind.namespaced:
            meta.pop("namespace", None)
            return
        if meta.setdefault("namespace", namespace) != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                f"request ({meta['namespace']} and {namespace})"
            )
        if exists:
            return
        home = self.live(self._namespaces, "", namespace)
        if home["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = status.Cause(
                "NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace"
            )
            raise status.forbidden(kind, str(meta.get("name", "")), why, [cause])

    def _fill(self, kind: Kind, obj: Obj, live: Obj | None) -> None:
        """Defaults, validation and addresses, in this order, in place."""
        with_defaults(kind, obj)
        is_service = (kind.group, kind.kind) == ("", "Service")
        try:
            # Only an update has values to keep; they must be there before validation.
            if is_service and live is not None and isinstance(obj.get("spec"), dict):
                self.writer.addresses.assign(obj, live)
            admission.check(kind, obj, live)
            if is_service and live is None:
                self.writer.addresses.assign(obj, None)
        except AllocationError as error:
            raise status.invalid(kind, name_of(obj), [error.cause]) from None

    def _insert(self, kind: Kind, obj: Obj, managers: Managers, options: Options) -> Written:
        obj["metadata"] |= {
            "uid": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "creationTimestamp": self.writer.now(),
            "generation": 1,
        }
        obj["metadata"]["managedFields"] = apply.write_managers(managers)
        warnings = unplayed.warnings(kind, obj, None)
        if options.dry_run:
            return Written(obj, True, warnings)
        stored = self.writer.put(kind, obj)
        deletion.collect_orphan(self.writer, kind, stored)
        return Written(stored, True, warnings)

    def _store(self, kind: Kind, live: Obj, obj: Obj, managers: Managers, options: Options) -> Written:
        meta = obj["metadata"]
        meta["managedFields"] = apply.write_managers(managers)
        meta["resourceVersion"] = live["metadata"]["resourceVersion"]
        meta["generation"] = admission.generation(kind, obj, live)
        if obj == live:
            return Written(live)
        warnings = unplayed.warnings(kind, obj, live)
        if options.dry_run:
            return Written(obj, False, warnings)
        if deletion.is_done(self.writer, kind, obj):
            # As upstream: watches see the write that removes the last finalizer only as a deletion.
            deletion.remove(self.writer, kind, live)
            return Written(obj)
        return Written(self.writer.put(kind, obj), False, warnings)

"""What makes pods: ReplicaSets, Jobs and StatefulSets, as far as clients follow from them."""

from collections.abc import Callable
from typing import Any

from moorage.api.apps_v1 import ReplicaSet, StatefulSet
from moorage.api.batch_v1 import Job
from moorage.api.meta import OwnerReference
from moorage.cluster.client import Client
from moorage.cluster.metadata import MetadataOnly
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import BY_NAMESPACE, Change
from moorage.core.clients import Owners, StatefulSetFacts
from moorage.operator.slim import slim_job, slim_replica_set, slim_stateful_set


class PodMakers:
    """Whoever has this runs `reflectors`. `changed(namespace, kind, name)` is called when what `of` says of one of
    these objects has changed."""

    def __init__(self, client: Client, changed: Callable[[str, str, str], None]) -> None:
        self._changed = changed
        self._of: dict[str, Owners] = {}
        """By namespace, until something of it changes."""
        metadata, by = MetadataOnly(client), [BY_NAMESPACE]
        self._replica_sets = Reflector(
            metadata, ReplicaSet, on_change=self._controller_changed, transform=slim_replica_set, indexes=by
        )
        self._jobs = Reflector(metadata, Job, on_change=self._controller_changed, transform=slim_job, indexes=by)
        self._sets = Reflector(
            client, StatefulSet, on_change=self._set_changed, transform=slim_stateful_set, indexes=by
        )
        self.reflectors: tuple[Reflector[Any], ...] = (self._replica_sets, self._jobs, self._sets)

    def of(self, namespace: str) -> Owners:
        """What makes the pods of a namespace."""
        if namespace not in self._of:
            self._of[namespace] = self._read(namespace)
        return self._of[namespace]

    def _read(self, namespace: str) -> Owners:
        replica_sets = self._replica_sets.store.by(BY_NAMESPACE, namespace)
        jobs = self._jobs.store.by(BY_NAMESPACE, namespace)
        sets = self._sets.store.by(BY_NAMESPACE, namespace)
        return Owners(
            {(type(each).__name__, each.metadata.name): _controller(each) for each in (*replica_sets, *jobs)},
            {each.metadata.name: _facts(each) for each in sets},
        )

    def _controller_changed(self, change: Change[Any]) -> None:
        (namespace, name), old, new = change
        # If it is gone, its workload may be gone with it, and has had no pods.
        if old is None or new is None or _controller(old) != _controller(new):
            self._tell(namespace, type(old or new).__name__, name)

    def _set_changed(self, change: Change[StatefulSet]) -> None:
        (namespace, name), old, new = change
        before, after = (_facts(each) if each else None for each in (old, new))
        if before != after:
            self._tell(namespace, "StatefulSet", name)

    def _tell(self, namespace: str, kind: str, name: str) -> None:
        self._of.pop(namespace, None)
        self._changed(namespace, kind, name)


def _controller(obj: ReplicaSet | Job) -> OwnerReference | None:
    (controller,) = obj.metadata.owner_references or (None,)
    return controller


def _facts(obj: StatefulSet) -> StatefulSetFacts:
    replicas, ordinals = obj.spec.replicas, obj.spec.ordinals
    return StatefulSetFacts(1 if replicas is None else replicas, ordinals.start or 0 if ordinals else 0)

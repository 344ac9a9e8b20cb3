"""What makes pods, as decisions read it, and what is told of its changes."""

from typing import Any

from msgspec.structs import replace

from moorage.api.apps_v1 import ReplicaSet, StatefulSet, StatefulSetOrdinals, StatefulSetSpec
from moorage.api.batch_v1 import Job
from moorage.api.meta import ObjectMeta, OwnerReference
from moorage.cluster.store import Change
from moorage.core.clients import Owners, StatefulSetFacts
from moorage.operator.pod_makers import PodMakers

DEPLOYMENT = OwnerReference(api_version="apps/v1", kind="Deployment", name="a", uid="1", controller=True)


class Fixture:
    def __init__(self) -> None:
        self.changed: list[tuple[str, ...]] = []
        client: Any = None
        self.makers = PodMakers(client, lambda *which: self.changed.append(which))

    def shown(self, kind: type[Any], name: str, new: Any) -> list[tuple[str, ...]]:
        """The watch shows this; what is told of it."""
        (reflector,) = (each for each in self.makers.reflectors if each.kind == kind.__name__)
        meta = ObjectMeta(name=name, namespace="default")
        old = reflector.store.get(meta.key)
        if new is None:
            reflector.store.discard(meta.key)
        else:
            new = replace(new, metadata=replace(new.metadata, name=name, namespace="default"))
            reflector.store.put(new)
        self.changed.clear()
        reflector._on_change(Change(meta.key, old, new))
        return self.changed


def test_replica_sets_and_jobs_are_told_as_they_come_go_or_change_hands() -> None:
    fixture = Fixture()
    made = ReplicaSet(metadata=ObjectMeta(name="a-1", owner_references=[DEPLOYMENT]))
    assert fixture.makers.of("default") == Owners()
    assert fixture.shown(ReplicaSet, "a-1", made) == [("default", "ReplicaSet", "a-1")]
    assert fixture.shown(ReplicaSet, "a-1", made) == []
    assert fixture.shown(Job, "once", Job(metadata=ObjectMeta(name="once"))) == [("default", "Job", "once")]
    assert fixture.makers.of("default").controllers == {("ReplicaSet", "a-1"): DEPLOYMENT, ("Job", "once"): None}
    assert fixture.makers.of("elsewhere") == Owners()
    orphaned = ReplicaSet(metadata=ObjectMeta(name="a-1"))
    assert fixture.shown(ReplicaSet, "a-1", orphaned) == [("default", "ReplicaSet", "a-1")]
    assert fixture.makers.of("default").controllers["ReplicaSet", "a-1"] is None
    assert fixture.shown(ReplicaSet, "a-1", None) == [("default", "ReplicaSet", "a-1")]
    assert list(fixture.makers.of("default").controllers) == [("Job", "once")]


def test_of_stateful_sets_only_which_pods_they_have_counts() -> None:
    fixture = Fixture()
    told = [("default", "StatefulSet", "db")]
    one = StatefulSet(metadata=ObjectMeta(name="db"))
    assert fixture.shown(StatefulSet, "db", one) == told
    assert fixture.makers.of("default").stateful_sets == {"db": StatefulSetFacts(1)}
    spec = StatefulSetSpec(replicas=0, ordinals=StatefulSetOrdinals(start=5))
    assert fixture.shown(StatefulSet, "db", replace(one, spec=spec)) == told
    assert fixture.shown(StatefulSet, "db", replace(one, spec=spec)) == []
    assert fixture.makers.of("default").stateful_sets == {"db": StatefulSetFacts(0, 5)}
    assert fixture.shown(StatefulSet, "db", None) == told
    assert fixture.makers.of("default") == Owners()

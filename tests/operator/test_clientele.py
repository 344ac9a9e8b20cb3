"""What moorings are decided from: which groups a change touches, and that others cost nothing."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from moorage.api.apps_v1 import ReplicaSet, StatefulSet, StatefulSetOrdinals, StatefulSetSpec
from moorage.api.batch_v1 import Job
from moorage.api.core_v1 import Node, Pod, PodSpec, PodStatus
from moorage.api.meta import LabelSelector, Object, ObjectKey, ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS, MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec
from moorage.api.topology import ZONE_LABEL
from moorage.cluster.client import Bookmark
from moorage.cluster.errors import ApiError
from moorage.cluster.events import Event
from moorage.cluster.reading import Listing
from moorage.cluster.store import Change, Store
from moorage.core.clients import Owners, StatefulSetFacts, clients_of
from moorage.core.mooring_model import Clients
from moorage.core.roster import Roster
from moorage.operator.clientele import PODS_OF_A_TURN, Clientele

GROUP, OTHER = ObjectKey("default", "backend"), ObjectKey("default", "other")
PODS = MooringConfig(client="Pod", pod_selector=LabelSelector(match_labels={"app": "a"}))
NODES, ZONES, NAMESPACE = (MooringConfig(client=each) for each in ("Node", "Zone", "Namespace"))
DEPLOYMENT = OwnerReference(api_version="apps/v1", kind="Deployment", name="a", uid="1", controller=True)
SET = OwnerReference(api_version="apps/v1", kind="StatefulSet", name="db", uid="1", controller=True)


class Api:
    """Lists and watches that do as the test says."""

    def __init__(self) -> None:
        self.objects: dict[type[Object], list[Object]] = {}
        self.refused: set[type[Object]] = set()
        self.listed: list[tuple[type[Object], bool]] = []
        """What has been listed, and whether only its metadata."""
        self._events: dict[type[Object], asyncio.Queue[Event[Any]]] = {}

    async def list(self, kind: type[Any], namespace: str | None = None, **how: Any) -> Listing[Any]:
        if kind in self.refused:
            raise ApiError(403, "Forbidden", "no")
        self.listed.append((kind, bool(how.get("metadata_only"))))
        return Listing(self.objects.get(kind, []), "1")

    async def watch(self, kind: type[Any], namespace: str | None = None, **how: Any) -> AsyncGenerator[Any, None]:
        yield Bookmark("1")
        queue = self._events.setdefault(kind, asyncio.Queue())
        while True:
            yield await queue.get()

    async def tell(self, type_: Literal["ADDED", "MODIFIED", "DELETED"], obj: Object) -> None:
        self._events.setdefault(type(obj), asyncio.Queue()).put_nowait(Event(type_, obj))
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Fixture:
    def __init__(self) -> None:
        self.api = Api()
        self.pods, self.nodes = Store[Pod](), Store[Node]()
        self._touched: list[ObjectKey] = []
        self.clients = Clientele(self.api, self.pods, self.nodes, self._touched.append)  # type: ignore[arg-type]

    def touched(self) -> set[ObjectKey]:
        """Which groups have been since the last call."""
        found = set(self._touched)
        self._touched.clear()
        return found

    def pod(self, new: Pod) -> None:
        old = self.pods.get(new.metadata.key)
        self.pods.put(new)
        self.clients.pod_changed(Change(new.metadata.key, old, new))

    def pod_gone(self, name: str) -> None:
        key = ObjectKey("default", name)
        self.clients.pod_changed(Change(key, self.pods.discard(key), None))

    def node(self, name: str, zone: str | None = None, version: str = "1") -> None:
        labels = {ZONE_LABEL: zone} if zone else None
        new = Node(metadata=ObjectMeta(name=name, uid=name, resource_version=version, labels=labels))
        old = self.nodes.get(new.metadata.key)
        self.nodes.put(new)
        self.clients.node_changed(Change(new.metadata.key, old, new))


@pytest.fixture
async def fixture() -> Fixture:
    return Fixture()


@pytest.fixture
async def running(fixture: Fixture) -> AsyncIterator[Fixture]:
    task = asyncio.create_task(fixture.clients.run())
    await settle()
    yield fixture
    task.cancel()
    await asyncio.wait([task])


def pod(
    name: str, app: str = "a", namespace: str = "default", owner: OwnerReference | None = None, **meta: Any
) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            uid=name,
            labels={"app": app},
            owner_references=[owner] if owner else None,
            **meta,
        )
    )


def mooring(name: str, version: str, group: str = "backend", endpoint: str = "one") -> Mooring:
    return Mooring(
        metadata=ObjectMeta(name=name, namespace="default", uid=name, resource_version=version),
        spec=MooringSpec(group=group, client=MooringClient(kind="Pod", name=name), endpoint=endpoint),
    )


# --- Pods and nodes -------------------------------------------------------------------------------------------------


async def test_a_pod_touches_the_groups_that_select_it_as_it_comes_and_goes(fixture: Fixture) -> None:
    fixture.clients.want(GROUP, PODS)
    fixture.clients.want(OTHER, MooringConfig(client="Pod", pod_selector=LabelSelector(match_labels={"app": "b"})))
    fixture.clients.want(ObjectKey("elsewhere", "backend"), PODS)
    fixture.pod(pod("a-1"))
    assert fixture.touched() == {GROUP}
    fixture.pod(pod("a-1", "b"))
    assert fixture.touched() == {GROUP, OTHER}
    fixture.pod_gone("a-1")
    assert fixture.touched() == {OTHER}
    fixture.pod(pod("c-1", "c"))
    assert fixture.touched() == set()


async def test_what_no_decision_reads_of_a_pod_touches_nothing(fixture: Fixture) -> None:
    fixture.clients.want(GROUP, PODS)
    fixture.pod(pod("a-1"))
    fixture.touched()
    running = replace(
        pod("a-1"), spec=PodSpec(node_name="node-1"), status=PodStatus(phase="Running", pod_ip="10.244.0.7")
    )
    fixture.pod(running)
    assert fixture.touched() == set()
    fixture.pod(replace(running, status=PodStatus(phase="Succeeded")))
    assert fixture.touched() == {GROUP}


async def test_a_pod_in_the_network_of_its_node_touches_as_it_gets_one(fixture: Fixture) -> None:
    fixture.clients.want(GROUP, PODS)
    fixture.pod(replace(pod("a-1"), spec=PodSpec(host_network=True)))
    fixture.touched()
    fixture.pod(replace(pod("a-1"), spec=PodSpec(host_network=True, node_name="node-1")))
    assert fixture.touched() == {GROUP}


async def test_a_pod_that_a_stateful_set_made_touches_also_without_being_selected(fixture: Fixture) -> None:
    fixture.clients.want(GROUP, PODS)
    fixture.pod(pod("db-0", "other", owner=SET))
    assert fixture.touched() == {GROUP}


async def present(fixture: Fixture, group: ObjectKey = GROUP) -> list[str]:
    await fixture.clients.until_indexed(group)
    return sorted(key.name for key in fixture.clients.roster(group).present)


async def test_pods_of_a_namespace_are_clients_from_its_first_group_to_its_last(fixture: Fixture) -> None:
    fixture.pod(pod("a-1"))
    fixture.pod(pod("a-1", namespace="elsewhere"))
    assert await present(fixture) == []
    fixture.clients.want(GROUP, PODS)
    fixture.pod(pod("a-2"))
    assert await present(fixture) == ["a-1", "a-2"]
    fixture.pod_gone("a-1")
    assert await present(fixture) == ["a-2"]
    fixture.clients.want(OTHER, PODS)
    fixture.clients.want(GROUP, NAMESPACE)
    fixture.touched()
    fixture.pod(pod("a-3"))
    assert fixture.touched() == {OTHER}
    assert await present(fixture) == ["default"]
    assert await present(fixture, OTHER) == ["a-2", "a-3"]
    fixture.clients.want(OTHER, None)
    assert await present(fixture, OTHER) == []
    fixture.pod(pod("a-4"))
    assert fixture.touched() == set()


async def test_thousands_of_pods_are_looked_at_in_turns_and_what_changes_meanwhile_counts(fixture: Fixture) -> None:
    for number in range(3 * PODS_OF_A_TURN):
        fixture.pod(pod(f"a-{number}"))
    fixture.clients.want(GROUP, PODS)
    indexing = asyncio.create_task(fixture.clients.until_indexed(GROUP))
    await asyncio.sleep(0)
    seen = len(fixture.clients.roster(GROUP).present)
    assert 0 < seen < 3 * PODS_OF_A_TURN
    for name in ("a-0", f"a-{3 * PODS_OF_A_TURN - 1}"):
        fixture.pod_gone(name)
    fixture.pod(pod("a-1", "b"))
    fixture.pod(pod("b-1"))
    await indexing
    assert len(await present(fixture)) == 3 * PODS_OF_A_TURN - 3 + 1


def whole(fixture: Fixture, group: ObjectKey, config: MooringConfig | None) -> Roster:
    """The roster of a group, from all that there is now."""
    found = Clients()
    if config is not None:
        pods = [each for key, each in fixture.pods.items() if key.namespace == group.namespace]
        owners = fixture.clients.owners(group.namespace)
        found = clients_of(config, group.namespace, pods, fixture.nodes.values(), owners)
    return Roster.of(found.present, fixture.clients.moorings(group))


@pytest.mark.parametrize("seed", range(10))
async def test_rosters_are_right_whatever_has_changed_before(running: Fixture, seed: int) -> None:
    chance = random.Random(seed)
    workloads = MooringConfig(client="Workload", pod_selector=PODS.pod_selector)
    labels = MooringConfig(client="Label", label="app", pod_selector=LabelSelector())
    configs: dict[ObjectKey, MooringConfig | None] = dict.fromkeys((GROUP, OTHER))
    replicas = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="a-1", uid="1", controller=True)
    held: dict[str, Mooring] = {}
    made = False
    for step in range(150):
        version, name = str(step + 2), chance.choice("abcd")
        match chance.choice(["config", "pod", "pod", "pod", "pod gone", "node", "node gone", "owner", "mooring"]):
            case "config":
                group = chance.choice([GROUP, OTHER])
                configs[group] = chance.choice([PODS, workloads, labels, NODES, ZONES, NAMESPACE, None])
                running.clients.want(group, configs[group])
            case "pod":
                new = pod(name, chance.choice("ab"), owner=chance.choice([None, SET, replicas]))
                hosted = PodSpec(host_network=chance.random() < 0.3, node_name=chance.choice(["n1", "n2", None]))
                running.pod(replace(new, spec=hosted, status=PodStatus(phase=chance.choice(["Running", "Failed"]))))
            case "pod gone":
                running.pod_gone(name)
            case "node":
                running.node(chance.choice(["n1", "n2"]), chance.choice(["eu-1a", "eu-1b", None]), version)
            case "node gone":
                key = ObjectKey("", chance.choice(["n1", "n2"]))
                running.clients.node_changed(Change(key, running.nodes.discard(key), None))
            case "owner":
                meta = ObjectMeta(name="a-1", namespace="default", uid="1", resource_version=version)
                by = chance.choice([[DEPLOYMENT], None])
                kind: Literal["ADDED", "MODIFIED", "DELETED"] = "ADDED" if not made else "MODIFIED"
                if made and chance.random() < 0.5:
                    kind = "DELETED"
                made = kind != "DELETED"
                await running.api.tell(kind, ReplicaSet(metadata=replace(meta, owner_references=by)))
            case "mooring":
                new_mooring = mooring(
                    name, version, chance.choice(["backend", "other"]), chance.choice(["one", "two"])
                )
                if chance.random() < 0.5:
                    running.clients.wrote(new_mooring, made=name not in held)
                kinds: Any = ["MODIFIED" if name in held else "ADDED"]
                await running.api.tell(kinds[0], new_mooring)
                held[name] = new_mooring
                if chance.random() < 0.3:
                    running.clients.gone(ObjectKey("default", name))
                    await running.api.tell("DELETED", held.pop(name))
        await settle()
        for group, config in configs.items():
            await running.clients.until_indexed(group)
            assert running.clients.roster(group) == whole(running, group, config)
            mine = [each for each in held.values() if each.spec.group == group.name]
            assert {each.metadata.name: each for each in mine} == running.clients.roster(group).moorings
    assert running.clients._rosters.keys() <= {GROUP, OTHER}


async def test_a_node_touches_groups_of_nodes_and_zones_as_it_comes_goes_or_changes_its_zone(
    fixture: Fixture,
) -> None:
    fixture.clients.want(GROUP, NODES)
    fixture.clients.want(OTHER, ZONES)
    fixture.clients.want(ObjectKey("default", "pods"), PODS)
    fixture.node("n1")
    assert fixture.touched() == {GROUP, OTHER}
    fixture.node("n1", version="2")
    assert fixture.touched() == set()
    fixture.node("n1", "eu-1a", version="3")
    assert fixture.touched() == {GROUP, OTHER}
    key = ObjectKey("", "n1")
    fixture.clients.node_changed(Change(key, fixture.nodes.discard(key), None))
    assert fixture.touched() == {GROUP, OTHER}


# --- What makes pods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", KINDS_OF_PODS)
async def test_what_makes_pods_is_followed_for_every_client_that_is_pods(running: Fixture, client: str) -> None:
    """Also for Label: a pod of a StatefulSet without it is itself, and expected back."""
    config = replace(PODS, client=client, label="tenant" if client == "Label" else None)
    running.clients.want(GROUP, config)
    assert not running.clients.knows(config)
    await settle()
    assert running.clients.knows(config)
    assert StatefulSet in {kind for kind, _ in running.api.listed}


async def test_what_makes_pods_is_followed_from_the_first_group_that_needs_it(running: Fixture) -> None:
    running.clients.want(GROUP, NODES)
    await settle()
    assert running.api.listed == [(Mooring, False)]
    assert running.clients.knows(NODES)
    assert not running.clients.knows(PODS)
    running.clients.want(OTHER, PODS)
    await settle()
    assert set(running.api.listed) == {(Mooring, False), (ReplicaSet, True), (Job, True), (StatefulSet, False)}
    assert running.clients.knows(PODS)
    assert OTHER in running.touched()


async def test_replica_sets_and_jobs_tell_what_controls_them(running: Fixture) -> None:
    running.clients.want(GROUP, PODS)
    await settle()
    running.touched()
    meta = ObjectMeta(name="a-1", namespace="default", uid="1", resource_version="2", owner_references=[DEPLOYMENT])
    await running.api.tell("ADDED", ReplicaSet(metadata=meta))
    assert running.touched() == {GROUP}
    await running.api.tell("MODIFIED", ReplicaSet(metadata=replace(meta, resource_version="3")))
    assert running.touched() == set()
    await running.api.tell("ADDED", Job(metadata=replace(meta, name="once", owner_references=None)))
    assert running.clients.owners("default").controllers == {("ReplicaSet", "a-1"): DEPLOYMENT, ("Job", "once"): None}
    assert running.clients.owners("elsewhere") == Owners()
    running.touched()
    await running.api.tell("DELETED", ReplicaSet(metadata=replace(meta, resource_version="4")))
    assert list(running.clients.owners("default").controllers) == [("Job", "once")]
    assert running.touched() == {GROUP}, "a workload without pods is gone with its last ReplicaSet"


async def test_stateful_sets_tell_which_pods_they_have(running: Fixture) -> None:
    running.clients.want(GROUP, PODS)
    await settle()
    running.touched()
    meta = ObjectMeta(name="db", namespace="default", uid="1", resource_version="2")
    await running.api.tell("ADDED", StatefulSet(metadata=meta))
    assert running.clients.owners("default").stateful_sets == {"db": StatefulSetFacts(1)}
    assert running.touched() == {GROUP}
    spec = StatefulSetSpec(replicas=0, ordinals=StatefulSetOrdinals(start=5))
    for version in ("3", "4"):
        await running.api.tell("MODIFIED", StatefulSet(metadata=replace(meta, resource_version=version), spec=spec))
    assert running.clients.owners("default").stateful_sets == {"db": StatefulSetFacts(0, 5)}
    assert running.touched() == {GROUP}
    await running.api.tell("MODIFIED", StatefulSet(metadata=replace(meta, resource_version="5"), spec=spec))
    assert running.touched() == set()
    await running.api.tell("DELETED", StatefulSet(metadata=replace(meta, resource_version="6")))
    assert running.clients.owners("default").stateful_sets == {}
    assert running.touched() == {GROUP}


# --- Moorings -------------------------------------------------------------------------------------------------------


async def test_moorings_that_others_change_touch_their_group(running: Fixture) -> None:
    await running.api.tell("ADDED", mooring("a", "2"))
    assert running.touched() == {GROUP}
    await running.api.tell("MODIFIED", mooring("a", "3", endpoint="two"))
    assert running.touched() == {GROUP}
    [found] = running.clients.moorings(GROUP)
    assert found.spec.endpoint == "two"
    await running.api.tell("DELETED", mooring("a", "4"))
    assert running.touched() == {GROUP}
    assert running.clients.moorings(GROUP) == []


async def test_our_own_writes_are_there_at_once_and_touch_nothing_when_the_watch_shows_them(running: Fixture) -> None:
    running.clients.wrote(mooring("a", "2"), made=True)
    assert [each.metadata.name for each in running.clients.moorings(GROUP)] == ["a"]
    await running.api.tell("ADDED", mooring("a", "2"))
    running.clients.wrote(mooring("a", "3", endpoint="two"), made=False)
    await running.api.tell("MODIFIED", mooring("a", "3", endpoint="two"))
    [found] = running.clients.moorings(GROUP)
    assert found.spec.endpoint == "two"
    running.clients.gone(ObjectKey("default", "a"))
    assert running.clients.moorings(GROUP) == []
    await running.api.tell("DELETED", mooring("a", "4"))
    assert running.touched() == set()


async def test_our_own_write_touches_nothing_when_the_watch_shows_it_before_it_is_answered(running: Fixture) -> None:
    for made, version in ((True, "2"), (False, "3")):
        with running.clients.writing(ObjectKey("default", "a")):
            await running.api.tell("ADDED" if made else "MODIFIED", mooring("a", version))
            running.clients.wrote(mooring("a", version), made)
        assert running.touched() == set()


async def test_but_what_others_write_meanwhile_does(running: Fixture) -> None:
    with running.clients.writing(ObjectKey("default", "a")):
        await running.api.tell("ADDED", mooring("a", "2"))
        await running.api.tell("MODIFIED", mooring("a", "3", endpoint="two"))
        running.clients.wrote(mooring("a", "2"), made=True)
    assert running.touched() == {GROUP}
    with running.clients.writing(ObjectKey("default", "a")):
        await running.api.tell("MODIFIED", mooring("a", "4"))
    assert running.touched() == {GROUP}, "the write was refused"
    await running.api.tell("MODIFIED", mooring("a", "5"))
    assert running.touched() == {GROUP}


async def test_a_mooring_is_found_under_the_group_that_it_has_now(running: Fixture) -> None:
    await running.api.tell("ADDED", mooring("a", "2"))
    await running.api.tell("DELETED", mooring("a", "3"))
    await running.api.tell("ADDED", mooring("a", "4", "other"))
    assert running.clients.moorings(GROUP) == []
    assert len(running.clients.moorings(OTHER)) == 1
    assert running.touched() == {GROUP, OTHER}


async def test_moorings_that_may_not_be_read_hold_nobody_up_and_touch_their_groups_once_they_may(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.cluster.reflector.backoff", lambda *args: 0.01)
    fixture.api.refused.add(Mooring)
    fixture.clients.want(GROUP, NODES)
    task = asyncio.create_task(fixture.clients.run())
    await asyncio.wait_for(fixture.clients.until_answered(), 10)
    assert not fixture.clients.knows(NODES)
    fixture.api.objects[Mooring] = [mooring("a", "1", "other")]
    fixture.touched()
    fixture.api.refused.clear()
    async with asyncio.timeout(10):
        while not fixture.clients.knows(NODES):  # noqa: ASYNC110  # for whatever is followed, at some time
            await asyncio.sleep(0.01)
    await settle()
    assert fixture.touched() == {GROUP, OTHER}
    task.cancel()
    await asyncio.wait([task])

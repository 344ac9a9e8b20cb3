"""Who is a client, line by line of what `mooring.client` may say."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.core_v1 import Node, Pod, PodSpec, PodStatus
from moorage.api.meta import LabelSelector, ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import CLIENT_KINDS, MooringConfig
from moorage.core.clients import ClientIndex, Owners, StatefulSetFacts, clients_of, needed_for
from moorage.core.mooring_model import Client, ClientKey, Clients

NAMESPACE = "frontend"
FRONTENDS = LabelSelector(match_labels={"app": "frontend"})
ZONE = "topology.kubernetes.io/zone"
TENANT = "example.com/tenant"


def owner(kind: str, name: str, api_version: str = "apps/v1") -> OwnerReference:
    return OwnerReference(api_version=api_version, kind=kind, name=name, uid=f"uid-{name}", controller=True)


def pod(
    name: str,
    by: OwnerReference | None = None,
    *,
    node: str | None = None,
    host_network: bool = False,
    phase: str | None = None,
    going: bool = False,
    **labels: str,
) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=NAMESPACE,
            uid=f"uid-{name}",
            labels={"app": "frontend"} | {key.replace("tenant", TENANT): value for key, value in labels.items()},
            owner_references=[by] if by else None,
            deletion_timestamp="2026-11-30T00:00:00Z" if going else None,
        ),
        spec=PodSpec(node_name=node, host_network=host_network or None),
        status=PodStatus(phase=phase),
    )


def node(name: str, zone: str | None = None) -> Node:
    return Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}", labels={ZONE: zone} if zone else None))


def config(client: str, **more: Any) -> MooringConfig:
    if client in ("Pod", "Workload", "Label"):
        more.setdefault("pod_selector", FRONTENDS)
    if client == "Label":
        more.setdefault("label", TENANT)
    return MooringConfig(client=client, **more)


NOBODY = Owners()


def found(
    client: str, pods: Iterable[Pod] = (), nodes: Iterable[Node] = (), owners: Owners = NOBODY, **more: Any
) -> Clients:
    return clients_of(config(client, **more), NAMESPACE, pods, nodes, owners)


def keys(clients: Clients) -> list[str]:
    return sorted(map(str, clients.present))


STATEFUL = owner("StatefulSet", "db")
REPLICAS = owner("ReplicaSet", "frontend-7d4b9")
DEPLOYED = Owners({("ReplicaSet", "frontend-7d4b9"): owner("Deployment", "frontend")})
THREE = Owners(stateful_sets={"db": StatefulSetFacts(3)})


# --- Pod ----------------------------------------------------------------------------------------------------------


def test_each_pod_is_a_client_from_the_moment_it_is_created() -> None:
    pending = pod("db-0", STATEFUL, phase="Pending")
    (client,) = found("Pod", [pending]).present.values()
    assert client.key == ClientKey("Pod", "db-0")
    assert client.owner == "StatefulSet/db"
    assert client.subject is not None
    subject = client.subject
    assert (subject.api_version, subject.kind, subject.namespace, subject.name, subject.uid) == (
        *("v1", "Pod"),
        *(NAMESPACE, "db-0", "uid-db-0"),
    )


def test_pods_of_one_rollout_have_one_owner_and_those_of_the_next_another() -> None:
    pods = [pod("a", REPLICAS), pod("b", REPLICAS), pod("c", owner("ReplicaSet", "frontend-58c6f"))]
    owners = [each.owner for each in found("Pod", pods, owners=DEPLOYED).present.values()]
    assert owners == ["ReplicaSet/frontend-7d4b9", "ReplicaSet/frontend-7d4b9", "ReplicaSet/frontend-58c6f"]


def test_only_selected_pods_are_clients() -> None:
    assert keys(found("Pod", [pod("a"), pod("cleanup-28", app="cleanup")])) == ["Pod a"]


def test_an_empty_selector_selects_all_and_none_at_all_nothing() -> None:
    pods = [pod("a"), pod("b", app="other")]
    assert keys(found("Pod", pods, pod_selector=LabelSelector())) == ["Pod a", "Pod b"]
    assert found("Pod", pods, pod_selector=None) == Clients()


@pytest.mark.parametrize("client", ["Pod", "Workload", "Label"])
@pytest.mark.parametrize("gone", [{"phase": "Succeeded"}, {"phase": "Failed"}, {"going": True}])
def test_a_pod_that_has_finished_or_is_going_is_no_load(client: str, gone: dict[str, Any]) -> None:
    assert found(client, [pod("a", tenant="acme", **gone)]).present == {}


def test_a_pod_in_its_nodes_network_is_the_nodes_client_once_it_has_a_node() -> None:
    pods = [pod("a", host_network=True, node="n1"), pod("b", host_network=True, node="n1"), pod("c")]
    pods.append(pod("d", host_network=True))
    clients = found("Pod", pods, [node("n1", "eu-1a"), node("n2")])
    assert keys(clients) == ["Node n1", "Pod c"]
    of_node = clients.present[ClientKey("Node", "n1")]
    assert of_node == found("Node", nodes=[node("n1", "eu-1a")]).present[of_node.key]


# --- What is expected ---------------------------------------------------------------------------------------------


def test_the_pods_of_a_stateful_set_are_expected_by_its_replicas() -> None:
    expected = found("Pod", owners=Owners(stateful_sets={"db": StatefulSetFacts(2, first=5)})).expected
    names = ("db-4", "db-5", "db-6", "db-7", "db-05", "db-", "db", "other-5", "x-db-5", "db-٥", "db-+5")
    assert [name for name in names if ClientKey("Pod", name) in expected] == ["db-5", "db-6"]
    assert ClientKey("Node", "db-5") not in expected


def test_a_stateful_set_of_any_size_costs_nothing() -> None:
    expected = found("Pod", owners=Owners(stateful_sets={"db": StatefulSetFacts(2**31 - 1)})).expected
    assert ClientKey("Pod", "db-2147483646") in expected
    assert ClientKey("Pod", "db-2147483647") not in expected


@pytest.mark.parametrize("away", [{"phase": "Failed"}, {"phase": "Succeeded"}, {"going": True}])
def test_a_pod_of_a_stateful_set_that_is_going_is_expected_again(away: dict[str, Any]) -> None:
    clients = found("Pod", [pod("db-0", STATEFUL, **away)], owners=THREE)
    assert clients.present == {}
    assert ClientKey("Pod", "db-0") in clients.expected


def test_pods_stay_clients_through_the_orphaning_of_their_stateful_set() -> None:
    before = found("Pod", [pod("db-0", STATEFUL)], owners=THREE).present
    assert before.keys() == found("Pod", [pod("db-0")]).present.keys()


@pytest.mark.parametrize("client", ["Pod", "Label"])
@pytest.mark.parametrize(
    "there", [pod("db-0", STATEFUL, app="other"), pod("db-0", STATEFUL, host_network=True, node="n1")]
)
def test_a_pod_that_is_there_and_not_meant_is_not_expected(client: str, there: Pod) -> None:
    assert ClientKey("Pod", "db-0") not in found(client, [there], owners=THREE).expected


def test_a_workload_is_expected_as_long_as_it_is_seen() -> None:
    owners = Owners(
        {
            ("ReplicaSet", "frontend-7d4b9"): owner("Deployment", "frontend"),
            ("Job", "nightly-28"): owner("CronJob", "nightly", "batch/v1"),
            ("Job", "once"): None,
        },
        {"db": StatefulSetFacts(0)},
    )
    expected = found("Workload", owners=owners).expected
    names = ("Deployment/frontend", "CronJob/nightly", "Job/once", "StatefulSet/db", "ReplicaSet/frontend-7d4b9")
    assert [name for name in names if ClientKey("Workload", name) in expected] == [*names[:4]]
    assert ClientKey("Pod", "db-0") not in expected


def test_a_workload_whose_pods_are_not_selected_is_not_expected() -> None:
    clients = found("Workload", [pod("a", REPLICAS, app="other")], owners=DEPLOYED)
    assert ClientKey("Workload", "Deployment/frontend") not in clients.expected


# --- Workload -----------------------------------------------------------------------------------------------------

CUSTOM = Owners(
    {
        ("ReplicaSet", "canary-5f"): owner("Rollout", "canary", "argoproj.io/v1alpha1"),
        ("ReplicaSet", "alone"): None,
        ("Job", "nightly-28"): owner("CronJob", "nightly", "batch/v1"),
        ("Job", "once"): None,
    }
)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (STATEFUL, "Workload StatefulSet/db"),
        (owner("DaemonSet", "log"), "Workload DaemonSet/log"),
        (owner("ReplicaSet", "canary-5f"), "Workload Rollout/canary"),
        (owner("ReplicaSet", "alone"), "Workload ReplicaSet/alone"),
        (owner("Job", "nightly-28", "batch/v1"), "Workload CronJob/nightly"),
        (owner("Job", "once", "batch/v1"), "Workload Job/once"),
        (owner("Cluster", "pg", "postgresql.cnpg.io/v1"), "Workload Cluster/pg"),
        (owner("Job", "nightly-28", "batch.volcano.sh/v1alpha1"), "Workload Job/nightly-28"),
        (owner("Node", "n1", "v1"), "Pod p"),
        (None, "Pod p"),
    ],
)
def test_all_replicas_of_a_workload_are_one_client(by: OwnerReference | None, expected: str) -> None:
    assert keys(found("Workload", [pod("p", by)], owners=CUSTOM)) == [expected]


def test_a_deployment_is_one_client_through_all_its_replica_sets() -> None:
    newer = owner("ReplicaSet", "frontend-58c6f")
    owners = Owners(DEPLOYED.controllers | {("ReplicaSet", newer.name): owner("Deployment", "frontend")})  # type: ignore[operator]
    (client,) = found("Workload", [pod("a", REPLICAS), pod("b", newer)], owners=owners).present.values()
    assert client.key == ClientKey("Workload", "Deployment/frontend")
    assert client.subject is not None
    assert (client.subject.kind, client.subject.name, client.subject.uid) == (
        "Deployment",
        "frontend",
        "uid-frontend",
    )


def test_an_owner_that_does_not_control_the_pod_is_not_its_workload() -> None:
    other = OwnerReference(api_version="v1", kind="ConfigMap", name="c", uid="u")
    assert keys(found("Workload", [pod("p", other)])) == ["Pod p"]


def test_a_pod_whose_replica_set_has_not_been_seen_yet_is_no_client_yet() -> None:
    assert found("Workload", [pod("a", REPLICAS)]).present == {}
    assert keys(found("Workload", [pod("a", REPLICAS)], owners=DEPLOYED)) == ["Workload Deployment/frontend"]
    assert keys(found("Pod", [pod("a", REPLICAS)])) == ["Pod a"]


# --- Label, Node, Zone, Namespace ---------------------------------------------------------------------------------


def test_pods_with_one_value_of_the_label_are_one_client_and_one_without_it_is_itself() -> None:
    pods = [
        pod("a", tenant="Acme"),
        pod("b", tenant="Acme"),
        pod("c", tenant="umbrella"),
        pod("d"),
        pod("e", tenant=""),
    ]
    assert keys(found("Label", pods)) == ["Label Acme", "Label umbrella", "Pod d", "Pod e"]


def test_each_node_is_a_client_with_its_zone_whatever_runs_on_it() -> None:
    clients = found("Node", [pod("a", node="n1")], [node("n1", "eu-1a"), node("n2")])
    assert {str(key): each.zone for key, each in clients.present.items()} == {"Node n1": "eu-1a", "Node n2": ""}
    subjects = [each.subject for each in clients.present.values()]
    assert [(each.kind, each.name, each.uid) for each in subjects if each] == [
        ("Node", "n1", "uid-n1"),
        ("Node", "n2", "uid-n2"),
    ]


def test_each_zone_that_a_node_is_in_is_a_client() -> None:
    nodes = [node("n1", "eu-1b"), node("n2", "eu-1a"), node("n3", "eu-1b"), node("n4")]
    zones = found("Zone", nodes=nodes).present
    assert zones == {
        key: Client(key, zone=key.name) for key in (ClientKey("Zone", "eu-1a"), ClientKey("Zone", "eu-1b"))
    }


def test_a_namespace_is_a_client_also_without_pods() -> None:
    assert keys(found("Namespace")) == ["Namespace frontend"]


# --- What holds of any pods ---------------------------------------------------------------------------------------

makers = st.sampled_from([None, STATEFUL, REPLICAS, owner("ReplicaSet", "unseen"), owner("Job", "once", "batch/v1")])


@st.composite
def some_pods(draw: st.DrawFn) -> list[Pod]:
    return [
        pod(
            name,
            draw(makers),
            node=draw(st.sampled_from([None, "n1", "n2", "gone"])),
            host_network=draw(st.booleans()),
            phase=draw(st.sampled_from([None, "Pending", "Running", "Succeeded", "Failed"])),
            going=draw(st.booleans()),
            app=draw(st.sampled_from(["frontend", "other"])),
            tenant=draw(st.sampled_from(["", "acme", "umbrella"])),
        )
        for name in draw(st.lists(st.sampled_from(["db-0", "db-1", "db-7", "a", "b", "c", "d"]), unique=True))
    ]


NODES = [node("n1", "eu-1a"), node("n2", "eu-1b"), node("n3")]
OWNERS = Owners(DEPLOYED.controllers | {("Job", "once"): None}, THREE.stateful_sets)  # type: ignore[operator]
of_pods = st.sampled_from(["Pod", "Workload", "Label"])


@given(
    st.sampled_from(CLIENT_KINDS), some_pods().flatmap(lambda pods: st.tuples(st.just(pods), st.permutations(pods)))
)
def test_the_order_of_pods_and_nodes_does_not_matter(client: str, both: tuple[Sequence[Pod], Sequence[Pod]]) -> None:
    pods, shuffled = both
    assert found(client, pods, NODES, OWNERS) == found(client, shuffled, NODES[::-1], OWNERS)


@given(of_pods, some_pods())
def test_each_pod_that_lives_and_is_selected_belongs_to_one_client_or_is_not_known_yet(
    client: str, pods: list[Pod]
) -> None:
    clients = found(client, pods, NODES, OWNERS)
    belongs = [found(client, [each], NODES, OWNERS).present for each in pods]
    assert all(len(each) <= 1 for each in belongs)
    assert {key for each in belongs for key in each} == set(clients.present)
    for each, its in zip(pods, belongs, strict=True):
        meta = each.metadata
        lives = meta.deletion_timestamp is None and each.status.phase not in ("Succeeded", "Failed")
        if its:
            assert lives
            assert (meta.labels or {})["app"] == "frontend"
        elif client == "Pod" and lives and (meta.labels or {})["app"] == "frontend":
            assert each.spec.host_network
            assert each.spec.node_name is None


@given(of_pods, some_pods(), st.sampled_from(["db-0", "a"]))
def test_a_pod_that_goes_takes_nobody_elses_client_along(client: str, pods: list[Pod], name: str) -> None:
    with_it = found(client, pods, NODES, OWNERS).present
    without = found(client, [each for each in pods if each.metadata.name != name], NODES, OWNERS).present
    assert without.keys() <= with_it.keys()
    assert len(with_it) - len(without) <= 1


@given(
    st.sampled_from(CLIENT_KINDS), st.lists(some_pods(), min_size=2, max_size=4), st.permutations(NODES), st.data()
)
def test_clients_are_the_same_whether_found_at_once_or_kept_as_pods_and_nodes_change(
    client: str, states: list[list[Pod]], nodes: list[Node], data: st.DataObject
) -> None:
    index = ClientIndex(config(client), NAMESPACE)
    named: dict[str, Node] = {}
    before: dict[str, Pod] = {}
    for pods in states:
        present = data.draw(st.lists(st.sampled_from(nodes), unique_by=lambda each: each.metadata.name))
        new = {each.metadata.name: each for each in present}
        for name in sorted({*named, *new}):
            index.put_node(name, new.get(name))
        changed = {name for name in {*named, *new} if named.get(name) != new.get(name)}
        named, now = new, {each.metadata.name: each for each in pods}
        for name in sorted({*before, *now}):
            one = now.get(name)
            needed = one is not None and any(kind == "Node" and node in changed for kind, node in needed_for(one))
            if needed or one != before.get(name):
                index.put_pod(name, one, named, OWNERS)
        before = now
        assert Clients(index.present, index.expected(OWNERS)) == found(client, pods, present, OWNERS)

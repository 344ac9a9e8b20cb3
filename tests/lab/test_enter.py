"""Where a command of a lab runs: the command lines, without a lab."""

import pytest

from moorage.api.core_v1 import Container, Pod, PodSpec
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab import enter, topology
from moorage_lab.enter import PodPlace
from moorage_lab.state import LabState
from tests.support.apiserver import api_server

STATE = LabState(name="lab", pid=10, init_pid=12, plan=topology.plan({"a": 1, "b": 2}))


def netns(prefix: list[str] | None) -> str | None:
    assert prefix is not None
    assert prefix[:2] == ["nsenter", "--target=12"]
    return next((word.removeprefix("--net=/run/netns/") for word in prefix if word.startswith("--net=/")), None)


def test_a_name_that_only_one_cluster_has_needs_no_cluster() -> None:
    assert netns(enter.on_node(STATE, None, "node-2")) == "b-node-2"
    assert netns(enter.on_node(STATE, "a", "node-1")) == "a-node-1"
    assert netns(enter.on_node(STATE, "b", "gateway")) == "b-gateway"
    assert netns(enter.on_node(STATE, None, "internet")) is None


def test_a_node_gets_its_own_cluster_s_kubeconfig_and_the_internet_none() -> None:
    assert (enter.on_node(STATE, None, "node-2") or [])[-2:] == ["env", "KUBECONFIG=/run/moorage/b/kubeconfig"]
    assert (enter.on_node(STATE, None, "internet") or [])[-2:] == ["env", "--unset=KUBECONFIG"]


def test_what_is_no_node_may_be_a_pod() -> None:
    assert enter.on_node(STATE, "a", "node-2") is None
    assert enter.on_node(STATE, None, "frontend") is None


def test_a_name_that_several_clusters_have_is_refused() -> None:
    with pytest.raises(MoorageError, match=r"^gateway: a-gateway and b-gateway could be meant; say which one with"):
        enter.on_node(STATE, None, "gateway")


def a_pod(*containers: str, host_network: bool = False) -> PodPlace:
    spec = PodSpec(
        containers=[Container(name=name) for name in containers], host_network=host_network, node_name="node-2"
    )
    return PodPlace(STATE.plan.clusters[1], Pod(metadata=ObjectMeta(name="web", uid="12345678-9abc"), spec=spec))


def test_a_pod_of_the_hosts_network_is_in_its_nodes_namespace() -> None:
    assert a_pod("web").netns == "b-pod-123456789a"
    assert a_pod("web", host_network=True).netns == "b-node-2"


def test_the_log_is_that_of_the_first_container_unless_one_is_named() -> None:
    place = a_pod("web", "helper")
    assert place.log(None).endswith("/b/pods/12345678-9abc/web.log")
    assert place.log("helper").endswith("/helper.log")
    with pytest.raises(MoorageError, match=r"^pod web: has no container 'db'; it has: web, helper$"):
        place.log("db")


async def test_a_stateful_set_is_a_place_to_be_and_what_is_no_workload_is_refused() -> None:
    plan = STATE.plan.clusters[0]
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": "db:1"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "db"}}, "template": template}
    async with api_server() as server, Client(server.config) as client:
        made = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"}}
        stored = await client.apply({**made, "spec": spec}, field_manager="test")
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": stored["metadata"]["uid"]}
        meta = {"name": "db-0", "namespace": "default", "ownerReferences": [{**owner, "controller": True}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
        await client.apply(pod, field_manager="test")
        for target in ("sts/db", "statefulset/db", "db-0", "pod/db-0"):
            place = await enter.find_pod([(plan, client)], target, None)
            assert place is not None
            assert place.pod.metadata.name == "db-0"
        assert await enter.find_pod([(plan, client)], "deploy/db", None) is None
        for target in ("svc/db", "gadget/db"):
            with pytest.raises(MoorageError, match=r"deployment/NAME or statefulset/NAME$"):
                await enter.find_pod([(plan, client)], target, None)

"""Moorings of pods, workloads and labels, carried by node agents beside kube-proxy in both of its modes."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest

from e2e.harness import agents as harness
from e2e.harness import topology
from e2e.harness.agents import Agents
from e2e.harness.callers import Callers, Heard, answers
from e2e.harness.elements import Watched
from e2e.harness.moored import NODES, Moored, mooring
from e2e.harness.outside import SERVERS, Servers, serving
from e2e.harness.played import PlayedClusters

PODS, WORKLOADS, BURST = "pods", "workloads", "burst"
NFTABLES, IPTABLES = NODES[:2]
FRONTENDS = ("frontend-0", "frontend-1")
TENANT = "example.com/tenant"
BURST_PODS = int(os.environ.get("E2E_BURST_PODS", "24"))
"""How many pods are made at once. The aim is for 100, which two processors run in a minute or two."""
AIM_SECONDS = 0.2
HELD_SECONDS = 2.0
"""For how long a first connection waits for its mooring."""


@pytest.fixture(scope="module")
def agents(played: PlayedClusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Operator and agents in B."""
    with harness.installed(played, tmp_path_factory.mktemp("agents"), PODS, WORKLOADS, BURST) as agents:
        yield agents


@pytest.fixture(scope="module")
def servers(agents: Agents) -> Iterator[Servers]:
    with serving(agents.played.world, *SERVERS) as servers:
        yield servers


@pytest.fixture(scope="module")
def backend(agents: Agents, servers: Servers) -> Moored:
    """A Service with four endpoints, whose clients are pods."""
    return made(agents, PODS)


@pytest.fixture(scope="module")
def frontends(agents: Agents, backend: Moored) -> Callers:
    """A StatefulSet of two, both on the node whose kube-proxy has mode nftables."""
    callers = Callers(agents.played, PODS)
    template = callers.template({"app": "frontend"})
    with callers.only(NFTABLES):
        callers.make("StatefulSet", "frontend", 2, template, serviceName="", podManagementPolicy="Parallel")
    return callers


def made(agents: Agents, namespace: str, client: str = "Pod", **more: Any) -> Moored:
    scene = Moored(agents.played, namespace)
    scene.make(SERVERS, proxy="moorage", **mooring(client, podSelector={}, **more))
    until_carried(agents, scene)
    return scene


def until_carried(agents: Agents, scene: Moored, name: str = "backend") -> None:
    """Pods that come before would be told that there is no such Service."""
    last = slice(9, 10)
    agents.b.eventually(
        "the agents carry the Service",
        lambda: all(
            answer.startswith("backend") for node in NODES for [answer] in scene.ask(node, 1, last, name).values()
        ),
    )


def answered(heard: list[Heard]) -> list[str]:
    """By whom."""
    return [each.what for each in answers(heard)]


def other_endpoint(at: str) -> str:
    return next(each.name for each in SERVERS if each.name != at)


@contextmanager
def without_operator(agents: Agents) -> Iterator[None]:
    """No operator runs until the end of the block."""
    deployment = ("-n", "moorage-system", "deployment/moorage-operator")
    agents.b.kubectl("scale", "--replicas=0", *deployment)
    pods = ("-n", "moorage-system", "pods", "-l", "app.kubernetes.io/component=operator")
    agents.b.eventually("no operator", lambda: not agents.b.get(*pods)["items"])
    try:
        yield
    finally:
        agents.b.kubectl("scale", "--replicas=2", *deployment)
        agents.b.kubectl("rollout", "status", *deployment, "--timeout=120s")


# --- Pods ---------------------------------------------------------------------------------------------------------


def test_each_pod_is_led_to_its_endpoint(backend: Moored, frontends: Callers) -> None:
    assert {NFTABLES.proxy_mode, IPTABLES.proxy_mode} == {"nftables", "iptables"}
    where = backend.where()
    assert set(where) == set(FRONTENDS)
    assert len(set(where.values())) == 2
    assert frontends.first(*FRONTENDS) == where


def test_a_pod_that_comes_back_on_another_node_reaches_its_endpoint_with_its_first_connection(
    backend: Moored, frontends: Callers
) -> None:
    where = backend.where()
    frontends.replace(*FRONTENDS, on=IPTABLES)
    assert frontends.first(*FRONTENDS) == where
    assert backend.where() == where


def test_an_edit_moves_a_client_which_is_reset_and_connects_again(backend: Moored, frontends: Callers) -> None:
    moving, staying = FRONTENDS
    before = backend.where()
    moved = {moving: other_endpoint(before[moving])}
    assert_moves(backend, frontends, moving, moved[moving])
    assert backend.until_where(lambda found: found == before | moved)
    assert answered(frontends.heard(staying)) == [before[staying]], "the other's connection is the same"


def assert_moves(backend: Moored, frontends: Callers, pod: str, endpoint: str) -> None:
    count = len(frontends.heard(pod))
    began = time.time()
    backend.move({pod: endpoint})
    *_, ended, answered = frontends.until(pod, count + 2)
    assert (ended.what, answered.what) == ("ended: [Errno 104] Connection reset by peer", endpoint)
    print(f"reset {ended.at - began:.2f} s, answered {answered.at - began:.2f} s after kubectl was started")


def test_while_the_operator_is_down_pods_keep_their_endpoints_and_edits_are_followed(
    agents: Agents, backend: Moored, frontends: Callers
) -> None:
    moving, staying = FRONTENDS
    before = backend.where()
    moved = {moving: other_endpoint(before[moving])}
    with without_operator(agents):
        frontends.replace(*FRONTENDS, on=NFTABLES)
        assert frontends.first(*FRONTENDS) == before
        assert_moves(backend, frontends, moving, moved[moving])
        assert backend.moorings()[moving]["status"]["endpoint"] == before[moving]
    agents.b.eventually(
        "the edit is recorded", lambda: backend.moorings()[moving]["status"]["endpoint"] == moved[moving]
    )
    assert backend.moorings()[moving]["status"]["reason"] == "Moved"
    assert backend.where() == before | moved
    assert answered(frontends.heard(moving)) == [before[moving], moved[moving]], "the record resets nobody again"
    assert answered(frontends.heard(staying)) == [before[staying]]


# --- Workloads and labels -----------------------------------------------------------------------------------------


def test_pods_of_one_workload_or_label_share_an_endpoint_on_all_nodes(agents: Agents, servers: Servers) -> None:
    scene = made(agents, WORKLOADS, "Workload")
    scene.make(SERVERS, "by-label", proxy="moorage", **mooring("Label", podSelector={}, label=TENANT))
    until_carried(agents, scene, "by-label")
    callers = Callers(agents.played, WORKLOADS)
    for name in ("one", "other"):
        apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": name}}}
        affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
        labels = {"app": name, TENANT: "acme"}
        template = callers.template(labels, ("backend", "by-label"), affinity=affinity)
        callers.make("Deployment", name, 2, template)
    found = {
        name: {pod: each["spec"]["nodeName"] for pod, each in callers.pods("-l", f"app={name}").items()}
        for name in ("one", "other")
    }
    assert [len(set(nodes.values())) for nodes in found.values()] == [2, 2]
    where = scene.until_where(lambda found: set(found) == {"Deployment/one", "Deployment/other", "acme"})
    assert where["Deployment/one"] != where["Deployment/other"]
    for name, pods in found.items():
        assert callers.ask(*pods) == dict.fromkeys(pods, where[f"Deployment/{name}"])
        assert callers.ask(*pods, service="by-label") == dict.fromkeys(pods, where["acme"])


# --- Many pods at once --------------------------------------------------------------------------------------------


def test_of_many_pods_that_come_at_once_no_first_connection_goes_elsewhere(agents: Agents, servers: Servers) -> None:
    """But for one that has been held as long as it may be: a kubelet that is busy tells of addresses late."""
    scene = made(agents, BURST)
    callers = Callers(agents.played, BURST)
    template = callers.template({"app": "burst"}, seconds=1)
    names = [f"burst-{number}" for number in range(BURST_PODS)]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}}
        for name in names
    ]
    heard: dict[str, list[Heard]] = {}

    def all_answered() -> bool:
        heard.update(callers.heard_by(names, "app=burst"))
        return all(answers(each) for each in heard.values())

    with Watched(agents.played, BURST) as watched:
        callers.apply(*pods)
        agents.b.eventually("each pod has its address", lambda: watched.addresses.keys() == set(names), seconds=240)
        wanted = {each.address for each in watched.addresses.values()}
        agents.b.eventually("each address is led", lambda: watched.led.keys() >= wanted)
        agents.b.eventually("each pod is answered", all_answered)
    elsewhere = {
        pod: heard[pod][1].at - heard[pod][0].at
        for pod, found in scene.moorings().items()
        # A machine that is busy fails health checks, and then clients move.
        if heard[pod][1].what not in {move["endpoint"] for move in found["status"]["moves"]}
    }
    lags = watched.lags()
    late = sorted(watched.addresses[pod].at - heard[pod][0].at for pod in names)
    print(
        f"{len(names)} pods at once: from the address in the API to the node's kernel {_spread(lags)}, p99 to be "
        f"{AIM_SECONDS} s; from a pod's first packet to its address in the API {_spread(late)}; {len(elsewhere)} "
        f"first connections elsewhere, held for {sorted(elsewhere.values())} s"
    )
    assert [pod for pod, seconds in elsewhere.items() if seconds < HELD_SECONDS] == []


def _spread(values: list[float]) -> str:
    """Of sorted seconds."""
    return f"median {median(values):.3f} s, p99 {values[math.ceil(0.99 * len(values)) - 1]:.3f} s"


# --- What becomes of a node ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [NFTABLES, IPTABLES], ids=lambda node: node.proxy_mode)
def test_clients_are_at_their_endpoints_again_after_somebody_flushes_all_rules(
    agents: Agents, backend: Moored, frontends: Callers, node: topology.Node
) -> None:
    frontends.bring(*FRONTENDS, to=node)
    where, led, tables = backend.where(), agents.moorings(node), agents.tables(node)
    assert frontends.ask(*FRONTENDS) == where
    before = {pod: len(frontends.heard(pod)) for pod in FRONTENDS}
    agents.programs(node).flush()
    began = time.monotonic()
    agents.b.eventually("the moorings are there again", lambda: agents.moorings(node) == led)
    print(f"{node.proxy_mode}: there again after {time.monotonic() - began:.2f} s")
    assert frontends.ask(*FRONTENDS) == where
    for pod in FRONTENDS:
        assert set(answered(frontends.heard(pod)[before[pod] :])) <= {where[pod]}, "at no moment elsewhere"
    # In mode nftables kube-proxy does not notice before its next change.
    agents.programs(node).restart_proxy()
    agents.b.eventually("kube-proxy's rules are there again", lambda: agents.tables(node) >= tables, seconds=90)


@pytest.mark.parametrize("node", [NFTABLES, IPTABLES], ids=lambda node: node.proxy_mode)
def test_pods_of_a_node_that_starts_anew_go_to_their_endpoints_or_nowhere(
    agents: Agents, backend: Moored, frontends: Callers, node: topology.Node
) -> None:
    frontends.bring(*FRONTENDS, to=node)
    where = backend.where()
    restarts = frontends.restarts()
    agents.programs(node).restart()
    agents.b.eventually(
        "the pods run again", lambda: all(frontends.restarts()[pod] > restarts[pod] for pod in FRONTENDS)
    )
    agents.b.eventually("both are answered", lambda: all(answered(frontends.heard(pod)) for pod in FRONTENDS))
    for pod in FRONTENDS:
        heard = frontends.heard(pod)
        told = next(each for each in heard if each.what == where[pod])
        before = sorted({each.what for each in heard if each.at < told.at})
        print(f"{node.proxy_mode}: {pod} was answered {told.at - heard[0].at:.1f} s after its first line; {before}")
        assert set(answered(heard)) == {where[pod]}
    assert frontends.ask(*FRONTENDS) == where

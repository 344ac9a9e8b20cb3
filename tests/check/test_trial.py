"""What a trial makes, hears and deletes, on the lab's API server. Kubelets and the service proxy are played here."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from aiohttp import web

from moorage.api.contract import PROXY, PROXY_LABEL
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.topology import HintedEndpoint, decode_hints, usable
from moorage.check import trial
from moorage.check.facts import Facts, Heard, Left, Outcome, Pod, Tried, Unread, Workload
from moorage.check.manifests import LABEL
from moorage.check.program import CONNECTIONS
from moorage.check.trial import attempt
from moorage.cluster.kubeconfig import Config
from testing.eventually import eventually
from tests.support.apiserver import Json, RunningApiServer, api_server
from tests.support.stub_server import refuse, stub_server

FACTS = Facts(version="v1.37.2")
AGENTS = Workload(1, 1, ("registry.example.com/moorage:1",), (Pod("agent", "n1", True, True, ""),))
NAMESPACES, NODES, PODS = "/api/v1/namespaces", "/api/v1/nodes", "/api/v1/pods"
SERVICES, SLICES = "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"


class Cluster:
    """Plays the kubelets of its nodes, where pods run at once, and a service proxy, by what clients say."""

    def __init__(self, server: RunningApiServer) -> None:
        self.server = server
        self.obeys = True
        """Whether the service proxy obeys hints."""
        self.broken: dict[str, str] = {}
        """Nodes where pods do not start, and why."""
        self.seen: dict[str, Json] = {}
        """All that was ever made: path of the kind and name of the object -> the object."""
        self._zones: dict[str, str] = {}
        self._servers: dict[str, str] = {}
        """Address -> name."""

    async def add_node(self, name: str, zone: str = "") -> None:
        self._zones[name] = zone
        labels = {"topology.kubernetes.io/zone": zone} if zone else {}
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        await self.server.create(NODES, {"metadata": {"name": name, "labels": labels}, "status": status})

    async def items(self, path: str) -> list[Json]:
        found: list[Json] = (await self.server.call("GET", path)).body["items"]
        return found

    async def left(self) -> list[str]:
        """Names of what a trial has made, and that is still there."""
        found = [each for path in (NAMESPACES, SERVICES, SLICES, PODS) for each in await self.items(path)]
        return [each["metadata"]["name"] for each in found if LABEL in each["metadata"].get("labels", {})]

    def made(self, path: str) -> list[Json]:
        return [each for key, each in self.seen.items() if key.startswith(f"{path}/")]

    async def play(self) -> None:
        """Until it is cancelled."""
        while True:
            for path in (NAMESPACES, SERVICES, SLICES, PODS):
                found = [each for each in await self.items(path) if LABEL in each["metadata"].get("labels", {})]
                self.seen |= {f"{path}/{each['metadata']['name']}": each for each in found}
                for number, pod in enumerate(found if path == PODS else (), 1):
                    await self._run(pod, f"10.0.0.{number}")
            await asyncio.sleep(0.02)

    async def _run(self, pod: Json, address: str) -> None:
        term = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (node,) = term["nodeSelectorTerms"][0]["matchFields"][0]["values"]
        verb, first, *_, last = pod["spec"]["containers"][0]["command"][3:]
        state: Json = {"running": {}}
        if node in self.broken:
            state = {"waiting": {"reason": "ErrImagePull", "message": self.broken[node]}}
        elif verb == "serve":
            self._servers[address] = first
        else:
            ways = json.loads(last)
            said = {way: [await self._answers(node, ip), 0, ""] for way, (ip, _, _) in ways.items()}
            state = {"terminated": {"exitCode": 0, "message": json.dumps(said)}}
        status = {
            "podIP": address,
            "conditions": [{"type": "Ready", "status": str("running" in state)}],
            "containerStatuses": [{"name": "check", "state": state}],
        }
        at = f"{NAMESPACES}/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
        await self.server.call("PATCH", at, {"status": status}, content_type="application/merge-patch+json")

    async def _answers(self, node: str, ip: str) -> Mapping[str, int]:
        """Who answers connections to a cluster IP."""
        (name,) = (each["metadata"]["name"] for each in await self.items(SERVICES) if each["spec"]["clusterIP"] == ip)
        slices = [msgspec.convert(each, EndpointSlice) for each in await self.items(SLICES)]
        of_it = [each for each in slices if each.metadata.labels["kubernetes.io/service-name"] == name]  # type: ignore[index]
        endpoints = [each for one in of_it for each in one.endpoints or ()]
        hinted = [HintedEndpoint(ready=True, hints=decode_hints(each.hints)) for each in endpoints]
        used = usable(hinted, node, self._zones[node]) if self.obeys else range(len(hinted))
        return {self._servers[endpoints[index].addresses[0]]: CONNECTIONS // len(used) for index in used}


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """With two nodes in two zones."""
    monkeypatch.setattr(trial, "LOOK_SECONDS", 0.02)
    async with api_server() as server:
        cluster = Cluster(server)
        await cluster.add_node("n1", "x")
        await cluster.add_node("n2", "y")
        playing = asyncio.create_task(cluster.play())
        yield cluster
        playing.cancel()


async def tried(cluster: Cluster, facts: Facts = FACTS, **options: str) -> Outcome:
    return await attempt(cluster.server.config, facts, **options)


def heard(outcome: Outcome) -> Mapping[str, Any]:
    assert isinstance(outcome.tried, Tried)
    return outcome.tried.heard


async def test_each_client_is_heard_and_nothing_is_left(cluster: Cluster) -> None:
    outcome = await tried(cluster)
    assert heard(outcome) == {
        "n1": dict.fromkeys(("nodes", "zones"), Heard({"b": CONNECTIONS}, 0, "")),
        "n2": dict.fromkeys(("nodes", "zones"), Heard({"a": CONNECTIONS}, 0, "")),
    }
    assert (outcome.left, outcome.interrupted) == (None, False)
    assert await cluster.left() == []


async def test_where_hints_are_ignored_both_answer(cluster: Cluster) -> None:
    cluster.obeys = False
    both = {"a": CONNECTIONS // 2, "b": CONNECTIONS // 2}
    assert {way.answers == both for said in heard(await tried(cluster)).values() for way in said.values()} == {True}


async def test_where_agents_are_a_service_is_tried_that_kube_proxy_leaves_to_them(cluster: Cluster) -> None:
    outcome = await tried(cluster, msgspec.structs.replace(FACTS, agents=AGENTS))
    assert set(heard(outcome)["n1"]) == {"nodes", "zones", "agents"}
    assert set(heard(outcome)["n2"]) == {"nodes", "zones"}
    for path in (SERVICES, SLICES):
        carriers = {each["metadata"]["name"].split("-")[-1]: each for each in cluster.made(path)}
        assert {name for name, each in carriers.items() if each["metadata"]["labels"].get(PROXY_LABEL) == PROXY} == {
            "agents"
        }
    images = {pod["spec"]["containers"][0]["image"] for pod in cluster.made(PODS)}
    assert images == {"registry.example.com/moorage:1"}


async def test_before_an_installation_the_manifests_image_is_used_unless_another_is_named(cluster: Cluster) -> None:
    def images() -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in cluster.made(PODS)}

    await tried(cluster)
    assert images() == {"moorage:latest"}
    cluster.seen.clear()
    await tried(cluster, image="python:3-slim")
    assert images() == {"python:3-slim"}


async def test_its_namespace_and_pods_are_restricted_and_pods_are_small_and_end_by_themselves(
    cluster: Cluster,
) -> None:
    await tried(cluster)
    (namespace,) = cluster.made(NAMESPACES)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(cluster.made(PODS)) == 4
    for pod in cluster.made(PODS):
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == {"cpu": "10m", "memory": "32Mi"}
        assert spec["activeDeadlineSeconds"] == 300
        assert "tolerations" not in spec


async def test_in_a_namespace_that_exists_all_is_deleted_but_the_namespace(cluster: Cluster) -> None:
    await cluster.server.create(NAMESPACES, {"metadata": {"name": "mine"}})
    other = {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 1}]}}
    await cluster.server.create(f"{NAMESPACES}/mine/services", other)
    outcome = await tried(cluster, namespace="mine")
    assert set(heard(outcome)) == {"n1", "n2"}
    assert cluster.made(NAMESPACES) == []
    assert {each["metadata"]["namespace"] for each in cluster.made(PODS)} == {"mine"}
    assert await cluster.left() == []
    assert [each["metadata"]["name"] for each in await cluster.items(f"{NAMESPACES}/mine/services")] == ["other"]


async def test_a_client_that_does_not_start_is_told_of_and_the_others_are_heard(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "CLIENT_SECONDS", 3.0)
    await cluster.add_node("n3")
    cluster.broken = {"n3": "no such image"}
    found = heard(await tried(cluster))
    assert found["n3"] == Unread("ErrImagePull: no such image")
    assert isinstance(found["n1"], dict)


async def test_a_server_that_does_not_start_ends_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "START_SECONDS", 0.5)
    cluster.broken = {"n1": "no such image", "n2": "no such image"}
    outcome = await tried(cluster)
    assert outcome.tried == Unread("a pod on n1 is not ready: ErrImagePull: no such image")
    assert await cluster.left() == []


async def test_a_cluster_without_a_node_for_pods_is_told_and_nothing_is_made(cluster: Cluster) -> None:
    for name in ("n1", "n2"):
        patch = {"spec": {"unschedulable": True}}
        await cluster.server.call("PATCH", f"{NODES}/{name}", patch, content_type="application/merge-patch+json")
    assert (await tried(cluster)).tried == Unread("no node is Ready and takes pods that tolerate no taint")
    assert cluster.seen == {}


async def test_a_namespace_that_does_not_exist_is_told(cluster: Cluster) -> None:
    outcome = await tried(cluster, namespace="none")
    assert isinstance(outcome.tried, Unread)
    assert 'namespaces "none" not found' in outcome.tried.why
    assert outcome.left is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_after_a_signal_what_was_made_is_deleted_also_after_a_second_one(
    cluster: Cluster, number: signal.Signals
) -> None:
    cluster.broken = {"n1": "so it waits"}
    trying = asyncio.create_task(tried(cluster))

    async def waits() -> bool:
        return len(cluster.made(PODS)) == 2

    await eventually(waits)
    cluster.server.faults.slow(1, seconds=0.3, method="DELETE")
    os.kill(os.getpid(), number)
    await asyncio.sleep(0)
    os.kill(os.getpid(), number)
    outcome = await trying
    assert outcome == Outcome(Unread("interrupted"), None, interrupted=True)
    assert await cluster.left() == []


async def test_what_cannot_be_deleted_is_told_with_the_command_that_does_it(cluster: Cluster) -> None:
    cluster.server.faults.fail(1, code=403, method="DELETE")
    outcome = await tried(cluster)
    (name,) = await of_namespaces(cluster)
    assert outcome.left is not None
    assert outcome.left.command == f"kubectl delete namespace {name}"
    await cluster.server.create(NAMESPACES, {"metadata": {"name": "mine"}})
    cluster.server.faults.fail(1, code=403, method="DELETE")
    outcome = await tried(cluster, namespace="mine")
    assert isinstance(outcome.left, Left)
    assert outcome.left.command.startswith(
        "kubectl -n mine delete pods,services,endpointslices -l moorage.dev/check="
    )


async def of_namespaces(cluster: Cluster) -> list[str]:
    return [each["metadata"]["name"] for each in await cluster.items(NAMESPACES) if "moorage-check" in str(each)]


async def test_pods_are_made_again_until_a_new_namespace_has_its_account(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of kube-apiserver's words e2e/test_check.py can tell: it makes a namespace and pods at once."""
    monkeypatch.setattr(trial, "_NO_ACCOUNT_YET", "injected")
    cluster.server.faults.fail(3, code=403, method="POST", path="/pods")
    assert set(heard(await tried(cluster))) == {"n1", "n2"}


async def test_whoever_may_not_is_told_what_and_nothing_is_made() -> None:
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.path))
        if not request.path.endswith("selfsubjectaccessreviews"):
            return refuse(403, "Forbidden")
        attributes: dict[str, str] = (await request.json())["spec"]["resourceAttributes"]
        return web.json_response({"status": {"allowed": attributes["resource"] != "namespaces"}}, status=201)

    async with stub_server(answer) as url:
        outcome = await attempt(Config(server=url), FACTS)
    assert isinstance(outcome.tried, Unread)
    assert outcome.tried.why.startswith("you may not create namespaces, delete namespaces/moorage-check-")
    assert {method for method, _ in asked} == {"POST"}
    assert len({path for _, path in asked}) == 1


async def test_the_lab_is_not_tried_since_its_pods_do_not_end(cluster: Cluster) -> None:
    outcome = await tried(cluster, Facts(version="v1.37.2+moorage"))
    assert isinstance(outcome.tried, Unread)
    assert "the lab starts pods again" in outcome.tried.why
    assert cluster.seen == {}

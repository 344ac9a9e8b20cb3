"""What is asked of an API server, and what becomes of its answers."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from moorage.api import crds
from moorage.api.kinds import kind_of
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.check import gather as module
from moorage.check.asking import Asker
from moorage.check.facts import Agent, Cilium, Facts, KubeProxy, Leader, Names, Pod, Policy, Told, Unread, Workload
from moorage.check.gather import gather
from moorage.check.objects import Version
from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config
from tests.support.stub_server import refuse, stub_client, stub_server

NAMES = Names("ours", "nodes")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/ours/leases/moorage-operator"
AGENTS = "/api/v1/namespaces/nodes/pods"
METRICS = 'moorage_node_info{nft="1.1.3",version="1"} 1.0\nmoorage_node_behind_seconds 0.0\n'


class Cluster:
    """An API server that answers what a test has written down, and 404 otherwise."""

    def __init__(self, answers: Mapping[str, Any] = {}) -> None:
        self.answers: dict[str, Any] = {"/version": {"gitVersion": "v1.37.2"}, "/apis": {"groups": []}, **answers}
        self.denied: set[str] = set()
        """Resources of which nobody may do anything."""
        self.asked: list[str] = []
        self.reviews: list[dict[str, Any]] = []
        self.renewals = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.method == "POST":
            review = await request.json()
            self.reviews.append({"kind": review["kind"], **review["spec"]})
            allowed = review["spec"]["resourceAttributes"]["resource"] not in self.denied
            return web.json_response({"status": {"allowed": allowed}}, status=201)
        answer = self.answers.get(request.path)
        if answer is None:
            return refuse(404, "NotFound")
        if isinstance(answer, int):
            return refuse(answer, "Forbidden", "you may not")
        if isinstance(answer, str):
            return web.Response(text=answer, status=503 if request.path.endswith("/readyz") else 200)
        if request.path == LEASE and "renewTime" in answer["spec"]:
            self.renewals += 1
            answer["spec"]["renewTime"] = f"2027-01-01T00:00:{self.renewals:02}.000000Z"
        return web.json_response(answer)

    async def facts(self, *, before: bool | None = None) -> Facts:
        async with stub_server(self.handle) as url:
            return await gather(Config(server=url), NAMES, before=before)


@pytest.fixture(autouse=True)
def _looks_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "MAX_LEASE_SECONDS", 0.05)


def workload(image: str = "x:1", **status: int) -> dict[str, Any]:
    return {"spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": image}]}}}, "status": status}


def pod(name: str, *, ready: bool = True, running: bool = True) -> dict[str, Any]:
    state = {"running": {}} if running else {"waiting": {"reason": "ErrImagePull"}}
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"conditions": conditions, "containerStatuses": [{"state": state}]}
    return {
        "metadata": {"name": name, "creationTimestamp": None},
        "spec": {"nodeName": f"on-{name}"},
        "status": status,
    }


def with_agents(*pods: dict[str, Any], **answers: Any) -> Cluster:
    daemonset = workload(desiredNumberScheduled=len(pods), numberReady=0)
    found = {"/apis/apps/v1/namespaces/nodes/daemonsets/moorage-agent": daemonset, AGENTS: {"items": list(pods)}}
    for name, text in answers.items():
        name, _, page = name.partition("_")
        found[f"{AGENTS}/{name}:10271/proxy/{page}"] = text
    return Cluster(found)


async def test_before_an_installation_it_is_asked_what_the_user_may_do() -> None:
    cluster = Cluster()
    cluster.denied = {"validatingadmissionpolicies"}
    facts = await cluster.facts()
    assert facts.before
    assert facts.version == "v1.37.2"
    lacks = "create validatingadmissionpolicies.admissionregistration.k8s.io"
    assert facts.missing == {"you": (lacks,)}
    assert {review["kind"] for review in cluster.reviews} == {"SelfSubjectAccessReview"}
    assert [facts.operator, facts.leader, facts.agents, facts.policy, facts.kube_proxy, facts.cilium] == [None] * 6
    assert facts.definitions == {"externalservices.moorage.dev": None, "moorings.moorage.dev": None}


async def test_whether_it_is_before_can_be_said() -> None:
    cluster = with_agents()
    assert not (await cluster.facts()).before
    facts = await cluster.facts(before=True)
    assert facts.before
    assert set(facts.missing) == {"you"}


async def test_an_operator_its_pods_and_its_rights() -> None:
    at = "/apis/apps/v1/namespaces/ours/deployments/moorage-operator"
    cluster = Cluster({at: workload(availableReplicas=1)})
    cluster.answers["/api/v1/namespaces/ours/pods"] = {"items": [pod("x"), pod("y", ready=False, running=False)]}
    cluster.denied = {"leases"}
    facts = await cluster.facts()
    pods = (Pod("x", "on-x", True, True, ""), Pod("y", "on-y", False, False, "ErrImagePull"))
    assert facts.operator == Workload(2, 1, ("x:1",), pods)
    assert list(facts.missing) == ["operator"]
    assert facts.missing["operator"] == (
        "create leases.coordination.k8s.io in ours",
        "get leases.coordination.k8s.io/moorage-operator in ours",
        "patch leases.coordination.k8s.io/moorage-operator in ours",
    )
    (user,) = {review["user"] for review in cluster.reviews}
    assert user == "system:serviceaccount:ours:moorage-operator"
    assert "system:serviceaccounts:ours" in cluster.reviews[0]["groups"]


@pytest.mark.parametrize(
    ("spec", "leader"),
    [
        ({"holderIdentity": "x", "acquireTime": "then", "renewTime": ""}, Leader("x", "then", renews=True)),
        ({"holderIdentity": "x", "acquireTime": "then"}, Leader("x", "then", renews=False)),
        ({"holderIdentity": ""}, Leader("", "", renews=False)),
        ({}, Leader("", "", renews=False)),
    ],
)
async def test_a_leader_leads_if_it_renews_the_lease_meanwhile(spec: dict[str, str], leader: Leader) -> None:
    assert (await Cluster({LEASE: {"spec": spec}}).facts()).leader == leader


async def test_agents_are_asked_through_the_api_server_and_the_one_that_is_not_ready_why() -> None:
    cluster = with_agents(
        pod("a"),
        pod("b", ready=False),
        pod("c", ready=False, running=False),
        a_metrics=METRICS,
        b_readyz="the kernel is old",
        b_metrics=METRICS,
    )
    facts = await cluster.facts()
    told = Told("1", "1.1.3")
    assert facts.answers == (Agent("on-b", "the kernel is old", told), Agent("on-a", "", told))
    assert list(facts.missing) == ["agent"]
    assert f"{AGENTS}/a:10271/proxy/readyz" not in cluster.asked


async def test_an_agent_that_cannot_be_asked_is_told_of() -> None:
    facts = await with_agents(pod("a"), pod("b"), a_metrics=403, b_metrics="<html>").facts()
    assert facts.answers[0] == Agent("on-a", told=Unread("you may not"))
    assert isinstance(facts.answers[1].told, Unread)


async def test_of_many_agents_some_are_asked_those_first_that_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AGENTS_ASKED", 2)
    pods = [pod("a"), pod("b"), pod("c", ready=False)]
    facts = await with_agents(*pods, a_metrics=METRICS, c_metrics=METRICS, c_readyz="no").facts()
    assert [each.node for each in facts.answers] == ["on-c", "on-a"]


async def test_definitions_policy_and_services_of_agents() -> None:
    at = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
    definition = {**crds.definition(kind_of(Mooring)), "status": {"conditions": None}}
    binding = {"policyName": "moorage-moorings", "validationActions": ["Deny"]}
    found = {
        "/apis": {"groups": [{"versions": [{"groupVersion": "moorage.dev/v1alpha1"}]}]},
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/moorings.moorage.dev": definition,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/externalservices.moorage.dev": 403,
        f"{at}ies/moorage-moorings": {"spec": {"failurePolicy": "Fail"}},
        f"{at}ybindings/moorage-moorings": {"spec": binding},
        "/api/v1/services": {"items": [{"metadata": {"name": "x"}}]},
    }
    facts = await Cluster(found).facts()
    assert facts.groups == frozenset({"moorage.dev/v1alpha1"})
    mooring = facts.definitions["moorings.moorage.dev"]
    assert mooring is not None
    assert not isinstance(mooring, Unread)
    assert mooring.schemas == {"v1alpha1": crds.schema(kind_of(Mooring))}
    assert facts.definitions["externalservices.moorage.dev"] == Unread("you may not")
    assert facts.policy == Policy(fails_closed=True, denies=True)
    assert facts.carried is True
    del found[f"{at}ybindings/moorage-moorings"]
    assert (await Cluster(found).facts()).policy == Policy(fails_closed=True, denies=False)


async def test_a_server_that_does_not_say_which_apis_it_has_is_told_of() -> None:
    assert (await Cluster({"/apis": None}).facts()).groups == Unread("it does not say which APIs it has")


async def test_kube_proxy_and_cilium_by_their_objects() -> None:
    at = "/apis/apps/v1/namespaces/kube-system/daemonsets"
    configs = "/api/v1/namespaces/kube-system/configmaps"
    found = {
        f"{at}/kube-proxy": workload(),
        f"{configs}/kube-proxy-config": {"data": {"config": "mode: ipvs"}},
        f"{at}/cilium": workload(),
        f"{configs}/cilium-config": {"data": {"kube-proxy-replacement": "true"}},
    }
    facts = await Cluster(found).facts()
    assert facts.kube_proxy == KubeProxy("ipvs")
    assert facts.cilium == Cilium(replaces_kube_proxy=True)
    google = await Cluster({"/api/v1/namespaces/kube-system/pods": {"items": [pod("kube-proxy-x")]}}).facts()
    assert google.kube_proxy == KubeProxy("")


@pytest.mark.parametrize(
    ("answer", "why"),
    [(403, "you may not"), ([], "not an answer"), ({}, "none of Kubernetes"), (None, "no /version")],
)
async def test_a_server_that_is_no_api_server_says_so_and_is_asked_no_more(answer: Any, why: str) -> None:
    cluster = Cluster({"/version": answer})
    facts = await cluster.facts()
    assert isinstance(facts.version, Unread)
    assert why in facts.version.why
    assert cluster.asked == ["/version"]


async def test_nobody_waits_longer_than_until_the_end() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.json_response({})

    async with stub_client(silent) as client:
        ask = Asker(client, asyncio.get_running_loop().time() + 0.05)
        found = await ask.read(Version, "/version")
    assert found == Unread("the API server has not answered in time")


async def test_an_api_server_that_cannot_be_reached_is_said_in_words() -> None:
    async with Client(Config(server="http://127.0.0.1:1")) as client:
        found = await Asker(client, asyncio.get_running_loop().time() + 30).read(Version, "/version")
    assert isinstance(found, Unread)
    assert "Connection refused" in found.why

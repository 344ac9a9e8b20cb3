"""What `moorage check` finds on real nodes: that all is well, what is broken, and what the service proxy does."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from e2e.harness.agents import Agents, installed
from e2e.harness.moored import NODES
from e2e.harness.played import PlayedClusters
from moorage import __version__
from moorage.check.manifests import LABEL
from moorage.check.rights import Right, of_trial

NODE = NODES[1]
HINTS, BY_ZONE, CARRIED = "hints to nodes", "hints to zones", "carried by agents"
OBEYED = ("pass", f"every connection went where it should, on {len(NODES)} of {len(NODES)} nodes")
ZONE = "topology.kubernetes.io/zone"
SUSPEND = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/suspend"
NAMESPACE, ACCOUNT = "checked", "checker"


@pytest.fixture(scope="module")
def agents(played: PlayedClusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Operator and agents in B, as the README installs them."""
    with installed(played, tmp_path_factory.mktemp("check"), NAMESPACE) as agents:
        agents.wait()
        yield agents


def made(agents: Agents) -> list[str]:
    """Namespaces that a check has made, and that are still there."""
    return agents.b.kubectl("get", "namespaces", "-l", LABEL, "-o", "name").split()


def nothing_is_left(agents: Agents) -> None:
    agents.b.eventually("nothing is left of the check", lambda: made(agents) == [])


# --- Kernels, agents, definitions -----------------------------------------------------------------------------------


def test_after_an_installation_nothing_fails_and_each_node_s_kernel_is_spoken_of(agents: Agents) -> None:
    status, found = agents.installation.check()
    print(found)
    assert status == 0
    # Its kube-proxies are no pods, so no object tells of them.
    assert {name for name, (verdict, _) in found.items() if verdict != "pass"} == {"kube-proxy"}
    every = f"{len(NODES)} of {len(NODES)} nodes"
    assert found["node agents"] == ("pass", f"{every} have one that is ready, {agents.played.image}")
    assert found["agent version"][1] == f"{__version__} on {every}"
    assert found["kernels"][1] == f"up to date on {every}"
    assert found["conntrack"][1].endswith(f"on {every}")
    assert f" on {every}, which learns IPv6 sessions" in found["nft"][1]
    version = json.loads(agents.b.kubectl("get", "--raw", "/version"))
    assert found["Kubernetes"] == ("pass", version["gitVersion"])


def test_a_kernel_that_picks_up_no_connections_is_told_with_its_node(agents: Agents) -> None:
    setting = "net.netfilter.nf_conntrack_tcp_loose"

    def loose(value: int) -> dict[str, tuple[str, str]]:
        agents.played.world.execute("sysctl", "-qw", f"{setting}={value}", network=NODE.network)
        agents.kill(NODE)  # it reads that when it starts
        return agents.installation.check()[1]

    try:
        verdict, what = loose(0)["conntrack"]
        assert (verdict, what.partition(":")[0]) == ("warn", f"{setting} is 0 on {NODE.name}")
    finally:
        assert loose(1)["conntrack"][0] == "pass"


def test_an_agent_that_hangs_is_told_with_its_node(agents: Agents) -> None:
    words = f"{len(NODES) - 1} of {len(NODES)} nodes have one that is ready: {NODE.name}: "

    def is_told() -> bool:
        verdict, what = agents.installation.check()[1]["node agents"]
        return verdict == "fail" and what.startswith(words)

    agents.send(NODE, signal.SIGSTOP)
    try:
        agents.b.eventually("it is told", is_told)
    finally:
        agents.kill(NODE)


def test_a_definition_of_an_older_version_is_told_and_what_to_do_about_it_helps(agents: Agents) -> None:
    crd, check = "externalservices.moorage.dev", "CRD externalservices"
    remove = json.dumps([{"op": "remove", "path": SUSPEND}])
    agents.b.kubectl("patch", "crd", crd, "--type=json", "-p", remove)
    status, found = agents.installation.check()
    assert status == 1
    assert found[check] == ("fail", f"it lacks .spec.suspend, which {__version__} knows")
    agents.installation.run("kubectl config use-context b", "kubectl apply -k deploy/crds")
    status, found = agents.installation.check()
    assert (status, found[check][0]) == (0, "pass")


# --- What the service proxy does ------------------------------------------------------------------------------------


def test_kube_proxy_in_both_modes_and_agents_obey_hints(agents: Agents) -> None:
    assert {node.proxy_mode for node in NODES} == {"iptables", "nftables"}
    with zones(agents):
        status, found = agents.installation.check("--behaviour")
    print(found)
    assert [found[each] for each in (HINTS, BY_ZONE, CARRIED)] == [OBEYED] * 3
    assert status == 0
    nothing_is_left(agents)


@contextmanager
def zones(agents: Agents) -> Iterator[None]:
    """The nodes are in two."""
    try:
        for index, node in enumerate(NODES):
            agents.b.kubectl("label", "node", node.name, f"{ZONE}=zone-{index % 2}")
        yield
    finally:
        agents.b.kubectl("label", "node", *(node.name for node in NODES), f"{ZONE}-")


def test_hints_that_lead_nobody_are_told(agents: Agents) -> None:
    """As by a proxy that ignores them, each node's clients reach all endpoints: a policy takes the hints away."""
    with without_hints(agents):
        status, found = agents.installation.check("--behaviour")
    print(found)
    verdict, what = found[HINTS]
    assert (status, verdict) == (1, "fail")
    names = ", ".join(node.name for node in NODES)
    assert what.startswith(f"the service proxy ignores them on {names}: ")
    assert found[CARRIED] == OBEYED
    nothing_is_left(agents)


@contextmanager
def without_hints(agents: Agents) -> Iterator[None]:
    """Slices of a check's Service for kube-proxy get none."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "no-hints"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["discovery.k8s.io"],
                        "apiVersions": ["v1"],
                        "resources": ["endpointslices"],
                        "operations": ["CREATE"],
                    }
                ]
            },
            "matchConditions": [{"name": "of-the-check", "expression": "object.metadata.name.endsWith('-nodes')"}],
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {
                        "expression": "[JSONPatch{op: 'remove', path: '/endpoints/0/hints'}, "
                        "JSONPatch{op: 'remove', path: '/endpoints/1/hints'}]"
                    },
                }
            ],
        },
    }
    binding = {
        **policy,
        "kind": "MutatingAdmissionPolicyBinding",
        "spec": {"policyName": "no-hints"},
    }
    with applied(agents, policy, binding):
        yield


@contextmanager
def applied(agents: Agents, *manifests: dict[str, Any]) -> Iterator[None]:
    text = yaml.safe_dump_all(manifests)
    agents.b.apply(text)
    try:
        yield
    finally:
        agents.b.kubectl("delete", "--ignore-not-found", "-f", "-", input=text)


def test_a_node_whose_kube_proxy_does_not_run_is_told(agents: Agents) -> None:
    with agents.programs(NODE).without_proxy():
        status, found = agents.installation.check("--behaviour")
    print(found)
    verdict, what = found[HINTS]
    assert (status, verdict) == (1, "fail")
    assert what.startswith(f"connections to a Service's address fail on {NODE.name}: ")
    assert found[CARRIED] == OBEYED
    nothing_is_left(agents)


def test_a_node_that_is_cordoned_is_left_out(agents: Agents) -> None:
    agents.b.kubectl("cordon", NODE.name)
    try:
        _, found = agents.installation.check("--behaviour")
    finally:
        agents.b.kubectl("uncordon", NODE.name)
    many = len(NODES)
    assert found[HINTS] == ("pass", f"every connection went where it should, on {many - 1} of {many} nodes")


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_one_that_is_interrupted_leaves_nothing(agents: Agents, number: str) -> None:
    nothing_is_left(agents)  # of a trial before: its pods would be taken for those of this one
    printed = agents.installation.run(
        "moorage check --context b --behaviour & check=$!",
        f"until kubectl --context b get pods -A -l {LABEL} -o name | grep -q .; do sleep 0.1; done",
        f"kill -{number} $check",
        "wait $check || echo status $?",
    )
    assert printed.splitlines()[-1] == "status 130"
    nothing_is_left(agents)


def test_an_account_with_just_the_rights_it_asks_for_can_try_it_in_a_namespace_that_exists(agents: Agents) -> None:
    agents.b.kubectl("create", "namespace", NAMESPACE)
    agents.b.kubectl("-n", NAMESPACE, "create", "serviceaccount", ACCOUNT)
    agents.installation.run(
        f"kubectl config set-credentials {ACCOUNT} "
        f"--token=$(kubectl --context b -n {NAMESPACE} create token {ACCOUNT})",
        f"kubectl config set-context {ACCOUNT} --cluster=b --user={ACCOUNT}",
    )
    words = ("--context", ACCOUNT, "--behaviour", "--behaviour-namespace", NAMESPACE, "--image", agents.played.image)
    _, found = agents.installation.check(*words)
    assert found["behaviour"][1].startswith(f"you may not list nodes, create pods in {NAMESPACE}, ")
    with applied(agents, *granted(of_trial(NAMESPACE, is_new=False))):
        _, found = agents.installation.check(*words)
    print(found)
    assert found[HINTS] == OBEYED
    everything = ("get", "pods,services,endpointslices", "-o", "name")
    agents.b.eventually("nothing is left", lambda: not agents.b.kubectl("-n", NAMESPACE, *everything))


def granted(rights: list[Right]) -> list[dict[str, Any]]:
    """A role with these rights, for ACCOUNT."""
    rules = [{"apiGroups": [each.group], "resources": [each.resource], "verbs": [each.verb]} for each in rights]
    group, meta = "rbac.authorization.k8s.io", {"name": ACCOUNT}
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }
    return [role, binding]

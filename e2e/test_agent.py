"""Node agents on the nodes of a real cluster, beside kube-proxy: installed, updated, killed and removed."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import topology
from e2e.harness.agents import AGENTS, OPERATOR, Agents, installed
from e2e.harness.install import commands
from e2e.harness.moored import MANY, NODES, Moored
from e2e.harness.outside import SERVERS, OpenConnection, Servers, serving
from e2e.harness.played import PlayedClusters

REMOVAL = "Removing the node agents"
NAMESPACE = "carried"
ACCOUNT = "system:serviceaccount:moorage-agent:moorage-agent"
TAINT = "moorage.dev/agent-not-ready"
PORT = 10271
DOCS = Path(__file__).parents[1] / "docs"
TWO = SERVERS[:2]
NET_ADMIN = 1 << 12
"""Linux, include/uapi/linux/capability.h."""


@pytest.fixture(scope="module")
def agents(played: PlayedClusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Operator and agents in B, as the README installs them."""
    with installed(played, tmp_path_factory.mktemp("agents"), NAMESPACE) as agents:
        yield agents


@pytest.fixture(scope="module")
def servers(agents: Agents) -> Iterator[Servers]:
    with serving(agents.played.world, *TWO) as servers:
        yield servers


@pytest.fixture(scope="module")
def backend(agents: Agents, servers: Servers) -> Moored:
    """A Service with sessions that the agents carry to two endpoints."""
    backend = Moored(agents.played, NAMESPACE)
    backend.make(TWO, sessionAffinity="ClientIP", proxy="moorage")

    def is_carried() -> bool:
        return all(answer.startswith("backend") for answers in asked(backend).values() for answer in answers)

    agents.b.eventually("the agents carry the Service", is_carried)
    return backend


def asked(backend: Moored, count: int = 1) -> dict[str, list[str]]:
    """Each client of each node -> who answered its new connections."""
    return {client: answers for node in NODES for client, answers in backend.ask(node, count).items()}


def opened(backend: Moored) -> list[OpenConnection]:
    """A connection on each node, which has been answered."""
    found = [backend.open(node) for node in NODES]
    assert all(len(each.more(1)) == 1 for each in found)
    return found


def test_one_is_ready_on_each_node_and_carries_what_kube_proxy_leaves_alone(agents: Agents, backend: Moored) -> None:
    assert set(agents.pods()) == {node.name for node in NODES}
    assert {node.proxy_mode for node in NODES} == {"iptables", "nftables"}
    answers = asked(backend, MANY)
    assert {len(set(each)) for each in answers.values()} == {1}, "each client stays with its endpoint"
    assert {each for (each, *_) in answers.values()} == {each.name for each in TWO}
    for node in NODES:
        assert "inet moorage" in agents.tables(node)
        assert any(table.endswith(" kube-proxy") for table in agents.tables(node)) or node.proxy_mode == "iptables"
    assert agents.restarts() == [0] * len(NODES)


def test_it_has_one_capability_and_may_write_no_file(agents: Agents) -> None:
    name = agents.pods()[NODES[0].name]["metadata"]["name"]
    status = agents.kubectl("exec", name, "--", "cat", "/proc/self/status")
    capabilities = {name: int(value, 16) for name, value in re.findall(r"^(Cap\w+):\s+(\w+)$", status, re.MULTILINE)}
    assert {capabilities[each] for each in ("CapPrm", "CapEff", "CapBnd")} == {NET_ADMIN}
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    said = agents.b.refused("-n", "moorage-agent", "exec", name, "--", "touch", "/etc/file")
    assert "Read-only file system" in said


def test_it_answers_on_its_node_s_address_and_nowhere_else(agents: Agents) -> None:
    node = NODES[0]

    def curl(address: str, path: str) -> str:
        url = f"http://{address}:{PORT}{path}"
        return agents.played.world.execute("sh", "-c", f"curl -sS -m 10 {url} 2>&1 || true", network=node.network)

    assert curl(node.address, "/healthz") == curl(node.address, "/readyz") == "ok\n"
    assert "moorage_node_synced 1.0" in curl(node.address, "/metrics")
    assert "refused" in curl("127.0.0.1", "/healthz").lower() or "connect" in curl("127.0.0.1", "/healthz").lower()


def test_the_check_tells_of_kernels_and_why_an_agent_is_not_ready(agents: Agents) -> None:
    """As the image is another, one agent ends, and no other is tried before that is ready."""
    status, found = agents.installation.check()
    print(found)
    names = ("node agents", "agent version", "kernels", "conntrack", "nft", "rights of agent")
    assert {found[name][0] for name in names} == {"pass"}
    assert status == 0
    agents.kubectl("set", "image", "daemonset/moorage-agent", "agent=missing.invalid/moorage:none")
    try:
        agents.b.eventually("it fails", lambda: "Pull" in agents.installation.check()[1]["node agents"][1])
        status, found = agents.installation.check()
        print(found)
        assert (status, found["node agents"][0]) == (1, "fail")
        many = len(NODES)
        assert found["node agents"][1].startswith(f"{many - 1} of {many} nodes have one that is ready: ")
    finally:
        agents.kubectl("rollout", "undo", "daemonset/moorage-agent")
        agents.wait()


@pytest.mark.parametrize(
    "words",
    [
        "watch services --all-namespaces",
        "list endpointslices --all-namespaces",
        "watch nodes",
        "watch pods --all-namespaces",
        "get moorings/a -n frontend",
        "watch moorings --all-namespaces",
        "get replicasets/a -n frontend",
        "get jobs/a -n frontend",
    ],
)
def test_it_may_read_what_concerns_it(agents: Agents, words: str) -> None:
    assert may(agents, words)


@pytest.mark.parametrize(
    "words",
    [
        "patch nodes",
        "patch nodes --subresource=status",
        "patch services -n frontend",
        "create endpointslices -n frontend",
        "patch moorings -n frontend",
        "delete moorings -n frontend",
        "get externalservices -n frontend",
        "get secrets -n frontend",
        "list replicasets --all-namespaces",
        "list jobs --all-namespaces",
        "delete pods -n frontend",
        "create pods --subresource=exec -n frontend",
        "create events -n frontend",
        "create leases -n moorage-agent",
        "impersonate users",
    ],
)
def test_it_may_do_nothing_else(agents: Agents, words: str) -> None:
    assert not may(agents, words)


def may(agents: Agents, words: str) -> bool:
    asked = agents.b.run_kubectl("auth", "can-i", f"--as={ACCOUNT}", *words.split(), check=False)
    return asked.strip().splitlines()[-1] == "yes"


def test_it_is_refused_nothing(agents: Agents, backend: Moored) -> None:
    def said() -> list[str]:
        return [agents.kubectl("logs", pod["metadata"]["name"]) for pod in agents.pods().values()]

    agents.b.eventually("all have synced", lambda: all("synced" in each for each in said()))
    for each in said():
        assert "orbidden" not in each
        assert "level=error" not in each


def test_a_second_one_on_a_node_refuses_to_start(agents: Agents, backend: Moored) -> None:
    node = NODES[0]
    spec = agents.b.get("-n", "moorage-agent", "daemonset", "moorage-agent")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    second = {key: container[key] for key in ("image", "imagePullPolicy", "env", "securityContext")}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "second"},
        "spec": {
            "nodeName": node.name,
            "hostNetwork": True,
            "restartPolicy": "Never",
            "serviceAccountName": "moorage-agent",
            "containers": [{"name": "agent", "args": ["node"], **second}],
        },
    }
    agents.b.apply(json.dumps(pod), "-n", "moorage-agent")
    try:
        agents.kubectl("wait", "pod/second", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
        assert "moorage: a node agent runs here already" in agents.kubectl("logs", "second")
    finally:
        agents.kubectl("delete", "pod", "second", "--grace-period=1")
    assert all(answer.startswith("backend") for answers in asked(backend).values() for answer in answers)


def test_an_update_of_all_breaks_no_connection_and_loses_no_session(agents: Agents, backend: Moored) -> None:
    before, sessions = asked(backend), [agents.sessions(node) for node in NODES]
    assert all(sessions)
    kept = opened(backend)
    pods = {name: pod["metadata"]["uid"] for name, pod in agents.pods().items()}
    agents.kubectl("rollout", "restart", "daemonset/moorage-agent")
    rounds = 0
    deadline = time.monotonic() + 300
    while not agents.are_updated():
        assert time.monotonic() < deadline, agents.kubectl("describe", "pods")[-4000:]
        assert asked(backend) == before, "new connections, while agents end and start"
        rounds += 1
    print(f"{rounds * len(before)} connections during the update")
    assert rounds
    assert asked(backend) == before
    assert not pods.items() & {name: pod["metadata"]["uid"] for name, pod in agents.pods().items()}.items()
    assert [agents.sessions(node) for node in NODES] == sessions
    for each in kept:
        assert len(set(each.answers)) == 1
        assert len(each.more()) == 5
        each.close()


def test_one_that_is_killed_loses_nothing_and_the_next_does_what_has_changed_meanwhile(
    agents: Agents, backend: Moored
) -> None:
    before, node = asked(backend), NODES[0]
    kept = opened(backend)
    sessions = agents.sessions(node)
    agents.kill(node)
    assert asked(backend) == before
    assert agents.sessions(node) == sessions
    assert max(agents.restarts()) == 1
    for each in kept:
        assert set(each.more()) == {each.answers[0]}
        each.close()


@pytest.mark.parametrize("node", NODES[:2], ids=lambda node: node.proxy_mode)
def test_what_pods_meet_that_start_before_the_agent(agents: Agents, backend: Moored, node: topology.Node) -> None:
    """As after a restart of the node: its kernel knows nothing of Moorage."""
    agents.send(node, signal.SIGSTOP)
    agents.nft(node, "delete", "table", "inet", "moorage")
    started = time.monotonic()
    early = backend.open(node)
    agents.kill(node)
    agents.b.eventually("an answer, or the end", lambda: early.answers)
    answer = early.answers[0]
    print(f"kube-proxy in mode {node.proxy_mode}: {answer} after {time.monotonic() - started:.1f} s")
    if node.proxy_mode == "nftables":
        # kube-proxy drops what goes to an address of a Service that it does not know: the client knocks again.
        assert answer.startswith("backend")
    else:
        # It leaves the node by its default route. Beyond these nodes' gateway nobody knows the address.
        assert answer.startswith("ended: ")
    early.close()
    assert "inet moorage" in agents.tables(node)
    assert {answer[:7] for each in backend.ask(node).values() for answer in each} == {"backend"}


def test_the_startup_taint_goes_from_nodes_whose_agent_is_ready_and_from_no_other(agents: Agents) -> None:
    def tainted() -> set[str]:
        found = agents.b.get("nodes")["items"]
        return {
            node["metadata"]["name"]
            for node in found
            if any(each["key"] == TAINT for each in node["spec"].get("taints", []))
        }

    overlay = agents.installation.directory / "my-moorage"
    overlay.mkdir()
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "operating.md").read_text(), re.MULTILINE | re.DOTALL)
    (example,) = (block for block in blocks if block.startswith("# my-moorage/kustomization.yaml"))
    (overlay / "kustomization.yaml").write_text(example)
    agents.installation.run("kubectl --context b apply -k my-moorage")
    try:
        agents.installation.run("kubectl --context b -n moorage-system rollout status deployment/moorage-operator")
        agents.wait()
        spec = {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}
        spare = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b-spare"}, "spec": spec}
        agents.b.apply(json.dumps(spare))
        agents.b.kubectl("taint", "node", *(node.name for node in NODES), f"{TAINT}:NoSchedule")
        agents.b.eventually("the taint is gone", lambda: tainted() == {"b-spare"})
    finally:
        agents.b.kubectl("delete", "node", "b-spare", "--ignore-not-found")
        agents.b.kubectl("delete", "clusterrole,clusterrolebinding", "moorage-startup-taint", "--ignore-not-found")
        agents.installation.run(*commands()[OPERATOR])


def test_removal_takes_the_table_from_each_node_and_breaks_no_open_connection(
    agents: Agents, backend: Moored
) -> None:
    """The last test of this module: no agent is left."""
    kept = opened(backend)
    remove, wait, delete = commands()[REMOVAL]
    agents.installation.run(remove, wait)
    for node in NODES:
        assert "inet moorage" not in agents.tables(node)
        assert len(agents.tables(node)) > 0, "those of others stay"
    for each in kept:
        assert set(each.more()) == {each.answers[0]}
        each.close()
    # And back: whoever changes their mind applies the agents again.
    agents.installation.run(*commands()[AGENTS])
    assert all(answer.startswith("backend") for answers in asked(backend).values() for answer in answers)
    # As the README says: first kube-proxy, then no agents.
    backend.change({"proxy": "kube-proxy"})
    agents.installation.run(remove, wait, delete)
    left = agents.b.run_kubectl("get", "namespace,clusterrole,clusterrolebinding", "-o", "name")
    assert "moorage-agent" not in left

    def carried_by_kube_proxy() -> bool:
        return all(answer.startswith("backend") for answers in asked(backend).values() for answer in answers)

    agents.b.eventually("kube-proxy carries it", carried_by_kube_proxy)
    for node in NODES:
        assert "inet moorage" not in agents.tables(node)

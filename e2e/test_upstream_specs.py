"""Kubernetes' own specs of session affinity, with Moorage installed: carried by kube-proxy and by node agents."""

import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from e2e.harness import agnhost, builds, specs
from e2e.harness.agents import Agents, installed
from e2e.harness.callers import Callers
from e2e.harness.moored import NODES
from e2e.harness.played import PlayedClusters
from e2e.harness.specs import KUBE_PROXY, Running, Spec
from e2e.harness.world import execute, wait
from moorage.api.contract import CARRIED_SELECTOR, PROXY, PROXY_LABEL

NFTABLES, IPTABLES = (next(node for node in NODES if node.proxy_mode == mode) for mode in ("nftables", "iptables"))
TIMEOUT = "should have session affinity timeout work for service with type clusterIP"
CLUSTER_IP = (
    TIMEOUT,
    "should have session affinity work for service with type clusterIP",
    "should be able to switch session affinity for service with type clusterIP",
)
NODE_PORT = (
    "should have session affinity work for NodePort service",
    "should be able to switch session affinity for NodePort service",
)
PROXY_NAME = f"should implement {PROXY_LABEL}"
NAMES = {PROXY: CLUSTER_IP, KUBE_PROXY: (*CLUSTER_IP, *NODE_PORT, PROXY_NAME)}
"""Agents carry no node ports, and the last is another spec where a policy labels all Services."""
SPECS = [
    Spec(name, carrier, node) for carrier, names in NAMES.items() for name in names for node in (NFTABLES, IPTABLES)
]
AT_ONCE = 4
"""Specs that do not only wait, for two cores."""

TRIES = 2
"""Runs of each spec of a timeout. The first that ends counts: it waits for 130 s, and for as long again where
chance leads its client to the same of three servers."""

pytestmark = pytest.mark.timeout(1500)

Outcomes = Mapping[Spec, Callable[[], Mapping[str, str]]]
"""Each spec -> what waits for its end, and gives the state of each spec that ran."""


@pytest.fixture(scope="module")
def agents(played: PlayedClusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Operator and agents in B, as the README installs them."""
    with installed(played, tmp_path_factory.mktemp("specs")) as agents:
        yield agents


@pytest.fixture(scope="module")
def outcomes(played: PlayedClusters, agents: Agents) -> Iterator[Outcomes]:
    """All specs, started: those that mostly wait at once, the others a few at a time."""
    archive = agnhost.archive()
    running: list[Running] = []

    def start(spec: Spec, number: int = 1) -> Running:
        running.append(Running(played, spec, number))
        return running[-1]

    def run(spec: Spec) -> Mapping[str, str]:
        return start(spec).states()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda node: node.load(archive), played.b.nodes))
        specs.prepare(played, SPECS)
        try:
            # Those of node ports ask the first node that takes pods, wherever their client is.
            with Callers(played, "default").only(IPTABLES):
                asking = {spec: start(spec) for spec in SPECS if spec.name in NODE_PORT and spec.node == IPTABLES}
                waiting = {
                    spec: [start(spec, number) for number in range(TRIES)] for spec in SPECS if spec.name == TIMEOUT
                }
                wait("a node is chosen", lambda: all(each.has_chosen() for each in asking.values()), 300)
            begun: Outcomes = {
                **{spec: each.states for spec, each in asking.items()},
                **{spec: partial(specs.of_first, tries) for spec, tries in waiting.items()},
            }
            yield {spec: begun.get(spec) or pool.submit(run, spec).result for spec in SPECS}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for each in running:
                each.process.stop(signal.SIGKILL)
            specs.remove(played)


def test_the_image_of_their_pods_is_the_one_that_the_specs_ask_for(played: PlayedClusters) -> None:
    assert agnhost.AGNHOST in execute([str(builds.program(builds.SPECS)), "--list-images"]).split()


def test_agents_carry_what_is_labelled_and_nothing_else(agents: Agents, outcomes: Outcomes) -> None:
    """While the clients of the specs of a timeout wait."""

    def addresses(*selector: str) -> set[str]:
        found = agents.b.get("services", "--all-namespaces", *selector)["items"]
        timed = (each for each in found if each["metadata"]["name"] == "affinity-clusterip-timeout")
        return {each["spec"]["clusterIP"] for each in timed}

    def have_sessions() -> bool:
        labelled, every = addresses("-l", CARRIED_SELECTOR), addresses()
        kernels = [{str(each[1]) for each in agents.sessions(node)} & every for node in (NFTABLES, IPTABLES)]
        print(f"agents are to carry {labelled} of {every}, and have sessions with {kernels}")
        return len(every) == 4 * TRIES and all(kernels) and set.union(*kernels) == labelled

    agents.b.eventually("a session on each node", have_sessions, seconds=120)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_it_passes(outcomes: Outcomes, spec: Spec) -> None:
    states = outcomes[spec]()
    print(states)
    assert list(states.values()) == ["passed"]
    assert all(spec.name in name for name in states)

"""The scene of a run: cluster B with operator and agents, servers outside, and pods that connect all the time."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from e2e.churn import client
from e2e.churn.faults import Cast
from e2e.churn.recorder import AGENTS, OPERATORS, Journal, Recorder
from e2e.harness import agents as harness
from e2e.harness import topology
from e2e.harness.agents import Agents
from e2e.harness.callers import Callers
from e2e.harness.moored import NODES, PORT, Moored, mooring
from e2e.harness.outside import SERVERS, Servers, serving
from e2e.harness.played import PlayedClusters
from e2e.harness.world import World, wait
from moorage.cluster import kubeconfig

NAMESPACE = "churn"
SERVICES: dict[str, dict[str, Any]] = {
    "by-pod": {"proxy": "moorage", **mooring("Pod", podSelector={})},
    "by-node": {"proxy": "moorage", **mooring("Node", "Return")},
    "by-hints": mooring("Node"),
}
"""ExternalServices with the same endpoints."""
WORKLOADS = {"frontend": ("StatefulSet", 4), "worker": ("Deployment", 2)}
"""What makes the pods that connect, and how many."""
SHORT, LONG = 1, 2
"""How many workers of each pod connect to each Service for a moment, and how many for seconds."""
_MOUNT = "/notes"
_SETTLE_SECONDS = 120
_SILENT = """\
table ip churn {
  set silent { type ipv4_addr; }
  chain input {
    type filter hook input priority filter;
    ip daddr @silent drop
  }
}
"""


class Scene:
    """What faults are made with, and what they are about."""

    def __init__(self, agents: Agents, servers: Servers, recorder: Recorder, journal: Journal) -> None:
        self.agents, self.servers, self.recorder, self.journal = agents, servers, recorder, journal
        self.world: World = agents.played.world
        self.b = agents.b
        self.cast = Cast([*SERVICES], [each.name for each in SERVERS], [each.name for each in NODES], [*WORKLOADS])

    def silence(self, address: str) -> None:
        """Packets to an address of a server are lost from now on."""
        self._silent("add", address)

    def hear(self, address: str) -> None:
        self._silent("delete", address)

    def _silent(self, change: str, address: str) -> None:
        argv = ("nft", change, "element", "ip", "churn", "silent", f"{{ {address} }}")
        self.world.execute(*argv, network=topology.INTERNET)

    def until_settled(self) -> None:
        """Wait until everybody is there and well, and knows it."""
        for what, condition in (
            ("operators", self.has_operators),
            ("agents", self._has_agents),
            ("endpoints that take clients", self._has_endpoints),
            ("clients", self.has_clients),
        ):
            wait(what, condition, _SETTLE_SECONDS)

    def has_operators(self) -> bool:
        """Whether both are ready, and one of them leads."""
        found = list(self.recorder.programs[OPERATORS].values())
        leader = self.recorder.leader.rpartition("_")[0]
        return len(found) == 2 and all(each.ready for each in found) and leader in {each.name for each in found}

    def _has_agents(self) -> bool:
        found = list(self.recorder.programs[AGENTS].values())
        return sorted(each.node for each in found) == sorted(self.cast.nodes) and all(each.ready for each in found)

    def _has_endpoints(self) -> bool:
        return all(
            {*spec.taking} == spec.weights.keys() == {*self.cast.endpoints} and not spec.drained
            for spec in self.recorder.specs.values()
        )

    def has_clients(self) -> bool:
        """Whether all pods that connect are there, and have an address."""
        pods = list(self.recorder.pods.values())
        count = sum(replicas for _, replicas in WORKLOADS.values())
        return len(pods) == count and all(each.life == "present" and each.address for each in pods)


@contextmanager
def staged(played: PlayedClusters, directory: Path) -> Iterator[Scene]:
    """The scene, ready, until the end of the block. Records go to files of `directory`, which is made."""
    directory.mkdir(parents=True)
    directory.chmod(0o777)  # pods run as another user
    shutil.copy(client.__file__, directory)
    config = kubeconfig.load(played.b.kubeconfig)
    enter = partial(played.world.enter, topology.INTERNET)
    with (
        harness.installed(played, directory / "installation", NAMESPACE) as agents,
        _silencing(played.world),
        serving(played.world, *SERVERS) as servers,
        closing(Journal(directory / "run.jsonl")) as journal,
        Recorder(config, enter, NAMESPACE, journal) as recorder,
    ):
        _make(played, directory)
        scene = Scene(agents, servers, recorder, journal)
        scene.until_settled()
        try:
            yield scene
        finally:
            played.b.api.start()


@contextmanager
def _silencing(world: World) -> Iterator[None]:
    world.execute("nft", "-f", "-", network=topology.INTERNET, input=_SILENT)
    try:
        yield
    finally:
        world.execute("nft", "delete", "table", "ip", "churn", network=topology.INTERNET)


def _make(played: PlayedClusters, directory: Path) -> None:
    moored, callers = Moored(played, NAMESPACE), Callers(played, NAMESPACE)
    for name, spec in SERVICES.items():
        moored.make(SERVERS, name, **spec)
    where = [f"{name}={callers.address(name)}:{PORT}" for name in SERVICES]
    for name, (kind, replicas) in WORKLOADS.items():
        more = {"serviceName": "", "podManagementPolicy": "Parallel"} if kind == "StatefulSet" else {}
        callers.make(kind, name, replicas, _template(name, played.image, directory, where), **more)


def _template(app: str, image: str, directory: Path, services: list[str]) -> dict[str, Any]:
    """A pod that connects to these Services, each given as the client wants it."""
    program = f"{_MOUNT}/{Path(client.__file__).name}"
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-ISu", program, _MOUNT, "$(POD_UID)", str(SHORT), str(LONG), *services],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "volumeMounts": [{"name": "notes", "mountPath": _MOUNT}],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "notes", "hostPath": {"path": str(directory), "type": "Directory"}}],
    }
    return {"metadata": {"labels": {"app": app}}, "spec": spec}

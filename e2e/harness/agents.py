"""Node agents on the nodes of cluster B, and what is in the kernels there."""

import asyncio
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.harness import topology
from e2e.harness.install import Installation, commands
from e2e.harness.moored import NODES
from e2e.harness.node import NodePrograms
from e2e.harness.played import PlayedClusters
from moorage.dataplane.nft import KernelNft

OPERATOR, AGENTS = "The operator, in cluster B", "Node agents, in cluster B"
"""Headings of the README."""


class Agents:
    """The DaemonSet, and what is in the kernels of its nodes."""

    def __init__(self, played: PlayedClusters, installation: Installation) -> None:
        self.played, self.b, self.installation = played, played.b, installation

    def kubectl(self, *arguments: str) -> str:
        return self.b.kubectl("-n", "moorage-agent", *arguments)

    def pods(self) -> dict[str, Any]:
        """Name of each node -> its agent's pod, those that end left out."""
        found = self.b.get("-n", "moorage-agent", "pods", "-l", "app.kubernetes.io/component=agent")["items"]
        return {pod["spec"]["nodeName"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def restarts(self) -> list[int]:
        """How often the containers on each node were started again."""
        return [pod["status"]["containerStatuses"][0]["restartCount"] for pod in self.pods().values()]

    def are_updated(self) -> bool:
        """Whether each node has an agent as the DaemonSet says now, and it is ready."""
        found = self.b.get("-n", "moorage-agent", "daemonset", "moorage-agent")
        status, wanted = found["status"], len(NODES)
        is_seen = bool(status.get("observedGeneration") == found["metadata"]["generation"])
        return is_seen and status.get("updatedNumberScheduled") == status.get("numberReady") == wanted

    def wait(self) -> None:
        self.b.eventually("an agent is ready on each node", self.are_updated, seconds=120)

    def programs(self, node: topology.Node) -> NodePrograms:
        (found,) = (each for each in self.b.nodes if each.node == node)
        return found

    def send(self, node: topology.Node, number: signal.Signals) -> str:
        """A signal to the agent of a node; the id of its container."""
        (container,) = self.pods()[node.name]["status"]["containerStatuses"]
        self.programs(node).send(container["containerID"], number)
        return str(container["containerID"])

    def kill(self, node: topology.Node) -> None:
        """The agent of a node by SIGKILL; waits until kubelet has another one run."""
        killed = self.send(node, signal.SIGKILL)

        def is_another() -> bool:
            (found,) = self.pods()[node.name]["status"]["containerStatuses"]
            return bool(found["containerID"] != killed and found["ready"])

        self.b.eventually(f"another agent on {node.name}", is_another, seconds=120)

    def nft(self, node: topology.Node, *words: str, input: str | None = None) -> str:
        """By this machine's nft."""
        return self.played.world.execute("nft", *words, network=node.network, input=input)

    def tables(self, node: topology.Node) -> set[str]:
        return set(re.findall(r"table (\w+ \S+)", self.nft(node, "list", "tables")))

    def sessions(self, node: topology.Node) -> dict[tuple[object, ...], object]:
        """The client and the Service of each -> its endpoint."""
        return self._elements(node, "sessions4")

    def moorings(self, node: topology.Node) -> dict[tuple[object, ...], object]:
        """The same, as Moorings say."""
        return self._elements(node, "moorings4")

    def _elements(self, node: topology.Node, name: str) -> dict[tuple[object, ...], object]:
        prefix = self.played.world.inside(node.network)
        return {each.key: each.value for each in asyncio.run(KernelNft(prefix).elements(name))}


@contextmanager
def installed(played: PlayedClusters, directory: Path, *namespaces: str) -> Iterator[Agents]:
    """Operator and agents in B, as the README installs them. At the end they go, and `namespaces` before them."""
    installation = Installation(played, directory)
    try:
        installation.run(*commands()[OPERATOR])
        installation.run(*commands()[AGENTS])
        yield Agents(played, installation)
    finally:
        if namespaces:
            _delete(played, namespaces)
        installation.remove()


def _delete(played: PlayedClusters, namespaces: Sequence[str]) -> None:
    """These of B, with their pods; waits until they have gone."""
    present = ("get", "namespace", *namespaces, "--ignore-not-found", "-o", "name")
    for each in played.b.kubectl(*present).split():
        # Else the namespace waits for kubelets to end them one by one.
        name = each.removeprefix("namespace/")
        played.b.kubectl("-n", name, "delete", "deployments,statefulsets", "--all", "--wait=false")
        played.b.kubectl("-n", name, "delete", "pods", "--all", "--force", "--wait=false")
    deletion = ("delete", "namespace", *namespaces, "--ignore-not-found", "--timeout=120s")
    played.b.kubectl(*deletion, seconds=150)

"""Pods of cluster B that connect to a Service, and what each was told."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from e2e.harness import topology
from e2e.harness.moored import NODES, PORT
from e2e.harness.played import PlayedClusters
from e2e.harness.world import wait

_PROGRAM = Path(__file__).with_name("caller.py").read_text()
_ASK = (
    "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).makefile().readline())"
)


class Heard(NamedTuple):
    """A line of a caller."""

    at: float
    """Seconds since the epoch."""
    what: str
    """`begins`, who answered a new connection, or `ended: ...`."""


def answers(heard: list[Heard]) -> list[Heard]:
    """Of those who answered."""
    return [each for each in heard if each.what != "begins" and not each.what.startswith("ended: ")]


class Callers:
    """Pods of one namespace."""

    def __init__(self, played: PlayedClusters, namespace: str) -> None:
        self._b, self._image = played.b, played.image
        self.namespace = namespace

    def template(
        self, labels: Mapping[str, str], services: Sequence[str] = ("backend",), seconds: float = 0.05, **spec: Any
    ) -> dict[str, Any]:
        """A pod with a container for each of these Services, which asks its endpoint after so many seconds."""
        containers = [
            {
                "name": name,
                "image": self._image,
                "imagePullPolicy": "Never",
                "command": ["python3", "-ISuc", _PROGRAM, self.address(name), str(PORT), str(seconds)],
            }
            for name in services
        ]
        always = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
        return {"metadata": {"labels": dict(labels)}, "spec": {**always, "containers": containers, **spec}}

    def make(self, kind: str, name: str, replicas: int, template: Mapping[str, Any], **spec: Any) -> None:
        """A StatefulSet or Deployment with these pods; waits until they are ready."""
        selector = {"matchLabels": {"app": name}}
        spec = {"replicas": replicas, "selector": selector, "template": template, **spec}
        self.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        self.kubectl("rollout", "status", f"{kind.lower()}/{name}", "--timeout=120s")

    def kubectl(self, *arguments: str) -> str:
        return self._b.kubectl("-n", self.namespace, *arguments)

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """All with one call of kubectl."""
        whole = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self._b.apply(json.dumps(whole), "-n", self.namespace)

    def pods(self, *arguments: str) -> dict[str, Any]:
        """By name, those that end left out."""
        found = self._b.get("-n", self.namespace, "pods", *arguments)["items"]
        return {each["metadata"]["name"]: each for each in found if "deletionTimestamp" not in each["metadata"]}

    def restarts(self) -> dict[str, int]:
        """How often the containers of each pod were started again."""
        return {
            name: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
            for name, pod in self.pods().items()
        }

    def bring(self, *pods: str, to: topology.Node) -> None:
        """Those of a StatefulSet that are elsewhere."""
        found = self.pods()
        if elsewhere := [name for name in pods if found[name]["spec"]["nodeName"] != to.name]:
            self.replace(*elsewhere, on=to)

    def replace(self, *pods: str, on: topology.Node) -> None:
        """Delete these pods of a StatefulSet; waits until they run on another node."""
        before = {name: each["metadata"]["uid"] for name, each in self.pods().items()}
        with self.only(on):
            self.kubectl("delete", "pod", *pods, "--grace-period=1", "--wait=false")

            def are_back() -> bool:
                found = self.pods()
                return all(
                    found[name]["metadata"]["uid"] != before[name]
                    and found[name]["spec"]["nodeName"] == on.name
                    and found[name]["status"]["phase"] == "Running"
                    for name in pods
                )

            self._b.eventually(f"{', '.join(pods)} on {on.name}", are_back)

    @contextmanager
    def only(self, node: topology.Node) -> Iterator[None]:
        """Pods that come meanwhile come to this node."""
        others = [each.name for each in NODES if each != node]
        self._b.kubectl("cordon", *others)
        try:
            yield
        finally:
            self._b.kubectl("uncordon", *others)

    # --- what they are told -------------------------------------------------------------------------------------

    def heard(self, pod: str, container: str = "backend") -> list[Heard]:
        """By the container that runs now."""
        return [_heard(line) for line in self.kubectl("logs", pod, "-c", container).splitlines()]

    def heard_by(self, pods: Collection[str], selector: str) -> dict[str, list[Heard]]:
        """All that these have heard, and all others that are selected, with one call of kubectl."""
        most = f"--max-log-requests={len(pods)}"
        found: dict[str, list[Heard]] = {pod: [] for pod in pods}
        for line in self.kubectl("logs", "-l", selector, "--prefix", "--tail=-1", most).splitlines():
            prefix, _, said = line.partition(" ")
            found[prefix.split("/")[1]].append(_heard(said))
        return found

    def ask(self, *pods: str, service: str = "backend") -> dict[str, str]:
        """Who answers a new connection of each pod."""
        argv = ["--", "python3", "-ISc", _ASK, self.address(service), str(PORT)]
        return {pod: self.kubectl("exec", pod, "-c", service, *argv).strip() for pod in pods}

    def first(self, *pods: str, container: str = "backend") -> dict[str, str]:
        """What became of the first connection of each, waited for."""
        return {pod: self.until(pod, 2, container)[1].what for pod in pods}

    def until(self, pod: str, count: int, container: str = "backend") -> list[Heard]:
        """At least so many lines, waited for."""
        found: list[Heard] = []

        def enough() -> bool:
            found[:] = self.heard(pod, container)
            return len(found) >= count

        wait(f"{count} lines of {pod}", enough, 60)
        return found

    def address(self, service: str) -> str:
        found: str = self._b.get("-n", self.namespace, "service", service)["spec"]["clusterIP"]
        return found


def _heard(line: str) -> Heard:
    at, _, what = line.partition(" ")
    return Heard(float(at), what)

"""The two clusters as tests see them: played on this machine, or existing ones."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from e2e.harness.errors import HarnessError
from e2e.harness.kubectl import Kubectl
from e2e.harness.world import execute

_DEMO = Path(__file__).parents[2] / "deploy" / "demo"
IMAGE = "moorage:latest"
"""As manifests name it."""


class Cluster(Kubectl):
    """One cluster: kubectl, and what most tests ask of it."""

    def __init__(self, name: str, kubeconfig: Path, server: str, inside: Callable[[], Sequence[str]] = list) -> None:
        """`server`: the URL of its API server for pods of the other cluster."""
        super().__init__(kubeconfig, inside)
        self.name = name
        self.server = server

    def load_balancer(self, namespace: str, name: str, seconds: float = 60) -> str:
        """The address, or the host name, that the cloud gave to a Service of type LoadBalancer, waited for."""
        found: list[str] = []

        def given() -> bool:
            ingress = self.get("-n", namespace, "service", name)["status"]["loadBalancer"].get("ingress") or []
            found.extend(one.get("ip") or one["hostname"] for one in ingress)
            return bool(found)

        self.eventually(f"an address for service {namespace}/{name} of cluster {self.name}", given, seconds)
        return found[0]

    def wait_for_deployment(self, namespace: str, name: str, seconds: int = 120) -> None:
        """Until all its pods are ready. Raises HarnessError that says what the pods are waiting for."""
        try:
            arguments = ["-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={seconds}s"]
            self.kubectl(*arguments, seconds=seconds + 30)
        except HarnessError as error:
            pods = self.kubectl("-n", namespace, "describe", "pods")
            raise HarnessError(f"{error}\n{pods[-4000:]}") from None

    def delete_namespace(self, name: str) -> None:
        """With all that is in it; waits until it has gone."""
        # Deletion of a namespace looks again only after half of its pods' grace period: they go first.
        present = self.kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name")
        if present:
            self.kubectl("-n", name, "delete", "deployments,statefulsets", "--all", "--cascade=foreground")
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=120s", seconds=150)


class Clusters:
    """A, with the backends, and B, with the frontends."""

    def __init__(self, a: Cluster, b: Cluster, image: str, outside: Callable[[], Sequence[str]] = list) -> None:
        """`image`: the name under which both can run Moorage. `outside`: words that run a client on the internet."""
        self.a = a
        self.b = b
        self.image = image
        self._outside = outside

    def demo(self, name: str) -> str:
        """A manifest of deploy/demo, with the image's name as these clusters know it."""
        return self.named((_DEMO / name).read_text())

    def named(self, manifests: str) -> str:
        """Manifests with this image in the place of moorage:latest."""
        return manifests.replace(f"image: {IMAGE}", f"image: {self.image}")

    def curl(self, url: str, *arguments: str, seconds: int = 10) -> str:
        """What a client on the internet gets. Raises HarnessError with curl's words, also for an answer of 400 up."""
        curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", str(seconds)]
        return execute([*self._outside(), *curl, *arguments, url], seconds=seconds + 10)


def existing() -> Clusters | None:
    """The clusters of `E2E_KUBECONFIG_A` and `E2E_KUBECONFIG_B`, if these are set.

    `E2E_IMAGE` names the image that they can run. Raises HarnessError when only some are set.
    """
    values = {name: os.environ.get(f"E2E_{name}", "") for name in ("KUBECONFIG_A", "KUBECONFIG_B", "IMAGE")}
    if not any(values.values()):
        return None
    if missing := [f"E2E_{name}" for name, value in values.items() if not value]:
        raise HarnessError(f"to run against existing clusters, set {', '.join(missing)} too")
    a, b = (_existing(name, Path(values[f"KUBECONFIG_{name}"])) for name in ("A", "B"))
    return Clusters(a, b, values["IMAGE"])


def _existing(name: str, path: Path) -> Cluster:
    try:
        config = yaml.safe_load(path.read_text())
        server = config["clusters"][0]["cluster"]["server"]
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise HarnessError(f"E2E_KUBECONFIG_{name}: {path} is no kubeconfig with a cluster: {error}") from None
    return Cluster(name.lower(), path, server)

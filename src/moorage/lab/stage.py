"""What the acts of the demo's story have in common: the lab, its clusters, and who tells."""

from pathlib import Path
from typing import NamedTuple

import moorage
from moorage.cluster import verbs
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage.lab import waiting
from moorage.lab.narrator import Narrator
from moorage.lab.outside import Lab

EFFECT_SECONDS = 5.0
"""How long a change may take until its effect is seen."""


class Files(NamedTuple):
    """The demo's manifests."""

    backend: Path
    frontend: Path
    external: Path
    """The frontend with an ExternalService in place of a Service and a slice."""


def files() -> Files:
    """The demo's manifests: installed with the package, or in the checkout it runs from.

    Raises MoorageError where they are neither.
    """
    package = Path(moorage.__file__).parent
    for directory in (package / "deploy" / "demo", package.parents[1] / "deploy" / "demo"):
        names = ("k8s-backend.yml", "k8s-frontend.yml", "k8s-frontend-external.yml")
        found = Files(*(directory / name for name in names))
        if all(file.exists() for file in found):
            return found
    raise MoorageError(f"deploy/demo/k8s-backend.yml: not found near {package}; run the demo in a clone of moorage")


class Stage:
    """Clusters A and B of a lab, and what a person does to them."""

    def __init__(self, lab: Lab, narrator: Narrator, a: Client, b: Client) -> None:
        self.lab, self.narrator, self.a, self.b = lab, narrator, a, b
        self.files = files()
        self._option = "" if lab.state.name == "demo" else f" --name {lab.state.name}"

    def line(self, verb: str, cluster: str, rest: str) -> str:
        """The command line that a person types."""
        return f"moorage lab {verb}{self._option} --cluster {cluster} {rest}"

    async def scale(self, deployment: str, replicas: int) -> None:
        """Set how many pods a Deployment of cluster A's backend has, and wait until it has them."""
        self.narrator.command(self.line("scale", "a", f"-n backend deployment/{deployment} --replicas {replicas}"))
        kind = verbs.resolve("deployment")
        self.narrator.output(await verbs.scale(self.a, kind, deployment, replicas, namespace="backend"))
        await waiting.deployments(self.a, [("backend", deployment)])

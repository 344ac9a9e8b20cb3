"""What the acts of the demo's story share: the lab, its clusters, and the narrator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import moorage_lab
from moorage.api.core_v1 import Pod
from moorage.cli import program
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab import enter, verbs, waiting
from moorage_lab.kernel import Kernel
from moorage_lab.narrator import Narrator, shown
from moorage_lab.outside import Lab
from moorage_lab.state import labs

EFFECT_SECONDS = 5.0
"""How long a change may take until its effect is seen."""
SLACK_SECONDS = 0.5
"""From a verdict until a client's next connection goes elsewhere."""


class Files(NamedTuple):
    """The demo's manifests."""

    backend: Path
    frontend: Path
    external: Path
    """The frontend with an ExternalService in place of a Service and a slice."""
    workers: Path
    """Pods that keep a connection open, and an ExternalService of theirs."""


def files() -> Files:
    """The demo's manifests: installed with the package, or in the checkout that it runs from.

    Raises MoorageError if there are none.
    """
    package = Path(moorage_lab.__file__).parent
    for directory in (package / "deploy" / "demo", package.parents[2] / "deploy" / "demo"):
        names = ("k8s-backend.yml", "k8s-frontend.yml", "k8s-frontend-external.yml", "k8s-workers.yml")
        found = Files(*(directory / name for name in names))
        if all(file.exists() for file in found):
            return found
    raise MoorageError(f"deploy/demo/k8s-backend.yml: not found near {package}; run the demo in a clone of moorage")


class Stage:
    """Clusters A and B of a lab, and what a person does to them."""

    def __init__(self, lab: Lab, narrator: Narrator, a: Client, b: Client, patience: float) -> None:
        self.lab, self.narrator, self.a, self.b = lab, narrator, a, b
        self.effect_seconds, self.slack = EFFECT_SECONDS + patience, SLACK_SECONDS + patience
        self.files = files()
        self._option = "" if len(labs()) == 1 else f" --name {lab.state.name}"

    def line(self, verb: str, cluster: str, rest: str) -> str:
        """The command line that a person would type."""
        return f"{program.name()} lab {verb}{self._option} --cluster {cluster} {rest}"

    async def scale(self, deployment: str, replicas: int) -> None:
        """Scale a backend Deployment in cluster A, and wait until it has that many pods."""
        self.narrator.command(self.line("scale", "a", f"-n backend deployment/{deployment} --replicas {replicas}"))
        kind = verbs.resolve("deployment")
        self.narrator.output(await verbs.scale(self.a, kind, deployment, replicas, namespace="backend"))
        await waiting.deployments(self.a, [("backend", deployment)])

    async def edit(self, file: Path, manifest: Sequence[dict[str, Any]], edit: str) -> None:
        """Apply an edited manifest in cluster B, and wait until the kernel of the frontend's node has the change."""
        self.narrator.command(f"edit {shown(file)}", edit)
        self.narrator.command(self.line("apply", "b", f"-f {shown(file)}"))
        _, kernel = await self.kernel()
        before = await kernel.digest()
        await verbs.apply(self.b, manifest)
        if await kernel.until(lambda digest: digest != before, seconds=self.effect_seconds) is None:
            raise MoorageError(f"{edit}: has not reached the kernel after {self.effect_seconds:g} s")

    async def kernel(self) -> tuple[str, Kernel]:
        """The frontend's node and its kernel."""
        nodes = [pod.spec.node_name for pod in (await self.b.list(Pod, "frontend")).items if pod.spec.node_name]
        prefix = enter.on_node(self.lab.state, "b", nodes[0]) if nodes else None
        if prefix is None:
            raise MoorageError("Deployment frontend/frontend: has no pod on a node; was it deleted meanwhile?")
        return nodes[0], Kernel(prefix)

"""The README's install section, followed by running its commands."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import yaml

from e2e.harness.clusters import IMAGE, Clusters
from e2e.harness.kubectl import Kubectl
from e2e.harness.world import execute

_ROOT = Path(__file__).parents[2]
_SECTION = "Install"


def commands() -> dict[str, list[str]]:
    """The section's commands by the heading that they stand under."""
    readme = (_ROOT / "README.md").read_text()
    section = re.search(rf"^## {_SECTION}\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    assert section is not None
    _, *parts = re.split(r"^### (.*)\n", section[1], flags=re.MULTILINE)
    return {
        heading: [
            line.removeprefix("$ ")
            for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            for line in block.splitlines()
            if line.startswith("$ ")
        ]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def example(first: str) -> str:
    """The README's YAML that begins with this line."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (_ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(f"{first}\n"))
    return str(found)


class Installation:
    """A directory with `deploy/` in it, where commands find cluster A and B as kubectl's contexts `a` and `b`."""

    def __init__(self, clusters: Clusters, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(_ROOT / "deploy", directory / "deploy")
        if clusters.image != IMAGE:
            self._name_image(clusters.image)
        self._kubeconfig = directory / "kubeconfig"
        self._kubeconfig.write_text(_merged({"a": clusters.a, "b": clusters.b}))
        *self._inside, kubectl, _ = clusters.b.command()
        self._kubectl = Path(kubectl).parent

    def run(self, *lines: str, seconds: float = 300) -> str:
        """What these lines print as one shell script. Raises HarnessError where one fails."""
        environment = ["env", f"KUBECONFIG={self._kubeconfig}"]
        path = f"{self._kubectl}:{Path(sys.executable).parent}"
        script = f"cd {self.directory}\nPATH={path}:$PATH\n" + "\n".join(lines)
        return execute([*self._inside, *environment, "bash", "-euc", script], seconds=seconds)

    def check(self, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """What `moorage check` says of cluster B: its exit status, and verdict and message of each check."""
        found = json.loads(
            self.run(shlex.join(["moorage", "check", "--context", "b", "-o", "json", *words]) + " || true")
        )
        return found["status"], {each["check"]: (each["verdict"], each["message"]) for each in found["checks"]}

    def remove(self) -> None:
        """What the section's commands made, in both clusters; all at once, because a namespace takes its time."""
        self.run(
            "kubectl --context b delete -k deploy/operator --ignore-not-found & jobs=$!",
            'kubectl --context b delete -k deploy/agent-remove --ignore-not-found & jobs+=" $!"',
            'kubectl --context b delete -k deploy/crds --ignore-not-found & jobs+=" $!"',
            'kubectl --context b delete namespace frontend --ignore-not-found & jobs+=" $!"',
            'kubectl --context a delete namespace backend --ignore-not-found & jobs+=" $!"',
            "for job in $jobs; do wait $job; done",
        )

    def _name_image(self, image: str) -> None:
        """Have the manifests name this image, as the README says."""
        name, _, tag = image.rpartition(":")
        for part in ("operator", "agent", "agent-remove"):
            path = self.directory / f"deploy/{part}/kustomization.yaml"
            kustomization = yaml.safe_load(path.read_text())
            kustomization["images"] = [{"name": "moorage", "newName": name, "newTag": tag}]
            path.write_text(yaml.safe_dump(kustomization))
        for path in (self.directory / "deploy/demo").glob("*.yml"):
            path.write_text(path.read_text().replace(f"image: {IMAGE}", f"image: {image}"))


def _merged(clusters: dict[str, Kubectl]) -> str:
    """One kubeconfig with a context of each of these names."""
    merged: dict[str, list[dict[str, object]]] = {"clusters": [], "users": [], "contexts": []}
    for name, cluster in clusters.items():
        flat = yaml.safe_load(cluster.kubectl("config", "view", "--minify", "--flatten", "--raw"))
        merged["clusters"].append({"name": name, "cluster": flat["clusters"][0]["cluster"]})
        merged["users"].append({"name": name, "user": flat["users"][0]["user"]})
        merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **merged})

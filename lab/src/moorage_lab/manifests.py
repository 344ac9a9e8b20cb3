"""Which manifests go to which cluster of a lab."""

import base64
import re
from collections.abc import Sequence

from moorage.api import manifest
from moorage.api.manifest import Manifest
from moorage.api.yaml_text import dump
from moorage.errors import MoorageError
from moorage_lab.topology import LabPlan

DEFAULT_CLUSTERS = ("a=1", "b=2")
"""Two clusters, the second with two nodes, as the demo's story needs them."""


def parse_clusters(options: Sequence[str]) -> dict[str, int]:
    """Cluster -> number of nodes, from `NAME` or `NAME=NODES`. Raises MoorageError for what is neither."""
    clusters: dict[str, int] = {}
    for option in options or DEFAULT_CLUSTERS:
        name, _, nodes = option.partition("=")
        if name in clusters:
            raise MoorageError(f"--cluster {option}: cluster {name} is given twice")
        if nodes and not (nodes.isascii() and nodes.isdecimal()):
            raise MoorageError(f"--cluster {option}: {nodes!r} is not a number of nodes; write {name}=2")
        clusters[name] = int(nodes) if nodes else 1
    return clusters


def parse_files(options: Sequence[str], plan: LabPlan) -> dict[str, list[str]]:
    """Cluster -> its files, from `CLUSTER=FILE`, or `FILE` for the first cluster.

    Raises MoorageError for a cluster that the lab does not have.
    """
    names = [cluster.name for cluster in plan.clusters]
    files: dict[str, list[str]] = {name: [] for name in names}
    for option in options:
        match = re.fullmatch(r"([a-z0-9]+)=(.+)", option)
        name, file = match.groups() if match else (names[0], option)
        if name not in files:
            raise MoorageError(f"-f {option}: the lab has no cluster {name!r}; it has: {', '.join(names)}")
        files[name].append(file)
    return files


def load(files: dict[str, list[str]]) -> dict[str, list[Manifest]]:
    """Cluster -> the objects in its files. Raises MoorageError for all errors in them."""
    return {cluster: manifest.load(sources) for cluster, sources in files.items()}


def deployments(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    """Namespace and name of each Deployment among them."""
    return _of_kind(manifests, "Deployment")


def stateful_sets(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    """Namespace and name of each StatefulSet among them."""
    return _of_kind(manifests, "StatefulSet")


def _of_kind(manifests: Sequence[Manifest], kind: str) -> list[tuple[str, str]]:
    return [(found.namespace or "default", found.name) for found in manifests if found.kind.kind == kind]


def load_balancers(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    """Namespace and name of each LoadBalancer Service among them that gets a relay: those with a TCP port."""
    return [
        (found.namespace or "default", found.name)
        for found in manifests
        if found.kind.kind == "Service"
        and found.object["spec"].get("type") == "LoadBalancer"
        and any(port.get("protocol", "TCP") == "TCP" for port in found.object["spec"]["ports"])
    ]


def secret(name: str, namespace: str, kubeconfig: str) -> str:
    """The manifest of a Secret that holds this kubeconfig as `kubeconfig`, for a `cluster` source."""
    found = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {"kubeconfig": base64.b64encode(kubeconfig.encode()).decode()},
    }
    return dump(found)

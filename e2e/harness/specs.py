"""Kubernetes' own end-to-end specs, run against cluster B as they are.

Each runs by itself, as a user of its own. Two policies of admission go by that user's name: one has the pods that the
user makes, which are the spec's clients, on the node in its name; the other gives its Services to the node agents.
The servers of a spec are pods of a Deployment, which another user makes: they are on any node.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

from e2e.harness import builds, topology
from e2e.harness.errors import HarnessError
from e2e.harness.played import PlayedClusters
from moorage.api.contract import PROXY, PROXY_LABEL

KUBE_PROXY = "kube-proxy"
_USER = "specs"
_GROUP = "system:masters"
_HAS_CHOSEN = "Creating new exec pod"
"""What specs say before they make their client: by then those of node ports have chosen the node that they ask."""


class Spec(NamedTuple):
    """One spec, who is to carry its Services, and where its clients are."""

    name: str
    """What only its full name has in it."""
    carrier: str
    """`moorage` or `kube-proxy`."""
    node: topology.Node

    @property
    def user(self) -> str:
        return f"{_USER}:{self.carrier}:{self.node.name}"

    def __str__(self) -> str:
        return f"{self.carrier}-{self.node.proxy_mode}-{re.sub('[^a-zA-Z]+', '-', self.name)}"


class Running:
    """A spec that has been started."""

    def __init__(self, played: PlayedClusters, spec: Spec, number: int = 1) -> None:
        """`number`: tells several runs of one spec apart."""
        name, directory = f"{spec}-{number}", played.world.directory
        self._report = directory / f"{name}.json"
        kubeconfig = directory / f"{name}.kubeconfig"
        kubeconfig.write_text(_impersonating(played.b.kubeconfig, spec.user))
        argv: list[str | Path] = [
            builds.program(builds.SPECS),
            f"--kubeconfig={kubeconfig}",
            f"--kubectl-path={builds.program('kubectl')}",
            "--provider=skeleton",
            f"--ginkgo.focus={re.escape(spec.name)}",
            f"--ginkgo.json-report={self._report}",
            "--ginkgo.no-color",
            "--ginkgo.silence-skips",
            "--ginkgo.v",
        ]
        self.process = played.world.start(name, argv, topology.INTERNET)

    def has_chosen(self) -> bool:
        """Whether it has looked at the cluster's nodes for the last time, or has ended."""
        return _HAS_CHOSEN in self.process.log.read_text() or not self.process.running

    def states(self) -> dict[str, str]:
        """The full name of each spec that ran -> `passed`, or what became of it; waits for their end.

        Raises HarnessError when there is no report.
        """
        self.process.popen.wait()
        if not self._report.exists():
            raise HarnessError(f"{self.process.name} made no report:\n{self.process.last_words(40)}")
        return states(self._report.read_text())


def of_first(runs: Sequence[Running]) -> dict[str, str]:
    """The states of the one that ends first, waited for."""
    while True:
        for each in runs:
            if not each.process.running:
                return each.states()
        time.sleep(0.2)


def states(report: str) -> dict[str, str]:
    """The full name of each spec that ran -> its state, as ginkgo's JSON report has it."""
    return {
        " ".join([*each["ContainerHierarchyTexts"], each["LeafNodeText"]]): each["State"]
        for suite in json.loads(report)
        for each in suite["SpecReports"]
        if each["LeafNodeType"] == "It" and each["State"] not in ("skipped", "pending")
    }


def _policy(name: str, user: str, resource: str, operations: Sequence[str], change: str) -> list[dict[str, object]]:
    """What changes each object of this kind that a user whose name begins so writes."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": [resource], "operations": operations}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "user", "expression": f"request.userInfo.username.startsWith('{user}')"}],
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}],
    }
    both = {"MutatingAdmissionPolicy": spec, "MutatingAdmissionPolicyBinding": {"policyName": name}}
    version = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": each} for kind, each in both.items()
    ]


_LABELLED = f"Object{{metadata: Object.metadata{{labels: {{'{PROXY_LABEL}': '{PROXY}'}}}}}}"
_PLACED = "Object{spec: Object.spec{nodeName: request.userInfo.username.split(':')[2]}}"
_POLICIES = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            *_policy("specs-services", f"{_USER}:{PROXY}:", "services", ("CREATE", "UPDATE"), _LABELLED),
            *_policy("specs-clients", f"{_USER}:", "pods", ("CREATE",), _PLACED),
        ],
    }
)


def prepare(played: PlayedClusters, specs: Sequence[Spec]) -> None:
    """Apply the policies; waits until they do what they are to do for these specs."""
    played.b.apply(_POLICIES)
    for user, spec in {each.user: each for each in specs}.items():
        played.b.eventually(f"policies for {user}", partial(_is_prepared, played, spec))


def _is_prepared(played: PlayedClusters, spec: Spec) -> bool:
    def made(*words: str) -> Mapping[str, Mapping[str, object]]:
        identity = (f"--as={spec.user}", f"--as-group={_GROUP}")
        found: Mapping[str, Mapping[str, object]] = json.loads(
            played.b.kubectl(*identity, *words, "--dry-run=server", "--output=json")
        )
        return found

    label = {PROXY_LABEL: PROXY} if spec.carrier == PROXY else {}
    service = made("create", "service", "clusterip", "trial", "--tcp=80")
    pod = made("run", "trial", "--image=trial")
    return service["metadata"]["labels"] == {"app": "trial", **label} and pod["spec"]["nodeName"] == spec.node.name


def remove(played: PlayedClusters) -> None:
    """The policies, and the namespaces that specs have left; waits until these have gone."""
    played.b.kubectl("delete", "-f", "-", "--ignore-not-found", input=_POLICIES)
    played.b.kubectl("delete", "namespace", "-l", "e2e-framework", "--timeout=120s", seconds=150)


def _impersonating(kubeconfig: Path, user: str) -> str:
    """This administrator's kubeconfig, by which they act as another user with all rights."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] |= {"as": user, "as-groups": [_GROUP]}
    return yaml.safe_dump(config)

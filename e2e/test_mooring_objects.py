"""How long Moorings live, and what becomes of those that are refused, beside Kubernetes' own controllers."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness import topology
from e2e.harness.clusters import Clusters
from e2e.harness.install import Installation, commands

NODES = {node.name for node in topology.B.nodes}
LABELS = {"app": "db"}
NAMESPACES = ("sets", "quota", "refused")
GRACE_SECONDS = 3
_NUMBERS = itertools.count(1)


class Scene:
    """ExternalService `backend` in a namespace of cluster B."""

    def __init__(self, clusters: Clusters, namespace: str) -> None:
        self.b, self.namespace = clusters.b, namespace
        self.b.kubectl("create", "namespace", namespace)

    def kubectl(self, *arguments: str) -> str:
        return self.b.kubectl("-n", self.namespace, *arguments)

    def get(self, *arguments: str) -> Any:
        return self.b.get("-n", self.namespace, *arguments)

    def apply(self, **manifest: Any) -> None:
        self.b.apply(json.dumps(manifest), "-n", self.namespace)

    def make(self, proxy: str = "kube-proxy", **mooring: Any) -> None:
        """Of three endpoints, which are not checked."""
        addresses = [{"name": f"b{number}", "address": f"198.51.100.{number}"} for number in (1, 2, 3)]
        self.apply(
            apiVersion="moorage.dev/v1alpha1",
            kind="ExternalService",
            metadata={"name": "backend"},
            spec={
                "ports": [{"port": 9000, "targetPort": 80}],
                "endpoints": [{"addresses": addresses}],
                "proxy": proxy,
                "sessionAffinity": "Mooring",
                "sessionAffinityConfig": {"mooring": mooring},
            },
        )

    def pod(self, name: str) -> None:
        self.apply(apiVersion="v1", kind="Pod", metadata={"name": name, "labels": LABELS}, spec=pod())

    def moorings(self) -> dict[str, tuple[str, str]]:
        """Name of a client -> uid of its Mooring, and the endpoint."""
        return {
            each["spec"]["client"]["name"]: (each["metadata"]["uid"], each["spec"]["endpoint"])
            for each in self.get("moorings")["items"]
        }

    def until_moored(self, *clients: str) -> dict[str, tuple[str, str]]:
        """Wait until these are moored and no others."""
        self.b.eventually(f"{clients} are moored", lambda: self.moorings().keys() == set(clients))
        return self.moorings()

    def until_grace_is_over(self) -> None:
        """Wait until the Mooring of a pod is deleted that went after all that happened before."""
        name, others = f"marker-{next(_NUMBERS)}", self.moorings().keys()
        self.pod(name)
        self.until_moored(*others, name)
        self.kubectl("delete", "pod", name)
        self.b.eventually(f"the Mooring of {name} is gone", lambda: name not in self.moorings())

    def says(self, type: str, status: str, reason: str) -> str:
        """Wait until this condition says so; its message."""

        def condition() -> dict[str, str]:
            found = self.get("xsvc", "backend").get("status", {}).get("conditions", [])
            return next((each for each in found if each["type"] == type), {})

        self.b.eventually(
            f"{type} is {status}, {reason}",
            lambda: (condition().get("status"), condition().get("reason")) == (status, reason),
        )
        return condition()["message"]


def pod() -> dict[str, Any]:
    """The spec of one that is a client before it has a node, and never gets one."""
    return {"nodeSelector": {"moorage.dev/none": "true"}, "containers": [{"name": "main", "image": "none"}]}


def stateful_set(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": pod()}
    spec = {"replicas": replicas, "serviceName": "db", "podManagementPolicy": "Parallel"}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {**spec, "selector": {"matchLabels": LABELS}, "template": template},
    }


@pytest.fixture(scope="module")
def installed(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """The operator in B, which keeps Moorings of clients that are gone for some seconds only."""
    installation = Installation(clusters, tmp_path_factory.mktemp("objects"))
    config = installation.directory / "deploy/operator/config.yaml"
    config.write_text(config.read_text().replace("graceSeconds: 300", f"graceSeconds: {GRACE_SECONDS}"))
    try:
        installation.run(*commands()["The operator, in cluster B"])
        yield clusters
    finally:
        clusters.b.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found", "--timeout=120s", seconds=150)
        installation.remove()


def test_a_stateful_sets_pods_keep_theirs_as_long_as_it_has_these_pods(installed: Clusters) -> None:
    scene = Scene(installed, "sets")
    scene.make("moorage", client="Pod", podSelector={"matchLabels": LABELS})
    scene.apply(**stateful_set(2))
    before = scene.until_moored("db-0", "db-1")
    assert len({endpoint for _, endpoint in before.values()}) == 2

    def pods(owned: bool) -> set[str]:
        """uids of those that a StatefulSet owns, or that nothing does."""
        found = scene.get("pods", "-l", "app=db")["items"]
        return {each["metadata"]["uid"] for each in found if bool(each["metadata"].get("ownerReferences")) == owned}

    first = pods(owned=True)
    scene.kubectl("delete", "pods", "--all")
    scene.b.eventually("pods are made again", lambda: len(pods(owned=True)) == 2 and not pods(owned=True) & first)
    scene.until_grace_is_over()
    assert scene.moorings() == before, "after pods were made again"

    scene.kubectl("delete", "statefulset", "db", "--cascade=orphan")
    scene.b.eventually("pods are orphans", lambda: len(pods(owned=False)) == 2)
    scene.until_grace_is_over()
    assert scene.moorings() == before, "while nothing owns the pods"
    scene.apply(**stateful_set(2))
    scene.b.eventually("pods are adopted", lambda: len(pods(owned=True)) == 2)
    scene.until_grace_is_over()
    assert scene.moorings() == before, "after another one has adopted the pods"

    scene.kubectl("scale", "statefulset", "db", "--replicas=1")
    assert scene.until_moored("db-0") == {"db-0": before["db-0"]}
    scene.kubectl("delete", "statefulset", "db")
    scene.until_moored()


def test_a_quota_that_is_used_up_is_told_and_the_rest_goes_on(installed: Clusters) -> None:
    scene = Scene(installed, "quota")
    limit = {"count/moorings.moorage.dev": "2"}
    scene.apply(apiVersion="v1", kind="ResourceQuota", metadata={"name": "few"}, spec={"hard": limit})
    scene.b.eventually(
        "the quota is in force", lambda: scene.get("quota", "few").get("status", {}).get("hard") == limit
    )
    scene.make(client="Node")
    message = scene.says("Moored", "False", "QuotaExceeded")
    assert "exceeded quota: few" in message
    assert "raise the quota, or delete what uses it up" in message
    assert len(scene.moorings()) == 2
    assert scene.moorings().keys() < NODES
    scene.says("Ready", "True", "Ready")
    scene.kubectl("delete", "quota", "few")
    scene.until_moored(*NODES)
    scene.says("Moored", "True", "Moored")


def test_a_mooring_that_a_policy_refuses_costs_itself(installed: Clusters) -> None:
    scene = Scene(installed, "refused")
    name, refused = "no-such-mooring", min(NODES)
    rule = {"apiGroups": ["moorage.dev"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["moorings"]}
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": f"object.spec.client.name != '{refused}'", "message": "not this one"}],
    }
    group = "admissionregistration.k8s.io/v1"
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}},
    }
    probe = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "Mooring",
        "metadata": {"name": "probe", "namespace": scene.namespace},
        "spec": {"group": "none", "client": {"kind": "Node", "name": refused}, "endpoint": "b1"},
    }
    try:
        for kind, spec in (("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)):
            scene.apply(apiVersion=group, kind=kind, metadata={"name": name}, spec=spec)
        create = ("create", "--dry-run=server", "-f", "-")
        scene.b.eventually(
            "the policy is in force", lambda: "not this one" in scene.b.refused(*create, input=json.dumps(probe))
        )
        scene.make(client="Node")
        assert "not this one" in scene.says("Moored", "False", "WriteRefused")
        scene.until_moored(*NODES - {refused})
        scene.says("Ready", "True", "Ready")
    finally:
        scene.b.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)
    scene.until_moored(*NODES)
    scene.says("Moored", "True", "Moored")

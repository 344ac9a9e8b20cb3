from pathlib import Path
from typing import Any

import pytest

from moorage.api.kinds import find_kind
from moorage.api.manifest import load
from moorage_lab.apiserver.defaults import with_defaults
from moorage_lab.apiserver.unplayed import warnings

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
CONTAINER: dict[str, Any] = {"name": "c", "image": "moorage:latest", "args": ["app", "backend"]}


def stored(obj: dict[str, Any], before: dict[str, Any] | None = None) -> list[str]:
    """What is said of an object that is written in place of `before`, with the server's defaults."""
    kind = find_kind(obj["apiVersion"], obj["kind"])
    assert kind is not None
    for each in (obj, before):
        if each is not None:
            with_defaults(kind, each)
    return warnings(kind, obj, before)


def of_kind(kind: str, spec: dict[str, Any], api_version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": spec}


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return of_kind("Pod", {"containers": [CONTAINER | (container or {})], **spec})


def deployment(**spec: Any) -> dict[str, Any]:
    return of_kind("Deployment", {"template": {"spec": {"containers": [dict(CONTAINER)]}}, **spec}, "apps/v1")


def stateful_set(**spec: Any) -> dict[str, Any]:
    return of_kind("StatefulSet", {"template": {"spec": {"containers": [dict(CONTAINER)]}}, **spec}, "apps/v1")


@pytest.mark.parametrize("file", sorted(DEMO.iterdir()), ids=lambda file: file.name)
def test_the_demo_s_manifests_are_played_as_they_are(file: Path) -> None:
    assert [line for manifest in load([str(file)]) for line in stored(manifest.object)] == []


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (pod({"image": "nginx:1"}), "spec.containers[0].image"),
        (pod({"image": "registry.example.com:5000/team/moorages"}), "spec.containers[0].image"),
        (pod({"livenessProbe": {"tcpSocket": {"port": 80}}}), "spec.containers[0].livenessProbe"),
        (pod({"resources": {"limits": {"cpu": "1"}}}), "spec.containers[0].resources"),
        (pod({"stdin": True}), "spec.containers[0].stdin"),
        (pod({"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}), "spec.containers[0].env[0].valueFrom"),
        (pod({"ports": [{"containerPort": 80, "hostPort": 80}]}), "spec.containers[0].ports[0].hostPort"),
        (pod(initContainers=[dict(CONTAINER)]), "spec.initContainers"),
        (pod(volumes=[{"name": "v", "emptyDir": {}}]), "spec.volumes"),
        (pod(restartPolicy="Never"), "spec.restartPolicy"),
        (deployment(strategy={"type": "Recreate"}), "spec.strategy.type"),
        (
            deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate.maxSurge",
        ),
        (deployment(minReadySeconds=5), "spec.minReadySeconds"),
        (deployment(paused=True), "spec.paused"),
        (
            stateful_set(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}),
            "spec.updateStrategy.rollingUpdate.partition",
        ),
        (
            stateful_set(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable",
        ),
        (stateful_set(minReadySeconds=5), "spec.minReadySeconds"),
        (stateful_set(volumeClaimTemplates=[{"metadata": {"name": "data"}}]), "spec.volumeClaimTemplates"),
        (
            stateful_set(template={"spec": {"containers": [dict(CONTAINER)], "volumes": [{"name": "v"}]}}),
            "spec.template.spec.volumes",
        ),
        (of_kind("Job", {}, "batch/v1"), "spec"),
        (of_kind("ReplicaSet", {"template": {"spec": {"containers": []}}}, "apps/v1"), "spec"),
        (of_kind("Service", {"type": "NodePort"}), "spec.type"),
        (of_kind("Service", {"type": "ExternalName", "externalName": "db.example.com"}), "spec.externalName"),
        (of_kind("Service", {"externalIPs": ["203.0.113.1"]}), "spec.externalIPs"),
        (
            of_kind("Service", {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy",
        ),
        (of_kind("Service", {"type": "LoadBalancer", "loadBalancerClass": "a.b/c"}), "spec.loadBalancerClass"),
        (of_kind("Service", {"loadBalancerSourceRanges": ["203.0.113.0/24"]}), "spec.loadBalancerSourceRanges"),
        (
            of_kind("Service", {"trafficDistribution": "PreferClose", "selector": {"app": "a"}}),
            "spec.trafficDistribution",
        ),
        (of_kind("Node", {"taints": [{"key": "a", "effect": "NoSchedule"}]}), "spec.taints"),
        (of_kind("ServiceCIDR", {"cidrs": ["198.18.0.0/24"]}, "networking.k8s.io/v1"), "spec.cidrs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_played_is_said_with_its_field(obj: dict[str, Any], path: str) -> None:
    [line] = stored(obj)
    assert line.startswith(f"{path}: not played: ")


@pytest.mark.parametrize(
    "obj",
    [
        pod({"image": "registry.example.com/moorage@sha256:0123"}),
        pod({"ports": [{"containerPort": 80}]}, hostNetwork=True),
        pod(terminationGracePeriodSeconds=1, hostname="h", nodeName="node-1"),
        pod(nodeSelector={"disk": "fast"}),
        of_kind("Node", {"unschedulable": True}),
        stateful_set(podManagementPolicy="Parallel", serviceName="web", ordinals={"start": 1}),
        stateful_set(updateStrategy={"type": "OnDelete"}),
        of_kind("Service", {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}),
    ],
)
def test_nothing_is_said_of_what_is_played(obj: dict[str, Any]) -> None:
    assert stored(obj) == []


def test_an_image_with_a_command_is_said_to_be_run_on_this_machine() -> None:
    [line] = stored(pod({"image": "nginx:1", "command": ["sleep", "1"]}))
    assert line.endswith("it runs the container's command on this machine, not in nginx:1")


def test_only_what_is_new_is_said() -> None:
    assert stored(deployment(paused=True, minReadySeconds=5), deployment(paused=True)) == [
        "spec.minReadySeconds: not played: the lab counts a pod as available when it is ready"
    ]

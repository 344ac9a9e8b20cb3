"""What is read from objects of Kubernetes."""

from typing import Any

import msgspec
import pytest

from moorage import __version__
from moorage.check import facts, objects
from moorage.check.facts import KubeProxy, Policy, Told
from moorage.dataplane.capabilities import Capabilities
from moorage.node.metrics import Metrics

ENDED = {"reason": "Error", "message": '{"event": "starting"}\nmoorage: nft is not there\n'}
BACK_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}


def pod(*statuses: Any, **conditions: str) -> objects.PodObject:
    found = [{"type": type_, "status": status} for type_, status in conditions.items()]
    status = {"conditions": found, "containerStatuses": list(statuses)}
    return msgspec.convert(
        {"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": status}, objects.PodObject
    )


def workload(*words: str) -> objects.Workload:
    spec = {"containers": [{"command": list(words), "image": "x:1"}]}
    return msgspec.convert({"spec": {"template": {"spec": spec}}}, objects.Workload)


def config(text: str) -> objects.ConfigMap:
    return objects.ConfigMap(data={"config.conf": text})


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({"state": {"running": {}}}, ""),
        ({"state": {"running": {}}, "lastState": {"terminated": ENDED}}, ""),
        ({"state": {"waiting": BACK_OFF}, "lastState": {"terminated": ENDED}}, "nft is not there"),
        ({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}, "no such image"),
        ({"state": {"terminated": {"reason": "OOMKilled"}}}, "OOMKilled"),
        ({"state": {"waiting": {"reason": "x" * 1000}}}, "x" * 300),
    ],
)
def test_why_a_pod_does_not_run(status: Any, trouble: str) -> None:
    assert trouble in objects.pod(pod(status)).trouble
    assert len(objects.pod(pod(status)).trouble) <= 300


def test_what_ended_a_container_says_more_than_that_it_is_started_again() -> None:
    status = {"state": {"waiting": BACK_OFF}, "lastState": {"terminated": ENDED}}
    assert objects.pod(pod(status)).trouble == "CrashLoopBackOff: moorage: nft is not there"


def test_a_pod_that_no_node_takes_says_why() -> None:
    found = pod()
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    status = msgspec.convert({"conditions": [condition]}, objects.PodStatus)
    assert objects.pod(msgspec.structs.replace(found, status=status)).trouble == "0/3 nodes are available"


def test_a_pod_that_is_deleted_is_not_ready() -> None:
    found = pod(Ready="True")
    assert objects.pod(found).ready
    going = msgspec.structs.replace(found.metadata, deletion_timestamp="2027-01-01T00:00:00Z")
    assert not objects.pod(msgspec.structs.replace(found, metadata=going)).ready
    assert not objects.pod(pod(Ready="False")).ready
    assert objects.pod(pod(PodScheduled="True", Ready="True", DisruptionTarget="False")).ready
    assert not objects.pod(pod(PodScheduled="True", Ready="False")).ready


def test_a_deployment_and_a_daemonset_count_otherwise() -> None:
    found = msgspec.convert(
        {"spec": {"replicas": 2}, "status": {"availableReplicas": 1, "desiredNumberScheduled": 9, "numberReady": 8}},
        objects.Workload,
    )
    assert objects.workload(found, (), of_nodes=False) == facts.Workload(2, 1, (), ())
    assert objects.workload(found, (), of_nodes=True) == facts.Workload(9, 8, (), ())


def test_a_workload_of_which_nothing_runs_says_no_number() -> None:
    none = objects.Workload(spec=objects.WorkloadSpec(replicas=2))
    assert objects.workload(none, (), of_nodes=False) == facts.Workload(2, 0, (), ())
    assert objects.workload(none, (), of_nodes=True) == facts.Workload(0, 0, (), ())


@pytest.mark.parametrize(
    ("found", "configs", "mode"),
    [
        (workload("kube-proxy", "--proxy-mode=nftables"), [config("mode: ipvs\n")], "nftables"),
        (workload("kube-proxy", "--proxy-mode", "iptables"), [], "iptables"),
        (workload("kube-proxy", "--config=x"), [config('kind: K\nmode: "ipvs"\nother: 1\n')], "ipvs"),
        (workload("kube-proxy", "--config=x"), [config('mode: ""\nfoo:\n  mode: ipvs\n')], ""),
        (workload("kube-proxy"), [], ""),
    ],
)
def test_the_mode_of_kube_proxy(found: objects.Workload, configs: list[objects.ConfigMap], mode: str) -> None:
    assert objects.kube_proxy(found, configs, static=False) == KubeProxy(mode)


def test_kube_proxy_may_be_in_pods_without_a_daemonset_or_nowhere() -> None:
    assert objects.kube_proxy(None, [], static=True) == KubeProxy("")
    assert objects.kube_proxy(None, [], static=False) is None


@pytest.mark.parametrize(
    ("value", "replaces"), [("true", True), ("strict", True), ("false", False), ("disabled", False), (None, False)]
)
def test_whether_cilium_replaces_kube_proxy(value: str | None, replaces: bool) -> None:
    found = objects.ConfigMap(data={} if value is None else {"kube-proxy-replacement": value})
    assert objects.cilium(found).replaces_kube_proxy is replaces
    assert not objects.cilium(None).replaces_kube_proxy


def test_a_policy_denies_by_its_binding() -> None:
    policy = objects.PolicyObject()
    ignoring = objects.PolicyObject(spec=objects.PolicySpec(failure_policy="Ignore"))

    def binding(name: str, action: str) -> objects.PolicyObject:
        return objects.PolicyObject(spec=objects.PolicySpec(policy_name=name, validation_actions=[action]))

    assert objects.policy(policy, binding("p", "Deny"), "p") == Policy(fails_closed=True, denies=True)
    assert objects.policy(ignoring, binding("p", "Deny"), "p") == Policy(fails_closed=False, denies=True)
    for other in (None, binding("q", "Deny"), binding("p", "Audit")):
        assert not objects.policy(policy, other, "p").denies


def test_a_definition_has_the_schemas_of_the_versions_that_are_served() -> None:
    versions = [
        {"name": name, "served": served, "schema": {"openAPIV3Schema": {"type": name}}}
        for name, served in (("v1", True), ("v0", False))
    ]
    conditions = [{"type": "Established", "status": "True"}]
    found = {"spec": {"versions": versions}, "status": {"conditions": conditions}}
    read = objects.definition(msgspec.convert(found, objects.DefinitionObject))
    assert read == facts.Definition(established=True, schemas={"v1": {"type": "v1"}})


def test_what_an_agent_tells_is_read_from_its_metrics() -> None:
    metrics = Metrics()
    metrics.found(Capabilities(learn6=False, version=(1, 0, 6), tcp_loose=False))
    metrics.behind_seconds.set(61.5)
    metrics.refused_ports.set(2)
    metrics.warnings.set(3)
    assert objects.told(metrics.text().decode()) == Told(__version__, "1.0.6", False, False, 61.5, 2, 3)


def test_an_agent_of_an_older_version_tells_less() -> None:
    assert objects.told("moorage_node_behind_seconds 0.0\n") == Told()


@pytest.mark.parametrize("text", ["", "<html>", "process_threads 3\n", "moorage_node_behind_seconds x\n"])
def test_what_no_agent_would_tell_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        objects.told(text)

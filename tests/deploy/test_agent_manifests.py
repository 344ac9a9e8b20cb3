"""deploy/agent, its removal and the startup taint: valid, and no more rights than are used. e2e/test_agent.py applies
them to real clusters."""

from pathlib import Path

import click
import kubernetes_validate
import pytest
import yaml

from moorage.cli.node import command as node_command
from moorage.cli.operator import command as operator_command
from moorage.operator.startup_taint import AGENTS, LABELS
from tests.support.manifests import Manifest, granted, objects, only_container

DEPLOY = Path(__file__).parents[2] / "deploy"
AGENT, REMOVAL, TAINT = DEPLOY / "agent", DEPLOY / "agent-remove", DEPLOY / "startup-taint"
MANIFESTS = [AGENT / name for name in ("namespace.yaml", "rbac.yaml", "daemonset.yaml")]
RBAC_OF_TAINT = TAINT / "rbac.yaml"
VERSIONS = ["1.30", "1.33", "1.37"]


def kustomization(directory: Path) -> Manifest:
    found = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def agent() -> dict[tuple[str, str], Manifest]:
    return objects(*MANIFESTS)


@pytest.fixture
def daemonset(agent: dict[tuple[str, str], Manifest]) -> Manifest:
    spec = agent["DaemonSet", "moorage-agent"]["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.fixture
def pod(daemonset: Manifest) -> Manifest:
    spec = daemonset["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    return only_container(pod)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", [*MANIFESTS, RBAC_OF_TAINT], ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_object_is_valid_with_no_unknown_field(file: Path, version: str) -> None:
    for manifest in objects(file).values():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_the_kustomizations_have_every_manifest() -> None:
    there = {path.name for path in AGENT.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization(AGENT)["resources"]) == there
    assert kustomization(AGENT)["namespace"] == "moorage-agent"
    assert kustomization(DEPLOY)["resources"] == ["crds", "operator", "agent"]
    assert kustomization(REMOVAL)["resources"] == ["../agent"]


def test_an_agent_has_one_capability_and_the_node_s_network_and_nothing_else_of_the_node(
    pod: Manifest, container: Manifest
) -> None:
    assert pod["hostNetwork"] is True
    assert not {"hostPID", "hostIPC", "volumes"} & set(pod)
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    }


def test_there_is_one_on_every_node_and_never_a_second_beside_it(daemonset: Manifest, pod: Manifest) -> None:
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert daemonset["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"},
    }


def test_where_critical_pods_need_a_quota_there_is_one_and_it_limits_nothing(
    agent: dict[tuple[str, str], Manifest], pod: Manifest
) -> None:
    quota = agent["ResourceQuota", "moorage-agent"]["spec"]
    assert quota["hard"] == {"pods": "1G"}
    (scope,) = quota["scopeSelector"]["matchExpressions"]
    assert scope["values"] == [pod["priorityClassName"]]


def test_the_agent_is_started_with_options_and_variables_that_it_knows(container: Manifest) -> None:
    name, *arguments = container["args"]
    assert name == "node"
    options = [parameter for parameter in node_command.params if isinstance(parameter, click.Option)]
    assert set(arguments[::2]) <= {word for option in options for word in option.opts}
    names = [variable["name"] for variable in container["env"]]
    assert names == [*(option.envvar for option in options if option.envvar), "NODE_ADDRESS"]


def test_probes_and_metrics_are_where_the_agent_answers_and_on_the_node_s_address_alone(
    daemonset: Manifest, container: Manifest
) -> None:
    (port,) = container["ports"]
    assert port["hostPort"] == port["containerPort"]
    assert container["args"][-1] == f"$(NODE_ADDRESS):{port['containerPort']}"
    for probe, path in (("livenessProbe", "/healthz"), ("startupProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    annotations = daemonset["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_an_agent_may_read_what_it_carries_and_write_nothing(agent: dict[tuple[str, str], Manifest]) -> None:
    follow = {"list", "watch"}
    assert {kind for kind, _ in agent} & {"Role", "RoleBinding"} == set()
    assert granted(agent["ClusterRole", "moorage-agent"]) == {
        ("", "services"): follow,
        ("discovery.k8s.io", "endpointslices"): follow,
        ("", "nodes"): follow,
        ("", "pods"): follow,
        ("moorage.dev", "moorings"): follow | {"get"},
        ("apps", "replicasets"): {"get"},
        ("batch", "jobs"): {"get"},
    }
    binding = agent["ClusterRoleBinding", "moorage-agent"]
    assert binding["roleRef"]["name"] == "moorage-agent"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "moorage-agent", "namespace": "moorage-agent"},
    ]
    assert ("ServiceAccount", "moorage-agent") in agent


def test_the_agents_removal_has_the_rights_of_an_agent_where_it_removes_and_none_where_it_waits(
    container: Manifest,
) -> None:
    (patch,) = kustomization(REMOVAL)["patches"]
    changed = yaml.safe_load(patch["patch"])
    spec = changed["spec"]["template"]["spec"]
    (remove,), (wait,) = spec["initContainers"], spec["containers"]
    assert remove["args"] == ["node", "--remove"]
    assert remove["image"] == container["image"]
    assert remove["securityContext"] == container["securityContext"]
    assert wait["name"] == container["name"]
    assert wait["securityContext"]["capabilities"] == {"add": None}
    # All of the agent's that would start it, or ask it whether it works.
    assert {name for name, value in wait.items() if value is None} == {
        *("args", "env", "ports", "livenessProbe", "startupProbe", "readinessProbe", "resources")
    }
    assert not spec["automountServiceAccountToken"]
    assert kustomization(REMOVAL)["images"] == kustomization(AGENT)["images"]


def test_the_operator_knows_agents_by_namespace_and_labels(daemonset: Manifest) -> None:
    assert kustomization(AGENT)["namespace"] == AGENTS
    labels = daemonset["template"]["metadata"]["labels"]
    assert daemonset["selector"] == {"matchLabels": labels}
    assert {f"{name}={value}" for name, value in labels.items()} == set(LABELS.split(","))


def test_idle_clients_are_woken_with_one_more_capability_and_nothing_else(
    agent: dict[tuple[str, str], Manifest], container: Manifest
) -> None:
    component = kustomization(DEPLOY / "wake-idle")
    assert component["kind"] == "Component"
    (patch,) = component["patches"]
    assert (patch["target"]["kind"], patch["target"]["name"]) in agent
    (added,) = yaml.safe_load(patch["patch"])
    assert added["value"] == "NET_RAW"
    assert added["path"] == "/spec/template/spec/containers/0/securityContext/capabilities/add/-"
    assert container["securityContext"]["capabilities"]["add"]


def test_only_the_startup_taint_lets_the_operator_change_nodes_and_it_tells_it_to() -> None:
    component = kustomization(TAINT)
    assert component["kind"] == "Component"
    assert component["resources"] == [RBAC_OF_TAINT.name]
    found = objects(RBAC_OF_TAINT)
    assert granted(found["ClusterRole", "moorage-startup-taint"]) == {("", "nodes"): {"patch"}}
    binding = found["ClusterRoleBinding", "moorage-startup-taint"]
    assert binding["roleRef"]["name"] == "moorage-startup-taint"
    operator = objects(DEPLOY / "operator/rbac.yaml", DEPLOY / "operator/deployment.yaml")
    (subject,) = binding["subjects"]
    assert subject == operator["ClusterRoleBinding", "moorage-operator"]["subjects"][0]
    (patch,) = component["patches"]
    assert (patch["target"]["kind"], patch["target"]["name"]) in operator
    added = [each["value"] for each in yaml.safe_load(patch["patch"])]
    (option,) = [each for each in operator_command.params if each.name == "startup_taint"]
    assert added == [option.opts[0], "moorage.dev/agent-not-ready"]

"""deploy/operator and deploy/source: valid, restricted, and no more rights than are used. e2e/test_install.py applies
them to a real cluster."""

import re
from ipaddress import ip_network
from pathlib import Path

import click
import kubernetes_validate
import pytest
import yaml

from moorage.api.addresses import METADATA
from moorage.cli.operator import command as operator_command
from moorage.operator import config
from tests.support.manifests import Manifest, granted, objects, only_container

DEPLOY = Path(__file__).parents[2] / "deploy"
OPERATOR, SOURCE = DEPLOY / "operator", DEPLOY / "source"
MANIFESTS = [
    *(
        OPERATOR / name
        for name in ("namespace.yaml", "rbac.yaml", "policy.yaml", "deployment.yaml", "networkpolicy.yaml")
    ),
    SOURCE / "reader.yaml",
]
VERSIONS = ["1.30", "1.33", "1.37"]
"""From the first one with ValidatingAdmissionPolicy in its stable API."""
READ = {"get", "list", "watch"}


@pytest.fixture
def operator() -> dict[tuple[str, str], Manifest]:
    return objects(*MANIFESTS[:-1])


@pytest.fixture
def pod(operator: dict[tuple[str, str], Manifest]) -> Manifest:
    spec = operator["Deployment", "moorage-operator"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    return only_container(pod)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_every_object_is_valid_with_no_unknown_field(file: Path, version: str) -> None:
    for manifest in objects(file).values():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_the_kustomization_has_every_manifest() -> None:
    kustomization = yaml.safe_load((OPERATOR / "kustomization.yaml").read_text())
    there = {path.name for path in OPERATOR.glob("*.yaml")}
    assert set(kustomization["resources"]) == there - {"kustomization.yaml", "config.yaml"}
    assert kustomization["namespace"] == "moorage-system"
    (generated,) = kustomization["configMapGenerator"]
    assert generated["files"] == ["config.yaml"]


def test_the_definitions_are_apart_so_that_whoever_deletes_the_operator_keeps_every_service() -> None:
    kustomization = yaml.safe_load((OPERATOR / "kustomization.yaml").read_text())
    assert {kind for kind, _ in objects(*(OPERATOR / name for name in kustomization["resources"]))} & {
        "CustomResourceDefinition",
        "Kustomization",
    } == set()
    assert yaml.safe_load((DEPLOY / "crds/kustomization.yaml").read_text())["resources"] == ["crds.yaml"]


def test_tools_that_deploy_from_git_are_told_to_leave_the_definitions() -> None:
    assert yaml.safe_load((DEPLOY / "crds/kustomization.yaml").read_text())["commonAnnotations"] == {
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }


def test_nothing_else_has_the_name_that_kustomize_adds_a_hash_to(operator: dict[tuple[str, str], Manifest]) -> None:
    # It would write the hash into resourceNames as well, and the Lease could not be read.
    kustomization = yaml.safe_load((OPERATOR / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert generated["name"] not in {name for _, name in operator}


def test_the_configuration_is_one_that_the_operator_reads_and_says_its_defaults() -> None:
    path = OPERATOR / "config.yaml"
    assert config.load(path) == config.Configuration()


def test_the_namespace_is_restricted_and_so_is_the_pod(
    operator: dict[tuple[str, str], Manifest], pod: Manifest, container: Manifest
) -> None:
    labels = operator["Namespace", "moorage-system"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert [volume for volume in pod["volumes"] if "configMap" not in volume] == []


def test_the_operator_is_started_with_options_and_variables_that_it_knows(container: Manifest) -> None:
    name, *arguments = container["args"]
    assert name == "operator"
    options = [parameter for parameter in operator_command.params if isinstance(parameter, click.Option)]
    assert set(arguments[::2]) <= {word for option in options for word in option.opts}
    assert {variable["name"] for variable in container["env"]} == {
        option.envvar for option in options if option.envvar
    }
    (mount,) = container["volumeMounts"]
    assert arguments[1] == f"{mount['mountPath']}/config.yaml"


def test_probes_and_metrics_are_where_the_operator_answers(
    operator: dict[tuple[str, str], Manifest], container: Manifest
) -> None:
    (listen,) = [parameter.default for parameter in operator_command.params if parameter.name == "listen"]
    (port,) = container["ports"]
    assert listen == f":{port['containerPort']}"
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    annotations = operator["Deployment", "moorage-operator"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_no_connection_leads_where_the_gate_lets_no_endpoint_be_for_its_credentials(
    operator: dict[tuple[str, str], Manifest],
) -> None:
    by_port, anywhere_else = operator["NetworkPolicy", "moorage-operator"]["spec"]["egress"]
    blocks = [each["ipBlock"] for each in anywhere_else["to"]]
    assert [each["cidr"] for each in blocks] == ["0.0.0.0/0", "::/0"]
    excepted = [ip_network(each) for block in blocks for each in block["except"]]
    assert sorted(map(str, excepted)) == sorted(map(str, METADATA))
    # Metadata servers answer at 80 and 443.
    assert {each["port"] for each in by_port["ports"]} == {53, 6443}


def test_whoever_may_connect_may_only_where_the_operator_answers(
    operator: dict[tuple[str, str], Manifest], container: Manifest
) -> None:
    (rule,) = operator["NetworkPolicy", "moorage-operator"]["spec"]["ingress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": container["ports"][0]["containerPort"]}]}


def test_two_replicas_of_which_one_may_be_away_are_spread(
    operator: dict[tuple[str, str], Manifest], pod: Manifest
) -> None:
    deployment = operator["Deployment", "moorage-operator"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] == 2
    budget = operator["PodDisruptionBudget", "moorage-operator"]["spec"]
    assert budget["minAvailable"] == 1
    selectors = [deployment["selector"], budget["selector"]]
    apart = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    terms = [each["podAffinityTerm"] for each in apart]
    assert [each["topologyKey"] for each in terms] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    selectors += [each["labelSelector"] for each in terms]
    selectors.append(operator["NetworkPolicy", "moorage-operator"]["spec"]["podSelector"])
    assert selectors == [{"matchLabels": labels}] * len(selectors)


def test_the_operator_may_do_in_all_namespaces_what_it_does_and_no_more(
    operator: dict[tuple[str, str], Manifest],
) -> None:
    write = READ | {"create", "patch"}
    assert granted(operator["ClusterRole", "moorage-operator"]) == {
        ("moorage.dev", "externalservices"): READ,
        ("moorage.dev", "externalservices/status"): {"patch"},
        ("", "services"): write,
        ("discovery.k8s.io", "endpointslices"): write | {"delete"},
        ("", "events"): {"get", "create", "patch"},
        ("", "nodes"): READ,
        ("", "pods"): READ,
        ("networking.k8s.io", "servicecidrs"): READ,
        ("moorage.dev", "moorings"): write | {"delete", "manage"},
        ("apps", "replicasets"): {"list", "watch"},
        ("apps", "statefulsets"): {"list", "watch"},
        ("batch", "jobs"): {"list", "watch"},
    }


def test_the_operator_may_change_no_lease_but_its_own(operator: dict[tuple[str, str], Manifest]) -> None:
    (lease,) = [parameter.default for parameter in operator_command.params if parameter.name == "lease"]
    create, change = operator["Role", "moorage-operator"]["rules"]
    assert create["verbs"] == ["create"]
    assert change["resourceNames"] == [lease]
    assert granted(operator["Role", "moorage-operator"]) == {
        ("coordination.k8s.io", "leases"): {"create", "get", "patch"}
    }


def test_the_policy_of_moorings_asks_for_a_right_that_only_the_operator_has(
    operator: dict[tuple[str, str], Manifest],
) -> None:
    roles = {name: granted(each) for (kind, name), each in operator.items() if kind == "ClusterRole"}
    may = {name: verbs["moorage.dev", "moorings"] for name, verbs in roles.items()}
    assert [name for name, verbs in may.items() if "manage" in verbs] == ["moorage-operator"]
    assert may["moorage-editor"] == READ | {"create", "update", "patch", "delete"}
    policy = operator["ValidatingAdmissionPolicy", "moorage-moorings"]["spec"]
    (by_manager, by_kubernetes) = [each["expression"] for each in policy["matchConditions"]]
    assert by_manager.startswith("!authorizer.group('moorage.dev').resource('moorings')")
    assert ".check('manage')" in by_manager
    # No account's name is in it but Kubernetes' own: an overlay may install the operator in another namespace.
    assert "moorage-system" not in by_manager + by_kubernetes
    binding = operator["ValidatingAdmissionPolicyBinding", "moorage-moorings"]["spec"]
    assert binding == {"policyName": "moorage-moorings", "validationActions": ["Deny"]}


def test_no_role_has_a_wildcard_or_may_read_secrets() -> None:
    roles = {
        key: granted(manifest) for key, manifest in objects(*MANIFESTS).items() if key[0] in ("Role", "ClusterRole")
    }
    assert {("ClusterRole", "moorage-operator"), ("Role", "moorage-operator")} < set(roles)
    for key, rights in roles.items():
        assert rights, key
        for (group, resource), verbs in rights.items():
            assert "*" not in {group, resource, *verbs}, key
            assert resource != "secrets", key


def test_bindings_are_of_roles_and_accounts_that_are_there() -> None:
    for files, namespace in ((MANIFESTS[:-1], "moorage-system"), (MANIFESTS[-1:], "backend")):
        found = objects(*files)
        bindings = [each for (kind, _), each in found.items() if kind in ("RoleBinding", "ClusterRoleBinding")]
        assert bindings
        for manifest in bindings:
            assert (manifest["roleRef"]["kind"], manifest["roleRef"]["name"]) in found
            (subject,) = manifest["subjects"]
            assert ("ServiceAccount", subject["name"]) in found
            assert subject["namespace"] == namespace


def test_the_other_cluster_lets_services_be_read_and_nothing_else() -> None:
    found = objects(SOURCE / "reader.yaml")
    assert {kind for kind, _ in found} == {"ServiceAccount", "Role", "RoleBinding", "Secret"}
    assert granted(found["Role", "moorage-reader"]) == {("", "services"): READ}


def test_the_script_asks_for_the_secret_that_the_other_cluster_makes() -> None:
    script = (SOURCE / "kubeconfig.sh").read_text()
    (name,) = {name for kind, name in objects(SOURCE / "reader.yaml") if kind == "Secret"}
    assert re.search(rf"get secret {name} ", script)

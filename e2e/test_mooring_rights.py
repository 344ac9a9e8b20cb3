"""Who may write which part of a Mooring, by the roles and the ValidatingAdmissionPolicy of deploy/operator."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.clusters import Clusters
from e2e.harness.control_plane import ApiServer
from e2e.harness.install import Installation
from e2e.harness.kubectl import Kubectl

pytestmark = pytest.mark.every_kubernetes
HERE = "frontend"
OPERATOR = "system:serviceaccount:moorage-system:moorage-operator"
EDITOR, WIDE, ADMINISTRATOR = "editor", "wide", "administrator"
"""Whoever has the role moorage-editor; all the usual verbs for everything; cluster-admin."""
KUBERNETES = (
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:kube-controller-manager",
)
STATUS = {"endpoint": "backend1", "since": "2026-11-30T00:00:00Z", "reason": "Assigned"}
RIGHTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: wide}
rules:
- apiGroups: ["*"]
  resources: ["*"]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
"""


def mooring(name: str, namespace: str = HERE, **fields: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "moorage.dev/v1alpha1",
            "kind": "Mooring",
            "metadata": {"name": f"backend.{name}", "namespace": namespace},
            "spec": {"group": "backend", "client": {"kind": "Pod", "name": name}, "endpoint": "backend1"},
            **fields,
        }
    )


def people(cluster: Kubectl, namespace: str) -> None:
    """Give users rights in `namespace`, and wait until the policy is in force there."""
    cluster.apply(RIGHTS)
    for user, role in ((EDITOR, "moorage-editor"), (WIDE, "wide"), (ADMINISTRATOR, "cluster-admin")):
        cluster.kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "-n", namespace)
    create = (f"--as={WIDE}", "create", "--dry-run=server", "-f", "-")
    probe = mooring("probe", namespace, status=STATUS)
    cluster.eventually(
        "the policy is in force", lambda: "status is written by" in cluster.refused(*create, input=probe), seconds=30
    )


def owned(cluster: Kubectl, namespace: str) -> None:
    """Make a Mooring that belongs to ConfigMap `owner`."""
    cluster.kubectl("-n", namespace, "create", "configmap", "owner")
    uid = cluster.get("-n", namespace, "configmap", "owner")["metadata"]["uid"]
    made = json.loads(mooring("owned", namespace))
    made["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]
    cluster.kubectl("create", "-f", "-", input=json.dumps(made))


@pytest.fixture(scope="module")
def there(api: ApiServer, token: str) -> ApiServer:
    api.kubectl("create", "namespace", HERE)
    for user in KUBERNETES:
        binding = user.rpartition(":")[2]
        api.kubectl("create", "clusterrolebinding", binding, "--clusterrole=wide", f"--user={user}")
    people(api, HERE)
    return api


@pytest.fixture
def moored(there: ApiServer) -> Iterator[str]:
    """The name of a Mooring that the operator has made."""
    there.kubectl(f"--as={OPERATOR}", "create", "-f", "-", input=mooring("frontend-0", status=STATUS))
    yield "backend.frontend-0"
    there.kubectl("-n", HERE, "delete", "mooring", "--all")


def patch(there: ApiServer, user: str, name: str, body: object) -> list[str]:
    return [f"--as={user}", "-n", HERE, "patch", "mooring", name, "--type=merge", "-p", json.dumps(body)]


def of(there: ApiServer, name: str) -> tuple[str, Any]:
    found = there.get("-n", HERE, "mooring", name)
    return found["spec"]["endpoint"], found.get("status")


@pytest.mark.parametrize("user", [EDITOR, WIDE])
def test_people_move_a_client_and_nothing_else(there: ApiServer, moored: str, user: str) -> None:
    there.kubectl(*patch(there, user, moored, {"spec": {"endpoint": "backend2"}}))
    assert of(there, moored) == ("backend2", STATUS)
    for status in ({"endpoint": "backend2"}, {"since": None}, None):
        said = there.refused(*patch(there, user, moored, {"spec": {"endpoint": "backend3"}, "status": status}))
        assert "status is written by the operator; leave it as it is, and change spec.endpoint only" in said
    assert of(there, moored) == ("backend2", STATUS)
    there.kubectl(*patch(there, user, moored, {"metadata": {"annotations": {"why": "a test"}}}))


@pytest.mark.parametrize("user", [EDITOR, WIDE])
def test_people_make_a_mooring_without_a_status_for_a_client_to_come(
    there: ApiServer, moored: str, user: str
) -> None:
    create = (f"--as={user}", "create", "-f", "-")
    assert "status is written by the operator; leave it out" in there.refused(
        *create, input=mooring("frontend-1", status=STATUS)
    )
    there.kubectl(*create, input=mooring("frontend-1"))
    said = there.refused(*patch(there, user, "backend.frontend-1", {"status": {"endpoint": "backend1"}}))
    assert "status is written by the operator" in said


def test_deletion_is_refused_with_what_to_do(there: ApiServer, moored: str) -> None:
    for user, which in ((EDITOR, moored), (WIDE, moored), (WIDE, "--all")):
        said = there.refused(f"--as={user}", "-n", HERE, "delete", "mooring", which)
        assert "to move the client, change spec.endpoint" in said
    assert of(there, moored) == ("backend1", STATUS)


def test_people_delete_what_has_no_client_yet(there: ApiServer) -> None:
    for made in (mooring("mistake"), mooring("mistake", status={"message": "spec.group: no such group"})):
        there.kubectl("create", "-f", "-", input=made)
        there.kubectl(f"--as={EDITOR}", "-n", HERE, "delete", "mooring", "backend.mistake")


@pytest.mark.parametrize("user", [OPERATOR, ADMINISTRATOR, *KUBERNETES])
def test_operator_administrators_and_kubernetes_delete(there: ApiServer, moored: str, user: str) -> None:
    there.kubectl(f"--as={user}", "-n", HERE, "delete", "mooring", moored)


@pytest.mark.parametrize("user", [OPERATOR, ADMINISTRATOR])
def test_operator_and_administrators_write_all_of_it_in_one_request(there: ApiServer, moored: str, user: str) -> None:
    status = {"endpoint": "backend2", "reason": "FailedOver", "previous": "backend1"}
    there.kubectl(*patch(there, user, moored, {"spec": {"endpoint": "backend2"}, "status": status}))
    assert of(there, moored) == ("backend2", STATUS | status)


def test_the_right_to_manage_is_what_makes_an_administrator(there: ApiServer) -> None:
    can = ("auth", "can-i", "manage", "moorings.moorage.dev", "-n", HERE)
    asked = {
        user: there.run_kubectl(f"--as={user}", *can, check=False).split()[-1]
        for user in (OPERATOR, ADMINISTRATOR, EDITOR, WIDE)
    }
    assert asked == {OPERATOR: "yes", ADMINISTRATOR: "yes", EDITOR: "no", WIDE: "no"}


def test_kubernetes_deletes_moorings_after_their_owner_and_with_their_namespace(
    clusters: Clusters, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installation = Installation(clusters, tmp_path_factory.mktemp("rights"))
    namespace = "moored"
    try:
        installation.run(
            "kubectl --context b apply -k deploy/crds",
            "kubectl --context b apply -k deploy/operator",
            f"kubectl --context b create namespace {namespace}",
        )
        clusters.b.until_definitions_are_served()
        people(clusters.b, namespace)
        for name in ("frontend-0", "frontend-1"):
            clusters.b.kubectl("create", "-f", "-", input=mooring(name, namespace, status=STATUS))
        assert "change spec.endpoint" in clusters.b.refused(
            f"--as={WIDE}", "-n", namespace, "delete", "moor", "--all"
        )
        owned(clusters.b, namespace)
        clusters.b.kubectl("-n", namespace, "delete", "configmap", "owner")
        left = [f"mooring.moorage.dev/backend.{name}" for name in ("frontend-0", "frontend-1")]
        clusters.b.eventually(
            "the one with an owner is gone",
            lambda: clusters.b.kubectl("-n", namespace, "get", "moor", "-o", "name").split() == left,
        )
        clusters.b.kubectl("delete", "namespace", namespace, "--timeout=60s")
        status = clusters.b.get("validatingadmissionpolicy", "moorage-moorings")["status"]
        assert status["typeChecking"].get("expressionWarnings") is None
    finally:
        clusters.b.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
        clusters.b.kubectl("delete", "clusterrole", "wide", "--ignore-not-found")
        installation.remove()

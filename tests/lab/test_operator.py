"""Each cluster of a lab has the operator: an ExternalService of one follows another, as a user sets it up."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.labs import ROOT, RunningLab, User, a_user, running_lab, until

MANIFESTS = (
    *("-f", f"a={ROOT}/deploy/demo/k8s-backend.yml"),
    *("-f", f"b={ROOT}/deploy/demo/k8s-frontend-external.yml"),
)
SECRET = ("kubeconfig", "--cluster", "a", "--secret", "cluster-a", "-n", "frontend")


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with a_user() as user:
        yield user


@pytest.fixture(scope="module")
def lab(user: User) -> Iterator[RunningLab]:
    """With the Secret, both backends found and healthy."""
    with running_lab(user, *MANIFESTS) as lab:
        until(lambda: condition(lab, "Resolved").get("reason") == "SecretMissing", "that the Secret is missing")
        secret = lab.ok(*SECRET)
        user.ok("lab", "apply", "--name", lab.name, "--cluster", "b", "-f", "-", input=secret)
        until(lambda: ready(lab) == ["backend1-lb", "backend2-lb"], "two endpoints")
        yield lab


def get(lab: RunningLab, cluster: str, namespace: str, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        lab.ok("get", "--cluster", cluster, "-n", namespace, kind, "-o", "json")
    )["items"]
    return found


def status(lab: RunningLab) -> dict[str, Any]:
    [xsvc] = get(lab, "b", "frontend", "xsvc")
    found: dict[str, Any] = xsvc.get("status", {})
    return found


def condition(lab: RunningLab, type: str) -> dict[str, str]:
    return next((each for each in status(lab).get("conditions", ()) if each["type"] == type), {})


def ready(lab: RunningLab) -> list[str]:
    return sorted(each["name"] for each in status(lab).get("endpoints", ()) if each["ready"])


def answered_by(lab: RunningLab) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{lab.port('frontend-lb')}/", timeout=10) as response:
        return str(response.read().decode()).partition("backend[")[2].rsplit("-", 2)[0]


def test_clients_reach_what_was_found_in_the_other_cluster(lab: RunningLab) -> None:
    services = get(lab, "a", "backend", "svc")
    addresses = {each["metadata"]["name"]: each["status"]["loadBalancer"]["ingress"][0]["ip"] for each in services}
    assert {each["name"]: each["address"] for each in status(lab)["endpoints"]} == addresses
    assert answered_by(lab) in ("backend1", "backend2")


def test_the_labs_own_ranges_are_no_endpoints(lab: RunningLab) -> None:
    [pod] = get(lab, "b", "frontend", "pods")
    inside = [pod["status"]["podIP"], "10.96.0.10", "10.240.0.11"]
    xsvc = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "ExternalService",
        "metadata": {"name": "inside", "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": each} for each in inside]}]},
    }
    lab.user.ok("lab", "apply", "--name", lab.name, "--cluster", "b", "-f", "-", input=json.dumps(xsvc))

    def said() -> str:
        [found] = get(lab, "b", "default", "xsvc")
        accepted = [each for each in found.get("status", {}).get("conditions", ()) if each["type"] == "Accepted"]
        return str(accepted[0]["message"]) if accepted else ""

    until(said, "what became of them")
    for address in inside:
        assert f"{address} is " in said()
    lab.ok("delete", "--cluster", "b", "xsvc/inside")


def test_the_secret_holds_how_clusters_reach_each_other(lab: RunningLab) -> None:
    secret = yaml.safe_load(lab.ok(*SECRET))
    assert (secret["kind"], secret["metadata"]) == ("Secret", {"name": "cluster-a", "namespace": "frontend"})
    outside = yaml.safe_load(lab.ok("kubeconfig", "--cluster", "a"))
    assert outside["clusters"][0]["cluster"]["server"].startswith("https://127.0.0.1:")
    assert lab.run("kubeconfig").stderr == "moorage: lab world: say which cluster with --cluster: a, b\n"
    assert "has no cluster 'c'" in lab.run("kubeconfig", "--cluster", "c").stderr


def test_what_it_owns_goes_with_the_external_service(lab: RunningLab) -> None:
    lab.ok("delete", "--cluster", "b", "-n", "frontend", "xsvc/backend")
    until(
        lambda: "backend" not in {each["metadata"]["name"] for each in get(lab, "b", "frontend", "svc")},
        "the end of the Service",
    )
    slices = get(lab, "b", "frontend", "endpointslices")
    assert not [each for each in slices if each["metadata"]["name"].startswith("backend-")]

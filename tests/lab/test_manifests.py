import pytest

from moorage.api import manifest
from moorage.errors import MoorageError
from moorage_lab import manifests, topology
from tests.support.labs import ROOT

PLAN = topology.plan({"a": 1, "b": 2})


def test_clusters_are_given_with_their_number_of_nodes() -> None:
    assert manifests.parse_clusters([]) == {"a": 1, "b": 2}
    assert manifests.parse_clusters(["east", "west=3"]) == {"east": 1, "west": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a=x"], "--cluster a=x: 'x' is not a number of nodes; write a=2"),
        (["a", "a=2"], "--cluster a=2: cluster a is given twice"),
    ],
)
def test_what_is_no_cluster_is_said(options: list[str], message: str) -> None:
    with pytest.raises(MoorageError) as raised:
        manifests.parse_clusters(options)
    assert str(raised.value) == message


def test_files_go_to_the_cluster_that_they_name_or_to_the_first() -> None:
    options = ["b=two.yml", "one.yml", "./b=three.yml", "b=-"]
    assert manifests.parse_files(options, PLAN) == {"a": ["one.yml", "./b=three.yml"], "b": ["two.yml", "-"]}
    with pytest.raises(MoorageError, match=r"^-f c=x.yml: the lab has no cluster 'c'; it has: a, b$"):
        manifests.parse_files(["c=x.yml"], PLAN)


def test_what_is_waited_for_is_what_the_files_hold() -> None:
    backend = manifest.load([ROOT / "deploy/demo/k8s-backend.yml"])
    frontend = manifest.load([ROOT / "deploy/demo/k8s-frontend.yml"])
    assert manifests.deployments(backend) == [("backend", "backend1"), ("backend", "backend2")]
    assert manifests.stateful_sets(backend) == []
    assert manifests.load_balancers(backend) == [("backend", "backend1-lb"), ("backend", "backend2-lb")]
    assert manifests.load_balancers(frontend) == [("frontend", "frontend-lb")]

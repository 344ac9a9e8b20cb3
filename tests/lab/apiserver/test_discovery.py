import pytest

from moorage.api.kinds import KINDS
from moorage_lab.apiserver.discovery import document, resolve
from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.openapi import index, v3


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/services", ("Service", "", "", "")),
        ("/api/v1/namespaces/n/services/s", ("Service", "n", "s", "")),
        ("/api/v1/namespaces/n/services/s/status", ("Service", "n", "s", "status")),
        ("/api/v1/namespaces", ("Namespace", "", "", "")),
        ("/api/v1/namespaces/n", ("Namespace", "", "n", "")),
        ("/api/v1/nodes/x/status", ("Node", "", "x", "status")),
        ("/apis/apps/v1/namespaces/n/deployments/d/scale", ("Deployment", "n", "d", "scale")),
        ("/api/v1/namespaces/status/pods", ("Pod", "status", "", "")),
    ],
)
def test_a_path_names_its_object(path: str, target: tuple[str, ...]) -> None:
    found = resolve(KINDS, path)
    assert found is not None
    assert (found.kind.kind, *found[1:]) == target


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1",
        "/api/v2/services",
        "/api/v1/services/s",
        "/api/v1/namespaces/n/nodes",
        "/api/v1/namespaces/n/services/s/scale",
        "/api/v1/namespaces/n/services/s/status/x",
        "/api/v1/namespaces//services",
        "/apis/apps/v1/services",
    ],
)
def test_other_paths_name_nothing(path: str) -> None:
    assert resolve(KINDS, path) is None


def test_discovery_lists_every_kind_with_its_subresources() -> None:
    listed: dict[str, Obj] = {}
    for kind in KINDS:
        found = document(KINDS, f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}")
        assert found is not None
        listed |= {resource["name"]: resource for resource in found["resources"]}
    for kind in KINDS:
        assert listed[kind.plural]["kind"] == kind.kind
        assert listed[kind.plural]["namespaced"] is kind.namespaced
        assert all(f"{kind.plural}/{subresource}" in listed for subresource in kind.subresources)
    assert listed["deployments/scale"]["group"] == "autoscaling"
    groups = document(KINDS, "/apis")
    assert groups is not None
    assert [group["name"] for group in groups["groups"]] == [
        "apps",
        "batch",
        "discovery.k8s.io",
        "coordination.k8s.io",
        "networking.k8s.io",
        "moorage.dev",
    ]
    assert document(KINDS, "/apis/nope") is None


def test_openapi_says_of_every_kind_that_the_server_validates_fields() -> None:
    found = 0
    for path in index(KINDS)["paths"]:
        part = v3(KINDS, path)
        assert part is not None
        for item in part["paths"].values():
            assert "fieldValidation" in [parameter["name"] for parameter in item["patch"]["parameters"]]
            found += 1
    assert found == len(KINDS)
    assert v3(KINDS, "apis/nope/v1") is None

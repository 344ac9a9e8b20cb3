"""The demo's manifests: valid for every supported Kubernetes, and the objects that the README speaks of."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from moorage.api.validation import validate

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
VERSIONS = ["1.25", "1.29", "1.33", "1.35", "1.37"]

Manifest = dict[str, Any]


def objects(file: str) -> dict[tuple[str, str], Manifest]:
    manifests = list(yaml.safe_load_all((DEMO / file).read_text()))
    found = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    assert len(found) == len(manifests)
    return found


def environment(deployment: Manifest) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(deployment)["env"]}


def container(deployment: Manifest) -> Manifest:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", ["k8s-backend.yml", "k8s-frontend.yml"])
def test_every_object_is_valid_with_no_unknown_field(file: str, version: str) -> None:
    for manifest in objects(file).values():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_the_validation_refuses_an_unknown_field() -> None:
    manifest = objects("k8s-frontend.yml")["Service", "backend"]
    manifest["spec"]["sessionAfinity"] = "ClientIP"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_cluster_a_has_two_backends_each_behind_a_load_balancer() -> None:
    assert set(objects("k8s-backend.yml")) == {
        ("Namespace", "backend"),
        ("Deployment", "backend1"),
        ("Deployment", "backend2"),
        ("Service", "backend1-lb"),
        ("Service", "backend2-lb"),
    }


@pytest.mark.parametrize("name", ["backend1", "backend2"])
def test_a_backend_listens_where_its_load_balancer_sends(name: str) -> None:
    found = objects("k8s-backend.yml")
    deployment, service = found["Deployment", name], found["Service", f"{name}-lb"]
    assert deployment["spec"]["replicas"] == 1
    assert container(deployment)["args"] == ["app", "backend"]
    assert environment(deployment) == {"PORT": "9000"}
    assert container(deployment)["ports"] == [{"containerPort": 9000}]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["ports"] == [{"protocol": "TCP", "port": 80, "targetPort": 9000}]


def test_a_load_balancer_selects_the_pods_of_its_own_backend_only() -> None:
    found = objects("k8s-backend.yml")
    for service, selected in (("backend1-lb", {"backend1"}), ("backend2-lb", {"backend2"})):
        selector = found["Service", service]["spec"]["selector"]
        matching = {
            name
            for (kind, name), manifest in found.items()
            if kind == "Deployment" and selector.items() <= manifest["spec"]["template"]["metadata"]["labels"].items()
        }
        assert matching == selected


def test_cluster_b_has_a_frontend_and_a_service_with_a_slice_in_place_of_endpoints() -> None:
    assert set(objects("k8s-frontend.yml")) == {
        ("Namespace", "frontend"),
        ("Deployment", "frontend"),
        ("Service", "frontend-lb"),
        ("Service", "backend"),
        ("EndpointSlice", "backend"),
    }


def test_the_frontend_is_told_the_name_and_port_of_the_backend_service() -> None:
    found = objects("k8s-frontend.yml")
    deployment, service = found["Deployment", "frontend"], found["Service", "backend"]
    assert container(deployment)["args"] == ["app", "frontend"]
    assert environment(deployment) == {"PORT": "8080", "BACKEND_HOST": "backend", "BACKEND_PORT": "9000"}
    assert service["spec"]["ports"] == [{"protocol": "TCP", "port": 9000, "targetPort": 9000}]
    assert found["Service", "frontend-lb"]["spec"]["type"] == "LoadBalancer"
    assert found["Service", "frontend-lb"]["spec"]["ports"] == [{"protocol": "TCP", "port": 80, "targetPort": 8080}]


def test_the_backend_service_is_sticky_and_has_no_selector() -> None:
    spec = objects("k8s-frontend.yml")["Service", "backend"]["spec"]
    assert spec["sessionAffinity"] == "ClientIP"
    assert "selector" not in spec


def test_the_slice_belongs_to_the_service_by_label_and_by_port_name_and_has_port_80() -> None:
    found = objects("k8s-frontend.yml")
    slice_, service = found["EndpointSlice", "backend"], found["Service", "backend"]
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == "backend"
    assert slice_["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert slice_["addressType"] == "IPv4"
    assert slice_["ports"] == [{"protocol": "TCP", "port": 80}]
    assert service["spec"]["ports"][0].get("name") == slice_["ports"][0].get("name")


def test_the_slice_has_two_example_addresses_that_are_nobody_s() -> None:
    addresses = [
        endpoint["addresses"] for endpoint in objects("k8s-frontend.yml")["EndpointSlice", "backend"]["endpoints"]
    ]
    assert len(addresses) == 2
    for (address,) in addresses:
        assert ipaddress.ip_address(address) in ipaddress.ip_network("203.0.113.0/24")


def test_with_an_external_service_the_frontend_is_the_same_and_no_address_is_typed() -> None:
    by_hand, found = objects("k8s-frontend.yml"), objects("k8s-frontend-external.yml")
    for replaced in (("Service", "backend"), ("EndpointSlice", "backend")):
        del by_hand[replaced]
    xsvc = found.pop(("ExternalService", "backend"))
    assert found == by_hand
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", (DEMO / "k8s-frontend-external.yml").read_text())
    assert validate(xsvc) == []
    assert xsvc["spec"]["sessionAffinity"] == "ClientIP"


def test_the_external_service_asks_for_what_both_load_balancers_serve() -> None:
    spec = objects("k8s-frontend-external.yml")["ExternalService", "backend"]["spec"]
    backends = objects("k8s-backend.yml")
    (port,) = spec["ports"]
    assert port["port"] == objects("k8s-frontend.yml")["Service", "backend"]["spec"]["ports"][0]["port"]
    (source,) = spec["endpoints"]
    for name in ("backend1-lb", "backend2-lb"):
        service = backends["Service", name]
        assert source["cluster"]["namespace"] == service["metadata"]["namespace"]
        assert source["cluster"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert port["targetPort"] == service["spec"]["ports"][0]["port"]


def test_all_objects_are_in_their_namespace() -> None:
    for file, namespace in (
        ("k8s-backend.yml", "backend"),
        ("k8s-frontend.yml", "frontend"),
        ("k8s-frontend-external.yml", "frontend"),
    ):
        for (kind, _), manifest in objects(file).items():
            assert manifest["metadata"].get("namespace", namespace if kind == "Namespace" else None) == namespace

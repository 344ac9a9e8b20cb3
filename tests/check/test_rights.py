"""The table of rights is that of the manifests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage.check.rights import Right, of_agent, of_installer, of_operator, of_trial

DEPLOY = Path(__file__).parents[2] / "deploy"


def manifests(place: str) -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted((DEPLOY / place).glob("*.yaml")) if path.stem != "config"]
    return [found for text in texts for found in yaml.safe_load_all(text)]


def granted(place: str, kind: str, name: str, namespace: str = "") -> Iterator[Right]:
    (role,) = (
        each for each in manifests(place) if (each["kind"], each.get("metadata", {}).get("name")) == (kind, name)
    )
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for named in rule.get("resourceNames", [""]):
                    yield from (Right(verb, group, resource, namespace, named) for verb in rule["verbs"])


def test_those_of_the_operator_are_those_of_its_manifest() -> None:
    role = ("operator", "Role", "moorage-operator", "elsewhere")
    manifest = [*granted("operator", "ClusterRole", "moorage-operator"), *granted(*role)]
    assert sorted(of_operator("elsewhere")) == sorted(manifest)


def test_those_of_an_agent_are_those_of_its_manifest() -> None:
    assert sorted(of_agent()) == sorted(granted("agent", "ClusterRole", "moorage-agent"))


def test_whoever_installs_it_makes_each_kind_that_is_in_the_manifests() -> None:
    kinds = {
        (found["apiVersion"].rpartition("/")[0], f"{found['kind'].lower()}s".replace("policys", "policies"))
        for place in ("crds", "operator", "agent")
        for found in manifests(place)
        if found["kind"] != "Kustomization"
    }
    made = {("", "configmaps")}  # by configMapGenerator
    assert kinds | made == {(right.group, right.resource) for right in of_installer()}
    assert {right.verb for right in of_installer()} == {"create"}


def test_whoever_tries_the_service_proxy_makes_and_deletes_a_namespace_or_what_is_in_it() -> None:
    """e2e/test_check.py does it with these rights alone."""
    new, existing = (set(map(str, of_trial("ns", is_new=is_new))) for is_new in (True, False))
    assert new - existing == {"create namespaces", "delete namespaces/ns"}
    assert existing - new == {
        f"delete {what} in ns" for what in ("pods", "services", "endpointslices.discovery.k8s.io")
    }


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (Right("get", "", "pods"), "get pods"),
        (Right("patch", "moorage.dev", "externalservices/status"), "patch externalservices/status.moorage.dev"),
        (Right("get", "g", "leases", "ns", "one"), "get leases.g/one in ns"),
    ],
)
def test_a_right_in_words(right: Right, words: str) -> None:
    assert str(right) == words


def test_a_right_as_the_api_server_is_asked_about_it() -> None:
    assert Right("patch", "g", "things/status", "ns", "one").attributes == {
        "verb": "patch",
        "group": "g",
        "resource": "things",
        "subresource": "status",
        "namespace": "ns",
        "name": "one",
    }

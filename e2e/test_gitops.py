"""What Argo CD and Flux find on the real API server: definitions and objects are stored as they were written.

With it, the commands of docs/operating.md for these and for removing Moorage that need no controllers.
"""

import copy
import json
import re
import shlex
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.control_plane import ApiServer
from moorage.api import crds
from moorage.api.contract import PROXY, PROXY_LABEL
from moorage.api.kinds import Kind
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from testing.gitops import drift
from testing.suites.gitops import *  # noqa: F403
from testing.suites.gitops import SHORT
from testing.suites.objects import namespace as namespace  # the suite's own, not that of conftest.py

ROOT = Path(__file__).parents[1]


def documented(words: str) -> list[str]:
    """The one command of docs/operating.md with these words, as arguments of kubectl; files by their full path."""
    (line,) = re.findall(rf"^\$ kubectl (.*{re.escape(words)}.*)$", (ROOT / "docs/operating.md").read_text(), re.M)
    return [str(ROOT / word) if word.startswith("deploy/") else word for word in shlex.split(line)]


@pytest.fixture
async def client(api_server: ApiServer) -> AsyncGenerator[Client, None]:
    async with Client(kubeconfig.load(api_server.kubeconfig)) as client:
        yield client


@pytest.mark.parametrize("kind", crds.custom_kinds(), ids=lambda kind: kind.kind)
def test_a_definition_is_stored_as_it_is_in_the_file(api_server: ApiServer, kind: Kind) -> None:
    stored = api_server.get("crd", kind.resource)
    assert drift(crds.definition(kind), stored) == []


def test_an_object_that_was_stored_with_defaults_inside_lists_can_be_applied_as_before(api: ApiServer) -> None:
    """As versions up to 0.1 stored them; ports were a list whose items had keys then."""
    (kind, _) = crds.custom_kinds()
    before = copy.deepcopy(crds.definition(kind))
    spec = before["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["ports"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]}
    spec["ports"]["items"]["properties"]["protocol"]["default"] = "TCP"
    spec["endpoints"]["items"]["properties"]["dns"]["properties"]["type"]["default"] = "A"
    written: dict[str, Any] = copy.deepcopy(SHORT[0])

    def apply() -> dict[str, Any]:
        arguments = ("apply", "--server-side", "--field-manager=git", "-o", "json", "-f", "-")
        return dict(json.loads(api.kubectl(*arguments, input=json.dumps(written))))

    api.apply(json.dumps(before))
    api.until_definitions_are_served()
    stored = apply()
    assert drift(written, stored) == [".spec.ports", ".spec.endpoints"]
    assert stored["spec"]["ports"][0]["protocol"] == "TCP"
    api.apply(crds.manifest())
    api.eventually("the definition is in force", lambda: drift(written, apply()) == [], seconds=30)
    written["spec"]["ports"].pop()
    assert drift(written, apply()) == []


def test_argo_cd_gets_the_health_script_beside_what_it_has(api_server: ApiServer) -> None:
    api_server.kubectl("create", "namespace", "argocd")
    api_server.kubectl("-n", "argocd", "create", "configmap", "argocd-cm", "--from-literal=admin.enabled=true")
    api_server.kubectl(*documented("--patch-file"))
    data = api_server.get("-n", "argocd", "configmap", "argocd-cm")["data"]
    assert data.pop("admin.enabled") == "true"
    assert list(data) == ["resource.customizations.health.moorage.dev_ExternalService"]


def test_kube_proxy_gets_the_services_that_node_agents_carried(api_server: ApiServer) -> None:
    for name, proxy in (("ours", PROXY), ("theirs", "another")):
        api_server.kubectl("create", "service", "clusterip", name, "--tcp=80")
        api_server.kubectl("label", "service", name, f"{PROXY_LABEL}={proxy}")
    api_server.kubectl(*documented("label service"))
    assert PROXY_LABEL not in api_server.get("service", "ours")["metadata"]["labels"]
    assert api_server.get("service", "theirs")["metadata"]["labels"][PROXY_LABEL] == "another"

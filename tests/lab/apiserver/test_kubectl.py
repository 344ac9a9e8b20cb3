"""The flows of the wire tests with real `kubectl`, where there is one."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moorage.proc import Completed, run
from tests.support.apiserver import RunningApiServer, api_server

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: frontend}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: frontend}
spec:
  sessionAffinity: ClientIP
  ports:
  - {protocol: TCP, port: 9000, targetPort: 9000}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: frontend, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
endpoints:
- addresses: [203.0.113.1]
ports:
- port: 80
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: frontend}
spec:
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec:
      containers:
      - {name: frontend, image: "frontend:1", ports: [{containerPort: 8080}]}
"""
BOUND_SECONDS = 30.0
"""Seconds that one command may take, on a machine with much else to do."""


class Kubectl:
    def __init__(self, server: RunningApiServer, directory: Path) -> None:
        self.server = server
        self._directory = directory
        self._base = [
            "kubectl",
            f"--kubeconfig={server.kubeconfig(directory / 'kubeconfig')}",
            f"--cache-dir={directory / 'cache'}",
            "--namespace=frontend",
        ]

    async def run(self, *arguments: str, input: str | None = None) -> Completed:
        return await asyncio.wait_for(run([*self._base, *arguments], input=input), BOUND_SECONDS)

    async def __call__(self, *arguments: str, input: str | None = None) -> str:
        """Its output; asserts that it succeeded."""
        done = await self.run(*arguments, input=input)
        assert done.status == 0, done
        return done.stdout

    async def edit(self, what: str, sed: str) -> str:
        """`kubectl edit` in an editor that replaces text; asserts that it succeeded."""
        done = await run(["env", f"KUBE_EDITOR=sed -i '{sed}'", *self._base, "edit", what])
        assert done.status == 0, done
        return done.stdout

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self("get", *arguments, "--output=json"))


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    async with api_server(tls=True) as server:
        yield Kubectl(server, tmp_path)


@pytest.mark.parametrize("how", [["--server-side"], []], ids=["server-side", "client-side"])
async def test_applying_again_without_a_field_gives_its_default_back(kubectl: Kubectl, how: list[str]) -> None:
    await kubectl("apply", *how, "-f", "-", input=MANIFEST)
    service = await kubectl.json("service/backend")
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    version = kubectl.server.store.version
    await kubectl("apply", *how, "-f", "-", input=MANIFEST)
    changed = [change.last["metadata"]["name"] for change in kubectl.server.store.changes(version)]
    assert not changed or not how
    await kubectl("apply", *how, "-f", "-", input=MANIFEST.replace("  sessionAffinity", "  # sessionAffinity"))
    after = await kubectl.json("service/backend")
    assert after["spec"]["sessionAffinity"] == "None"
    assert after["spec"]["clusterIP"] == service["spec"]["clusterIP"]


async def test_get_prints_kubectls_own_columns(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    service = (await kubectl("get", "services")).split("\n")
    assert service[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert service[1].split()[:5] == ["backend", "ClusterIP", "10.96.1.0", "<none>", "9000/TCP"]
    slices = (await kubectl("get", "endpointslices", "--no-headers")).split()
    assert slices[:4] == ["backend-1", "IPv4", "80", "203.0.113.1"]
    deployment = (await kubectl("get", "deploy", "-o", "wide")).split("\n")[1].split()
    assert deployment[:4] == ["frontend", "0/1", "0", "0"]
    assert deployment[5:] == ["frontend", "frontend:1", "app=frontend"]


async def test_describe_shows_what_belongs_together(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    described = await kubectl("describe", "service", "backend")
    assert "Session Affinity:" in described
    assert "203.0.113.1:80" in described
    assert "app=frontend" in await kubectl("describe", "deployment", "frontend")
    await kubectl("run", "one", "--image=x")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "one.1", "namespace": "frontend"},
        "involvedObject": {"kind": "Pod", "namespace": "frontend", "name": "one"},
        "reason": "Started",
        "message": "the container runs",
        "type": "Normal",
    }
    pod = await kubectl.json("pod", "one")
    event["involvedObject"] |= {"uid": pod["metadata"]["uid"]}  # type: ignore[operator]
    await kubectl("create", "-f", "-", input=json.dumps(event))
    assert "the container runs" in await kubectl("describe", "pod", "one")


@pytest.mark.parametrize(
    ("type_", "patch"),
    [
        ("strategic", '{"spec":{"ports":[{"port":9000,"name":"http"}]}}'),
        ("merge", '{"spec":{"ports":[{"port":9000,"name":"http"}]}}'),
        ("json", '[{"op":"add","path":"/spec/ports/0/name","value":"http"}]'),
    ],
)
async def test_patch_works_in_all_types(kubectl: Kubectl, type_: str, patch: str) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    await kubectl("patch", "service", "backend", f"--type={type_}", f"--patch={patch}")
    ports = (await kubectl.json("service", "backend"))["spec"]["ports"]
    assert ports == [{"name": "http", "port": 9000, "protocol": "TCP", "targetPort": 9000}]


MOORING = """
apiVersion: moorage.dev/v1alpha1
kind: Mooring
metadata: {name: backend.node.node-1, namespace: frontend}
spec: {group: backend, client: {kind: Node, name: node-1}, endpoint: backend1}
status: {endpoint: backend1, reason: Assigned}
"""


async def test_a_person_sees_a_mooring_and_moves_its_client(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    await kubectl("create", "-f", "-", input=MOORING)
    header, row = (await kubectl("get", "moorings")).splitlines()
    assert header.split() == ["NAME", "KIND", "CLIENT", "ENDPOINT", "SINCE", "REASON", "PREVIOUS"]
    assert row.split() == ["backend.node.node-1", "Node", "node-1", "backend1", "Assigned"]
    patch = '--patch={"spec":{"endpoint":"backend2"}}'
    assert "patched" in await kubectl("patch", "moor", "backend.node.node-1", "--type=merge", patch)
    assert "edited" in await kubectl.edit("mooring/backend.node.node-1", "s/endpoint: backend2/endpoint: backend3/")
    assert (await kubectl.json("mooring", "backend.node.node-1"))["spec"]["endpoint"] == "backend3"
    given = await kubectl.run(
        "patch", "moor", "backend.node.node-1", "--type=merge", '--patch={"spec":{"group":"b"}}'
    )
    assert "must not change" in given.stderr


async def test_scale_and_delete(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    assert "scaled" in await kubectl("scale", "deployment/frontend", "--replicas=3")
    assert (await kubectl.json("deployment", "frontend"))["spec"]["replicas"] == 3
    await kubectl("delete", "deployment", "frontend", "--wait", "--timeout=20s")
    await kubectl("delete", "namespace", "frontend", "--wait", "--timeout=20s")
    missing = await kubectl.run("get", "service", "backend")
    assert missing.status == 1
    assert "(NotFound)" in missing.stderr


async def test_delete_waits_for_what_still_ends(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    pod = {"spec": {"nodeName": "n"}}
    await kubectl("run", "one", "--image=x", f"--overrides={json.dumps(pod)}")
    waiting = asyncio.create_task(kubectl("delete", "pod", "one"))
    while not (await kubectl.json("pod", "one"))["metadata"].get("deletionTimestamp"):
        assert not waiting.done()
    assert not waiting.done()
    await kubectl("delete", "pod", "one", "--grace-period=0", "--force")
    assert "deleted" in await waiting


async def test_mistakes_are_named(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", input=MANIFEST)
    typo = await kubectl.run("apply", "-f", "-", input=MANIFEST.replace("sessionAffinity", "sessionAfinity"))
    assert 'unknown field "spec.sessionAfinity"' in typo.stderr
    port = await kubectl.run("apply", "-f", "-", input=MANIFEST.replace("port: 9000", "port: 90000"))
    assert 'The Service "backend" is invalid' in port.stderr
    other = MANIFEST.replace("ClientIP", "None")
    conflict = await kubectl.run("apply", "--server-side", "--field-manager=other", "-f", "-", input=other)
    assert 'conflict with "kubectl"' in conflict.stderr
    forced = await kubectl.run(
        "apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", input=other
    )
    assert forced.status == 0


async def test_kubectl_prints_what_is_not_played_and_what_to_call_in_its_place(
    kubectl: Kubectl,
) -> None:
    applied = await kubectl.run("apply", "-f", "-", input=MANIFEST)
    assert "Warning: spec.template.spec.containers[0].image: not played: " in applied.stderr
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod["spec"] = {"containers": [{"name": "c", "image": "moorage"}]}
    await kubectl("apply", "-f", "-", input=json.dumps(pod))
    for verb, words in (("logs", ["p"]), ("exec", ["p", "--", "ls", "a b"])):
        refused = await kubectl.run(verb, *words)
        assert refused.status != 0
        assert f"moorage lab {verb} --cluster lab --namespace frontend " in refused.stderr

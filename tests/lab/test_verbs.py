import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import yaml
from aiohttp import web

from moorage.cluster.client import Client
from moorage.cluster.errors import AnswerError, ApiError
from moorage.errors import MoorageError
from moorage_lab import verbs
from tests.support.stub_server import refuse, stub_client


class Recorder:
    """Answers by method and path, notes each request as `METHOD path`."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.types: list[str] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.requests.append(line)
        self.queries.append(dict(request.query))
        self.bodies.append(json.loads(await request.text()) if request.can_read_body else None)
        self.types.append(request.content_type)
        answer = self.answers.get(line, {})
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


@pytest.fixture
def server() -> Recorder:
    return Recorder()


@pytest.fixture
async def client(server: Recorder) -> AsyncGenerator[Client, None]:
    async with stub_client(server, namespace="mine") as client:
        yield client


def manifest(kind: str, name: str, namespace: str | None = None, api_version: str = "v1") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


MANIFESTS = [
    manifest("Deployment", "d", "n", "apps/v1"),
    manifest("Service", "s", "n"),
    manifest("EndpointSlice", "e", "n", "discovery.k8s.io/v1"),
    manifest("Namespace", "n"),
    manifest("Service", "t"),
]


async def test_apply_sends_namespaces_first_and_workloads_last(client: Client, server: Recorder) -> None:
    text = await verbs.apply(client, MANIFESTS, force=True)
    assert text.splitlines() == [
        "namespace/n serverside-applied",
        "service/s serverside-applied",
        "service/t serverside-applied",
        "endpointslice.discovery.k8s.io/e serverside-applied",
        "deployment.apps/d serverside-applied",
    ]
    assert server.requests == [
        "PATCH /api/v1/namespaces/n",
        "PATCH /api/v1/namespaces/n/services/s",
        "PATCH /api/v1/namespaces/mine/services/t",
        "PATCH /apis/discovery.k8s.io/v1/namespaces/n/endpointslices/e",
        "PATCH /apis/apps/v1/namespaces/n/deployments/d",
    ]
    assert server.queries[0] == {"fieldManager": "kubectl", "force": "true"}


async def test_one_refusal_does_not_hold_up_the_other_objects(client: Client, server: Recorder) -> None:
    server.answers["PATCH /api/v1/namespaces/n/services/s"] = refuse(409, "Conflict", "conflict with kubectl")
    with pytest.raises(verbs.PartlyDoneError) as caught:
        await verbs.apply(client, MANIFESTS)
    assert str(caught.value) == "service/s: conflict with kubectl (409 Conflict)"
    assert caught.value.conflict
    assert len(caught.value.done.splitlines()) == 4
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (manifest("Gadget", "g"), "manifest: apiVersion and kind: v1 Gadget is not a known kind"),
        (manifest("Deployment", "d"), "manifest: apiVersion and kind: v1 Deployment is not a known kind"),
        ({"apiVersion": "v1", "kind": "Service"}, "Service: metadata: is missing"),
        (manifest("Service", ""), "Service: metadata.name: is missing"),
        (manifest("Service", "a/b"), "Service: metadata.name: a/b is not a name"),
        (manifest("Service", 5), "Service: metadata.name: 5 is not a name"),  # type: ignore[arg-type]
    ],
)
async def test_nothing_is_sent_while_one_manifest_cannot_be(
    client: Client, server: Recorder, bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(MoorageError, match=message):
        await verbs.apply(client, [*MANIFESTS, bad])
    assert server.requests == []


COLUMNS = [
    {"name": "Name", "type": "string", "priority": 0},
    {"name": "Ready", "type": "boolean", "priority": 0},
    {"name": "External-IP", "type": "string"},
    {"name": "Selector", "type": "string", "priority": 1},
]
TABLE = {
    "kind": "Table",
    "columnDefinitions": COLUMNS,
    "rows": [
        {"cells": ["backend1", True, None, "app=x"], "object": {"metadata": {"namespace": "backend"}}},
        {"cells": ["b\x1b[2J\ny", False, "203.0.113.1", "app=y"], "object": {"metadata": {"namespace": "n"}}},
    ],
}


def test_a_table_is_printed_in_kubectls_columns() -> None:
    assert verbs.render_table(TABLE) == (
        "NAME       READY   EXTERNAL-IP\nbackend1   true    <none>\nb?[2J      false   203.0.113.1"
    )


def test_wide_and_all_namespaces_add_columns() -> None:
    assert verbs.render_table(TABLE, wide=True, namespaces=True).splitlines()[:2] == [
        "NAMESPACE   NAME       READY   EXTERNAL-IP   SELECTOR",
        "backend     backend1   true    <none>        app=x",
    ]


def test_anything_but_a_table_is_refused() -> None:
    with pytest.raises(AnswerError, match="asked for a Table, got 'ServiceList'"):
        verbs.render_table({"kind": "ServiceList"})


async def test_get_asks_for_a_table_of_the_clients_namespace(client: Client, server: Recorder) -> None:
    server.answers["GET /api/v1/namespaces/mine/services"] = TABLE
    text = await verbs.get(client, verbs.resolve("svc"), label_selector="a=b")
    assert text.startswith("NAME ")
    assert server.queries == [{"labelSelector": "a=b"}]


async def test_get_without_objects_says_so(client: Client, server: Recorder) -> None:
    empty = {**TABLE, "rows": []}
    server.answers["GET /api/v1/namespaces/n/services"] = empty
    server.answers["GET /api/v1/services"] = empty
    server.answers["GET /api/v1/nodes"] = empty
    assert await verbs.get(client, verbs.resolve("svc"), namespace="n") == "No resources found in n namespace."
    assert await verbs.get(client, verbs.resolve("svc"), all_namespaces=True) == "No resources found."
    assert await verbs.get(client, verbs.resolve("nodes")) == "No resources found."


async def test_get_prints_one_object_as_yaml_without_managed_fields(client: Client, server: Recorder) -> None:
    obj = {**manifest("Service", "s", "n"), "spec": {"clusterIP": "10.96.0.7"}}
    answer = {**obj, "metadata": {**obj["metadata"], "managedFields": [{"manager": "x"}]}}
    server.answers["GET /api/v1/namespaces/n/services/s"] = answer
    text = await verbs.get(client, verbs.resolve("svc"), "s", namespace="n", output="yaml")
    assert yaml.safe_load(text) == obj


async def test_get_says_of_each_object_of_a_list_what_it_is(client: Client, server: Recorder) -> None:
    server.answers["GET /apis/apps/v1/deployments"] = {"items": [{"metadata": {"name": "d"}}]}
    kind = verbs.resolve("deploy")
    text = await verbs.get(client, kind, all_namespaces=True, output="json")
    assert json.loads(text) == {
        "apiVersion": "v1",
        "kind": "List",
        "items": [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}],
    }
    assert await verbs.get(client, kind, all_namespaces=True, output="name") == "deployment.apps/d"


async def test_an_object_has_no_name_in_all_namespaces(client: Client) -> None:
    with pytest.raises(MoorageError, match="service/s: an object cannot be fetched by name from all namespaces"):
        await verbs.get(client, verbs.resolve("svc"), "s", all_namespaces=True)


async def test_delete_names_what_is_deleted(client: Client, server: Recorder) -> None:
    assert await verbs.delete(client, verbs.resolve("deploy"), "d") == 'deployment.apps "d" deleted'
    assert await verbs.delete(client, verbs.resolve("ns"), "n") == 'namespace "n" deleted'
    assert server.requests == ["DELETE /apis/apps/v1/namespaces/mine/deployments/d", "DELETE /api/v1/namespaces/n"]


async def test_delete_of_manifests_goes_backwards_and_passes_over_what_is_gone(
    client: Client, server: Recorder
) -> None:
    server.answers["DELETE /api/v1/namespaces/n/services/s"] = refuse(404, "NotFound")
    text = await verbs.delete_manifests(client, MANIFESTS)
    assert text.splitlines() == [
        'deployment.apps "d" deleted',
        'endpointslice.discovery.k8s.io "e" deleted',
        'service "t" deleted',
        'service "s" not found',
        'namespace "n" deleted',
    ]
    server.answers["DELETE /api/v1/namespaces/n/services/s"] = refuse(403, "Forbidden")
    with pytest.raises(ApiError):
        await verbs.delete_manifests(client, MANIFESTS)


async def test_a_patch_is_sent_as_its_type_says(client: Client, server: Recorder) -> None:
    kind, body = verbs.resolve("moor"), verbs.parse("{spec: {endpoint: b}}")
    assert await verbs.patch(client, kind, "m", body) == "mooring.moorage.dev/m patched"
    assert await verbs.patch(client, kind, "m", [], type_="json", namespace="n") == "mooring.moorage.dev/m patched"
    assert server.requests == [
        "PATCH /apis/moorage.dev/v1alpha1/namespaces/mine/moorings/m",
        "PATCH /apis/moorage.dev/v1alpha1/namespaces/n/moorings/m",
    ]
    assert server.bodies == [{"spec": {"endpoint": "b"}}, []]
    assert server.types == ["application/merge-patch+json", "application/json-patch+json"]


SERVICE = "/api/v1/namespaces/mine/services/s"


async def test_an_edit_sends_the_whole_object_as_it_was_read(client: Client, server: Recorder) -> None:
    read = {"metadata": {"name": "s", "resourceVersion": "7", "managedFields": []}, "spec": {"type": "ClusterIP"}}
    server.answers[f"GET {SERVICE}"] = read
    shown: list[str] = []

    def editor(text: str) -> str:
        shown.append(text)
        return text.replace("ClusterIP", "LoadBalancer")

    assert await verbs.edit(client, verbs.resolve("svc"), "s", editor) == "service/s edited"
    assert yaml.safe_load(shown[0]) == {"metadata": {"name": "s", "resourceVersion": "7"}, "spec": read["spec"]}
    assert server.requests[1:] == [f"PUT {SERVICE}"]
    meta = {"name": "s", "resourceVersion": "7"}
    assert server.bodies[1:] == [{"metadata": meta, "spec": {"type": "LoadBalancer"}}]


@pytest.mark.parametrize("answer", [None, "# nothing\nspec: {type: ClusterIP}\n"])
async def test_an_edit_without_a_change_sends_nothing(client: Client, server: Recorder, answer: str | None) -> None:
    server.answers[f"GET {SERVICE}"] = {"metadata": {}, "spec": {"type": "ClusterIP"}}
    same = answer and f"{answer}metadata: {{}}\n"
    done = await verbs.edit(client, verbs.resolve("svc"), "s", lambda text: same)
    assert done == "Edit cancelled, no changes made."
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("a: b: c", "not JSON or YAML: .*line 1"),
        ("a: b\n---\nc: d\n", "2 documents in place of one; leave one"),
        ("", "0 documents in place of one; leave one"),
    ],
)
def test_what_was_typed_is_one_value(typed: str, message: str) -> None:
    with pytest.raises(MoorageError, match=message):
        verbs.parse(typed)


async def test_scale_patches_the_scale_subresource(client: Client, server: Recorder) -> None:
    assert await verbs.scale(client, verbs.resolve("deploy"), "d", 0, namespace="n") == "deployment.apps/d scaled"
    assert server.requests == ["PATCH /apis/apps/v1/namespaces/n/deployments/d/scale"]
    assert server.bodies == [{"spec": {"replicas": 0}}]


@pytest.mark.parametrize(
    ("before", "on", "printed", "sent"),
    [
        ({}, True, "node/n cordoned", [{"spec": {"unschedulable": True}}]),
        ({"unschedulable": True}, True, "node/n already cordoned", []),
        ({"unschedulable": True}, False, "node/n uncordoned", [{"spec": {"unschedulable": None}}]),
        ({}, False, "node/n already uncordoned", []),
    ],
)
async def test_a_node_is_cordoned_once_and_says_so_as_kubectl_does(
    client: Client, server: Recorder, before: dict[str, Any], on: bool, printed: str, sent: list[Any]
) -> None:
    server.answers["GET /api/v1/nodes/n"] = {"metadata": {}, "spec": before}
    assert await verbs.cordon(client, "n", on=on) == printed
    assert server.bodies[1:] == sent


@pytest.mark.parametrize(
    ("resource", "replicas", "message"),
    [
        ("svc", 1, "service/d: cannot be scaled; only these can: deployments, replicasets, statefulsets"),
        ("deploy", -1, "deployment.apps/d: replicas: -1 is negative"),
        ("gadgets", 1, "resource 'gadgets': unknown; there are: namespaces, nodes, services"),
    ],
)
async def test_what_cannot_be_scaled_is_said(
    client: Client, server: Recorder, resource: str, replicas: int, message: str
) -> None:
    with pytest.raises(MoorageError, match=message):
        await verbs.scale(client, verbs.resolve(resource), "d", replicas)
    assert server.requests == []

"""ExternalServices and Moorings in the lab's server, as kube-apiserver treats custom resources."""

import copy
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorage.api.moorage_v1alpha1 import PENDING
from moorage_lab.apiserver import custom
from testing.bad_externals import Bad, corpus
from tests.support.apiserver import RunningApiServer, api_server, kind

PATH = "/apis/moorage.dev/v1alpha1/namespaces/default/externalservices"
MOORINGS = "/apis/moorage.dev/v1alpha1/namespaces/default/moorings"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
SINCE = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
SPEC = {"ports": [{"port": 9000, "targetPort": 80}], "endpoints": [{"addresses": [{"address": "203.0.113.11"}]}]}


def xsvc(name: str = "backend", **spec: Any) -> dict[str, Any]:
    meta = {"name": name}
    return {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "ExternalService",
        "metadata": meta,
        "spec": copy.deepcopy(SPEC | spec),
    }


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with api_server() as running:
        yield running


def test_defaults_are_filled_in_where_their_parent_is() -> None:
    obj: dict[str, Any] = xsvc(healthCheck={"http": {}}, sessionAffinityConfig={})
    custom.fill(kind("ExternalService"), obj)
    assert obj["spec"]["ports"] == [{"port": 9000, "targetPort": 80}], "nothing inside a list"
    assert obj["spec"]["healthCheck"]["http"] == {"path": "/"}
    assert obj["spec"]["healthCheck"]["intervalSeconds"] == 2
    assert obj["spec"]["sessionAffinityConfig"] == {}
    assert "suspend" not in obj["spec"]


def test_unknown_fields_are_dropped_and_labels_are_not() -> None:
    selector = {"matchLabels": {"any": "label"}}
    sources = [{"cluster": {"namespace": "n", "selector": selector, "x": 1}, "y": [2]}]
    found = custom.pruned(kind("ExternalService"), {**xsvc(endpoints=sources, z={}), "later": 1})
    assert found["spec"]["endpoints"] == [{"cluster": {"namespace": "n", "selector": selector}}]
    assert found.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert "z" not in found["spec"]


async def test_a_new_object_has_its_defaults_and_no_status_of_its_writer(server: RunningApiServer) -> None:
    made = await server.create(PATH, xsvc() | {"status": {"healthy": "9/9"}})
    assert made["spec"]["sessionAffinity"] == "None"
    assert made["spec"]["proxy"] == "kube-proxy"
    assert made["status"] == PENDING
    assert made["metadata"]["generation"] == 1


async def test_the_generation_counts_changes_of_the_spec_only(server: RunningApiServer) -> None:
    await server.create(PATH, xsvc())
    status = {"status": {"healthy": "1/1", "observedGeneration": 1}, "spec": {"suspend": True}}
    answer = await server.call("PATCH", f"{PATH}/backend/status", status, content_type=MERGE)
    assert answer.status == 200
    assert answer.body["status"]["healthy"] == "1/1"
    assert "suspend" not in answer.body["spec"]
    assert answer.body["metadata"]["generation"] == 1
    changed = {"spec": {"suspend": True}, "status": {"healthy": "0/1"}}
    answer = await server.call("PATCH", f"{PATH}/backend", changed, content_type=MERGE)
    assert answer.body["metadata"]["generation"] == 2
    assert answer.body["status"]["healthy"] == "1/1"


async def test_a_status_is_judged_too(server: RunningApiServer) -> None:
    await server.create(PATH, xsvc())
    endpoint = {"name": "a", "address": "203.0.113.1", "source": "addresses", "health": "Fine", "ready": True}
    patch = {"status": {"endpoints": [endpoint, {**endpoint, "health": "Healthy"}]}}
    answer = await server.call("PATCH", f"{PATH}/backend/status", patch, content_type=MERGE)
    assert answer.status == 422
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == [
        "status.endpoints[1]",
        "status.endpoints[0].health",
    ]


async def test_strategic_patches_are_not_for_custom_resources(server: RunningApiServer) -> None:
    await server.create(PATH, xsvc())
    strategic = "application/strategic-merge-patch+json"
    assert (await server.call("PATCH", f"{PATH}/backend", {}, content_type=strategic)).status == 415


async def test_lists_with_keys_are_merged_by_apply_and_others_are_not(server: RunningApiServer) -> None:
    async def apply(manager: str, **spec: Any) -> Any:
        body = {**xsvc(), "spec": spec}
        return (await server.call("PATCH", f"{PATH}/backend", body, content_type=APPLY, fieldManager=manager)).body

    await apply("owner", **SPEC, drain=[{"endpoint": "a"}])
    both = await apply("on-call", drain=[{"endpoint": "b"}])
    assert [one["endpoint"] for one in both["spec"]["drain"]] == ["a", "b"]
    assert both["spec"]["ports"][0]["port"] == 9000
    clash = await apply("on-call", endpoints=[])
    assert clash["reason"] == "Conflict"
    alone = await apply("on-call")
    assert [one["endpoint"] for one in alone["spec"]["drain"]] == ["a"]


async def test_tables_have_the_definitions_columns(server: RunningApiServer) -> None:
    await server.create(PATH, xsvc())
    conditions = [
        {"type": "Accepted", "status": "True", "reason": "Accepted"},
        {"type": "Healthy", "status": "False", "reason": "NoneHealthy", "message": "All fail.", **SINCE},
        {"type": "Ready", "status": "False", "reason": "NoHealthyEndpoint", "message": "None left.", **SINCE},
    ]
    status = {"status": {"healthy": "0/1", "conditions": conditions}}
    await server.call("PATCH", f"{PATH}/backend/status", status, content_type=MERGE)
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = (await server.call("GET", PATH, headers=accept)).body
    narrow = [column["name"] for column in table["columnDefinitions"] if not column["priority"]]
    assert narrow == ["Name", "Healthy", "Ready", "Reason", "Spec", "Sources", "Checks", "Failing", "Age"]
    cells = table["rows"][0]["cells"]
    assert cells[:7] == ["backend", "0/1", "False", "NoHealthyEndpoint", "Accepted", None, "NoneHealthy"]
    assert re.fullmatch(r"\d+d", cells[7])
    assert cells[9:] == ["None", "kube-proxy", "All fail."]


async def test_what_it_owns_goes_with_it(server: RunningApiServer) -> None:
    owner = await server.create(PATH, xsvc())
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": "backend",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    services = "/api/v1/namespaces/default/services"
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    owned = {"name": "backend", "ownerReferences": [reference]}
    await server.create(services, {"metadata": owned, "spec": {"ports": [{"port": 80}]}})
    await server.create(slices, {"metadata": owned, "addressType": "IPv4", "endpoints": []})
    await server.create(services, {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 80}]}})
    assert (await server.call("DELETE", f"{PATH}/backend")).status == 200
    left = (await server.call("GET", services)).body["items"]
    assert [one["metadata"]["name"] for one in left] == ["other"]
    assert (await server.call("GET", slices)).body["items"] == []


def mooring(endpoint: str = "a", **status: Any) -> dict[str, Any]:
    spec = {"group": "backend", "client": {"kind": "Node", "name": "node-1"}, "endpoint": endpoint}
    meta = {"name": "backend.node.node-1"}
    return {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "Mooring",
        "metadata": meta,
        "spec": spec,
        "status": {"endpoint": endpoint, "since": "2026-01-01T00:00:00Z", "reason": "Assigned"} | status,
    }


ONE_MOORING = f"{MOORINGS}/backend.node.node-1"


@pytest.mark.parametrize(
    "spec",
    [
        {"client": {"name": "node-2"}},
        {"client": {"kind": "Zone"}},
        {"group": "other"},
        {"client": None},
        {"endpoint": "No Name"},
        {"endpoint": None},
    ],
)
async def test_a_mooring_may_be_moved_and_not_given_away(server: RunningApiServer, spec: dict[str, Any]) -> None:
    await server.create(MOORINGS, mooring())
    moved = await server.call("PATCH", ONE_MOORING, {"spec": {"endpoint": "b"}}, content_type=MERGE)
    assert moved.body["spec"]["endpoint"] == "b"
    assert (await server.call("PATCH", ONE_MOORING, {"spec": spec}, content_type=MERGE)).status == 422


async def test_a_mooring_and_its_record_are_written_in_one_request(server: RunningApiServer) -> None:
    made = await server.create(MOORINGS, mooring())
    assert made["status"]["reason"] == "Assigned"
    patch = {"spec": {"endpoint": "b"}, "status": {"endpoint": "b", "previous": "a", "reason": "FailedOver"}}
    moved = (await server.call("PATCH", ONE_MOORING, patch, content_type=MERGE)).body
    assert (moved["spec"]["endpoint"], moved["status"]["previous"]) == ("b", "a")
    told = (await server.call("PATCH", ONE_MOORING, {"status": {"message": "..."}}, content_type=MERGE)).body
    assert [each["metadata"]["generation"] for each in (made, moved, told)] == [1, 2, 3], "it is a field as others"
    refused = await server.call("PATCH", f"{ONE_MOORING}/status", patch, content_type=MERGE)
    assert refused.status == 404
    patch = {"status": {"reason": "Tired"}}
    assert (await server.call("PATCH", ONE_MOORING, patch, content_type=MERGE)).status == 422


async def test_whoever_applies_a_mooring_that_the_operator_has_written_is_told_of_the_conflict(
    server: RunningApiServer,
) -> None:
    await server.create(MOORINGS, mooring())
    own = {key: value for key, value in mooring("b").items() if key != "status"}
    query = {"fieldManager": "kubectl"}
    refused = await server.call("PATCH", ONE_MOORING, own, content_type=APPLY, query=query)
    assert refused.status == 409
    assert "spec.endpoint" in refused.body["message"]
    taken = await server.call("PATCH", ONE_MOORING, own, content_type=APPLY, query=query, force="true")
    assert (taken.body["spec"]["endpoint"], taken.body["status"]["endpoint"]) == ("b", "a")


async def test_moorings_have_their_columns(server: RunningApiServer) -> None:
    await server.create(MOORINGS, mooring("b", previous="a", reason="FailedOver"))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = (await server.call("GET", MOORINGS, headers=accept)).body
    narrow = [column["name"] for column in table["columnDefinitions"] if not column["priority"]]
    assert narrow == ["Name", "Kind", "Client", "Endpoint", "Since", "Reason", "Previous"]
    cells = table["rows"][0]["cells"]
    assert cells[:4] == ["backend.node.node-1", "Node", "node-1", "b"]
    assert re.fullmatch(r"\d+d", cells[4])
    assert cells[5:7] == ["FailedOver", "a"]


async def test_bad_objects_are_refused_with_the_answers_of_kube_apiserver(server: RunningApiServer) -> None:
    """Its words for fields' limits differ; its codes, and which objects they are for, do not."""
    for bad in corpus("default"):
        path = MOORINGS if bad.object["kind"] == "Mooring" else PATH
        answer = await server.call("POST", path, bad.object, fieldValidation="Strict")
        assert answer.status == expected(bad), (bad.what, answer)


def expected(bad: Bad) -> int:
    return 400 if bad.server[0].endswith(": unknown field") else 422

"""Grace, finalizers, owners and namespaces, on the wire."""

from collections.abc import AsyncIterator

import pytest

from tests.support.apiserver import Json, RunningApiServer, api_server

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
REPLICA_SETS = "/apis/apps/v1/namespaces/default/replicasets"
MERGE = "application/merge-patch+json"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with api_server() as running:
        yield running


def pod(name: str, owner: Json | None = None, **spec: object) -> Json:
    meta: Json = {"name": name, "labels": {"app": "x"}}
    if owner is not None:
        meta["ownerReferences"] = [reference(owner)]
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def workload(name: str, owner: Json | None = None) -> Json:
    meta: Json = {"name": name} if owner is None else {"name": name, "ownerReferences": [reference(owner)]}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {"metadata": meta, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}


def reference(owner: Json) -> Json:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


async def there(server: RunningApiServer, path: str) -> bool:
    return (await server.call("GET", path)).status == 200


async def tree(server: RunningApiServer, **spec: object) -> None:
    deployment = await server.create(DEPLOYMENTS, workload("d"))
    replica_set = await server.create(REPLICA_SETS, workload("r", deployment))
    await server.create(PODS, pod("p", replica_set, **spec))


async def test_a_deleted_object_is_answered_with_success(server: RunningApiServer) -> None:
    created = await server.create(DEPLOYMENTS, workload("d"))
    answer = await server.call("DELETE", f"{DEPLOYMENTS}/d")
    assert answer.body["status"] == "Success"
    assert answer.body["details"] == {
        "name": "d",
        "group": "apps",
        "kind": "deployments",
        "uid": created["metadata"]["uid"],
    }
    assert not await there(server, f"{DEPLOYMENTS}/d")


async def test_preconditions_guard_a_deletion(server: RunningApiServer) -> None:
    created = await server.create(DEPLOYMENTS, workload("d"))
    for preconditions in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = await server.call("DELETE", f"{DEPLOYMENTS}/d", {"preconditions": preconditions})
        assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    meta = created["metadata"]
    right = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    assert (await server.call("DELETE", f"{DEPLOYMENTS}/d", {"preconditions": right})).status == 200


async def test_a_pod_on_a_node_is_left_its_grace(server: RunningApiServer) -> None:
    await server.create(PODS, pod("p", nodeName="n", terminationGracePeriodSeconds=7))
    marked = (await server.call("DELETE", f"{PODS}/p")).body
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 7
    assert marked["metadata"]["deletionTimestamp"] > marked["metadata"]["creationTimestamp"]
    again = (await server.call("DELETE", f"{PODS}/p", gracePeriodSeconds="30")).body
    assert again["metadata"]["deletionGracePeriodSeconds"] == 7
    patch = {"status": {"phase": "Succeeded"}}
    assert (await server.call("PATCH", f"{PODS}/p/status", patch, content_type=MERGE)).status == 200
    assert await there(server, f"{PODS}/p")
    await server.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert not await there(server, f"{PODS}/p")


async def test_a_pod_without_a_node_goes_at_once(server: RunningApiServer) -> None:
    await server.create(PODS, pod("p"))
    assert (await server.call("DELETE", f"{PODS}/p")).body["kind"] == "Pod"
    assert not await there(server, f"{PODS}/p")


async def test_finalizers_hold_an_object_until_the_last_is_gone(server: RunningApiServer) -> None:
    body = workload("d")
    body["metadata"]["finalizers"] = ["x/a", "x/b"]
    await server.create(DEPLOYMENTS, body)
    assert (await server.call("DELETE", f"{DEPLOYMENTS}/d")).body["metadata"]["deletionTimestamp"]
    for finalizers, remains in ((["x/b"], True), ([], False)):
        patch = {"metadata": {"finalizers": finalizers}}
        assert (await server.call("PATCH", f"{DEPLOYMENTS}/d", patch, content_type=MERGE)).status == 200
        assert await there(server, f"{DEPLOYMENTS}/d") is remains


async def test_dependents_go_with_their_owner(server: RunningApiServer) -> None:
    await tree(server)
    await server.call("DELETE", f"{DEPLOYMENTS}/d")
    assert not await there(server, f"{REPLICA_SETS}/r")
    assert not await there(server, f"{PODS}/p")


async def test_dependents_go_with_their_owner_also_in_the_foreground(
    server: RunningApiServer,
) -> None:
    await tree(server)
    await server.call("DELETE", f"{DEPLOYMENTS}/d", {"propagationPolicy": "Foreground"})
    for path in (f"{PODS}/p", f"{REPLICA_SETS}/r", f"{DEPLOYMENTS}/d"):
        assert not await there(server, path)


async def test_dependents_are_not_left_behind_as_orphans(server: RunningApiServer) -> None:
    await tree(server)
    refused = await server.call("DELETE", f"{DEPLOYMENTS}/d", {"propagationPolicy": "Orphan"})
    assert refused.status == 400
    assert "use Background" in refused.body["message"]
    assert await there(server, f"{DEPLOYMENTS}/d")


async def test_a_dependent_whose_owner_has_gone_is_collected(server: RunningApiServer) -> None:
    owner = await server.create(REPLICA_SETS, workload("r"))
    await server.call("DELETE", f"{REPLICA_SETS}/r")
    await server.create(PODS, pod("late", owner))
    assert not await there(server, f"{PODS}/late")


async def test_a_dependent_with_an_owner_left_stays(server: RunningApiServer) -> None:
    first, second = [await server.create(REPLICA_SETS, workload(name)) for name in ("a", "b")]
    body = pod("p", first)
    body["metadata"]["ownerReferences"].append({**reference(second), "controller": False})
    await server.create(PODS, body)
    await server.call("DELETE", f"{REPLICA_SETS}/a")
    assert await there(server, f"{PODS}/p")
    await server.call("DELETE", f"{REPLICA_SETS}/b")
    assert not await there(server, f"{PODS}/p")


async def test_a_namespace_takes_along_what_is_in_it(server: RunningApiServer) -> None:
    await server.create("/api/v1/namespaces", {"metadata": {"name": "n"}})
    inside = "/api/v1/namespaces/n/pods"
    await server.create(inside, pod("unscheduled"))
    await server.create(inside, pod("running", nodeName="x"))
    answer = await server.call("DELETE", "/api/v1/namespaces/n")
    assert answer.body["status"]["phase"] == "Terminating"
    assert not await there(server, f"{inside}/unscheduled")
    refused = await server.call("POST", inside, pod("new"))
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await server.call("DELETE", f"{inside}/running", gracePeriodSeconds="0")
    assert not await there(server, "/api/v1/namespaces/n")


async def test_the_systems_namespaces_may_not_be_deleted(server: RunningApiServer) -> None:
    answer = await server.call("DELETE", "/api/v1/namespaces/default")
    assert answer.status == 403
    assert answer.body["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'

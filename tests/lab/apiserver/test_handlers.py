"""What the server answers on the wire."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from moorage.cluster.client import Client
from moorage.cluster.warnings import warnings
from tests.support.apiserver import Json, RunningApiServer, api_server

SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with api_server() as running:
        yield running


def service(name: str = "s", **spec: object) -> Json:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def deployment(name: str = "d", replicas: int = 2) -> Json:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


async def test_a_service_is_created_with_its_defaults(server: RunningApiServer) -> None:
    created = await server.create(SERVICES, service(sessionAffinity="ClientIP"))
    assert created["apiVersion"] == "v1"
    assert created["kind"] == "Service"
    assert created["metadata"]["uid"]
    assert created["metadata"]["namespace"] == "default"
    assert created["spec"] == {
        "type": "ClusterIP",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "internalTrafficPolicy": "Cluster",
        "clusterIP": "10.96.1.0",
        "clusterIPs": ["10.96.1.0"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert (await server.call("GET", f"{SERVICES}/s")).body == created


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("GET", f"{SERVICES}/nope", 404, 'services "nope" not found'),
        ("GET", f"{DEPLOYMENTS}/nope", 404, 'deployments.apps "nope" not found'),
        ("GET", "/apis/nope/v1/things", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/services/s", 404, "the server could not find the requested resource"),
        ("POST", "/api/v1/services", 405, "the server does not allow this method on the requested resource"),
        ("DELETE", f"{SERVICES}/nope", 404, 'services "nope" not found'),
        ("PATCH", SERVICES, 405, "the server does not allow this method on the requested resource"),
    ],
)
async def test_errors_have_the_shape_of_a_status(
    server: RunningApiServer, method: str, path: str, code: int, message: str
) -> None:
    answer = await server.call(method, path, {} if method != "GET" else None)
    assert answer.status == code
    assert {key: answer.body[key] for key in ("kind", "apiVersion", "status", "message", "code")} == {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "code": code,
    }


async def test_a_not_found_names_the_object_in_its_details(server: RunningApiServer) -> None:
    answer = await server.call("GET", f"{DEPLOYMENTS}/nope")
    assert answer.body["reason"] == "NotFound"
    assert answer.body["details"] == {"name": "nope", "group": "apps", "kind": "deployments"}


async def test_an_invalid_object_lists_every_cause(server: RunningApiServer) -> None:
    answer = await server.call("POST", SERVICES, service(ports=[{"port": 70000}], sessionAffinity="x"))
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert answer.body["message"].startswith('Service "s" is invalid: [spec.ports[0].port: ')
    fields = {cause["field"] for cause in answer.body["details"]["causes"]}
    assert {"spec.ports[0].port", "spec.sessionAffinity"} <= fields
    assert (await server.call("GET", SERVICES)).body["items"] == []


async def test_wrong_types_and_unknown_fields_are_bad_requests(server: RunningApiServer) -> None:
    wrong = await server.call("POST", SERVICES, service(ports=[{"port": "80"}]))
    assert (wrong.status, wrong.body["reason"]) == (400, "BadRequest")
    unknown = await server.call("POST", SERVICES, service(nope=1), fieldValidation="Strict")
    assert unknown.status == 400
    assert 'unknown field "spec.nope"' in unknown.body["message"]
    for body in ("[]", "{", '"x"', '{"metadata":[]}', '{"kind":"Pod"}', "\xff"):
        assert (await server.call("POST", SERVICES, body)).status == 400
    assert (await server.call("POST", SERVICES, "x", content_type="text/plain")).status == 415


async def test_the_same_name_twice_already_exists(server: RunningApiServer) -> None:
    await server.create(SERVICES, service())
    answer = await server.call("POST", SERVICES, service())
    assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")


async def test_a_name_is_generated_where_asked(server: RunningApiServer) -> None:
    body = {**service(), "metadata": {"generateName": "s-"}}
    names = {(await server.create(SERVICES, body))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("s-") and len(name) == 7 for name in names)


async def test_a_namespace_must_exist(server: RunningApiServer) -> None:
    answer = await server.call("POST", "/api/v1/namespaces/nope/services", service())
    assert (answer.status, answer.body["message"]) == (404, 'namespaces "nope" not found')
    assert (await server.call("GET", "/api/v1/namespaces/nope/services")).body["items"] == []


async def test_an_update_needs_the_resource_version_that_is_there(server: RunningApiServer) -> None:
    created = await server.create(SERVICES, service())
    current = (await server.call("PUT", f"{SERVICES}/s", created | {"spec": {"ports": [{"port": 81}]}})).body
    assert int(current["metadata"]["resourceVersion"]) == int(created["metadata"]["resourceVersion"]) + 1
    assert current["spec"]["clusterIP"] == created["spec"]["clusterIP"]
    stale = await server.call("PUT", f"{SERVICES}/s", created)
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    assert stale.body["message"] == (
        'Operation cannot be fulfilled on services "s": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    other = {**current, "metadata": {"name": "s", "uid": "other"}}
    assert (await server.call("PUT", f"{SERVICES}/s", other)).status == 409


async def test_a_write_that_changes_nothing_makes_no_new_version(server: RunningApiServer) -> None:
    created = await server.create(SERVICES, service())
    for content_type in (MERGE, STRATEGIC):
        patched = await server.call("PATCH", f"{SERVICES}/s", {}, content_type=content_type)
        assert patched.body == created
    for _ in range(2):
        applied = await server.call("PATCH", f"{SERVICES}/a", service("a"), content_type=APPLY, fieldManager="m")
    assert applied.body["metadata"]["resourceVersion"] == str(server.store.version)
    assert server.store.version == int(created["metadata"]["resourceVersion"]) + 1


@pytest.mark.parametrize(
    ("content_type", "patch", "ports"),
    [
        (MERGE, {"spec": {"ports": [{"port": 81}]}}, [81]),
        (STRATEGIC, {"spec": {"ports": [{"port": 81, "name": "b"}, {"port": 80, "name": "a"}]}}, [80, 81]),
        (JSON_PATCH, [{"op": "replace", "path": "/spec/ports/0/port", "value": 82}], [82]),
    ],
)
async def test_each_type_of_patch_changes_the_object(
    server: RunningApiServer, content_type: str, patch: object, ports: list[int]
) -> None:
    await server.create(SERVICES, service())
    answer = await server.call("PATCH", f"{SERVICES}/s", patch, content_type=content_type)
    assert answer.status == 200
    assert [port["port"] for port in answer.body["spec"]["ports"]] == ports


async def test_taking_a_field_out_of_what_is_applied_gives_its_default_back(server: RunningApiServer) -> None:
    text = "spec:\n  sessionAffinity: ClientIP\n  ports:\n  - port: 80\n"
    on = await server.call("PATCH", f"{SERVICES}/s", text, content_type=APPLY, fieldManager="kubectl")
    assert on.status == 201
    assert on.body["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] == 10800
    text = text.replace("sessionAffinity", "#")
    off = await server.call("PATCH", f"{SERVICES}/s", text, content_type=APPLY, fieldManager="kubectl")
    assert off.status == 200
    assert off.body["spec"]["sessionAffinity"] == "None"
    assert "sessionAffinityConfig" not in off.body["spec"]
    assert off.body["spec"]["clusterIP"] == on.body["spec"]["clusterIP"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("spec:\n  type: a\n  type: b\n", "line 3: key type is given twice, first on line 2; keep one"),
        ("spec: {}\n---\nspec: {}\n", "2 documents; send one"),
        (b"spec: \xff", "not UTF-8 text"),
    ],
)
async def test_yaml_is_read_as_manifests_are(server: RunningApiServer, text: str | bytes, why: str) -> None:
    refused = await server.call("PATCH", f"{SERVICES}/s", text, content_type=APPLY, fieldManager="kubectl")
    assert refused.status == 400
    assert refused.body["message"].startswith(f"error parsing YAML: {why}")


async def test_an_apply_conflicts_with_another_manager_unless_forced(server: RunningApiServer) -> None:
    body = service(sessionAffinity="ClientIP")
    await server.call("PATCH", f"{SERVICES}/s", body, content_type=APPLY, fieldManager="a")
    body = service(sessionAffinity="None")
    refused = await server.call("PATCH", f"{SERVICES}/s", body, content_type=APPLY, fieldManager="b")
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "a": .spec.sessionAffinity'
    forced = await server.call("PATCH", f"{SERVICES}/s", body, content_type=APPLY, fieldManager="b", force="true")
    assert forced.body["spec"]["sessionAffinity"] == "None"
    missing = await server.call("PATCH", f"{SERVICES}/s", body, content_type=APPLY)
    assert missing.status == 422


async def test_an_atomic_list_that_leaves_out_defaults_is_no_conflict(server: RunningApiServer) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    body: Json = {"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [], "ports": [{"port": 80}]}
    await server.create(path, body)
    applied = await server.call("PATCH", f"{path}/e", body, content_type=APPLY, fieldManager="m")
    assert applied.status == 200, applied


async def test_the_status_is_written_apart_from_the_spec(server: RunningApiServer) -> None:
    created = await server.create(DEPLOYMENTS, {**deployment(), "status": {"replicas": 9}})
    assert "replicas" not in created["status"]
    path = f"{DEPLOYMENTS}/d"
    changed = {**created, "spec": {**created["spec"], "replicas": 5}, "status": {"replicas": 3}}
    only_status = (await server.call("PUT", f"{path}/status", changed)).body
    assert only_status["status"] == {"replicas": 3}
    assert only_status["spec"]["replicas"] == 2
    assert only_status["metadata"]["generation"] == 1
    patch = {"spec": {"replicas": 7}, "status": {"replicas": 0}}
    only_spec = (await server.call("PATCH", path, patch, content_type=MERGE)).body
    assert only_spec["status"] == {"replicas": 3}
    assert only_spec["spec"]["replicas"] == 7
    assert only_spec["metadata"]["generation"] == 2
    labelled = await server.call("PATCH", path, {"metadata": {"labels": {"x": "y"}}}, content_type=MERGE)
    assert labelled.body["metadata"]["generation"] == 2


async def test_scale_shows_and_sets_the_replicas(server: RunningApiServer) -> None:
    await server.create(DEPLOYMENTS, deployment())
    shown = (await server.call("GET", f"{DEPLOYMENTS}/d/scale")).body
    assert (shown["kind"], shown["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert shown["spec"] == {"replicas": 2}
    assert shown["status"] == {"replicas": 0, "selector": "a=b"}
    shown["spec"]["replicas"] = 0
    assert (await server.call("PUT", f"{DEPLOYMENTS}/d/scale", shown)).body["spec"]["replicas"] == 0
    assert (await server.call("PUT", f"{DEPLOYMENTS}/d/scale", shown)).status == 409
    patch = {"spec": {"replicas": 4}}
    await server.call("PATCH", f"{DEPLOYMENTS}/d/scale", patch, content_type=MERGE)
    assert (await server.call("GET", f"{DEPLOYMENTS}/d")).body["spec"]["replicas"] == 4
    refused = await server.call("PATCH", f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": -1}}, content_type=MERGE)
    assert refused.status == 422


async def test_a_dry_run_answers_but_changes_nothing(server: RunningApiServer) -> None:
    version = server.store.version
    assert (await server.call("POST", SERVICES, service(), dryRun="All")).status == 201
    assert (await server.call("GET", f"{SERVICES}/s")).status == 404
    assert server.store.version == version
    await server.create(SERVICES, service())
    patch = {"metadata": {"labels": {"a": "b"}}}
    answer = await server.call("PATCH", f"{SERVICES}/s", patch, content_type=MERGE, dryRun="All")
    assert answer.body["metadata"]["labels"] == {"a": "b"}
    assert (await server.call("DELETE", f"{SERVICES}/s", dryRun="All")).status == 200
    assert "labels" not in (await server.call("GET", f"{SERVICES}/s")).body["metadata"]
    assert (await server.call("POST", SERVICES, service(), dryRun="Some")).status == 400


async def test_a_list_is_selected_and_comes_in_pages_of_one_version(server: RunningApiServer) -> None:
    for index in range(5):
        body = service(f"s{index}")
        body["metadata"]["labels"] = {"odd": str(index % 2)}
        await server.create(SERVICES, body)
    selected = (await server.call("GET", SERVICES, labelSelector="odd in (1)")).body["items"]
    assert [item["metadata"]["name"] for item in selected] == ["s1", "s3"]
    named = (await server.call("GET", "/api/v1/services", fieldSelector="metadata.name=s4")).body["items"]
    assert len(named) == 1
    first = (await server.call("GET", SERVICES, limit="2")).body
    assert first["metadata"]["remainingItemCount"] == 3
    await server.call("DELETE", f"{SERVICES}/s4")
    names, token = [item["metadata"]["name"] for item in first["items"]], first["metadata"]["continue"]
    while token:
        page = (await server.call("GET", SERVICES, query={"limit": "2", "continue": token})).body
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert names == ["s0", "s1", "s2", "s3", "s4"]
    server.store.compact()
    gone = await server.call("GET", SERVICES, query={"continue": first["metadata"]["continue"]})
    assert (gone.status, gone.body["reason"]) == (410, "Expired")
    assert (await server.call("GET", SERVICES, query={"continue": "nonsense"})).status == 400
    assert (await server.call("GET", SERVICES, limit="-1")).status == 400


async def test_a_list_of_the_future_asks_to_come_back(server: RunningApiServer) -> None:
    answer = await server.call("GET", SERVICES, resourceVersion="9999")
    assert (answer.status, answer.body["reason"]) == (504, "Timeout")


async def test_a_table_has_the_columns_that_kubectl_prints(server: RunningApiServer) -> None:
    await server.create(SERVICES, service(type="LoadBalancer"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = (await server.call("GET", SERVICES, headers={"Accept": accept})).body
    assert table["kind"] == "Table"
    shown = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert shown == ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"]
    cells = table["rows"][0]["cells"]
    assert cells[:5] == ["s", "LoadBalancer", "10.96.1.0", "<pending>", "80/TCP"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    refused = await server.call("GET", SERVICES, headers={"Accept": "text/html"})
    assert refused.status == 406


async def test_metadata_alone_is_sent_on_request(server: RunningApiServer) -> None:
    await server.create(SERVICES, service())
    metadata = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"
    found = (await server.call("GET", SERVICES, headers={"Accept": metadata.format("List")})).body
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert [each.keys() for each in found["items"]] == [{"kind", "apiVersion", "metadata"}]
    one = (await server.call("GET", f"{SERVICES}/s", headers={"Accept": metadata.format("")})).body
    assert one == found["items"][0]
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "s")
    refused = [await server.call("GET", SERVICES, headers={"Accept": metadata.format("")})]
    refused += [await server.call("GET", f"{SERVICES}/s", headers={"Accept": metadata.format("List")})]
    assert [each.status for each in refused] == [406, 406], "a list is not an object"
    either = f"{metadata.format('')},application/json"
    assert (await server.call("GET", SERVICES, headers={"Accept": either})).body["kind"] == "ServiceList"


async def test_without_the_token_nothing_is_answered_but_health(server: RunningApiServer) -> None:
    for header in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic test"}, {"Authorization": ""}):
        answer = await server.call("GET", SERVICES, headers=header)
        assert (answer.status, answer.body["reason"]) == (401, "Unauthorized")
        assert (await server.call("GET", "/healthz", headers=header)).status == 200


async def test_endpoints_are_served_with_the_deprecation_warning(server: RunningApiServer) -> None:
    path = "/api/v1/namespaces/default/endpoints"
    body = {"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "203.0.113.1"}], "ports": [{"port": 80}]}]}
    answer = await server.call("POST", path, body)
    assert answer.status == 201
    assert answer.body["subsets"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert "deprecated" in answer.headers["Warning"]


@pytest.mark.parametrize("verb", ["create", "apply", "patch"])
async def test_what_the_lab_does_not_play_is_answered_with_a_warning(server: RunningApiServer, verb: str) -> None:
    body = deployment()
    if verb == "patch":
        await server.create(DEPLOYMENTS, body)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = 'a "quoted" \\ image'
    match verb:
        case "create":
            answer = await server.call("POST", DEPLOYMENTS, body)
        case "apply":
            headers = {"Content-Type": APPLY}
            answer = await server.call("PATCH", f"{DEPLOYMENTS}/d", body, headers=headers, fieldManager="m")
        case _:
            answer = await server.call("PATCH", f"{DEPLOYMENTS}/d", body, headers={"Content-Type": STRATEGIC})
    assert answer.status < 300
    [warning] = warnings([answer.headers["Warning"]])
    assert warning.startswith("spec.template.spec.containers[0].image: not played: the lab pulls no image; ")
    assert warning.endswith('in place of "a \\"quoted\\" \\\\ image"')
    again = await server.call("PATCH", f"{DEPLOYMENTS}/d", {"spec": {"replicas": 3}}, headers={"Content-Type": MERGE})
    assert "Warning" not in again.headers


async def test_verbs_of_pods_that_are_not_served_name_the_command_of_the_lab(server: RunningApiServer) -> None:
    answer = await server.call("POST", "/api/v1/namespaces/n/pods/p/exec", command="ls")
    assert (answer.status, answer.body["reason"]) == (405, "MethodNotAllowed")
    assert answer.body["message"].endswith("with: moorage lab exec --cluster lab --namespace n p -- ls")


async def test_protobuf_is_refused_with_what_to_do_with_kubectl(server: RunningApiServer) -> None:
    headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
    answer = await server.call("POST", DEPLOYMENTS, deployment(), headers=headers)
    assert answer.status == 415
    assert "kubectl create ... --dry-run=client -o yaml | kubectl apply -f -" in answer.body["message"]


async def test_concurrent_writers_with_resource_versions_lose_no_update(server: RunningApiServer) -> None:
    await server.create(SERVICES, service())

    async def count(writer: int) -> None:
        done = 0
        while done < 10:
            live = (await server.call("GET", f"{SERVICES}/s")).body
            seen = int(live["metadata"].get("annotations", {}).get("count", 0))
            live["metadata"]["annotations"] = {"count": str(seen + 1), "writer": str(writer)}
            answer = await server.call("PUT", f"{SERVICES}/s", live)
            assert answer.status in (200, 409)
            done += answer.status == 200

    await asyncio.gather(*(count(writer) for writer in range(5)))
    live = (await server.call("GET", f"{SERVICES}/s")).body
    assert live["metadata"]["annotations"]["count"] == "50"


async def test_faults_strike_as_often_as_asked(server: RunningApiServer) -> None:
    server.faults.fail(2, code=429, retry_after=3, path="services")
    assert (await server.call("GET", "/api/v1/pods")).status == 200
    answer = await server.call("GET", SERVICES)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert (await server.call("GET", SERVICES)).status == 429
    assert (await server.call("GET", SERVICES)).status == 200
    server.faults.slow(seconds=5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.call("GET", SERVICES), 0.2)


async def test_the_projects_own_client_reads_it_over_tls() -> None:
    from moorage.api.core_v1 import Service

    async with api_server(tls=True) as server, Client(server.config) as client:
        created = await client.apply(
            {"apiVersion": "v1", "kind": "Service", **service(), "metadata": {"name": "s", "namespace": "default"}},
            field_manager="test",
        )
        got = await client.get(Service, "default", "s")
        assert got.spec.cluster_ip == created["spec"]["clusterIP"]

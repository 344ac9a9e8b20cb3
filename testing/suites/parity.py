"""What Moorage expects of any API server. The module that runs these tests gives `client`, a client of its server."""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from moorage.api.apps_v1 import Deployment
from moorage.api.core_v1 import Pod, Service, ServicePort
from moorage.api.discovery_v1 import Endpoint, EndpointSlice
from moorage.cluster.client import JSON_PATCH, STRATEGIC_MERGE_PATCH, ApiError, Client
from moorage.cluster.connections import Guard
from moorage.cluster.reflector import Reflector
from moorage_lab import verbs
from testing.suites.objects import SOON_SECONDS, Watch, deployment_of, refused, service_of, slice_of

# --- objects -----------------------------------------------------------------------------------------------------


async def test_what_is_created_can_be_read(client: Client, namespace: str) -> None:
    made = await client.create(slice_of(namespace, "a", "203.0.113.1", labels={"x": "y"}))
    meta = made.metadata
    assert meta.uid
    assert meta.resource_version
    assert meta.creation_timestamp
    assert meta.labels == {"x": "y"}
    assert made.api_version == "discovery.k8s.io/v1"
    assert made.kind == "EndpointSlice"
    assert await client.get(EndpointSlice, namespace, "a") == made


async def test_a_name_is_generated(client: Client, namespace: str) -> None:
    made = await client.create(slice_of(namespace, "", generate_name="backend-"))
    assert made.metadata.name.startswith("backend-")
    assert len(made.metadata.name) > len("backend-")


async def test_what_exists_cannot_be_created_again(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a"))
    assert await refused(client.create(slice_of(namespace, "a"))) == (409, "AlreadyExists")


async def test_what_does_not_exist_is_not_found(client: Client, namespace: str) -> None:
    assert await refused(client.get(Service, namespace, "none")) == (404, "NotFound")
    assert await refused(client.replace(slice_of(namespace, "none"))) in ((404, "NotFound"), (422, "Invalid"))
    assert await refused(client.patch(Service, namespace, "none", {})) == (404, "NotFound")
    assert await refused(client.delete(Service, namespace, "none")) == (404, "NotFound")
    assert await refused(client.create(service_of("no-such-namespace", "a"))) == (404, "NotFound")
    assert await refused(client.raw("GET", "/api/v1/gadgets")) == (404, "NotFound")


async def test_what_is_wrong_is_refused(client: Client, namespace: str) -> None:
    assert await refused(client.create(slice_of(namespace, "Not_A_Name"))) == (422, "Invalid")
    assert await refused(client.create(service_of(namespace, "a", ports=[ServicePort(port=70000)]))) == (
        422,
        "Invalid",
    )
    path = f"/api/v1/namespaces/{namespace}/services"
    wrong_type = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": "http"}}
    assert await refused(client.raw("POST", path, body=wrong_type)) == (400, "BadRequest")
    other_kind = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    assert await refused(client.raw("POST", path, body=other_kind)) == (400, "BadRequest")
    elsewhere = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"}}
    assert await refused(client.raw("POST", path, body=elsewhere)) == (400, "BadRequest")


async def test_an_unknown_identity_is_refused(client: Client) -> None:
    stranger = msgspec.structs.replace(client.config, token="wrong", client_certificate=None, client_key=None)
    async with Client(stranger) as other:
        assert await refused(other.list(Service)) == (401, "Unauthorized")


# --- resource versions -------------------------------------------------------------------------------------------


async def test_each_change_has_a_new_version_and_no_change_has_none(client: Client, namespace: str) -> None:
    made = await client.create(slice_of(namespace, "a", "203.0.113.1"))
    changed = await client.replace(msgspec.structs.replace(made, endpoints=[Endpoint(addresses=["203.0.113.2"])]))
    assert changed.metadata.resource_version != made.metadata.resource_version
    assert changed.metadata.uid == made.metadata.uid
    assert (await client.replace(changed)).metadata.resource_version == changed.metadata.resource_version
    same = await client.patch(EndpointSlice, namespace, "a", {"metadata": {}})
    assert same.metadata.resource_version == changed.metadata.resource_version


async def test_a_stale_write_is_a_conflict(client: Client, namespace: str) -> None:
    stale = await client.create(slice_of(namespace, "a", "203.0.113.1"))
    await client.patch(EndpointSlice, namespace, "a", {"metadata": {"labels": {"x": "y"}}})
    assert await refused(client.replace(stale)) == (409, "Conflict")
    old = {"metadata": {"resourceVersion": stale.metadata.resource_version, "labels": {"x": "z"}}}
    assert await refused(client.patch(EndpointSlice, namespace, "a", old)) == (409, "Conflict")


async def test_a_write_to_an_object_that_was_made_again_is_refused(client: Client, namespace: str) -> None:
    first = await client.create(slice_of(namespace, "a"))
    await client.delete(EndpointSlice, namespace, "a")
    await client.create(slice_of(namespace, "a"))
    patch = {"metadata": {"uid": first.metadata.uid, "labels": {"x": "z"}}}
    assert await refused(client.patch(EndpointSlice, namespace, "a", patch)) == (422, "Invalid")
    unconditional = msgspec.structs.replace(first.metadata, resource_version=None)
    assert await refused(client.replace(msgspec.structs.replace(first, metadata=unconditional))) == (409, "Conflict")


async def test_a_replacement_without_version_is_unconditional(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a", "203.0.113.1"))
    written = await client.replace(slice_of(namespace, "a", "203.0.113.2"))
    assert written.endpoints
    assert written.endpoints[0].addresses == ["203.0.113.2"]


# --- deletion ----------------------------------------------------------------------------------------------------


async def test_delete_holds_to_its_preconditions(client: Client, namespace: str) -> None:
    made = await client.create(slice_of(namespace, "a"))
    changed = await client.patch(EndpointSlice, namespace, "a", {"metadata": {"labels": {"x": "y"}}})
    old = made.metadata.resource_version
    assert await refused(client.delete(EndpointSlice, namespace, "a", uid="other")) == (409, "Conflict")
    assert await refused(client.delete(EndpointSlice, namespace, "a", resource_version=old)) == (409, "Conflict")
    await client.delete(
        EndpointSlice, namespace, "a", uid=changed.metadata.uid, resource_version=changed.metadata.resource_version
    )
    assert await refused(client.get(EndpointSlice, namespace, "a")) == (404, "NotFound")


async def test_finalizers_hold_an_object_until_they_are_gone(client: Client, namespace: str) -> None:
    made = await client.create(slice_of(namespace, "a", finalizers=["moorage.dev/test"]))
    watch = Watch(client, namespace, made.metadata.resource_version or "")
    async with aclosing(watch.items):
        await client.delete(EndpointSlice, namespace, "a")
        assert await watch.next() == ("MODIFIED", "a")
        held = await client.get(EndpointSlice, namespace, "a")
        assert held.metadata.deletion_timestamp
        assert held.metadata.resource_version != made.metadata.resource_version
        assert await refused(client.create(slice_of(namespace, "a"))) == (409, "AlreadyExists")
        await client.patch(EndpointSlice, namespace, "a", {"metadata": {"finalizers": None}})
        assert await watch.next() == ("DELETED", "a")
    assert await refused(client.get(EndpointSlice, namespace, "a")) == (404, "NotFound")


async def test_no_finalizer_can_be_added_to_what_is_being_deleted(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a", finalizers=["moorage.dev/test"]))
    await client.delete(EndpointSlice, namespace, "a")
    more = {"metadata": {"finalizers": ["moorage.dev/test", "moorage.dev/more"]}}
    assert await refused(client.patch(EndpointSlice, namespace, "a", more)) == (422, "Invalid")
    await client.patch(EndpointSlice, namespace, "a", {"metadata": {"finalizers": []}})


# --- lists and watches -------------------------------------------------------------------------------------------


async def test_a_list_is_of_its_namespace_and_pages_are_joined(client: Client, namespace: str) -> None:
    for number in range(5):
        await client.create(slice_of(namespace, f"s{number}"))
    async with Client(client.config, guard=Guard(page=2)) as by_twos:
        listing = await by_twos.list(EndpointSlice, namespace)
        everywhere = await by_twos.list(EndpointSlice)
    assert [obj.metadata.name for obj in listing.items] == ["s0", "s1", "s2", "s3", "s4"]
    assert {(obj.metadata.namespace, obj.metadata.name) for obj in everywhere.items} >= {(namespace, "s0")}
    assert (await client.list(Pod, namespace)).items == []


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=a", ["one"]),
        ("app!=a", ["none", "two"]),
        ("app in (a, b)", ["one", "two"]),
        ("app notin (b),app", ["one"]),
        ("!app", ["none"]),
        ("app=a,tier=x", ["one"]),
        ("app=c", []),
    ],
)
async def test_label_selectors(client: Client, namespace: str, selector: str, names: list[str]) -> None:
    await client.create(slice_of(namespace, "one", labels={"app": "a", "tier": "x"}))
    await client.create(slice_of(namespace, "two", labels={"app": "b"}))
    await client.create(slice_of(namespace, "none"))
    listing = await client.list(EndpointSlice, namespace, label_selector=selector)
    assert [obj.metadata.name for obj in listing.items] == names


async def test_selectors_that_make_no_sense_are_refused(client: Client, namespace: str) -> None:
    assert await refused(client.list(EndpointSlice, namespace, label_selector="a in")) == (400, "BadRequest")
    assert await refused(client.list(EndpointSlice, namespace, field_selector="spec.no=1")) == (400, "BadRequest")


async def test_field_selectors_by_name(client: Client, namespace: str) -> None:
    for name in ("a", "b"):
        await client.create(slice_of(namespace, name))
    listing = await client.list(EndpointSlice, namespace, field_selector="metadata.name=b")
    assert [obj.metadata.name for obj in listing.items] == ["b"]


async def test_a_watch_continues_a_list(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "before"))
    listing = await client.list(EndpointSlice, namespace)
    made = await client.create(slice_of(namespace, "a"))
    watch = Watch(client, namespace, listing.resource_version)
    async with aclosing(watch.items):
        assert await watch.next() == ("ADDED", "a")
        assert watch.last == made
        changed = await client.patch(EndpointSlice, namespace, "a", {"metadata": {"labels": {"x": "y"}}})
        assert await watch.next() == ("MODIFIED", "a")
        assert watch.last == changed
        await client.delete(EndpointSlice, namespace, "a")
        assert await watch.next() == ("DELETED", "a")
        assert watch.last.metadata.resource_version != changed.metadata.resource_version
        await client.create(slice_of(namespace, "b"))
        assert await watch.next() == ("ADDED", "b")


async def test_a_watch_goes_on_from_any_version_it_has_given(client: Client, namespace: str) -> None:
    first = await client.create(slice_of(namespace, "a"))
    for name in ("b", "c"):
        await client.create(slice_of(namespace, name))
    await client.delete(EndpointSlice, namespace, "b")
    watch = Watch(client, namespace, first.metadata.resource_version or "")
    async with aclosing(watch.items):
        assert [await watch.next() for _ in range(3)] == [("ADDED", "b"), ("ADDED", "c"), ("DELETED", "b")]


async def test_a_watch_with_a_selector_sees_objects_come_and_go(client: Client, namespace: str) -> None:
    listing = await client.list(EndpointSlice, namespace, label_selector="app=a")
    watch = Watch(client, namespace, listing.resource_version, label_selector="app=a")
    async with aclosing(watch.items):
        await client.create(slice_of(namespace, "other"))
        await client.create(slice_of(namespace, "one"))
        await client.patch(EndpointSlice, namespace, "one", {"metadata": {"labels": {"app": "a"}}})
        assert await watch.next() == ("ADDED", "one")
        await client.patch(EndpointSlice, namespace, "one", {"metadata": {"labels": {"more": "b"}}})
        assert await watch.next() == ("MODIFIED", "one")
        left = await client.patch(EndpointSlice, namespace, "one", {"metadata": {"labels": {"app": "b"}}})
        assert await watch.next() == ("DELETED", "one")
        assert watch.last.metadata.resource_version == left.metadata.resource_version


async def test_a_watch_of_a_version_that_is_none_is_refused(client: Client, namespace: str) -> None:
    watch = Watch(client, namespace, "yesterday")
    with pytest.raises(ApiError) as caught:
        await watch.next()
    assert caught.value.status in (400, 500), "kube-apiserver says 500"


async def test_a_reflector_keeps_up(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "before"))
    changed = asyncio.Event()
    reflector = Reflector(client, EndpointSlice, namespace, on_change=lambda change: changed.set())
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(SOON_SECONDS):
            await reflector.synced.wait()
            assert list(reflector.store) == [(namespace, "before")]
            await client.create(slice_of(namespace, "a"))
            await client.delete(EndpointSlice, namespace, "before")
            while list(reflector.store) != [(namespace, "a")]:
                changed.clear()
                await changed.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- patches -----------------------------------------------------------------------------------------------------


async def test_a_merge_patch_sets_and_removes(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a", "203.0.113.1", labels={"x": "1", "y": "2"}))
    body = {"metadata": {"labels": {"x": None, "z": "3"}}, "endpoints": [{"addresses": ["203.0.113.9"]}]}
    patched = await client.patch(EndpointSlice, namespace, "a", body)
    assert patched.metadata.labels == {"y": "2", "z": "3"}
    assert patched.endpoints
    assert [endpoint.addresses for endpoint in patched.endpoints] == [["203.0.113.9"]]


async def test_a_json_patch_is_done_whole_or_not_at_all(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a", "203.0.113.1", "203.0.113.2"))
    body: list[dict[str, Any]] = [{"op": "remove", "path": "/endpoints/0"}]
    patched = await client.patch(EndpointSlice, namespace, "a", body, content_type=JSON_PATCH)
    assert patched.endpoints
    assert [endpoint.addresses for endpoint in patched.endpoints] == [["203.0.113.2"]]
    body.append({"op": "test", "path": "/addressType", "value": "IPv6"})
    refusal = await refused(client.patch(EndpointSlice, namespace, "a", body, content_type=JSON_PATCH))
    assert refusal == (422, "Invalid")
    assert (await client.get(EndpointSlice, namespace, "a")) == patched


async def test_a_strategic_merge_patch_merges_ports_by_their_number(client: Client, namespace: str) -> None:
    ports = [ServicePort(name="http", port=80), ServicePort(name="metrics", port=9090)]
    await client.create(service_of(namespace, "a", ports=ports))
    body = {"spec": {"ports": [{"port": 9090, "targetPort": 1}]}}
    patched = await client.patch(Service, namespace, "a", body, content_type=STRATEGIC_MERGE_PATCH)
    got = [(port.name, port.port, port.target_port) for port in patched.spec.ports or []]
    assert sorted(got, key=str) == [("http", 80, 80), ("metrics", 9090, 1)]


async def test_other_content_types_are_refused(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a"))
    call = client.patch(EndpointSlice, namespace, "a", {}, content_type="application/json")
    assert await refused(call) == (415, "UnsupportedMediaType")


async def test_a_patch_that_is_none_is_refused(client: Client, namespace: str) -> None:
    await client.create(slice_of(namespace, "a"))
    assert (await refused(client.patch(EndpointSlice, namespace, "a", [1], content_type=JSON_PATCH)))[0] == 400
    assert (await refused(client.patch(EndpointSlice, namespace, "a", "x")))[0] == 400


# --- server-side apply -------------------------------------------------------------------------------------------


def applied(namespace: str, *ports: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"ports": [{"name": f"p{port}", "port": port} for port in ports], **spec},
    }


async def test_apply_creates_and_takes_back_what_it_no_longer_says(client: Client, namespace: str) -> None:
    first = await client.apply(applied(namespace, 80, 90, sessionAffinity="ClientIP"), field_manager="one")
    assert [port["port"] for port in first["spec"]["ports"]] == [80, 90]
    again = await client.apply(applied(namespace, 80, 90, sessionAffinity="ClientIP"), field_manager="one")
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    less = await client.apply(applied(namespace, 90), field_manager="one")
    assert [port["port"] for port in less["spec"]["ports"]] == [90]
    assert less["spec"]["sessionAffinity"] == "None"
    assert less["spec"]["clusterIP"] == first["spec"]["clusterIP"]


async def test_apply_conflicts_over_fields_of_another_manager_until_forced(client: Client, namespace: str) -> None:
    await client.apply(applied(namespace, 80, sessionAffinity="ClientIP"), field_manager="one")
    with pytest.raises(ApiError) as caught:
        await client.apply(applied(namespace, 80, sessionAffinity="None"), field_manager="two")
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert '"one"' in caught.value.message
    assert ".spec.sessionAffinity" in caught.value.message
    # The same value is shared, not fought over.
    await client.apply(applied(namespace, 80, sessionAffinity="ClientIP"), field_manager="two")
    forced = await client.apply(applied(namespace, 80, sessionAffinity="None"), field_manager="two", force=True)
    assert forced["spec"]["sessionAffinity"] == "None"


async def test_apply_leaves_what_others_have_added(client: Client, namespace: str) -> None:
    await client.apply(applied(namespace, 80), field_manager="one")
    await client.patch(Service, namespace, "a", {"metadata": {"annotations": {"x": "y"}}}, field_manager="two")
    got = await client.apply(applied(namespace, 90), field_manager="one")
    assert got["metadata"]["annotations"] == {"x": "y"}


# --- status, scale -----------------------------------------------------------------------------------------------


async def test_status_and_spec_are_written_apart(client: Client, namespace: str) -> None:
    await client.create(service_of(namespace, "a", type="LoadBalancer"))
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
    body = {"status": status, "spec": {"sessionAffinity": "ClientIP"}}
    patched = await client.patch(Service, namespace, "a", body, subresource="status")
    assert patched.status.load_balancer
    assert patched.status.load_balancer.ingress
    assert patched.status.load_balancer.ingress[0].ip == "203.0.113.7"
    assert patched.spec.session_affinity == "None"
    body = {"status": {"loadBalancer": None}, "spec": {"sessionAffinity": "ClientIP"}}
    patched = await client.patch(Service, namespace, "a", body)
    assert patched.spec.session_affinity == "ClientIP"
    assert patched.status.load_balancer
    assert patched.status.load_balancer.ingress


async def test_generation_counts_changes_of_the_spec(client: Client, namespace: str) -> None:
    made = await client.apply(deployment_of(namespace, "d"), field_manager="one")
    assert made["metadata"]["generation"] == 1
    labelled = await client.patch(Deployment, namespace, "d", {"metadata": {"labels": {"x": "y"}}})
    assert labelled.metadata.generation == 1
    status = await client.patch(Deployment, namespace, "d", {"status": {"replicas": 1}}, subresource="status")
    assert (status.metadata.generation, status.status.replicas) == (1, 1)
    changed = await client.patch(Deployment, namespace, "d", {"spec": {"replicas": 2}})
    assert changed.metadata.generation == 2


async def test_scale_reads_and_writes_the_replicas(client: Client, namespace: str) -> None:
    await client.apply(deployment_of(namespace, "d", replicas=2), field_manager="one")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/d/scale"
    scale = await client.raw("GET", path)
    assert (scale["kind"], scale["apiVersion"], scale["spec"]["replicas"]) == ("Scale", "autoscaling/v1", 2)
    assert scale["status"]["selector"] == "app=d"
    await verbs.scale(client, verbs.resolve("deploy"), "d", 5, namespace=namespace)
    got = await client.get(Deployment, namespace, "d")
    assert (got.spec.replicas, got.metadata.generation) == (5, 2)
    scale["metadata"]["resourceVersion"] = got.metadata.resource_version
    scale["spec"]["replicas"] = 1
    await client.raw("PUT", path, body=scale)
    assert (await client.get(Deployment, namespace, "d")).spec.replicas == 1


# --- services ----------------------------------------------------------------------------------------------------


async def test_a_service_gets_an_address_and_defaults(client: Client, namespace: str) -> None:
    made = (await client.create(service_of(namespace, "a"))).spec
    assert made.cluster_ip
    assert made.cluster_ips == [made.cluster_ip]
    assert (made.ip_families, made.ip_family_policy) == (["IPv4"], "SingleStack")
    assert made.ports == [ServicePort(port=80, protocol="TCP", target_port=80)]
    other = (await client.create(service_of(namespace, "b"))).spec
    assert other.cluster_ip != made.cluster_ip


async def test_client_ip_affinity_gets_the_default_time_out(client: Client, namespace: str) -> None:
    made = await client.create(service_of(namespace, "a", session_affinity="ClientIP"))
    config = made.spec.session_affinity_config
    assert config
    assert config.client_ip
    assert config.client_ip.timeout_seconds == 10800


async def test_an_address_is_kept_unique_and_given_back(client: Client, namespace: str) -> None:
    made = await client.create(service_of(namespace, "a"))
    address = made.spec.cluster_ip
    assert await refused(client.create(service_of(namespace, "b", cluster_ip=address))) == (422, "Invalid")
    moved = {"spec": {"clusterIP": "None"}}
    assert await refused(client.patch(Service, namespace, "a", moved)) == (422, "Invalid")
    await client.delete(Service, namespace, "a")
    again = await client.create(service_of(namespace, "b", cluster_ip=address))
    assert again.spec.cluster_ip == address
    headless = await client.create(service_of(namespace, "c", cluster_ip="None"))
    assert headless.spec.cluster_ips == ["None"]


async def test_ports_of_several_need_names_and_must_differ(client: Client, namespace: str) -> None:
    unnamed = [ServicePort(port=80), ServicePort(port=81)]
    assert await refused(client.create(service_of(namespace, "a", ports=unnamed))) == (422, "Invalid")
    same = [ServicePort(name="a", port=80), ServicePort(name="b", port=80)]
    assert await refused(client.create(service_of(namespace, "a", ports=same))) == (422, "Invalid")


async def test_addresses_of_slices_must_be_addresses_of_elsewhere(client: Client, namespace: str) -> None:
    for address in ("example.com", "2001:db8::1", "127.0.0.1", "169.254.169.254"):
        assert await refused(client.create(slice_of(namespace, "a", address))) == (422, "Invalid")


# --- tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "header"),
    [
        ("svc", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        ("deploy", "NAME READY UP-TO-DATE AVAILABLE AGE"),
        ("endpointslices", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
    ],
)
async def test_the_server_prints_columns(client: Client, namespace: str, resource: str, header: str) -> None:
    await client.create(service_of(namespace, "a"))
    await client.create(slice_of(namespace, "a", "203.0.113.1"))
    await client.apply(deployment_of(namespace, "a"), field_manager="one")
    text = await verbs.get(client, verbs.resolve(resource), namespace=namespace)
    assert text.splitlines()[0].split() == header.split()
    assert text.splitlines()[1].split()[0] == "a"
    one = await verbs.get(client, verbs.resolve(resource), "a", namespace=namespace)
    assert one.splitlines()[0].split() == header.split()


async def test_the_verbs_go_the_whole_way(client: Client, namespace: str) -> None:
    manifests = [deployment_of(namespace, "d"), applied(namespace, 80)]
    assert (
        await verbs.apply(client, manifests) == "service/a serverside-applied\ndeployment.apps/d serverside-applied"
    )
    got = await verbs.get(client, verbs.resolve("deployments.apps"), namespace=namespace, output="name")
    assert got == "deployment.apps/d"
    assert await verbs.delete_manifests(client, manifests) == 'deployment.apps "d" deleted\nservice "a" deleted'

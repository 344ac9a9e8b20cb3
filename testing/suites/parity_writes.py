"""What the operator relies on in any API server. The module that runs these tests gives `client`."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest

from moorage.api.contract import WEIGHTS_ANNOTATION
from moorage.api.coordination_v1 import Lease, LeaseSpec
from moorage.api.core_v1 import Event, Node, Secret, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.kinds import kind_of
from moorage.api.meta import Object, ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServicePort, ExternalServiceSpec
from moorage.api.networking_v1 import ServiceCIDR
from moorage.api.sources_v1alpha1 import EndpointSource, StaticAddress
from moorage.cluster.client import ApiError, Client
from moorage.cluster.clock import micro_timestamp
from moorage.cluster.clock import timestamp as now
from moorage.cluster.election import Election, Leadership, Timings
from moorage.cluster.recorder import Recorder
from moorage_lab import verbs
from testing.eventually import eventually
from testing.suites.objects import SOON_SECONDS, refused, service_of, slice_of

Conflict = (409, "Conflict")


def xsvc_of(namespace: str, name: str = "a", *addresses: str) -> ExternalService:
    return ExternalService(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ExternalServiceSpec(
            ports=[ExternalServicePort(port=80)],
            endpoints=[EndpointSource(addresses=[StaticAddress(address=a) for a in addresses or ("203.0.113.1",)])],
        ),
    )


def lease_of(namespace: str, name: str = "a", **spec: Any) -> Lease:
    stamp = micro_timestamp()
    spec = {"holder_identity": "x", "lease_duration_seconds": 15, "acquire_time": stamp, "renew_time": stamp, **spec}
    return Lease(metadata=ObjectMeta(name=name, namespace=namespace), spec=LeaseSpec(**spec))


def secret_of(namespace: str, name: str = "a", **data: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace), string_data=data)


MAKERS: dict[str, Callable[[str], Object]] = {
    "Service": lambda namespace: service_of(namespace, "a"),
    "EndpointSlice": lambda namespace: slice_of(namespace, "a", "203.0.113.1"),
    "ExternalService": xsvc_of,
    "Lease": lease_of,
    "Secret": secret_of,
}
each_kind = pytest.mark.parametrize("kind", MAKERS)


def guarded(obj: Object, **changes: object) -> dict[str, Any]:
    """A merge patch that holds only for `obj` as it was read."""
    metadata = {"uid": obj.metadata.uid, "resourceVersion": obj.metadata.resource_version}
    return {"metadata": {**metadata, **changes}}


# --- preconditions -----------------------------------------------------------------------------------------------


@each_kind
async def test_a_patch_changes_only_what_was_read(client: Client, namespace: str, kind: str) -> None:
    made: Object = await client.create(MAKERS[kind](namespace))
    of = type(made)
    first = await client.patch(of, namespace, "a", guarded(made, labels={"x": "1"}))
    assert first.metadata.labels == {"x": "1"}
    stale = guarded(made, labels={"x": "2"})
    assert await refused(client.patch(of, namespace, "a", stale)) == Conflict
    # Also where it would change nothing.
    assert await refused(client.patch(of, namespace, "a", guarded(made))) == Conflict
    other = {"metadata": {**guarded(first)["metadata"], "uid": "b5b1b5b1-0000-0000-0000-000000000000"}}
    assert await refused(client.patch(of, namespace, "a", other)) == (422, "Invalid")
    await client.delete(of, namespace, "a")
    again = await client.create(MAKERS[kind](namespace))
    assert again.metadata.uid != made.metadata.uid
    assert (await refused(client.patch(of, namespace, "a", guarded(first, labels={"x": "3"}))))[0] in (409, 422)
    assert (await client.get(of, namespace, "a")).metadata.labels is None


@each_kind
async def test_a_deletion_hits_only_what_was_read(client: Client, namespace: str, kind: str) -> None:
    made: Object = await client.create(MAKERS[kind](namespace))
    of, meta = type(made), made.metadata
    changed = await client.patch(of, namespace, "a", {"metadata": {"labels": {"x": "1"}}})
    for uid, version in (
        ("other", None),
        (meta.uid, meta.resource_version),
        ("other", changed.metadata.resource_version),
    ):
        assert await refused(client.delete(of, namespace, "a", uid=uid, resource_version=version)) == Conflict
    await client.delete(of, namespace, "a", uid=meta.uid, resource_version=changed.metadata.resource_version)
    assert await refused(client.get(of, namespace, "a")) == (404, "NotFound")
    assert await refused(client.delete(of, namespace, "a", uid=meta.uid)) == (404, "NotFound")


async def test_of_writers_that_have_read_the_same_one_wins(client: Client, namespace: str) -> None:
    made = await client.create(slice_of(namespace, "a", "203.0.113.1"))

    async def write(number: int) -> bool:
        with suppress(ApiError):
            await client.patch(EndpointSlice, namespace, "a", guarded(made, labels={"writer": f"w{number}"}))
            return True
        return False

    won = await asyncio.gather(*(write(number) for number in range(10)))
    assert sum(won) == 1
    got = await client.get(EndpointSlice, namespace, "a")
    assert got.metadata.labels == {"writer": f"w{won.index(True)}"}


async def test_of_creators_of_one_name_one_wins(client: Client, namespace: str) -> None:
    results = await asyncio.gather(
        *(client.create(slice_of(namespace, "a", f"203.0.113.{number}")) for number in range(1, 9)),
        return_exceptions=True,
    )
    refusals = [result for result in results if isinstance(result, ApiError)]
    assert len(refusals) == len(results) - 1
    assert {(refusal.status, refusal.reason) for refusal in refusals} == {(409, "AlreadyExists")}


# --- the status of an ExternalService ----------------------------------------------------------------------------


def condition(status: str) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": "R", "message": "m", "lastTransitionTime": now()}


async def test_status_is_written_apart_from_the_spec(client: Client, namespace: str) -> None:
    made = await client.create(xsvc_of(namespace))
    assert made.metadata.generation == 1
    endpoint = {
        "name": "b1",
        "address": "203.0.113.1",
        "source": "addresses",
        "health": "Healthy",
        "ready": True,
    }
    status = {"observedGeneration": 1, "conditions": [condition("True")], "endpoints": [endpoint]}
    body = {**guarded(made), "status": status, "spec": {"suspend": True}}
    written = await client.patch(ExternalService, namespace, "a", body, subresource="status")
    assert written.status.endpoints
    assert written.status.endpoints[0].health == "Healthy"
    assert written.metadata.generation == 1
    assert not written.spec.suspend
    # A spec goes its own way, too.
    body = {**guarded(written), "status": {"conditions": None}, "spec": {"suspend": True}}
    changed = await client.patch(ExternalService, namespace, "a", body)
    assert changed.spec.suspend
    assert changed.metadata.generation == 2
    assert changed.status == written.status
    assert await refused(
        client.patch(ExternalService, namespace, "a", {**guarded(written), "status": {}}, subresource="status")
    ) == (409, "Conflict")
    # A list is replaced as a whole, null removes.
    body = {"status": {"endpoints": [], "observedGeneration": None}}
    less = await client.patch(ExternalService, namespace, "a", body, subresource="status")
    assert not less.status.endpoints
    assert less.status.observed_generation is None
    assert less.status.conditions == written.status.conditions


async def test_the_same_status_again_is_no_change(client: Client, namespace: str) -> None:
    await client.create(xsvc_of(namespace))
    body = {"status": {"observedGeneration": 1, "conditions": [condition("True")]}}
    first = await client.patch(ExternalService, namespace, "a", body, subresource="status")
    again = await client.patch(ExternalService, namespace, "a", body, subresource="status")
    assert again.metadata.resource_version == first.metadata.resource_version


async def test_a_new_object_has_no_status_whatever_it_says(client: Client, namespace: str) -> None:
    path = kind_of(ExternalService).path(namespace)
    body = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "ExternalService",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 80}]},
        "status": {"healthy": "9/9"},
    }
    made = await client.raw("POST", path, body=body)
    assert not (made.get("status") or {}).get("healthy")


async def test_finalizers_hold_an_external_service_and_its_status_can_still_be_written(
    client: Client, namespace: str
) -> None:
    made = await client.create(xsvc_of(namespace))
    held = await client.patch(ExternalService, namespace, "a", guarded(made, finalizers=["moorage.dev/test"]))
    await client.delete(ExternalService, namespace, "a")
    gone = await client.get(ExternalService, namespace, "a")
    assert gone.metadata.deletion_timestamp
    assert gone.metadata.uid == held.metadata.uid
    body = {**guarded(gone), "status": {"conditions": [condition("False")]}}
    await client.patch(ExternalService, namespace, "a", body, subresource="status")
    await client.patch(ExternalService, namespace, "a", {"metadata": {"finalizers": None}})
    assert await refused(client.get(ExternalService, namespace, "a")) == (404, "NotFound")


# --- what the operator writes ------------------------------------------------------------------------------------


async def test_a_service_without_selector_keeps_its_address_through_every_change(
    client: Client, namespace: str
) -> None:
    made = await client.create(service_of(namespace, "a"))
    address = made.spec.cluster_ip
    for spec in (
        {"ports": [{"name": "x", "port": 81, "targetPort": 8081}]},
        {"ports": [{"name": "x", "port": 81, "protocol": "UDP"}, {"name": "y", "port": 81}]},
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}},
        {"sessionAffinity": "None", "sessionAffinityConfig": None},
    ):
        made = await client.patch(Service, namespace, "a", {**guarded(made), "spec": spec})
        assert made.spec.cluster_ip == address
    assert made.spec.session_affinity == "None"
    assert made.spec.session_affinity_config is None
    assert made.spec.selector is None


async def test_a_slice_has_all_that_was_written(client: Client, namespace: str) -> None:
    owner = await client.create(xsvc_of(namespace))
    reference = OwnerReference(
        api_version="moorage.dev/v1alpha1",
        kind="ExternalService",
        name="a",
        uid=owner.metadata.uid or "",
        controller=True,
        block_owner_deletion=True,
    )
    labels = {"kubernetes.io/service-name": "a", "endpointslice.kubernetes.io/managed-by": "moorage.dev"}
    annotations = {WEIGHTS_ANNOTATION: '{"b1":2}'}
    made = await client.create(
        slice_of(namespace, "a-1", labels=labels, annotations=annotations, owner_references=[reference])
    )
    assert made.metadata.owner_references == [reference]
    ready = {"ready": True, "serving": True, "terminating": False}
    endpoints = [
        {"addresses": ["203.0.113.1"], "hostname": "b1", "conditions": ready},
        {"addresses": ["203.0.113.2"], "hostname": "b2", "conditions": {**ready, "ready": False}},
    ]
    body = {**guarded(made), "endpoints": endpoints, "ports": [{"name": "", "port": 80, "protocol": "TCP"}]}
    written = await client.patch(EndpointSlice, namespace, "a-1", body)
    assert written.metadata.labels == labels
    assert [(one.hostname, one.conditions and one.conditions.ready) for one in written.endpoints or []] == [
        ("b1", True),
        ("b2", False),
    ]
    # The same again is no change, and so wakes nobody.
    again = await client.patch(EndpointSlice, namespace, "a-1", {**body, **guarded(written)})
    assert again.metadata.resource_version == written.metadata.resource_version
    assert await refused(
        client.patch(EndpointSlice, namespace, "a-1", {**guarded(again), "addressType": "IPv6"})
    ) == (422, "Invalid")


async def test_secrets_hold_base64_and_can_be_watched_by_name(client: Client, namespace: str) -> None:
    await client.create(secret_of(namespace, "other", kubeconfig="x"))
    made = await client.create(secret_of(namespace, "a", kubeconfig="apiVersion: v1\n"))
    assert made.data == {"kubeconfig": base64.b64encode(b"apiVersion: v1\n").decode()}
    listing = await client.list(Secret, namespace, field_selector="metadata.name=a")
    assert [one.metadata.name for one in listing.items] == ["a"]
    watch = client.watch(
        Secret,
        namespace,
        resource_version=listing.resource_version,
        field_selector="metadata.name=a",
        idle_timeout=SOON_SECONDS,
    )
    async with aclosing(watch), asyncio.timeout(SOON_SECONDS):
        await anext(watch)
        await client.patch(Secret, namespace, "other", {"stringData": {"kubeconfig": "z"}})
        await client.patch(Secret, namespace, "a", {"stringData": {"kubeconfig": "y"}})
        event = await anext(watch)
        assert getattr(event, "type", None) == "MODIFIED"
        assert event.object.data == {"kubeconfig": base64.b64encode(b"y").decode()}  # type: ignore[union-attr]
    wrong = {"data": {"kubeconfig": "not base64!"}}
    assert (await refused(client.patch(Secret, namespace, "a", wrong)))[0] in (400, 422)


async def test_what_the_gate_reads_is_there(client: Client) -> None:
    ranges = [cidr for one in (await client.list(ServiceCIDR)).items for cidr in one.spec.cidrs or []]
    assert ranges
    assert all("/" in cidr for cidr in ranges)
    assert (await client.list(Node)).resource_version


# --- leases ------------------------------------------------------------------------------------------------------


async def test_a_lease_keeps_its_microseconds_and_its_limits(client: Client, namespace: str) -> None:
    stamp = "2027-01-01T00:00:00.123456Z"
    made = await client.create(lease_of(namespace, acquire_time=stamp, renew_time=stamp, lease_transitions=3))
    assert (made.spec.acquire_time, made.spec.renew_time) == (stamp, stamp)
    assert made.spec.lease_transitions == 3
    for wrong in ({"leaseDurationSeconds": 0}, {"leaseDurationSeconds": -1}, {"leaseTransitions": -1}):
        assert await refused(client.patch(Lease, namespace, "a", {"spec": wrong})) == (422, "Invalid")
    mistyped = {"spec": {"leaseDurationSeconds": "15"}}
    assert (await refused(client.patch(Lease, namespace, "a", mistyped)))[0] in (400, 422)
    released = {**guarded(made), "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}
    assert (await client.patch(Lease, namespace, "a", released)).spec.holder_identity == ""


async def test_candidates_take_turns(client: Client, namespace: str) -> None:
    leads: asyncio.Queue[str] = asyncio.Queue()

    def candidate(name: str) -> asyncio.Task[None]:
        async def lead(leadership: Leadership) -> None:
            leadership.check()
            leads.put_nowait(name)
            await asyncio.Event().wait()

        election = Election(client, namespace, "operator", name, timings=Timings(15, 10, 1))
        return asyncio.create_task(election.run(lead))

    tasks = {name: candidate(name) for name in ("a", "b")}
    try:
        async with asyncio.timeout(SOON_SECONDS):
            first = await leads.get()
        lease = await client.get(Lease, namespace, "operator")
        assert (lease.spec.holder_identity, lease.spec.lease_transitions) == (first, 0)
        tasks[first].cancel()
        await asyncio.wait({tasks[first]})
        async with asyncio.timeout(SOON_SECONDS):
            second = await leads.get()
        assert {first, second} == {"a", "b"}
        lease = await client.get(Lease, namespace, "operator")
        assert (lease.spec.holder_identity, lease.spec.lease_transitions) == (second, 1)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
    assert (await client.get(Lease, namespace, "operator")).spec.holder_identity == ""


# --- events ------------------------------------------------------------------------------------------------------


async def test_events_are_written_and_counted(client: Client, namespace: str) -> None:
    about = await client.create(xsvc_of(namespace))
    recorder = Recorder(client, "parity")
    task = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.record(about, "Warning", "EndpointUnhealthy", "endpoint b1: connection refused")

    async def counted() -> bool:
        return [event.count for event in (await client.list(Event, namespace)).items] == [3]

    await eventually(counted, SOON_SECONDS)
    task.cancel()
    selector = f"involvedObject.uid={about.metadata.uid}"
    [event] = (await client.list(Event, namespace, field_selector=selector)).items
    assert event.involved_object.kind == "ExternalService"


# --- what the CustomResourceDefinition says ----------------------------------------------------------------------


async def test_defaults_of_an_external_service_are_filled_in(client: Client, namespace: str) -> None:
    made = await client.raw(
        "POST",
        kind_of(ExternalService).path(namespace),
        body={
            "apiVersion": "moorage.dev/v1alpha1",
            "kind": "ExternalService",
            "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 80}], "healthCheck": {"tcp": {}}},
        },
    )
    spec = made["spec"]
    assert (spec["proxy"], spec["sessionAffinity"]) == ("kube-proxy", "None")
    assert spec["ports"] == [{"port": 80}], "there are no defaults inside lists"
    assert (spec["healthCheck"]["intervalSeconds"], spec["healthCheck"]["fall"]) == (2, 3)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"ports": []},
        {"ports": [{"port": 0}]},
        {"ports": [{"port": "http"}]},
        {"ports": [{"port": 80}], "proxy": "envoy"},
        {"ports": [{"port": 80}], "sessionAffinity": "Mooring"},
        {"ports": [{"port": 80}], "endpoints": [{}]},
        {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": "backend"}]}]},
        {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": "203.0.113.1"}], "dns": {"name": "a.b"}}]},
        {"ports": [{"port": 80}], "healthCheck": {"tcp": {}, "http": {}}},
        {"ports": [{"port": 80}], "healthCheck": {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 5}},
    ],
)
async def test_an_external_service_that_makes_no_sense_is_refused(
    client: Client, namespace: str, spec: dict[str, Any]
) -> None:
    body = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "ExternalService",
        "metadata": {"name": "a"},
        "spec": spec,
    }
    assert await refused(client.raw("POST", kind_of(ExternalService).path(namespace), body=body)) == (422, "Invalid")


async def test_the_server_prints_the_columns_of_an_external_service(client: Client, namespace: str) -> None:
    await client.create(xsvc_of(namespace))
    body = {"status": {"healthy": "1/2", "conditions": [condition("False")]}}
    await client.patch(ExternalService, namespace, "a", body, subresource="status")
    header, row = (await verbs.get(client, verbs.resolve("xsvc"), namespace=namespace)).splitlines()
    assert row.split()[0] == "a"
    assert "1/2" in row
    assert header.split() == ["NAME", "HEALTHY", "READY", "REASON", "SPEC", "SOURCES", "CHECKS", "FAILING", "AGE"]

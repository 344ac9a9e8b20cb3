"""A term of leadership under faults: conflicts, refusals, a server that fails, a leader that is none any more."""

import asyncio
import gc
import threading
import weakref

import pytest
from structlog.testing import capture_logs

from moorage.api.core_v1 import (
    Container,
    Node,
    NodeAddress,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    Service,
    ServicePort,
    ServiceSpec,
)
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import JSON_PATCH
from moorage.core.admission import POD
from moorage.core.health import Outcome
from moorage.core.model import Found, Problem
from moorage.operator.config import Admission, Configuration
from moorage.operator.term import Term
from testing.eventually import eventually
from tests.support.operators import KEY, Operator, xsvc

ONE, TWO, THREE = "203.0.113.1", "203.0.113.2", "203.0.113.3"


async def test_somebody_who_writes_the_same_objects_all_the_time_is_outlasted(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        for number in range(30):
            [slice_] = await op.slices()
            patch = {"metadata": {"annotations": {"example.com/number": str(number)}}}
            await op.client.patch(EndpointSlice, "default", slice_.metadata.name, patch)
            await op.apply(xsvc("backend", ONE, f"203.0.113.{100 + number}"))
        await op.publishes({ONE: True, "203.0.113.129": True})
        await op.rests()
        [slice_] = await op.slices()
        assert (slice_.metadata.annotations or {})["example.com/number"] == "29"


async def test_nothing_is_written_any_more_once_the_lead_is_lost(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        await op.rests()
        op.leading.leave_after(0)
        before = op.server.store.version
        await op.client.delete(Service, "default", "backend")
        op.down.add(ONE)
        op.prober.check(times=3)

        async def was_refused() -> bool:
            return op.leading.refused > 0

        await eventually(was_refused)
        assert op.server.store.version == before + 1


@pytest.mark.parametrize("writes", range(3))
async def test_a_leader_that_is_lost_after_any_write_leaves_what_the_next_one_finishes(
    op: Operator, writes: int
) -> None:
    async with op.running():
        op.leading.leave_after(writes)
        await op.apply(xsvc("backend", ONE, TWO))

        async def was_refused() -> bool:
            return op.leading.refused > 0

        await eventually(was_refused)
    async with op.running():
        await op.publishes({ONE: True, TWO: True})
        assert (await op.says("Ready", "Ready")).status == "True"
        await op.rests()
        assert len(await op.slices()) == 1


async def test_a_server_that_fails_for_a_while_is_asked_again(op: Operator) -> None:
    async with op.running():
        op.server.faults.fail(3, code=500, method="POST", path="/services")
        op.server.faults.fail(2, code=500, method="PATCH", path="backend/status")
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        assert (await op.says("Ready", "Ready")).status == "True"


async def test_watches_that_break_and_versions_that_expire_lose_nothing(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        op.server.store.compact()
        op.server.faults.drop_watches()
        await op.apply(xsvc("backend", TWO))
        await op.publishes({TWO: True})


async def test_what_the_server_refuses_is_said_in_the_status_with_its_words(op: Operator) -> None:
    async with op.running():
        op.server.faults.fail(2, code=422, method="POST", path="/services")
        await op.apply(xsvc("backend", ONE))
        found = await op.says("Ready", "WriteRefused")
        assert found.message.startswith("Service default/backend could not be written: ")
        assert found.status == "False"
        await op.publishes({ONE: True})
        await op.says("Ready", "Ready")


async def test_ranges_of_the_cluster_are_refused_as_they_become_known(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO, THREE))
        await op.publishes({ONE: True, TWO: True, THREE: True})
        gates = op.sources.gates
        await op.client.create(Node(metadata=ObjectMeta(name="node-1"), spec=NodeSpec(pod_cidrs=["203.0.113.2/32"])))
        await op.publishes({ONE: True, THREE: True})
        assert op.sources.gates == gates + 1, "sources connect to no address that is refused"
        spec = PodSpec(containers=[Container(name="main", image="moorage")])
        await op.client.create(Pod(metadata=ObjectMeta(name="pod", namespace="default"), spec=spec))
        running = {"status": {"phase": "Running", "podIP": THREE}}
        await op.client.patch(Pod, "default", "pod", running, subresource="status")
        await op.publishes({ONE: True})
        said = (await op.says("Accepted", "AddressRefused")).message
        assert "203.0.113.3 is the address of a pod of this cluster; endpoints must be outside" in said
        assert THREE in op.sources.moved
        assert not {ONE, TWO} & op.sources.moved
        await op.client.delete(Pod, "default", "pod")
        await op.publishes({ONE: True, THREE: True})


async def test_a_services_own_addresses_are_refused_from_when_it_has_them(op: Operator) -> None:
    async with op.running():
        spec = ServiceSpec(type="LoadBalancer", ports=[ServicePort(port=80)], external_ips=[TWO])
        await op.client.create(Service(metadata=ObjectMeta(name="front", namespace="default"), spec=spec))
        await op.rests()
        await op.apply(xsvc("backend", ONE, TWO, THREE))
        await op.publishes({ONE: True, THREE: True})
        ingress = [{"ip": THREE}, {"hostname": "front.example.com"}]
        body = {"status": {"loadBalancer": {"ingress": ingress}}}
        await op.client.patch(Service, "default", "front", body, subresource="status")
        await op.publishes({ONE: True})

        async def told() -> bool:
            said = (await op.says("Accepted", "AddressRefused")).message
            return all(
                each in said
                for each in (
                    f"{TWO} is an external IP of a Service of this cluster;",
                    f"{THREE} is a load-balancer address of this cluster;",
                )
            )

        await eventually(told)
        await op.client.delete(Service, "default", "front")
        await op.publishes({ONE: True, TWO: True, THREE: True})


async def test_the_api_servers_are_no_endpoints(op: Operator) -> None:
    servers = {"addressType": "IPv4", "endpoints": [{"addresses": [each]} for each in ("192.0.2.9", TWO)]}
    meta = {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    kind = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "ports": [{"port": 6443}]}
    await op.apply({**kind, **servers, "metadata": {**meta, "namespace": "default"}})
    elsewhere = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    others = {"addressType": "IPv4", "endpoints": [{"addresses": [ONE]}]}
    await op.apply(elsewhere, {**kind, **others, "metadata": {**meta, "namespace": "shop"}})
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True})
        said = (await op.says("Accepted", "AddressRefused")).message
        assert f"{TWO} is an address of this cluster's API server;" in said


async def test_whose_a_refused_address_is_stands_in_the_operators_log_once(op: Operator) -> None:
    spec = PodSpec(containers=[Container(name="main", image="moorage")])
    await op.client.create(Pod(metadata=ObjectMeta(name="secret", namespace="default"), spec=spec))
    await op.client.patch(Pod, "default", "secret", {"status": {"podIP": TWO}}, subresource="status")
    async with op.running():
        with capture_logs() as logs:
            await op.apply(xsvc("backend", ONE, TWO, "64:ff9b::cb00:7102"))
            await op.publishes({ONE: True})
            assert "secret" not in (await op.says("Accepted", "AddressRefused")).message
            await op.rests()
            op.down.add(ONE)
            op.prober.check(times=2)
            await op.says("Healthy", "Panic")
    pod = f"{POD}: default/secret"
    named = [each["addresses"] for each in logs if each["event"] == "addresses of this cluster are no endpoints"]
    assert named == [{TWO: pod, "64:ff9b::cb00:7102": pod}]


async def test_a_nodes_heartbeat_makes_nobody_look_again(op: Operator) -> None:
    status = NodeStatus(addresses=[NodeAddress(type="InternalIP", address="192.0.2.1")])
    await op.client.create(Node(metadata=ObjectMeta(name="node-1")))
    await op.client.replace(Node(metadata=ObjectMeta(name="node-1"), status=status), "status")
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        await op.rests()
        looked = reconciles(op)
        for number in range(5):
            beat = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": str(number)}]}}
            await op.client.patch(Node, None, "node-1", beat, subresource="status")
        await op.rests()
        assert reconciles(op) == looked


def reconciles(op: Operator) -> float:
    [metric] = op.metrics.reconciles.collect()
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


async def test_what_the_configuration_allows_is_let_through(op: Operator) -> None:
    op.admission = Admission(allow=("127.0.0.2/32",), refuse=("203.0.113.0/31",))
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({TWO: True})
        assert "which the operator's configuration refuses" in (await op.says("Accepted", "AddressRefused")).message


async def test_an_api_server_without_service_cidrs_is_no_hindrance(op: Operator) -> None:
    op.server.faults.fail(1, code=404, path="/servicecidrs")
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})


@pytest.mark.parametrize(
    ("path", "before"),
    [
        ("/v1alpha1/externalservices", 0),
        ("/api/v1/services", 0),
        ("/v1/endpointslices", 0),
        ("/api/v1/nodes", 0),
        ("/api/v1/pods", 0),
        ("/v1/servicecidrs", 0),
        ("/v1/servicecidrs", 1),  # the first one asks only whether there are any
    ],
)
async def test_nothing_is_decided_before_everything_has_been_read(op: Operator, path: str, before: int) -> None:
    await op.apply(xsvc("backend", ONE, healthCheck=None))
    op.server.faults.slow(before, seconds=0, path=path)
    held = op.server.faults.hold(path=path)
    version = op.server.store.version
    async with op.running() as term:
        async with asyncio.timeout(20):
            await held.arrived.wait()
        await op.has_time()
        assert op.server.store.version == version
        assert not term.synced
        held.release()
        await op.publishes({ONE: True})
        assert term.synced


async def test_after_a_takeover_an_address_of_the_cluster_is_refused_from_the_first_write_on(op: Operator) -> None:
    spec = PodSpec(containers=[Container(name="main", image="moorage")])
    await op.client.create(Pod(metadata=ObjectMeta(name="pod", namespace="default"), spec=spec))
    await op.client.patch(Pod, "default", "pod", {"status": {"podIP": TWO}}, subresource="status")
    await op.apply(xsvc("backend", ONE, TWO, healthCheck=None))
    held = op.server.faults.hold(path="/api/v1/pods")
    seen = set[str]()

    async def only_the_other() -> bool:
        published = await op.published()
        seen.update(published)
        return published == {ONE: True}

    async with op.running():
        async with asyncio.timeout(20):
            await held.arrived.wait()
        for _ in range(20):
            await only_the_other()
        held.release()
        await eventually(only_the_other, every=0.001)
    assert seen == {ONE}


async def test_an_address_that_a_node_gets_after_it_registered_is_refused(op: Operator) -> None:
    await op.client.create(Node(metadata=ObjectMeta(name="node-1")))
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        address = {"status": {"addresses": [{"type": "InternalIP", "address": TWO}]}}
        await op.client.patch(Node, None, "node-1", address, subresource="status")
        await op.publishes({ONE: True})
        await op.client.patch(Node, None, "node-1", {"status": {"addresses": None}}, subresource="status")
        await op.publishes({ONE: True, TWO: True})


async def test_after_a_term_nothing_is_checked_followed_or_decided_any_more(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        assert op.prober.checked
        assert op.sources.followed
    assert not op.prober.checked
    assert not op.sources.followed
    version = op.server.store.version
    await op.client.delete(Service, "default", "backend")
    op.sources.say(KEY, Found("other", TWO))
    op.prober.tell(KEY, "other", Outcome(True, None))
    await op.has_time()
    assert op.server.store.version == version + 1


async def test_a_term_leaves_no_thread_and_no_watch_of_a_secret(op: Operator) -> None:
    before = set(threading.enumerate())

    def of_decisions() -> list[threading.Thread]:
        return [each for each in set(threading.enumerate()) - before if each.name.startswith("decide")]

    many = [{"addresses": [{"address": f"203.0.113.{number}"} for number in range(1, 121)]}]
    check = {"http": {"tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}}}, "intervalSeconds": 2}
    async with op.running():
        await op.apply(xsvc("backend", endpoints=many, healthCheck=check))
        await op.says("Resolved", "SecretMissing")
        assert of_decisions()
        assert op.sources.secrets.count == 1
    assert op.sources.secrets.count == 0

    async def have_ended() -> bool:
        return not of_decisions()

    await eventually(have_ended)


async def test_the_sources_of_all_are_asked_while_the_first_ones_are_worked_on(op: Operator) -> None:
    count = Configuration().workers + 4
    await op.apply(*(xsvc(f"backend-{number}", ONE, healthCheck=None) for number in range(count)))
    held = op.server.faults.hold(count, method="POST", path="/services")
    async with op.running():
        async with asyncio.timeout(20):
            await held.arrived.wait()
        assert len(op.sources.followed) == count
        held.release()
        for number in range(count):
            await op.publishes({ONE: True}, f"backend-{number}")


async def test_what_a_term_begins_with_is_left_out_of_garbage_collections_but_for_what_is_garbage(
    op: Operator,
) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gc.unfreeze()
    gc.disable()
    try:
        garbage = weakref.ref(Cycle())
        async with op.running():
            await op.rests()
        assert garbage() is None
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/services"), ("POST", "/endpointslices"), ("PATCH", "/status")]
)
async def test_a_conflict_that_no_event_follows_is_tried_again(op: Operator, method: str, path: str) -> None:
    op.server.faults.fail(1, code=409, method=method, path=path)
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        await op.says("Ready", "Ready")


async def test_conflicts_in_a_row_are_tried_again_ever_later_and_count_from_the_start_after_a_success(
    op: Operator,
) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        await op.rests()
        with capture_logs() as logs:
            op.server.faults.fail(5, code=409, method="PATCH", path="/endpointslices")
            op.down.add(TWO)
            op.prober.check(times=2)
            await op.publishes({ONE: True, TWO: False})
            await op.rests()
            op.server.faults.fail(1, code=409, method="PATCH", path="/endpointslices")
            op.down.clear()
            op.prober.check(times=2)
            await op.publishes({ONE: True, TWO: True})
    waits = [each["retry_seconds"] for each in logs if each["event"] == "decided from a state that has passed"]
    assert len(waits) == 6
    assert waits[4] > 4 * waits[0], "from 0.05 s on, doubled each time, of which up to half is taken off"
    assert waits[5] <= 0.05


async def test_a_source_that_never_answers_does_not_keep_the_others_waiting_for_ever(op: Operator) -> None:
    silent = {"dns": {"name": "db.example.com"}}
    async with op.running():
        await op.apply(xsvc("backend", endpoints=[silent, {"addresses": [{"address": ONE}]}]))
        await op.publishes({ONE: True})


async def test_a_check_that_is_taken_out_of_the_spec_is_made_no_more(op: Operator) -> None:
    async with op.running():
        op.down.add(TWO)
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: False})
        unchecked = [{"op": "replace", "path": "/spec/healthCheck", "value": None}]
        await op.client.patch(ExternalService, "default", "backend", unchecked, content_type=JSON_PATCH)
        await op.publishes({ONE: True, TWO: True})
        assert not op.prober.checked


async def test_endpoints_that_are_gone_are_counted_no_more(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        op.down.add(ONE)
        op.prober.check(times=2)
        await op.publishes({ONE: False, TWO: True})
        assert 'moorage_endpoints{health="Healthy"} 1.0' in op.metrics.text().decode()
        await op.apply(xsvc("backend", TWO))
        await op.publishes({TWO: True})
        text = op.metrics.text().decode()
        assert 'moorage_endpoints{health="Healthy"} 1.0' in text
        assert 'moorage_endpoints{health="Unhealthy"} 0.0' in text


async def test_that_nothing_is_checked_for_a_while_is_said_and_changes_no_endpoint(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        op.prober.interrupt(Problem("Interrupted", "the operator's process for health checks is started again", "T"))
        said = await op.says("Resolved", "Interrupted")
        assert said.message.startswith("spec.healthCheck: the operator's process for health checks is started again")
        await op.publishes({ONE: True, TWO: True})
        op.prober.interrupt(None)
        await op.says("Resolved", "Resolved")


async def test_metrics_tell_how_things_are(op: Operator) -> None:
    async with op.running():
        op.down.add(ONE)
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: False, TWO: True})
        await op.apply(
            xsvc("other", THREE, healthCheck=None),
            xsvc("silent", endpoints=[{"dns": {"name": "db.example.com"}}], healthCheck=None),
        )
        problem = Problem("LookupFailed", "db.example.com: SERVFAIL", "2027-01-01T00:00:00Z")
        op.sources.say(ObjectKey("default", "silent"), silent=True, problem=problem)
        await op.publishes({THREE: True}, "other")
        await op.says("Resolved", "LookupFailed", "silent")
        await op.rests()
        op.term.queue.add(KEY)
        text = op.metrics.text().decode()
        for line in (
            'moorage_endpoints{health="Healthy"} 1.0',
            'moorage_endpoints{health="Unhealthy"} 1.0',
            'moorage_endpoints{health="Unchecked"} 1.0',
            'moorage_sources{state="current"} 2.0',
            'moorage_sources{state="problem"} 1.0',
            "moorage_external_services 3.0",
            "moorage_queue_depth 1.0",
            "moorage_synced 1.0",
        ):
            assert line in text.splitlines()


async def test_many_at_once_come_out_right(op: Operator) -> None:
    async with op.running() as term:
        await op.apply(*(xsvc(f"backend-{number}", f"203.0.113.{number + 1}") for number in range(40)))

        async def all_ready() -> bool:
            return len(await op.services()) == 40 and isinstance(term, Term) and term.queue.idle

        await eventually(all_ready)
        for number in range(40):
            await op.publishes({f"203.0.113.{number + 1}": True}, f"backend-{number}")

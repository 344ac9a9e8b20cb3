"""A term of leadership under faults: conflicts, refusals, a server that fails, a leader that is none any more."""

from collections.abc import AsyncIterator

import pytest

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
from moorage.api.meta import ObjectMeta
from moorage.operator.config import Admission
from moorage.operator.term import Term
from tests.support.eventually import eventually
from tests.support.operators import Operator, operator, xsvc

ONE, TWO, THREE = "203.0.113.1", "203.0.113.2", "203.0.113.3"


@pytest.fixture
async def op() -> AsyncIterator[Operator]:
    async with operator() as made:
        yield made


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
        await op.client.create(Node(metadata=ObjectMeta(name="node-1"), spec=NodeSpec(pod_cidrs=["203.0.113.2/32"])))
        await op.publishes({ONE: True, THREE: True})
        spec = PodSpec(containers=[Container(name="main", image="moorage")])
        await op.client.create(Pod(metadata=ObjectMeta(name="pod", namespace="default"), spec=spec))
        running = {"status": {"phase": "Running", "podIP": THREE}}
        await op.client.patch(Pod, "default", "pod", running, subresource="status")
        await op.publishes({ONE: True})
        assert (
            "203.0.113.3 is the address of pod default/pod" in (await op.says("Accepted", "AddressRefused")).message
        )
        await op.client.delete(Pod, "default", "pod")
        await op.publishes({ONE: True, THREE: True})


async def test_a_services_cluster_ip_is_refused_from_when_it_has_it(op: Operator) -> None:
    inside = "10.96.0.77"
    async with op.running():
        await op.apply(xsvc("backend", ONE, inside))
        await op.publishes({ONE: True})
        assert f"{inside} is in the service range" in (await op.says("Accepted", "AddressRefused")).message
        spec = ServiceSpec(ports=[ServicePort(port=80)], cluster_ip=inside)
        await op.client.create(Service(metadata=ObjectMeta(name="other", namespace="default"), spec=spec))

        async def told() -> bool:
            said = (await op.says("Accepted", "AddressRefused")).message
            return f"{inside} is the cluster IP of Service default/other of this cluster" in said

        await eventually(told)


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


async def test_nothing_is_decided_before_everything_has_been_read(op: Operator) -> None:
    await op.apply(xsvc("backend", ONE))
    op.server.faults.slow(1, seconds=0.5, path="/pods")
    async with op.running() as term:
        await op.publishes({ONE: True})
        assert term.synced


async def test_metrics_tell_how_things_are(op: Operator) -> None:
    async with op.running():
        op.down.add(ONE)
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: False, TWO: True})
        text = op.metrics.text().decode()
        assert 'moorage_endpoints{health="Healthy"} 1.0' in text
        assert 'moorage_endpoints{health="Unhealthy"} 1.0' in text
        assert 'moorage_sources{state="current"} 1.0' in text
        assert "moorage_external_services 1.0" in text
        assert "moorage_synced 1.0" in text


async def test_many_at_once_come_out_right(op: Operator) -> None:
    async with op.running() as term:
        await op.apply(*(xsvc(f"backend-{number}", f"203.0.113.{number + 1}") for number in range(40)))

        async def all_ready() -> bool:
            return len(await op.services()) == 40 and isinstance(term, Term) and term.queue.idle

        await eventually(all_ready)
        for number in range(40):
            await op.publishes({f"203.0.113.{number + 1}": True}, f"backend-{number}")

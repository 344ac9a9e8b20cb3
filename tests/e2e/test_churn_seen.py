"""What objects of the API come to in a history."""

import pytest
from msgspec.structs import replace

from e2e.churn import history
from e2e.churn.seen import mooring_of, pod_of, slices_of, spec_of
from moorage.api.core_v1 import Pod, PodSpec, PodStatus
from moorage.api.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    Drain,
    EndpointStatus,
    ExternalService,
    ExternalServiceSpec,
    ExternalServiceStatus,
    MooringConfig,
    SessionAffinityConfig,
)
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec, MooringStatus
from moorage.api.sources_v1alpha1 import EndpointSource, StaticAddress


def test_a_spec_has_weights_and_who_takes_new_clients() -> None:
    addresses = [
        StaticAddress(name="e1", address="192.0.2.1", weight=3),
        StaticAddress(name="e2", address="192.0.2.2"),
    ]
    config = SessionAffinityConfig(mooring=MooringConfig(client="Node", on_recovery="Return"))
    xsvc = ExternalService(
        metadata=ObjectMeta(name="backend"),
        spec=ExternalServiceSpec(
            endpoints=[EndpointSource(addresses=addresses)],
            session_affinity_config=config,
            proxy="moorage",
            drain=[Drain(endpoint="e2")],
        ),
        status=ExternalServiceStatus(
            endpoints=[status("e1", "Healthy", True), status("e2", "Healthy", False), status("e3", "Unhealthy", True)]
        ),
    )
    found = spec_of(1.0, xsvc)
    assert found == history.Spec(
        at=1.0,
        service="backend",
        kind="Node",
        weights={"e1": 3, "e2": 1},
        drained=["e2"],
        returns=True,
        taking=["e1"],
    )
    assert spec_of(1.0, replace(xsvc, spec=replace(xsvc.spec, proxy="kube-proxy"))) == replace(
        found, proxy="kube-proxy"
    )


def status(name: str, health: str, ready: bool) -> EndpointStatus:
    return EndpointStatus(name=name, address="192.0.2.1", source="addresses", health=health, ready=ready)


def test_slices_come_to_all_their_endpoints() -> None:
    one = slice_(e1=EndpointConditions(ready=True), e2=EndpointConditions(ready=False, serving=True))
    other = slice_(e3=EndpointConditions(ready=False, serving=False), e4=EndpointConditions())
    found = slices_of(1.0, "backend", [one, other])
    assert found == history.Slices(at=1.0, service="backend", serving=["e1", "e2", "e4"], ready=["e1", "e4"])


def slice_(**conditions: EndpointConditions) -> EndpointSlice:
    endpoints = [Endpoint(addresses=["192.0.2.1"], hostname=name, conditions=of) for name, of in conditions.items()]
    return EndpointSlice(address_type="IPv4", endpoints=endpoints)


@pytest.mark.parametrize(
    ("pod", "gone", "life"),
    [
        (Pod(), False, "present"),
        (Pod(metadata=ObjectMeta(deletion_timestamp="2026-01-01T00:00:00Z")), False, "ending"),
        (Pod(status=PodStatus(phase="Failed")), False, "finished"),
        (Pod(status=PodStatus(phase="Failed")), True, "gone"),
    ],
    ids=["present", "ending", "finished", "gone"],
)
def test_a_pod_has_a_life(pod: Pod, gone: bool, life: str) -> None:
    assert pod_of(1.0, pod, gone).life == life


def test_a_pod_may_have_no_node_and_no_address_yet() -> None:
    meta = ObjectMeta(uid="1", name="frontend-0")
    assert pod_of(1.0, Pod(metadata=meta)) == history.Pod(at=1.0, uid="1", name="frontend-0")
    there = Pod(metadata=meta, spec=PodSpec(node_name="n1"), status=PodStatus(pod_ip="10.0.0.1"))
    assert pod_of(1.0, there) == history.Pod(at=1.0, uid="1", name="frontend-0", node="n1", address="10.0.0.1")


def test_a_mooring_has_what_a_person_wants_and_what_the_operator_has_recorded() -> None:
    spec = MooringSpec(group="backend", client=MooringClient(kind="Pod", name="frontend-0"), endpoint="e2")
    new = Mooring(spec=spec)
    assert mooring_of(1.0, new, gone=True) == history.Mooring(
        at=1.0, service="backend", client="Pod/frontend-0", requested="e2", gone=True
    )
    recorded = MooringStatus(endpoint="e1", reason="FailedOver", previous="e3", home="e4", message="It is drained.")
    assert mooring_of(1.0, Mooring(spec=spec, status=recorded)) == history.Mooring(
        at=1.0,
        service="backend",
        client="Pod/frontend-0",
        requested="e2",
        endpoint="e1",
        reason="FailedOver",
        previous="e3",
        home="e4",
        refused=True,
    )

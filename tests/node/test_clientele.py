"""What is held of pods, and which of their changes matter."""

from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import Container, Pod, PodIP, PodSpec, PodStatus
from moorage.api.meta import ObjectMeta, OwnerReference
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec
from moorage.cluster.events import Event
from moorage.core.mooring_model import ClientKey
from moorage.node.clientele import Clientele, needed
from moorage.node.moorings import GroupClient

pytestmark = pytest.mark.looptime
CLIENT = GroupClient("backend", ClientKey("Pod", "a"))
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-1", uid="rs", controller=True)


def pod(**meta: Any) -> Pod:
    given = {"name": "a", "namespace": "frontend", "uid": "1", "labels": {"app": "web"}, "owner_references": [OWNER]}
    return Pod(
        metadata=ObjectMeta(**{**given, "annotations": {"long": "x" * 1000}, **meta}),
        spec=PodSpec(node_name="n1", host_network=False, containers=[Container(name="c")]),
        status=PodStatus(
            phase="Running", pod_ip="10.244.1.2", pod_ips=[PodIP(ip="10.244.1.2")], conditions=[{"type": "Ready"}]
        ),
    )


class Fixture:
    def __init__(self) -> None:
        self.touched: list[str] = []
        self.clientele = Clientele(None, "n1", self.touched.append, lambda group: None)  # type: ignore[arg-type]
        self.clientele.want(["frontend", "other"], None)
        self._version = 0

    def tell(self, one: Pod, type: str = "MODIFIED") -> list[str]:
        """The namespaces that this touched."""
        self._version += 1
        self.touched.clear()
        meta = replace(one.metadata, resource_version=str(self._version))
        self.clientele._pods._apply(Event(type, replace(one, metadata=meta)))  # type: ignore[arg-type]
        return sorted(self.touched)

    def move(self, endpoint: str) -> list[str]:
        """Moor CLIENT there; the namespaces that this touched."""
        self._version += 1
        self.touched.clear()
        one = Mooring(
            metadata=ObjectMeta(name="m", namespace="frontend", uid="m", resource_version=str(self._version)),
            spec=MooringSpec(group=CLIENT.group, client=MooringClient(kind="Pod", name="a"), endpoint=endpoint),
        )
        for each in self.clientele._moorings.reflectors:
            each._apply(Event("MODIFIED", one))
        return self.touched[:]


def test_of_a_pod_only_what_is_read_is_held() -> None:
    held = needed(pod())
    assert (held.metadata.annotations, held.spec.containers, held.status.conditions) == (None, [], None)
    assert (held.metadata.labels, held.metadata.owner_references) == ({"app": "web"}, [OWNER])


async def test_what_the_kubelet_reports_all_the_time_touches_nothing() -> None:
    fixture = Fixture()
    assert fixture.tell(pod()) == ["frontend"]
    assert fixture.tell(replace(pod(), status=replace(pod().status, conditions=[]))) == []
    assert fixture.tell(replace(pod(), status=replace(pod().status, phase="Pending"))) == []


@pytest.mark.parametrize(
    "changed",
    [
        pod(labels={"app": "other"}),
        pod(deletion_timestamp="2026-01-01T00:00:00Z"),
        pod(owner_references=None),
        replace(pod(), status=replace(pod().status, pod_ip="10.244.1.3", pod_ips=None)),
        replace(pod(), status=replace(pod().status, phase="Failed")),
        replace(pod(), spec=replace(pod().spec, host_network=True)),
    ],
)
async def test_what_tells_where_it_is_led_touches_its_namespace(changed: Pod) -> None:
    fixture = Fixture()
    fixture.tell(pod())
    assert fixture.tell(changed) == ["frontend"]
    assert fixture.tell(changed, "DELETED") == ["frontend"]


async def test_whoever_has_the_same_address_is_touched_too_if_it_is_moored() -> None:
    fixture = Fixture()
    fixture.tell(pod())
    assert fixture.tell(pod(name="b", namespace="other", uid="2")) == ["frontend", "other"]
    assert fixture.tell(pod(name="c", namespace="unmoored", uid="3")) == ["frontend", "other"]
    assert fixture.tell(pod(name="c", namespace="unmoored", uid="3"), "DELETED") == ["frontend", "other"]


async def test_a_mooring_touches_its_namespace_while_its_client_is_here() -> None:
    fixture = Fixture()
    fixture.tell(pod())
    assert fixture.move("e1") == []
    fixture.clientele.met("frontend", {CLIENT: ["1"]})
    assert fixture.move("e2") != []
    fixture.clientele.met("frontend", {})
    assert fixture.move("e3") == []


async def test_of_pods_that_are_gone_nothing_is_kept() -> None:
    fixture = Fixture()
    fixture.tell(pod())
    fixture.tell(pod(), "DELETED")
    assert len(fixture.clientele._pods.store) == 0
    assert [len(each) for each in fixture.clientele._pods.store._reverse.values()] == [0, 0]
    assert fixture.clientele._arrived == {}

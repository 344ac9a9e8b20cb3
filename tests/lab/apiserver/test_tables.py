from datetime import UTC, datetime
from typing import Any

import pytest

from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.tables import duration, table
from tests.support.apiserver import kind

NOW = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC)
CREATED = "2026-01-01T00:00:00Z"


def cells(name: str, obj: Obj, *, wide: bool = False) -> list[Any]:
    meta = {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})}
    made = table(kind(name), [{**obj, "metadata": meta}], {}, NOW, "None")
    shown = [wide or column["priority"] == 0 for column in made["columnDefinitions"]]
    return [cell for cell, show in zip(made["rows"][0]["cells"], shown, strict=True) if show]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (125, "2m5s"),
        (120, "2m"),
        (700, "11m"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"),
        (50 * 3600, "2d2h"),
        (10 * 86400, "10d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)
def test_ages_are_shown_as_kubectl_shows_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_pod_shows_its_containers() -> None:
    statuses = [{"ready": True, "restartCount": 2}, {"ready": False, "state": {"waiting": {"reason": "CrashLoop"}}}]
    pod = {
        "spec": {"containers": [{}, {}], "nodeName": "n"},
        "status": {"phase": "Running", "containerStatuses": statuses, "podIP": "10.244.0.2"},
    }
    assert cells("Pod", pod) == ["x", "1/2", "CrashLoop", "2", "60s"]
    assert cells("Pod", pod, wide=True)[5:7] == ["10.244.0.2", "n"]
    ending = {**pod, "metadata": {"deletionTimestamp": CREATED}}
    assert cells("Pod", ending)[2] == "Terminating"


def test_a_stateful_set_shows_how_many_of_its_pods_are_ready() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "b:1"}]}}
    database = {"spec": {"replicas": 3, "template": template}, "status": {"readyReplicas": 2}}
    assert cells("StatefulSet", database) == ["x", "2/3", "60s"]
    assert cells("StatefulSet", database, wide=True)[3:] == ["a", "b:1"]


def test_a_load_balancer_shows_its_addresses() -> None:
    spec = {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "TCP"}]}
    waiting = {"spec": spec, "status": {"loadBalancer": {}}}
    assert cells("Service", waiting) == ["x", "LoadBalancer", "10.96.0.1", "<pending>", "80/TCP", "60s"]
    given = {"spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"hostname": "h"}]}}}
    assert cells("Service", given)[3] == "203.0.113.1,h"


def test_endpoints_are_cut_after_three() -> None:
    endpoints = [{"addresses": [f"203.0.113.{index}"]} for index in range(5)]
    shown = cells("EndpointSlice", {"addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}]})
    assert shown[3] == "203.0.113.0,203.0.113.1,203.0.113.2 + 2 more..."
    assert cells("EndpointSlice", {"addressType": "IPv4"})[2:4] == ["<unset>", "<unset>"]
    subsets = [{"addresses": [{"ip": "203.0.113.1"}, {"ip": "2001:db8::1"}], "ports": [{"port": 80}]}]
    assert cells("Endpoints", {"subsets": subsets})[1] == "203.0.113.1:80,[2001:db8::1]:80"


def test_a_node_shows_whether_it_is_ready() -> None:
    conditions = [{"type": "Ready", "status": "True"}]
    labels = {"node-role.kubernetes.io/worker": ""}
    node = {"metadata": {"labels": labels}, "status": {"conditions": conditions}, "spec": {"unschedulable": True}}
    assert cells("Node", node)[:3] == ["x", "Ready,SchedulingDisabled", "worker"]
    assert cells("Node", {})[1] == "Unknown"


def test_an_event_shows_what_it_is_about() -> None:
    event = {
        "lastTimestamp": CREATED,
        "type": "Normal",
        "reason": "Started",
        "message": "it runs\n",
        "involvedObject": {"kind": "Pod", "name": "p"},
    }
    assert cells("Event", event) == ["60s", "Normal", "Started", "pod/p", "it runs"]

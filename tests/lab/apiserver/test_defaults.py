from typing import Any

import pytest

from moorage_lab.apiserver.defaults import with_defaults
from moorage_lab.apiserver.objects import Obj
from tests.support.apiserver import kind


def filled(name: str, **parts: Any) -> Obj:
    obj: Obj = {"metadata": {"name": "x"}, **parts}
    with_defaults(kind(name), obj)
    again = {**obj}
    with_defaults(kind(name), again)
    assert again == obj
    return obj


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ({"sessionAffinity": "ClientIP"}, {"clientIP": {"timeoutSeconds": 10800}}),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
            {"clientIP": {"timeoutSeconds": 5}},
        ),
        ({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, None),
        ({}, None),
    ],
)
def test_the_affinity_timeout_is_there_exactly_with_client_ip(spec: Obj, config: Obj | None) -> None:
    assert filled("Service", spec=dict(spec))["spec"].get("sessionAffinityConfig") == config


def test_a_stateful_set_makes_and_updates_its_pods_in_order() -> None:
    web = filled("StatefulSet", spec={"template": {"spec": {"containers": [{"name": "a", "image": "b:1"}]}}})
    spec = web["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (1, "OrderedReady")
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["template"]["spec"]["restartPolicy"] == "Always"
    assert filled("StatefulSet", spec={"updateStrategy": {"type": "OnDelete"}})["spec"]["updateStrategy"] == {
        "type": "OnDelete"
    }


def test_a_ports_target_is_the_port_unless_named() -> None:
    ports = filled("Service", spec={"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]})["spec"]["ports"]
    assert [port["targetPort"] for port in ports] == [80, "web"]
    assert [port["protocol"] for port in ports] == ["TCP", "TCP"]


def test_only_a_load_balancer_has_an_external_policy() -> None:
    assert "externalTrafficPolicy" not in filled("Service")["spec"]
    assert filled("Service", spec={"type": "LoadBalancer"})["spec"]["externalTrafficPolicy"] == "Cluster"
    assert "internalTrafficPolicy" not in filled("Service", spec={"type": "ExternalName"})["spec"]


def test_a_deployment_and_its_pods_get_theirs() -> None:
    containers = [
        {"name": "a", "image": "x"},
        {"name": "b", "image": "host:5000/x:1", "ports": [{"containerPort": 1}]},
    ]
    spec = filled("Deployment", spec={"template": {"spec": {"containers": containers}}})["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    pod = spec["template"]["spec"]
    assert [one["imagePullPolicy"] for one in pod["containers"]] == ["Always", "IfNotPresent"]
    assert pod["containers"][1]["ports"] == [{"containerPort": 1, "protocol": "TCP"}]
    assert pod["terminationGracePeriodSeconds"] == 30


def test_slice_ports_are_tcp_without_a_name() -> None:
    assert filled("EndpointSlice", ports=[{"port": 80}])["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]


def test_a_namespace_is_labelled_with_its_name() -> None:
    assert filled("Namespace")["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}


def test_a_secrets_plain_text_is_folded_into_its_data() -> None:
    given = {"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new", "c": ""}}
    secret = filled("Secret", **given)
    assert secret["data"] == {"a": "bmV3", "b": "Yg==", "c": ""}
    assert secret["type"] == "Opaque"
    assert "stringData" not in secret
    assert "data" not in filled("Secret")


def test_a_secrets_data_is_stored_without_line_breaks() -> None:
    assert filled("Secret", data={"a": "b2xk\r\nb2xk\n"})["data"] == {"a": "b2xkb2xk"}

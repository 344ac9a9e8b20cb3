"""The Service that is written, and what is corrected of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.contract import (
    AFFINITY_ANNOTATION,
    CLIENT_ANNOTATION,
    GROUP_ANNOTATION,
    LABEL_ANNOTATION,
    POD_SELECTOR_ANNOTATION,
    PROXY_LABEL,
    WHILE_PENDING_ANNOTATION,
)
from moorage.api.core_v1 import ClientIPConfig, Service
from moorage.api.meta import LabelSelector, ObjectKey
from moorage.api.moorage_v1alpha1 import (
    ExternalService,
    ExternalServicePort,
    MooringConfig,
    SessionAffinityConfig,
)
from moorage.core import services
from moorage.core.model import Create, Patch
from testing.xsvc import HTTP, MOORED, NAME, NAMESPACE, UID, Cluster, xsvc

OTHER = "00000000-0000-4000-8000-000000000009"


def made(spec: ExternalService) -> Cluster:
    """A cluster with its Service."""
    cluster = Cluster()
    for write in services.changes(spec, None):
        cluster.do(write)
    return cluster


def stored(cluster: Cluster) -> dict[str, Any]:
    return cluster.objects["Service", NAME]


def correction(spec: ExternalService, cluster: Cluster) -> dict[str, Any]:
    """The patch that is decided, without its preconditions; after it there is nothing more to do."""
    (write,) = services.changes(spec, cluster.service)
    assert isinstance(write, Patch)
    cluster.do(write)
    assert services.changes(spec, cluster.service) == ()
    metadata = {key: value for key, value in write.body["metadata"].items() if key not in ("uid", "resourceVersion")}
    return {**write.body, "metadata": metadata} if metadata else {k: v for k, v in write.body.items() if k == "spec"}


def test_the_service_has_the_ports_no_selector_and_an_owner() -> None:
    service = stored(made(xsvc(session_affinity="ClientIP")))
    assert service["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "moorage"}
    assert service["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "moorage.dev/v1alpha1",
            "kind": "ExternalService",
            "name": NAME,
            "uid": UID,
            "controller": True,
        }
    ]
    spec = service["spec"]
    assert spec["ports"] == [{"name": "http", "protocol": "TCP", "port": 9000, "targetPort": 80}]
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert "selector" not in spec
    assert spec["clusterIP"]


ANY_SPEC = st.fixed_dictionaries(
    {
        "ports": st.sampled_from(
            [
                [HTTP],
                [ExternalServicePort(port=53, protocol="UDP")],
                [replace(HTTP, app_protocol="kubernetes.io/h2c"), ExternalServicePort(name="x", port=1)],
            ]
        ),
        "session_affinity": st.sampled_from(["None", "ClientIP", "Mooring"]),
        "session_affinity_config": st.sampled_from(
            [
                None,
                SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=60)),
                SessionAffinityConfig(mooring=MooringConfig(client="Node")),
            ]
        ),
        "proxy": st.sampled_from(["kube-proxy", "moorage"]),
        "ip_family_policy": st.sampled_from([None, "SingleStack", "PreferDualStack", "RequireDualStack"]),
        "traffic_distribution": st.sampled_from([None, "PreferSameZone"]),
    }
)


@given(ANY_SPEC, ANY_SPEC)
def test_one_write_leads_from_any_spec_to_any_other(first: dict[str, Any], then: dict[str, Any]) -> None:
    """With all that the API server fills in: the fake has its defaults and its rules."""
    cluster = made(xsvc(**first))
    assert services.changes(xsvc(**first), cluster.service) == ()
    changed = xsvc(**then)
    for write in services.changes(changed, cluster.service):
        cluster.do(write)
    assert services.changes(changed, cluster.service) == ()
    fresh = stored(made(changed))
    assert stored(cluster)["metadata"]["labels"] == fresh["metadata"]["labels"]
    for field in ("ports", "sessionAffinity", "sessionAffinityConfig", "trafficDistribution"):
        assert stored(cluster)["spec"].get(field) == fresh["spec"].get(field)


@pytest.mark.parametrize(
    ("edit", "patch"),
    [
        ({"selector": {"app": "x"}}, {"selector": None}),
        (
            {"ports": [{"name": "http", "port": 9001, "protocol": "TCP", "targetPort": 80}]},
            {"ports": [{"name": "http", "port": 9000, "targetPort": 80}]},
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
            {"sessionAffinity": "None", "sessionAffinityConfig": None},
        ),
        ({"internalTrafficPolicy": "Local"}, {"internalTrafficPolicy": "Cluster"}),
        ({"publishNotReadyAddresses": True}, {"publishNotReadyAddresses": None}),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/x"},
            {
                "type": "ClusterIP",
                "externalTrafficPolicy": None,
                "allocateLoadBalancerNodePorts": None,
                "loadBalancerClass": None,
            },
        ),
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_somebody_changes_is_put_right_by_a_small_patch(edit: dict[str, Any], patch: dict[str, Any]) -> None:
    cluster = made(xsvc())
    address = stored(cluster)["spec"]["clusterIP"]
    cluster.edit("Service", NAME, {"spec": edit})
    assert correction(xsvc(), cluster) == {"spec": patch}
    assert stored(cluster)["spec"]["clusterIP"] == address


def test_a_label_that_somebody_took_away_is_put_back() -> None:
    cluster = made(xsvc(proxy="moorage", **MOORED))
    cluster.edit("Service", NAME, {"metadata": {"labels": {PROXY_LABEL: "other"}}})
    assert correction(xsvc(proxy="moorage", **MOORED), cluster) == {"metadata": {"labels": {PROXY_LABEL: "moorage"}}}


def test_labels_annotations_and_fields_of_others_stay() -> None:
    cluster = made(xsvc())
    more = {"labels": {"team": "db"}, "annotations": {"example.com/note": "x"}}
    cluster.edit("Service", NAME, {"metadata": more, "spec": {"trafficDistribution": "PreferClose"}})
    assert services.changes(xsvc(), cluster.service) == ()
    correction(xsvc(session_affinity="ClientIP", proxy="moorage"), cluster)
    assert stored(cluster)["metadata"]["labels"]["team"] == "db"
    assert stored(cluster)["metadata"]["annotations"] == {"example.com/note": "x"}
    assert stored(cluster)["spec"]["trafficDistribution"] == "PreferClose"


def test_moorings_rest_on_client_ip_and_tell_the_agents_who_the_clients_are() -> None:
    spec = xsvc(
        proxy="moorage",
        session_affinity="Mooring",
        group="databases",
        session_affinity_config=SessionAffinityConfig(
            client_ip=ClientIPConfig(timeout_seconds=60),
            mooring=MooringConfig(client="Label", label="example.com/tenant", pod_selector=LabelSelector()),
        ),
    )
    cluster = made(spec)
    assert stored(cluster)["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 60}}
    assert stored(cluster)["metadata"]["annotations"] == {
        AFFINITY_ANNOTATION: "Mooring",
        GROUP_ANNOTATION: "databases",
        CLIENT_ANNOTATION: "Label",
        LABEL_ANNOTATION: "example.com/tenant",
        POD_SELECTOR_ANNOTATION: "{}",
        WHILE_PENDING_ANNOTATION: "Hold",
    }
    assert correction(xsvc(proxy="moorage", **MOORED), cluster)["metadata"]["annotations"] == {
        GROUP_ANNOTATION: NAME,
        CLIENT_ANNOTATION: "Node",
        LABEL_ANNOTATION: None,
        POD_SELECTOR_ANNOTATION: None,
        WHILE_PENDING_ANNOTATION: None,
    }
    assert correction(xsvc(proxy="moorage", session_affinity="None"), cluster)["metadata"] == {
        "annotations": dict.fromkeys((AFFINITY_ANNOTATION, GROUP_ANNOTATION, CLIENT_ANNOTATION))
    }


def test_a_group_is_named_by_the_spec_or_by_its_only_member() -> None:
    assert services.group_of(xsvc()) == ObjectKey(NAMESPACE, "backend")
    assert services.group_of(xsvc(group="all")) == ObjectKey(NAMESPACE, "all")


def test_a_distribution_of_traffic_that_the_spec_no_longer_asks_for_is_taken_away() -> None:
    cluster = made(xsvc(traffic_distribution="PreferSameZone"))
    assert stored(cluster)["spec"]["trafficDistribution"] == "PreferSameZone"
    assert correction(xsvc(), cluster) == {"spec": {"trafficDistribution": None}}


REQUIRE = {"ipFamilyPolicy": "RequireDualStack"}
BOTH = ["IPv4", "IPv6"]


@pytest.mark.parametrize(
    ("first", "then", "patch"),
    [
        ({}, {}, None),
        ({}, {"ip_family_policy": "SingleStack"}, None),
        ({}, {"ip_families": ["IPv4"]}, None),
        ({}, {"ip_family_policy": "RequireDualStack"}, REQUIRE),
        ({}, {"ip_families": BOTH}, REQUIRE | {"ipFamilies": BOTH}),
        ({}, {"ip_family_policy": "RequireDualStack", "ip_families": BOTH}, REQUIRE | {"ipFamilies": BOTH}),
        ({}, {"ip_family_policy": "PreferDualStack", "ip_families": BOTH}, {"ipFamilyPolicy": "PreferDualStack"}),
        ({"ip_family_policy": "PreferDualStack"}, {"ip_family_policy": "PreferDualStack", "ip_families": BOTH}, None),
        ({"ip_families": BOTH}, {"ip_family_policy": "RequireDualStack", "ip_families": ["IPv4"]}, None),
        ({"ip_families": BOTH}, {}, None),
        ({"ip_families": BOTH}, {"ip_family_policy": "SingleStack"}, {"ipFamilyPolicy": "SingleStack"}),
        (
            {"ip_families": BOTH},
            {"ip_family_policy": "SingleStack", "ip_families": ["IPv4"]},
            {"ipFamilyPolicy": "SingleStack"},
        ),
    ],
)
def test_ip_families_are_changed_only_where_the_spec_asks_for_others(
    first: dict[str, Any], then: dict[str, Any], patch: dict[str, Any] | None
) -> None:
    cluster = made(xsvc(**first))
    if patch is None:
        assert services.changes(xsvc(**then), cluster.service) == ()
    else:
        assert correction(xsvc(**then), cluster) == {"spec": patch}


def test_two_families_without_a_policy_are_required() -> None:
    """The API server takes no policy for SingleStack, and refuses two families then."""
    (create,) = services.changes(xsvc(ip_families=BOTH), None)
    assert isinstance(create, Create)
    assert isinstance(create.obj, Service)
    assert create.obj.spec.ip_family_policy == "RequireDualStack"


def test_two_families_that_a_cluster_of_one_cannot_give_are_not_asked_for_again_and_again() -> None:
    wanted = xsvc(ip_family_policy="PreferDualStack", ip_families=["IPv4", "IPv6"])
    cluster = made(wanted)
    service = cluster.service
    assert service is not None
    single = replace(service, spec=replace(service.spec, ip_families=["IPv4"]))
    assert services.changes(wanted, single) == ()


def test_another_first_family_is_told_and_not_tried() -> None:
    cluster = made(xsvc())
    wanted = xsvc(ip_families=["IPv6"], ip_family_policy="SingleStack")
    assert services.changes(wanted, cluster.service) == ()
    complaint = services.unchangeable(wanted, cluster.service)
    assert complaint is not None
    assert f"Service {NAMESPACE}/{NAME} has IPv4 as its first family" in complaint.message
    assert services.unchangeable(xsvc(), cluster.service) is None
    assert services.unchangeable(wanted, None) is None


def test_a_service_that_is_going_is_let_go() -> None:
    service = made(xsvc()).service
    assert service is not None
    going = replace(service, metadata=replace(service.metadata, deletion_timestamp="2026-01-01T00:00:00Z"))
    assert services.changes(xsvc(session_affinity="ClientIP"), going) == ()


def test_whose_a_service_is() -> None:
    mine, theirs = made(xsvc()).service, made(xsvc(uid=OTHER)).service
    assert mine is not None
    assert theirs is not None
    assert services.taken(xsvc(), None) is None
    assert services.taken(xsvc(), mine) is None
    nobodys = replace(mine, metadata=replace(mine.metadata, owner_references=None))
    references = [replace(each, controller=None) for each in mine.metadata.owner_references or ()]
    not_controlled = replace(mine, metadata=replace(mine.metadata, owner_references=references))
    for service, words in (
        (theirs, "an earlier ExternalService"),
        (nobodys, "was not made for this ExternalService"),
        (not_controlled, "was not made for this ExternalService"),
    ):
        taken = services.taken(xsvc(), service)
        assert taken is not None
        assert taken[0] == "NameTaken"
        assert words in taken[1]

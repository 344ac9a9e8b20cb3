"""The EndpointSlices that are written."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.contract import PROXY_LABEL, WEIGHTS_ANNOTATION
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import Drain, ExternalServicePort
from moorage.core.model import Create, Delete, Endpoint, Patch
from moorage.dataplane.services import Scope, carried
from testing.xsvc import HTTP, NAME, THEN, UID, Story, endpoints, xsvc

UDP = ExternalServicePort(name="dns", port=53, protocol="UDP", app_protocol="example.com/dns")


def raw(story: Story, name: str = "backend-1") -> dict[str, Any]:
    return story.cluster.objects["EndpointSlice", name]


def test_a_slice_says_whose_it_is_and_who_keeps_it() -> None:
    story = Story(xsvc())
    story.step(endpoints(1))
    metadata = raw(story)["metadata"]
    assert metadata["labels"] == {
        "kubernetes.io/service-name": NAME,
        "endpointslice.kubernetes.io/managed-by": "moorage.dev",
    }
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("ExternalService", UID, True)


def test_an_endpoint_has_its_name_as_hostname_and_its_state_as_conditions() -> None:
    story = Story(xsvc(drain=[Drain(endpoint="b0003")]))
    story.step(endpoints(3), b0002="Unhealthy")
    assert raw(story)["endpoints"] == [
        {
            "addresses": ["198.18.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "hostname": "b0001",
        },
        {
            "addresses": ["198.18.0.2"],
            "conditions": {"ready": False, "serving": False, "terminating": False},
            "hostname": "b0002",
        },
        {
            "addresses": ["198.18.0.3"],
            "conditions": {"ready": False, "serving": True, "terminating": False},
            "hostname": "b0003",
        },
    ]


def test_its_ports_are_named_as_the_services_are() -> None:
    story = Story(xsvc(ports=[HTTP, UDP]))
    story.step(endpoints(1))
    assert raw(story)["ports"] == [
        {"name": "dns", "protocol": "UDP", "port": 53, "appProtocol": "example.com/dns"},
        {"name": "http", "protocol": "TCP", "port": 80},
    ]


def test_a_port_without_name_has_the_empty_one() -> None:
    story = Story(xsvc(ports=[ExternalServicePort(port=80)]))
    story.step(endpoints(1))
    assert raw(story)["ports"] == [{"name": "", "protocol": "TCP", "port": 80}]


def test_endpoints_with_other_ports_and_of_other_families_have_slices_of_their_own() -> None:
    story = Story(xsvc(ip_family_policy="RequireDualStack"))
    one, two = endpoints(2)
    story.step([one, two._replace(port=8080), Endpoint("six", "2001:db8::1", "addresses")])
    assert sorted((each.address_type, (each.ports or [])[0].port) for each in story.cluster.slices) == [
        ("IPv4", 80),
        ("IPv4", 8080),
        ("IPv6", 80),
    ]


def test_names_are_the_lowest_free_numbers_whoever_has_the_others() -> None:
    story = Story(xsvc())
    story.step(endpoints(150))
    assert [each.metadata.name for each in story.cluster.slices] == ["backend-1", "backend-2"]
    other = Story(xsvc(uid="00000000-0000-4000-8000-000000000009"), story.cluster)
    del story.cluster.objects["Service", NAME]
    (service, slice_) = other.decide(endpoints(1)).writes
    assert isinstance(service, Create)
    assert isinstance(slice_, Create)
    assert slice_.obj.metadata.name == "backend-3"


def test_a_slice_that_is_being_deleted_is_left_alone_and_its_endpoints_get_another() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    raw(story)["metadata"]["deletionTimestamp"] = THEN
    (write,) = story.decide(endpoints(3)).writes
    assert isinstance(write, Create)
    assert isinstance(write.obj, EndpointSlice)
    assert write.obj.metadata.name == "backend-2"
    assert [each.hostname for each in write.obj.endpoints or ()] == ["b0001", "b0002", "b0003"]


def test_another_verdict_is_one_patch_of_the_endpoints_only() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    (patch,) = story.decide(endpoints(2), b0001="Unhealthy").writes
    assert isinstance(patch, Patch)
    meta = raw(story)["metadata"]
    assert patch.body["metadata"] == {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    assert set(patch.body) == {"metadata", "endpoints"}
    json.dumps(patch.body)


def test_another_address_of_the_same_name_stays_in_its_place() -> None:
    story = Story(xsvc())
    one, two, three = endpoints(3)
    story.step([one, two, three])
    story.step([one, two._replace(address="203.0.113.2"), three])
    assert [each["addresses"] for each in raw(story)["endpoints"]] == [
        ["198.18.0.1"],
        ["203.0.113.2"],
        ["198.18.0.3"],
    ]


def test_another_target_port_is_one_patch_of_the_ports() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.change(ports=[replace(HTTP, target_port=81)])
    slice_, service = story.decide(endpoints(2)).writes
    assert isinstance(slice_, Patch)
    assert isinstance(service, Patch)
    assert slice_.body["ports"] == [{"name": "http", "protocol": "TCP", "port": 81}]
    assert "endpoints" not in slice_.body


def test_the_slice_of_the_last_endpoint_goes_with_it() -> None:
    story = Story(xsvc())
    story.step(endpoints(1))
    metadata = raw(story)["metadata"]
    (write,) = story.decide(()).writes
    assert isinstance(write, Delete)
    assert (write.name, write.uid, write.resource_version) == (
        "backend-1",
        metadata["uid"],
        metadata["resourceVersion"],
    )


def test_endpoints_begin_to_take_connections_before_others_cease_to() -> None:
    """In two slices: what takes over first, whichever slice it is in."""
    for first, then in ((1, 101), (101, 1)):
        story = Story(xsvc())
        each = endpoints(200)
        unhealthy: dict[str, Any] = {one.name: "Unhealthy" for one in each}
        story.step(each, **{**unhealthy, f"b{first:04}": "Healthy"})
        before, after = story.decide(each, **{**unhealthy, f"b{then:04}": "Healthy"}).writes
        assert isinstance(before, Patch)
        story.cluster.do(before)
        assert set(story.cluster.ready()) == {f"b{first:04}", f"b{then:04}"}
        story.cluster.do(after)
        assert set(story.cluster.ready()) == {f"b{then:04}"}


@pytest.mark.parametrize(
    "edit",
    [
        {"endpoints": []},
        {"endpoints": [{"addresses": ["203.0.113.99"]}]},
        {"endpoints": [{"addresses": ["198.18.0.1"], "hostname": "b0001", "nodeName": "node-1"}]},
        {"ports": [{"name": "http", "port": 1}]},
        {"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": None}}},
        {"metadata": {"labels": {"kubernetes.io/service-name": "other"}}},
        {"metadata": {"labels": {PROXY_LABEL: "moorage"}}},
        {"metadata": {"annotations": {WEIGHTS_ANNOTATION: '{"b0001":9}'}}},
    ],
)
def test_what_somebody_changes_is_put_right(edit: dict[str, Any]) -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    before = story.cluster.contents()
    story.cluster.edit("EndpointSlice", "backend-1", edit)
    assert len(story.decide(endpoints(2)).writes) == 1
    story.step(endpoints(2))
    after = story.cluster.contents()
    assert [_ordered(each) for each in after] == [_ordered(each) for each in before]


def _ordered(obj: dict[str, Any]) -> dict[str, Any]:
    """Without the order of endpoints, and without what an edit left empty."""
    meta = {key: value for key, value in obj["metadata"].items() if value}
    found = sorted(obj.get("endpoints", []), key=lambda each: str(each["hostname"]))
    return {**obj, "metadata": meta, "endpoints": found}


def test_labels_and_annotations_of_others_stay() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.cluster.edit(
        "EndpointSlice", "backend-1", {"metadata": {"labels": {"team": "db"}, "annotations": {"a": "b"}}}
    )
    assert story.decide(endpoints(2)).writes == ()
    story.step(endpoints(2, weight=3), b0001="Unhealthy")
    assert raw(story)["metadata"]["labels"]["team"] == "db"
    assert raw(story)["metadata"]["annotations"]["a"] == "b"


# --- weights ------------------------------------------------------------------------------------------------------


def weights(story: Story) -> dict[str, int] | None:
    text = raw(story)["metadata"].get("annotations", {}).get(WEIGHTS_ANNOTATION)
    return json.loads(text) if text else None


def test_weights_that_are_not_one_are_in_an_annotation() -> None:
    story = Story(xsvc())
    one, two, three = endpoints(3)
    story.step([one, two._replace(weight=2), three])
    assert weights(story) == {"b0002": 2}
    story.step([one, two, three])
    assert weights(story) is None


def test_weights_are_brought_into_the_range_that_node_agents_take() -> None:
    story = Story(xsvc())
    one, two, three = endpoints(3)
    story.step([one._replace(weight=65535), two._replace(weight=32768), three._replace(weight=0)])
    assert weights(story) == {"b0001": 100, "b0002": 50}


def test_node_agents_read_names_and_weights_as_they_are_meant() -> None:
    story = Story(xsvc(proxy="moorage"))
    one, two, three = endpoints(3)
    story.step([one, two._replace(weight=2), three], b0003="Unhealthy")
    service = story.cluster.service
    assert service is not None
    result = carried(service, story.cluster.slices, Scope("node-1"))
    assert result.warnings == ()
    (port,) = result.ports
    assert [(each.name, each.target.address, each.target.port, each.weight) for each in port.endpoints] == [
        ("b0001", "198.18.0.1", 80, 1),
        ("b0002", "198.18.0.2", 80, 2),
    ]

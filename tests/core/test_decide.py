"""What holds of decisions whatever happens: they come to rest, survive being cut off, and leave nobody out."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.contract import PROXY_LABEL
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    Drain,
    ExternalServicePort,
    ExternalServiceSpec,
    MooringConfig,
    SessionAffinityConfig,
)
from moorage.core.model import Create, Decision, Delete, Endpoint, Health, Patch
from testing.xsvc import HTTP, LATER, MOORED, NAME, NAMESPACE, NOW, Cluster, Story, endpoints, xsvc

HTTPS = ExternalServicePort(name="https", port=443)
UDP = ExternalServicePort(name="dns", port=53, protocol="UDP")


class Situation(msgspec.Struct, frozen=True):
    """What is to be at one moment."""

    spec: dict[str, Any]
    endpoints: tuple[Endpoint, ...]
    healths: dict[str, Health]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Few names, so that the same endpoints come and go; many more in one block, so that slices fill up."""
    renamed = replace(HTTP, name="web")
    ports = draw(st.sampled_from([[HTTP], [renamed], [replace(HTTP, target_port=81)], [HTTP, HTTPS], [UDP, HTTPS]]))
    spec = {
        "ports": ports,
        "proxy": draw(st.sampled_from(["kube-proxy", "moorage"])),
        "session_affinity": draw(st.sampled_from(["None", "ClientIP"])),
        "ip_family_policy": "RequireDualStack",
        "drain": draw(st.sampled_from([None, [Drain(endpoint="b0001")]])),
    }
    some = []
    for number in sorted(draw(st.sets(st.integers(1, 6)))):
        (one,) = endpoints(1, number)
        if draw(st.booleans()):
            one = one._replace(address=draw(st.sampled_from([f"203.0.113.{number}", f"2001:db8::{number}"])))
        port = draw(st.sampled_from([None, None, 8080, 8081])) if len(ports) == 1 else None
        some.append(
            one._replace(port=port, weight=draw(st.sampled_from([1, 1, 3])), priority=draw(st.integers(0, 1)))
        )
    start, count = draw(st.sampled_from([(10, 0), (10, 0), (10, 99), (60, 150), (10, 205)]))
    each = tuple(some) + endpoints(count, start)
    healths: dict[str, Health] = {
        one.name: draw(st.sampled_from(("Healthy", "Healthy", "Unhealthy", "Unknown"))) for one in some
    }
    return Situation(spec, each, healths)


def come_to(story: Story, situation: Situation) -> None:
    story.change(**situation.spec)
    story.step(situation.endpoints, **situation.healths)


@settings(max_examples=60)
@given(st.lists(situations(), min_size=1, max_size=3))
def test_every_situation_comes_to_rest_and_is_published_in_full(situation_list: list[Situation]) -> None:
    story = Story(xsvc())
    for situation in situation_list:
        come_to(story, situation)
        listed = {each.name: each for each in story.xsvc.status.endpoints or ()}
        assert set(listed) == {each.name for each in situation.endpoints}
        published = [
            (each.hostname, each.addresses[0], each.conditions.ready, {port.port for port in slice_.ports or ()})
            for slice_ in story.cluster.slices
            for each in slice_.endpoints or ()
        ]
        assert len(published) == len(situation.endpoints)
        for endpoint in situation.endpoints:
            targets = {endpoint.port or port.target_port or port.port for port in story.xsvc.spec.ports}
            assert (endpoint.name, endpoint.address, listed[endpoint.name].ready, targets) in published
        assert all(1 <= len(slice_.endpoints or ()) <= 100 for slice_ in story.cluster.slices)


@settings(max_examples=60)
@given(st.lists(situations(), min_size=2, max_size=3))
def test_whatever_takes_connections_before_and_after_a_change_does_so_all_through(
    situation_list: list[Situation],
) -> None:
    story = Story(xsvc())
    come_to(story, situation_list[0])
    for situation in situation_list[1:]:
        story.change(**situation.spec)
        before = set(story.cluster.ready())
        between = []
        for _ in range(3):
            decision = story.decide(situation.endpoints, **situation.healths)
            for write in decision.writes:
                story.cluster.do(write)
                between.append(set(story.cluster.ready()))
            story.do(decision._replace(writes=()))
        lasting = before & set(story.cluster.ready())
        for moment in between:
            assert lasting <= moment


@settings(max_examples=60)
@given(situations(), situations(), st.randoms(use_true_random=False))
def test_cut_off_anywhere_it_ends_up_the_same(first: Situation, then: Situation, chance: random.Random) -> None:
    def begun() -> Story:
        story = Story(xsvc())
        come_to(story, first)
        story.change(**then.spec)
        return story

    whole = begun()
    whole.step(then.endpoints, **then.healths)
    cut = begun()
    for _ in range(3):  # killed again and again, before the status is written
        decision = cut.decide(then.endpoints, **then.healths)
        for write in decision.writes[: chance.randint(0, len(decision.writes))]:
            cut.cluster.do(write)
    cut.step(then.endpoints, **then.healths)
    assert cut.cluster.ready() == whole.cluster.ready()
    assert cut.xsvc.status == whole.xsvc.status
    assert {each.metadata.name for each in cut.cluster.slices} == {
        each.metadata.name for each in whole.cluster.slices
    }


@settings(max_examples=30)
@given(situations())
def test_where_nothing_has_changed_nothing_is_written_said_or_told(situation: Situation) -> None:
    story = Story(xsvc())
    come_to(story, situation)
    again = story.decide(situation.endpoints, LATER, **situation.healths)
    assert again == Decision((), story.xsvc.status, ())


def test_a_stale_writer_is_refused_at_its_first_write() -> None:
    story = Story(xsvc())
    story.step(endpoints(3))
    late = story.decide(endpoints(4))
    story.step(endpoints(5))
    for write in late.writes:
        with pytest.raises(Exception, match="409"):
            story.cluster.do(write)


def test_the_service_is_made_before_its_slices_and_changed_after_them() -> None:
    story = Story(xsvc())
    made = story.decide(endpoints(150))
    assert [type(write.obj) for write in made.writes if isinstance(write, Create)] == [
        Service,
        EndpointSlice,
        EndpointSlice,
    ]
    story.step(endpoints(2))
    story.change(ports=[HTTP, HTTPS])
    changed = story.decide(endpoints(2))
    assert [write.kind for write in changed.writes if isinstance(write, Patch)] == [EndpointSlice, Service]


def test_a_renamed_port_has_endpoints_under_both_names_until_the_service_has_the_new_one() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.change(ports=[replace(HTTP, name="web")])
    story.do(story.decide(endpoints(2)))
    assert [port.name for port in story.cluster.slices[0].ports or ()] == ["http", "web"]
    story.do(story.decide(endpoints(2)))
    assert [port.name for port in story.cluster.slices[0].ports or ()] == ["web"]


def labels(story: Story) -> list[str | None]:
    """Whose the Service is, then whose its slices are."""
    assert story.cluster.service is not None
    return [(each.metadata.labels or {}).get(PROXY_LABEL) for each in (story.cluster.service, *story.cluster.slices)]


def test_slices_follow_their_service_to_the_node_agents_and_go_back_before_it() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    assert labels(story) == [None, None]
    story.change(proxy="moorage")
    seen = []
    for _ in range(2):
        story.do(story.decide(endpoints(2)))
        seen.append(labels(story))
    assert seen == [["moorage", None], ["moorage", "moorage"]]
    story.change(proxy="kube-proxy")
    seen = []
    for write in story.decide(endpoints(2)).writes:
        story.cluster.do(write)
        seen.append(labels(story))
    assert seen == [["moorage", None], [None, None]]


def test_what_node_agents_carry_from_the_start_is_theirs_at_once() -> None:
    story = Story(xsvc(proxy="moorage"))
    story.do(story.decide(endpoints(2)))
    assert labels(story) == ["moorage", "moorage"]


def test_the_cluster_ip_stays_through_every_change() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    service = story.cluster.service
    assert service is not None
    for change in (
        {"ports": [HTTPS]},
        {"proxy": "moorage", **MOORED},
        {"ip_family_policy": "PreferDualStack"},
        {"session_affinity": "ClientIP", "session_affinity_config": None, "proxy": "kube-proxy"},
    ):
        story.change(**change)
        story.step(endpoints(3))
        now = story.cluster.service
        assert now is not None
        assert (now.metadata.uid, now.spec.cluster_ip) == (service.metadata.uid, service.spec.cluster_ip)


def test_nothing_is_done_about_what_is_being_deleted() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.xsvc = replace(story.xsvc, metadata=replace(story.xsvc.metadata, deletion_timestamp=NOW))
    assert story.decide(endpoints(3)) == Decision((), story.xsvc.status, ())


def test_while_suspended_only_a_condition_changes() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    before = story.xsvc.status
    story.change(suspend=True)
    decision = story.decide(endpoints(5), LATER, b0001="Unhealthy")
    assert decision.writes == ()
    assert decision.status.endpoints == before.endpoints
    ready = {each.type: each for each in decision.status.conditions or ()}["Ready"]
    assert (ready.status, ready.reason, ready.last_transition_time) == ("True", "Suspended", NOW)
    assert decision.status.observed_generation == story.xsvc.metadata.generation
    assert [each.reason for each in decision.news] == ["Suspended"]
    story.do(decision)
    assert story.decide(endpoints(5), LATER) == Decision((), story.xsvc.status, ())
    story.change(suspend=False)
    assert story.decide(endpoints(5)).writes


def moored(**mooring: Any) -> dict[str, Any]:
    config = SessionAffinityConfig(mooring=MooringConfig(**mooring))
    return {"session_affinity": "Mooring", "session_affinity_config": config}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"ports": []}, "NoPorts"),
        ({"session_affinity": "Mooring"}, "MooringNeedsProxy"),
        (moored(client="Workload", pod_selector=LabelSelector()), "MooringNeedsProxy"),
        ({"session_affinity": "Mooring", "proxy": "moorage"}, "MooringIncomplete"),
        (moored(client="Workload") | {"proxy": "moorage"}, "MooringIncomplete"),
        (moored(client="Label", pod_selector=LabelSelector()) | {"proxy": "moorage"}, "MooringIncomplete"),
    ],
)
def test_of_a_spec_that_cannot_be_carried_out_nothing_is_made_and_what_was_made_stays(
    spec: dict[str, Any], reason: str
) -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    before = story.xsvc.status.endpoints
    story.change(**spec)
    decision = story.decide(endpoints(3))
    assert decision.writes == ()
    conditions = {each.type: each for each in decision.status.conditions or ()}
    assert (conditions["Accepted"].status, conditions["Accepted"].reason) == ("False", reason)
    assert (conditions["Ready"].status, conditions["Ready"].reason) == ("False", "NotAccepted")
    assert decision.status.endpoints == before


THEIRS = Service(
    api_version="v1",
    kind="Service",
    metadata=ObjectMeta(name=NAME, namespace=NAMESPACE),
    spec=msgspec.convert({"ports": [{"port": 1}]}, type(Service().spec)),
)


def test_a_service_of_somebody_else_is_left_alone_and_gets_no_endpoints() -> None:
    cluster = Cluster()
    cluster.put(THEIRS)
    story = Story(xsvc(), cluster)
    decision = story.decide(endpoints(2))
    assert decision.writes == ()
    ready = {each.type: each for each in decision.status.conditions or ()}["Ready"]
    assert (ready.status, ready.reason) == ("False", "NameTaken")
    assert "kubectl delete service -n frontend backend" in ready.message
    assert [each.reason for each in decision.news if each.type == "Warning"] == ["NameTaken"]
    assert not any(each.ready for each in decision.status.endpoints or ())
    story.do(decision)
    assert story.decide(endpoints(2), LATER).news == ()


def test_a_service_that_somebody_put_in_place_of_ours_loses_our_endpoints_and_ours_comes_back_with_them() -> None:
    story = Story(xsvc())
    story.step(endpoints(150))
    del story.cluster.objects["Service", NAME]
    story.cluster.put(THEIRS)
    story.cluster.put(slice_of_others("example.com"))
    theirs = story.cluster.objects["Service", NAME]
    taken = story.step(endpoints(150))
    assert [type(write) for write in taken.writes] == [Delete, Delete]
    assert story.cluster.objects["Service", NAME] == theirs
    assert [each.metadata.name for each in story.cluster.slices] == ["backend-x7k2p"]
    del story.cluster.objects["Service", NAME]
    del story.cluster.objects["EndpointSlice", "backend-x7k2p"]
    back = story.step(endpoints(150))
    assert [type(write.obj) for write in back.writes if isinstance(write, Create)] == [
        Service,
        EndpointSlice,
        EndpointSlice,
    ]
    assert len(story.cluster.ready()) == 150


def slice_of_others(manager: str) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": manager}
    return EndpointSlice(
        api_version="discovery.k8s.io/v1",
        kind="EndpointSlice",
        metadata=ObjectMeta(name="backend-x7k2p", namespace=NAMESPACE, labels=labels),
        address_type="IPv4",
    )


def test_what_an_earlier_object_of_the_same_name_left_is_waited_for() -> None:
    earlier = Story(xsvc(uid="00000000-0000-4000-8000-000000000009"))
    earlier.step(endpoints(2))
    story = Story(xsvc(), earlier.cluster)
    decision = story.decide(endpoints(2))
    assert decision.writes == ()
    ready = {each.type: each for each in decision.status.conditions or ()}["Ready"]
    assert ready.reason == "NameTaken"
    assert "earlier" in ready.message
    del story.cluster.objects["Service", NAME]  # the garbage collector takes one after the other
    story.step(endpoints(2))
    assert sorted(each.metadata.name for each in story.cluster.slices) == ["backend-1", "backend-2"]
    ready = {each.type: each for each in story.xsvc.status.conditions or ()}["Ready"]
    assert ready.reason == "Ready", "the other slice is about to go, too"


def test_slices_that_others_wrote_are_named_and_left_alone() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.cluster.put(slice_of_others("endpointslicemirroring-controller.k8s.io"))
    decision = story.decide(endpoints(2))
    assert decision.writes == ()
    ready = {each.type: each for each in decision.status.conditions or ()}["Ready"]
    assert (ready.status, ready.reason) == ("False", "ForeignSlices")
    assert "backend-x7k2p" in ready.message
    assert "kubectl delete endpoints -n frontend backend" in ready.message
    assert [each.reason for each in decision.news] == ["ForeignSlices"]


def test_one_endpoint_among_a_thousand_changes_one_slice() -> None:
    story = Story(xsvc())
    each = endpoints(1000)
    story.step(each)
    assert len(story.cluster.slices) == 10
    decision = story.decide(each, b0123="Unhealthy")
    (patch,) = decision.writes
    assert isinstance(patch, Patch)
    assert set(patch.body) == {"metadata", "endpoints"}
    removed = story.decide([one for one in each if one.name != "b0123"])
    assert len(removed.writes) == 1
    assert not any(isinstance(write, Delete) for write in removed.writes)


def test_the_decision_on_a_spec_that_says_nothing_is_made() -> None:
    story = Story(replace(xsvc(), spec=ExternalServiceSpec()))
    assert story.decide(()).writes == ()

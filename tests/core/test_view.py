"""The facts that a snapshot shows."""

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import Drain
from moorage.api.sources_v1alpha1 import StaticAddress
from moorage.core.model import Found, Problem, Resolution
from moorage.core.view import CHECK_SOURCE, SourceRow, View, view_of
from testing.xsvc import NAME, NAMESPACE, THEN, Story, answers, endpoints, static, verdicts, xsvc

DOWN = Problem("Timeout", "no answer within 5 s", THEN)


def view(story: Story, *resolutions: Resolution) -> View:
    given = verdicts([one for each in resolutions for one in endpoints(len(each.endpoints or ()))])
    return view_of(story.snapshot(resolutions, given))


def test_a_source_has_what_it_found_and_what_stays_though_it_fails() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    found = answers(endpoints(2))[0].endpoints
    noted = Resolution("dns/b", (), None, ("b has no address yet",))
    shown = view(story, Resolution("addresses", found, DOWN), noted, Resolution("dns/c", None))
    assert shown.sources == (
        SourceRow("addresses", 2, DOWN, kept=2),
        SourceRow("dns/b", 0, None, notes=("b has no address yet",)),
        SourceRow("dns/c", None),
    )
    assert shown.asked


def test_a_check_that_cannot_be_made_is_a_source_that_fails() -> None:
    story = Story(xsvc(endpoints=static(StaticAddress(address="198.18.0.1"))))
    snapshot = story.snapshot((), {})._replace(check_problem=DOWN)
    shown = view_of(snapshot)
    assert shown.sources == (SourceRow(CHECK_SOURCE, 0, DOWN),)
    assert not shown.asked, "it is none of the spec's sources"


def test_complaints_begin_with_the_most_serious() -> None:
    story = Story(xsvc())
    story.step(endpoints(1))
    story.change(drain=[Drain(endpoint="b9")], ip_families=["IPv6"])
    twice = Found("b0001", "198.18.0.9")
    found = answers(endpoints(1))[0].endpoints or ()
    shown = view(story, Resolution("addresses", (*found, twice, Found("inside", "127.0.0.1"))))
    assert [(each.reason, each.endpoint, each.address) for each in shown.complaints] == [
        ("AddressRefused", "inside", "127.0.0.1"),
        ("Unchangeable", None, None),
        ("UnknownEndpoint", "b9", None),
        ("EndpointConflict", "b0001", "198.18.0.9"),
    ]


def test_endpoints_are_shown_with_why_they_are_not_used() -> None:
    story = Story(xsvc(drain=[Drain(endpoint="b0002")]))
    story.step(endpoints(2))
    shown = view(story, *answers(endpoints(2)))
    assert [(each.endpoint.name, each.ready, each.serving, each.withheld) for each in shown.endpoints] == [
        ("b0001", True, True, None),
        ("b0002", False, True, "Drained"),
    ]
    assert (shown.panic, shown.priority, shown.taken) == (False, 0, None)


def test_slices_that_others_gave_our_service_are_shown() -> None:
    story = Story(xsvc())
    story.step(endpoints(1))
    for name, service in (("theirs", NAME), ("unrelated", "other")):
        meta = ObjectMeta(name=name, namespace=NAMESPACE, labels={"kubernetes.io/service-name": service})
        story.cluster.put(
            EndpointSlice(api_version="discovery.k8s.io/v1", kind="EndpointSlice", metadata=meta, address_type="IPv4")
        )
    assert [each.metadata.name for each in view(story, *answers(endpoints(1))).foreign] == ["theirs"]

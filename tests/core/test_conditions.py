"""What whoever is on call reads."""

from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Condition, ObjectMeta
from moorage.api.moorage_v1alpha1 import Drain, ExternalServicePort
from moorage.api.sources_v1alpha1 import DnsSource, EndpointSource, HealthCheck, StaticAddress
from moorage.core.admission import gate_of
from moorage.core.conditions import MAX_MESSAGE_CHARACTERS
from moorage.core.model import Found, Health, Problem, Resolution, Verdict
from testing.xsvc import (
    LATER,
    NAME,
    NAMESPACE,
    NOW,
    THEN,
    Cluster,
    Story,
    answers,
    endpoints,
    static,
    verdicts,
    xsvc,
)

DNS = EndpointSource(dns=DnsSource(name="db.example.com"))
DOWN = Problem("Timeout", "no answer within 5 s; see to the name server", THEN)


def conditions(story: Story) -> dict[str, Condition]:
    return {each.type: each for each in story.xsvc.status.conditions or ()}


def said(story: Story, type_: str) -> tuple[str, str, str]:
    condition = conditions(story)[type_]
    return condition.status, condition.reason, condition.message


def after(resolutions: tuple[Resolution, ...], given: dict[str, Verdict] | None = None, **spec: Any) -> Story:
    """An ExternalService of which these sources are known."""
    story = Story(xsvc(**spec))
    story.do(story.decide_from(resolutions, given or {}))
    return story


def test_all_four_are_there_from_the_first_moment_and_in_this_order() -> None:
    story = Story(xsvc())
    decision = story.decide(endpoints(2))
    assert [each.type for each in decision.status.conditions or ()] == ["Accepted", "Resolved", "Healthy", "Ready"]
    assert all(each.last_transition_time == NOW for each in decision.status.conditions or ())
    assert all(each.observed_generation == 1 for each in decision.status.conditions or ())


def test_everything_is_well() -> None:
    story = after(answers(endpoints(3)), verdicts(endpoints(3)))
    assert {type_: each.status for type_, each in conditions(story).items()} == dict.fromkeys(
        ("Accepted", "Resolved", "Healthy", "Ready"), "True"
    )
    assert said(story, "Resolved")[2] == "3 endpoints from addresses"
    assert said(story, "Healthy")[2] == "3 endpoints, all healthy."
    assert said(story, "Ready")[2] == "3 of 3 endpoints take connections, carried by kube-proxy."


def test_the_time_of_a_condition_is_that_of_its_last_change_of_status() -> None:
    story = Story(xsvc())
    story.step(endpoints(3))
    story.step(endpoints(3), LATER, b0001="Unhealthy")
    healthy, ready = conditions(story)["Healthy"], conditions(story)["Ready"]
    assert (healthy.status, healthy.last_transition_time) == ("False", LATER)
    assert (ready.status, ready.last_transition_time) == ("True", NOW)
    story.step(endpoints(3), "2026-01-01T00:03:00Z", b0001="Unhealthy", b0002="Unhealthy")
    assert conditions(story)["Healthy"].last_transition_time == LATER


def test_conditions_of_others_stay_behind_ours() -> None:
    story = Story(xsvc())
    theirs = Condition(type="Approved", status="True")
    story.xsvc = replace(story.xsvc, status=replace(story.xsvc.status, conditions=[theirs]))
    story.step(endpoints(1))
    assert (story.xsvc.status.conditions or [])[-1] == theirs


# --- Accepted -----------------------------------------------------------------------------------------------------


def test_a_refused_address_is_told_and_the_others_are_used() -> None:
    addresses = static(StaticAddress(address="203.0.113.1"), StaticAddress(address="127.0.0.1"))
    found = Resolution("addresses", (Found("b1", "203.0.113.1"), Found("b2", "127.0.0.1")))
    story = after((found,), {"b1": Verdict("Healthy", THEN)}, endpoints=addresses)
    status, reason, message = said(story, "Accepted")
    assert (status, reason) == ("False", "AddressRefused")
    assert message.startswith("spec.endpoints[0].addresses[1].address: 127.0.0.1 is a loopback address; endpoints")
    assert said(story, "Ready")[0] == "True"


def test_a_conflict_is_told_but_is_no_refusal() -> None:
    twice = Resolution("addresses", (Found("b1", "203.0.113.1"), Found("b1", "203.0.113.2")))
    status, reason, message = said(after((twice,)), "Accepted")
    assert (status, reason) == ("True", "Accepted")
    assert "has the name b1 of 203.0.113.1" in message


def test_another_first_family_says_what_to_do() -> None:
    story = Story(xsvc())
    story.step(endpoints(1))
    story.change(ip_families=["IPv6"])
    story.step(endpoints(1))
    status, reason, message = said(story, "Accepted")
    assert (status, reason) == ("False", "Unchangeable")
    assert "for IPv6 delete it" in message


# --- Resolved -----------------------------------------------------------------------------------------------------


def test_a_failing_source_says_since_when_and_what_stays() -> None:
    found = tuple(Found(each.name, each.address) for each in endpoints(2))
    story = after((Resolution("dns/db.example.com", found, DOWN),), verdicts(endpoints(2)), endpoints=[DNS])
    assert said(story, "Resolved") == (
        "False",
        "Timeout",
        f"dns/db.example.com: no answer within 5 s; see to the name server (since {THEN}); its last 2 endpoints stay "
        "in use",
    )
    assert said(story, "Ready")[0] == "True"


def test_a_source_that_never_answered_has_nothing_that_stays() -> None:
    story = after((Resolution("dns/db.example.com", None, DOWN),), endpoints=[DNS])
    assert said(story, "Resolved")[2].endswith(f"(since {THEN})")
    assert said(story, "Ready") == (
        "False",
        "NoEndpoints",
        f"There are no endpoints: connections are refused. {said(story, 'Resolved')[2]}",
    )


@pytest.mark.parametrize("resolutions", [(), (Resolution("dns/db.example.com", None),)])
def test_before_the_first_answer_nothing_is_known(resolutions: tuple[Resolution, ...]) -> None:
    assert said(after(resolutions, endpoints=[DNS]), "Resolved")[:2] == ("Unknown", "Pending")


def test_notes_of_sources_are_told() -> None:
    noted = Resolution("cluster/backend", (), None, ("Service backend/b3 has no load-balancer address yet",))
    assert said(after((noted,)), "Resolved") == (
        "True",
        "Empty",
        "0 endpoints from cluster/backend. cluster/backend: Service backend/b3 has no load-balancer address yet",
    )


def test_a_spec_without_sources_says_so() -> None:
    assert said(after(()), "Resolved")[:2] == ("True", "NoSources")


# --- Healthy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("healths", "status", "reason", "words"),
    [
        (
            ("Healthy", "Unhealthy"),
            "False",
            "SomeUnhealthy",
            "1 of 2 healthy; unhealthy: b0002 (198.18.0.2:80)",
        ),
        (("Unknown", "Healthy"), "Unknown", "Checking", "1 endpoint of 2 not checked yet"),
        (("Unhealthy",), "False", "NoneHealthy", "0 of 1 healthy"),
        ((), "Unknown", "NoEndpoints", "no endpoints to check"),
    ],
)
def test_what_the_checks_say(healths: tuple[Health, ...], status: str, reason: str, words: str) -> None:
    each = endpoints(len(healths))
    given = {one.name: Verdict(health, THEN, "refused") for one, health in zip(each, healths, strict=True)}
    result = said(after(answers(each), given), "Healthy")
    assert result[:2] == (status, reason)
    assert words in result[2]


def test_of_many_unhealthy_ones_some_are_named() -> None:
    each = endpoints(6)
    message = said(
        after(
            answers(each),
            verdicts(each) | {one.name: Verdict("Unhealthy", THEN, "connection refused") for one in each[1:]},
        ),
        "Healthy",
    )[2]
    assert message.endswith(
        "b0004 (198.18.0.4:80) since 2026-01-01T00:00:00Z: connection refused; and 2 more, see status.endpoints"
    )


def test_a_panic_is_told_with_what_it_means() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.step(endpoints(2), b0001="Unhealthy", b0002="Unhealthy")
    status, reason, message = said(story, "Healthy")
    assert (status, reason) == ("False", "Panic")
    assert message.startswith(
        "0 of 2 healthy, too few to believe the checks (spec.healthCheck.panicThresholdPercent)"
    )
    assert "those that took connections last go on doing so; unhealthy: b0001 (198.18.0.1:80) since" in message
    assert said(story, "Ready") == (
        "True",
        "Ready",
        "2 of 2 endpoints take connections, carried by kube-proxy, whatever their checks say: see Healthy.",
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"health_check": None}, "spec.healthCheck is absent"),
        (
            {"health_check": HealthCheck(), "ports": [ExternalServicePort(port=53, protocol="UDP")]},
            "has no port that can be checked",
        ),
    ],
)
def test_where_nothing_is_checked_nothing_is_known(spec: dict[str, Any], words: str) -> None:
    story = after(answers(endpoints(2)), {one.name: Verdict("Unchecked", THEN) for one in endpoints(2)}, **spec)
    status, reason, message = said(story, "Healthy")
    assert (status, reason) == ("Unknown", "NotChecked")
    assert words in message
    assert said(story, "Ready")[0] == "True"


# --- Ready --------------------------------------------------------------------------------------------------------


def test_without_endpoints_it_says_what_keeps_them_away() -> None:
    refused = after((Resolution("addresses", (Found("b1", "127.0.0.1"),)),))
    assert said(refused, "Resolved")[:2] == ("True", "Resolved"), "it is not the source that has none"
    assert said(refused, "Ready")[2].endswith(f"connections are refused. {said(refused, 'Accepted')[2]}")
    noted = Resolution("cluster/backend", (), None, ("Service backend/b3 has no load-balancer address yet",))
    assert said(after((noted,)), "Ready")[2].endswith("Service backend/b3 has no load-balancer address yet")
    assert said(after(()), "Ready")[2].endswith("spec.endpoints names no source, so there are no endpoints")


@pytest.mark.parametrize("health", ["Unhealthy", "Unknown"])
def test_without_a_ready_endpoint_it_says_which_are_unhealthy(health: Health) -> None:
    each = endpoints(2)
    story = after(answers(each), {one.name: Verdict(health, THEN, "connection refused") for one in each})
    assert said(story, "Ready") == (
        "False",
        "NoneReady",
        f"None of 2 endpoints takes connections: they are refused. {said(story, 'Healthy')[2].rstrip('.')}",
    )


def test_one_endpoint_takes_and_two_take() -> None:
    assert said(after(answers(endpoints(1)), verdicts(endpoints(1))), "Ready")[2].startswith(
        "1 of 1 endpoint takes connections"
    )


def test_of_endpoints_that_are_drained_it_says_so() -> None:
    story = after(answers(endpoints(2)), verdicts(endpoints(2)), drain=[Drain(endpoint=e.name) for e in endpoints(2)])
    assert said(story, "Ready") == (
        "False",
        "Withheld",
        "None of 2 endpoints takes connections: they are refused. Drained: spec.drain names it",
    )


def test_slices_of_others_say_which_command_takes_them_away() -> None:
    cluster = Cluster()
    for number in range(5):
        meta = ObjectMeta(name=f"theirs-{number}", namespace=NAMESPACE, labels={"kubernetes.io/service-name": NAME})
        cluster.put(
            EndpointSlice(api_version="discovery.k8s.io/v1", kind="EndpointSlice", metadata=meta, address_type="IPv4")
        )
    story = Story(xsvc(), cluster)
    story.do(story.decide(endpoints(1)))
    message = said(story, "Ready")[2]
    assert "theirs-0, theirs-1, theirs-2 and 2 more" in message
    assert "kubectl delete endpointslice -n frontend theirs-0 theirs-1 theirs-2" in message


def test_slices_of_other_services_are_none_of_ours() -> None:
    cluster = Cluster()
    meta = ObjectMeta(name=f"{NAME}-1", namespace=NAMESPACE, labels={"kubernetes.io/service-name": "other"})
    cluster.put(
        EndpointSlice(api_version="discovery.k8s.io/v1", kind="EndpointSlice", metadata=meta, address_type="IPv4")
    )
    story = Story(xsvc(), cluster)
    story.step(endpoints(1))
    assert said(story, "Ready")[0] == "True"
    assert [each.metadata.name for each in cluster.slices] == [f"{NAME}-1", f"{NAME}-2"]


def test_messages_are_bounded() -> None:
    refused = Resolution("addresses", tuple(Found(f"b{n}", f"127.0.{n // 256}.{n % 256}") for n in range(1000)))
    story = after((refused,))
    message = said(story, "Accepted")[2]
    assert len(message) == MAX_MESSAGE_CHARACTERS
    assert message.endswith("…")


def test_the_gate_may_turn_against_what_is_in_use() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.gate = gate_of(refuse=["198.18.0.1/32"])
    story.step(endpoints(2))
    assert said(story, "Accepted")[1] == "AddressRefused"
    assert list(story.cluster.ready()) == ["b0002"]


# --- names that nothing has -----------------------------------------------------------------------------------------


def test_a_drained_name_that_no_endpoint_has_is_told_with_those_that_there_are() -> None:
    story = after(
        answers(endpoints(5)), verdicts(endpoints(5)), drain=[Drain(endpoint="b0001"), Drain(endpoint="b9")]
    )
    assert said(story, "Accepted") == (
        "True",
        "UnknownEndpoint",
        "spec.drain[1].endpoint: there is no endpoint b9; there are b0001, b0002, b0003 and 2 more",
    )
    assert said(story, "Ready")[:2] == ("True", "Ready")
    assert said(after((), drain=[Drain(endpoint="b9")]), "Accepted")[2].endswith("b9; there are none")


def test_of_many_unknown_names_some_are_told() -> None:
    story = after(answers(endpoints(1)), drain=[Drain(endpoint=f"x{number}") for number in range(1000)])
    message = said(story, "Accepted")[2]
    assert message.endswith("there are b0001. 997 more names of spec.drain are unknown")


def test_a_name_that_a_silent_source_may_have_is_not_unknown() -> None:
    silent = Resolution("dns/db.example.com", None, DOWN)
    drain = [Drain(endpoint="b9")]
    for resolutions in ((*answers(endpoints(1)), silent), answers(endpoints(1)), ()):
        story = after(resolutions, endpoints=[*static(StaticAddress(address="198.18.0.1")), DNS], drain=drain)
        assert said(story, "Accepted")[1] == "Accepted"


def test_a_source_that_has_none_is_told_beside_those_that_have_some() -> None:
    story = after(
        (*answers(endpoints(2)), Resolution("cluster/empty", ())),
        endpoints=[*static(StaticAddress(address="198.18.0.1")), DNS],
    )
    assert said(story, "Resolved") == (
        "True",
        "Resolved",
        "2 endpoints from addresses, cluster/empty. cluster/empty has none",
    )

"""What is told as Events."""

from typing import Any

from msgspec.structs import replace

from moorage.api.sources_v1alpha1 import DnsSource, EndpointSource, StaticAddress
from moorage.core.admission import gate_of
from moorage.core.model import Found, News, Problem, Resolution, Verdict
from moorage.core.news import MAX_EVENT_CHARACTERS
from testing.xsvc import LATER, THEN, Story, answers, endpoints, found, static, verdicts, xsvc

DOWN = Problem("Timeout", "no answer within 5 s; see to the name server", THEN)
BROKEN = Problem("ServerFailure", "answered SERVFAIL; see to the name server", THEN)
DNS = EndpointSource(dns=DnsSource(name="db.example.com"))


def settled(count: int = 3, **spec: Any) -> Story:
    story = Story(xsvc(**spec))
    story.step(endpoints(count))
    return story


def told(story: Story, *args: Any, **kwargs: Any) -> list[News]:
    return list(story.step(*args, **kwargs).news)


def test_an_endpoint_becomes_unhealthy_and_healthy_again() -> None:
    story = settled()
    assert told(story, endpoints(3), b0002="Unhealthy") == [
        News("Warning", "EndpointUnhealthy", "b0002 (198.18.0.2:80) is unhealthy: connection refused")
    ]
    assert told(story, endpoints(3)) == [News("Normal", "EndpointHealthy", "b0002 (198.18.0.2) is healthy")]


def test_an_endpoint_comes_goes_and_moves() -> None:
    story = settled(2)
    one, two, three = endpoints(3)
    assert told(story, [one, two, three])[0] == News("Normal", "EndpointAdded", "b0003 (198.18.0.3) from addresses")
    assert told(story, [one, two]) == [
        News("Normal", "EndpointRemoved", "b0003 (198.18.0.3) is no longer in addresses")
    ]
    assert told(story, [one, two._replace(address="203.0.113.2", port=8080)]) == [
        News("Normal", "EndpointMoved", "b0002 is at 203.0.113.2:8080, and was at 198.18.0.2")
    ]


def test_many_at_once_are_one_sentence() -> None:
    story = settled(2)
    added, healthy = told(story, endpoints(14))
    assert added.message == "12 endpoints added: b0003, b0004, b0005 and 9 more"
    assert healthy.message == "12 endpoints have become healthy: b0003, b0004, b0005 and 9 more"


def test_another_reason_of_the_same_verdict_is_not_told() -> None:
    story = settled()
    story.step(endpoints(3), b0002="Unhealthy")
    given = verdicts(endpoints(3)) | {"b0002": Verdict("Unhealthy", THEN, "no answer within 1 s")}
    decision = story.decide_from(answers(endpoints(3)), given)
    assert decision.status != story.xsvc.status
    assert decision.news == ()


def test_a_restart_repeats_nothing() -> None:
    story = settled()
    story.step(endpoints(3), b0002="Unhealthy")
    assert story.decide(endpoints(3), LATER, b0002="Unhealthy").news == ()


def from_dns(*resolutions: Resolution) -> Story:
    story = Story(xsvc(endpoints=[DNS] * len(resolutions)))
    story.do(story.decide_from(resolutions, verdicts(endpoints(2))))
    return story


def test_a_source_fails_fails_otherwise_and_recovers() -> None:
    each = found(endpoints(2))
    story = from_dns(Resolution("dns/db", each))

    def then(problem: Problem | None) -> list[News]:
        decision = story.decide_from([Resolution("dns/db", each, problem)], verdicts(endpoints(2)))
        story.do(decision)
        return list(decision.news)

    failed = News("Warning", "Timeout", "dns/db: no answer within 5 s; see to the name server")
    assert then(DOWN) == [failed]
    assert then(DOWN) == []
    assert then(BROKEN) == [News("Warning", "ServerFailure", "dns/db: answered SERVFAIL; see to the name server")]
    assert then(None) == [News("Normal", "SourceRecovered", "dns/db answers again")]
    assert then(None) == []


def test_of_two_failing_sources_the_one_that_recovers_is_told() -> None:
    each = found(endpoints(2))
    story = from_dns(Resolution("dns/a", each, DOWN), Resolution("dns/b", (), DOWN))
    decision = story.decide_from([Resolution("dns/a", each, DOWN), Resolution("dns/b", ())], verdicts(endpoints(2)))
    assert decision.news == (News("Normal", "SourceRecovered", "dns/b answers again"),)


def test_a_source_that_was_only_noted_beside_one_that_failed_does_not_recover() -> None:
    noted = Resolution("dns/b", found(endpoints(2)), None, ("b has 1500 endpoints",))
    story = from_dns(Resolution("dns/a", (), DOWN), noted)
    decision = story.decide_from([Resolution("dns/a", ()), noted], verdicts(endpoints(2)))
    assert decision.news == (News("Normal", "SourceRecovered", "dns/a answers again"),)


def test_a_panic_begins_and_ends() -> None:
    story = settled(2)
    begun = told(story, endpoints(2), b0001="Unhealthy", b0002="Unhealthy")
    assert [each.reason for each in begun] == ["EndpointUnhealthy", "EndpointUnhealthy", "Panic"]
    ended = told(story, endpoints(2), b0002="Unhealthy")
    assert [each.reason for each in ended] == ["EndpointHealthy", "PanicOver"]


def test_a_refused_address_is_told_once() -> None:
    story = settled(2)
    story.gate = gate_of(refuse=["198.18.0.1/32"])
    refused, removed = told(story, endpoints(2))
    assert (refused.type, refused.reason) == ("Warning", "AddressRefused")
    assert "198.18.0.1 (b0001 of addresses) is in the range 198.18.0.1/32" in refused.message
    assert removed.reason == "EndpointRemoved"
    assert story.decide(endpoints(2), LATER).news == ()


def test_a_conflict_is_told_once() -> None:
    story = settled(1)
    (one,) = endpoints(1)
    decision = story.decide([one, one._replace(address="203.0.113.2")])
    assert [(each.type, each.reason) for each in decision.news] == [("Warning", "EndpointConflict")]
    story.do(decision)
    assert story.decide([one, one._replace(address="203.0.113.2")], LATER).news == ()


def test_readiness_is_told_when_it_comes_and_goes() -> None:
    story = Story(xsvc())
    assert told(story, endpoints(1))[-1].reason == "Ready"
    gone = told(story, ())
    assert [(each.type, each.reason) for each in gone] == [("Normal", "EndpointRemoved"), ("Warning", "NoEndpoints")]


def test_messages_fit_into_an_event() -> None:
    story = settled(1)
    given = {"b0001": Verdict("Unhealthy", THEN, "x" * 5000)}
    decision = story.decide_from(answers(endpoints(1)), given)
    assert decision.news
    assert all(len(each.message) <= MAX_EVENT_CHARACTERS for each in decision.news)


def test_of_a_status_that_lists_not_all_nothing_is_taken_for_added_or_removed() -> None:
    story = settled(3)
    status = story.xsvc.status
    story.xsvc = replace(story.xsvc, status=replace(status, endpoints=(status.endpoints or [])[:1]))
    assert [each.reason for each in story.decide(endpoints(3)).news] == []


def test_before_a_source_has_answered_it_has_not_recovered() -> None:
    story = from_dns(Resolution("dns/db", (Found("b1", "203.0.113.1"),), DOWN))
    assert story.decide_from([Resolution("dns/db", None)], {}).news == ()


def test_of_sixty_refused_addresses_no_change_of_health_repeats_any() -> None:
    story = settled(3)
    story.gate = gate_of(refuse=["203.0.113.0/24"])
    inside = tuple(one._replace(address=f"203.0.113.{number}") for number, one in enumerate(endpoints(60, 100)))
    given = verdicts(endpoints(3))
    refused = story.decide_from(answers((*endpoints(3), *inside)), given)
    assert [each.reason for each in refused.news] == ["AddressRefused"] * 4
    story.do(refused)
    for health in ("Unhealthy", "Healthy"):
        given["b0002"] = Verdict(health, THEN, "connection refused")
        decision = story.decide_from(answers((*endpoints(3), *inside)), given)
        assert [each.reason for each in decision.news] == [f"Endpoint{health}"]
        story.do(decision)


def test_a_refusal_at_another_place_of_the_spec_is_no_news() -> None:
    one, two = StaticAddress(address="203.0.113.1"), StaticAddress(address="127.0.0.1")
    story = Story(xsvc())

    def told_of(*addresses: StaticAddress) -> list[str]:
        story.change(endpoints=static(*addresses))
        each = tuple(Found(address.address.replace(".", "-"), address.address) for address in addresses)
        decision = story.decide_from((Resolution("addresses", each),), {})
        story.do(decision)
        return [each.reason for each in decision.news]

    assert "AddressRefused" in told_of(two)
    assert told_of(one, two) == ["EndpointAdded", "NoneReady"]
    accepted = (story.xsvc.status.conditions or [])[0]
    assert accepted.message.startswith("spec.endpoints[0].addresses[1].address: 127.0.0.1")

"""What the status says of each endpoint."""

import msgspec
import pytest
from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import Drain, EndpointStatus, ExternalService, ExternalServiceStatus
from moorage.api.sources_v1alpha1 import DnsSource, EndpointSource
from moorage.core.model import Endpoint, Found, Problem, Resolution, Verdict
from moorage.core.readiness import EndpointRow, Withheld
from moorage.core.status import MAX_PROBLEMS, endpoint_statuses, healthy_of
from moorage.core.view import View
from testing.xsvc import LATER, NOW, THEN, Story, answers, endpoints, xsvc

B1 = Endpoint("b1", "203.0.113.1", "addresses")


def view(*rows: EndpointRow, of: ExternalService | None = None) -> View:
    return View(
        of or xsvc(),
        rows,
        panic=False,
        priority=0,
        sources=(),
        asked=True,
        complaints=(),
        taken=None,
        foreign=(),
        unreadable=None,
    )


def test_an_endpoint_is_told_with_what_is_not_the_default() -> None:
    plain = EndpointRow(B1, Verdict("Healthy", THEN), ready=True, serving=True)
    special = EndpointRow(
        B1._replace(port=8080, weight=3, priority=10, leaving=True, zone="eu-1a"),
        Verdict("Unhealthy", THEN, "connection refused"),
        ready=False,
        serving=False,
    )
    assert endpoint_statuses(view(plain, special), NOW) == [
        EndpointStatus(
            name="b1", address="203.0.113.1", source="addresses", health="Healthy", ready=True, since=THEN
        ),
        EndpointStatus(
            name="b1",
            address="203.0.113.1",
            source="addresses",
            health="Unhealthy",
            ready=False,
            since=THEN,
            port=8080,
            weight=3,
            priority=10,
            leaving=True,
            zone="eu-1a",
            message="connection refused",
        ),
    ]


def test_a_drain_is_told_with_when_it_was_first_seen() -> None:
    story = Story(xsvc())
    story.step(endpoints(2))
    story.change(drain=[Drain(endpoint="b0001")])

    def told() -> list[str | None]:
        return [each.drained_since for each in story.xsvc.status.endpoints or ()]

    story.step(endpoints(2), NOW)
    assert told() == [NOW, None]
    story.change(drain=[Drain(endpoint="b0001", before="2027-01-01T00:00:00Z"), Drain(endpoint="b0002")])
    story.step(endpoints(2), LATER)
    assert told() == [NOW, LATER]
    story.change(drain=[Drain(endpoint="b0002")])
    story.step(endpoints(2), LATER)
    assert told() == [None, LATER]


@pytest.mark.parametrize(
    ("withheld", "message"),
    [
        ("Drained", "drained: spec.drain names it"),
        ("Leaving", "leaving: it is being deleted where it was found"),
        ("StandsBy", "stands by: priority 10, and one of priority 0 is healthy"),
        ("NoFamily", "the Service has no IPv4 address; see spec.ipFamilyPolicy"),
        ("NameTaken", "the Service of this name is not ours"),
    ],
)
def test_a_healthy_one_that_is_not_ready_says_why(withheld: Withheld, message: str) -> None:
    row = EndpointRow(B1._replace(priority=10), Verdict("Healthy", THEN), False, True, withheld)
    (status,) = endpoint_statuses(view(row), NOW)
    assert status.message == message


def test_an_unhealthy_one_says_what_its_checks_say_and_nothing_else() -> None:
    """A new leader takes the message up as that of the verdict."""
    row = EndpointRow(B1, Verdict("Unhealthy", THEN, "refused"), False, False, "Drained")
    (status,) = endpoint_statuses(view(row), NOW)
    assert status.message == "refused"


def test_a_verdict_without_time_keeps_that_of_the_same_verdict() -> None:
    def since(health: str) -> str | None:
        written = EndpointStatus(
            name="b1", address="203.0.113.1", source="addresses", health=health, ready=True, since=THEN
        )
        service = replace(xsvc(), status=ExternalServiceStatus(endpoints=[written]))
        return endpoint_statuses(view(EndpointRow(B1, Verdict("Unchecked"), True, True), of=service), NOW)[0].since

    assert (since("Unchecked"), since("Healthy")) == (THEN, NOW)


def test_how_many_are_healthy_of_how_many() -> None:
    def told(*healths: str) -> str:
        return healthy_of([EndpointRow(B1, Verdict(health), True, True) for health in healths])  # type: ignore[arg-type]

    assert told("Healthy", "Unhealthy", "Healthy") == "2/3"
    assert told("Unknown") == "0/1"
    assert told("Unchecked", "Unchecked") == "-/2"
    assert told() == "0/0"


def test_the_largest_status_fits_into_etcd() -> None:
    """Everything as long as it can be: 10,000 endpoints, all unhealthy, all for a long reason."""
    story = Story(xsvc())
    each = [
        one._replace(name=f"{one.name}-{'x' * 40}", port=65535, weight=256, priority=65535, leaving=True)
        for one in endpoints(10_000)
    ]
    source = f"dns/{'s' * 253}"
    verdicts = {one.name: Verdict("Unhealthy", THEN, "y" * 5000) for one in each}
    decision = story.decide_from(answers(each, source), verdicts)
    assert len(msgspec.json.encode(decision.status)) < 1_000_000
    assert decision.status.healthy == "0/1000"
    assert len(decision.status.endpoints or ()) == 1000
    story.do(decision)
    assert len(story.cluster.slices) == 10
    again = story.decide_from(answers(each, source), verdicts, LATER)
    assert (again.writes, again.status, again.news) == ((), story.xsvc.status, ())


def test_problems_are_listed_those_of_sources_first_and_keep_their_time_however_they_are_worded() -> None:
    story = Story(xsvc(endpoints=[EndpointSource(dns=DnsSource(name="db.example.com"))]))
    inside = Found("inside", "127.0.0.1")

    def problems(message: str, now: str) -> list[tuple[str, str | None, str | None, str | None, str | None]]:
        source = Resolution("dns/db.example.com", (inside,), Problem("Timeout", message, THEN))
        story.do(story.decide_from((source,), {}, now))
        found = story.xsvc.status.problems or []
        assert found[0].message == message.rstrip(".")
        return [(each.reason, each.source, each.endpoint, each.address, each.since) for each in found]

    first = problems("no answer within 5 s.", NOW)
    assert first == [
        ("Timeout", "dns/db.example.com", None, None, THEN),
        ("AddressRefused", "dns/db.example.com", "inside", "127.0.0.1", NOW),
    ]
    assert problems("no answer within 6 s.", LATER) == first


def test_of_many_problems_a_status_has_the_first() -> None:
    story = Story(xsvc())
    inside = tuple(Found(f"b{number:04}", f"127.0.{number // 256}.{number % 256}") for number in range(1000))
    decision = story.decide_from((Resolution("addresses", inside),), {})
    assert [each.endpoint for each in decision.status.problems or ()] == [each.name for each in inside[:MAX_PROBLEMS]]
    assert decision.news[3].message == "at least 97 more; see status.problems"
    story.do(decision)
    assert story.decide_from((Resolution("addresses", inside),), {}, LATER).news == ()


def test_a_status_has_no_problems_once_all_is_well() -> None:
    story = Story(xsvc())
    story.step((B1._replace(address="127.0.0.1"),))
    assert story.xsvc.status.problems
    story.step((B1,))
    assert story.xsvc.status.problems is None

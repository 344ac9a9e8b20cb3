"""What the status says of each endpoint."""

import msgspec
from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalServiceStatus
from moorage.core.model import Endpoint, Verdict
from moorage.core.readiness import Standing
from moorage.core.status import endpoint_statuses, healthy_of
from testing.xsvc import LATER, NOW, THEN, Story, answers, endpoints, xsvc

B1 = Endpoint("b1", "203.0.113.1", "addresses")


def test_an_endpoint_is_told_with_what_is_not_the_default() -> None:
    plain = Standing(B1, Verdict("Healthy", THEN), ready=True, serving=True)
    special = Standing(
        B1._replace(port=8080, weight=3, priority=10, leaving=True),
        Verdict("Unhealthy", THEN, "connection refused"),
        ready=False,
        serving=False,
    )
    assert endpoint_statuses(xsvc(), [plain, special], NOW) == [
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
            message="connection refused",
        ),
    ]


def test_a_healthy_one_that_is_not_ready_says_why() -> None:
    (status,) = endpoint_statuses(xsvc(), [Standing(B1, Verdict("Healthy", THEN), False, True, "drained")], NOW)
    assert status.message == "drained"


def test_an_unhealthy_one_says_what_its_checks_say_and_nothing_else() -> None:
    """A new leader takes the message up as that of the verdict."""
    standing = Standing(B1, Verdict("Unhealthy", THEN, "refused"), False, False, "drained")
    (status,) = endpoint_statuses(xsvc(), [standing], NOW)
    assert status.message == "refused"


def test_a_verdict_without_time_keeps_that_of_the_same_verdict() -> None:
    def since(health: str) -> str | None:
        written = EndpointStatus(
            name="b1", address="203.0.113.1", source="addresses", health=health, ready=True, since=THEN
        )
        service = replace(xsvc(), status=ExternalServiceStatus(endpoints=[written]))
        return endpoint_statuses(service, [Standing(B1, Verdict("Unchecked"), True, True)], NOW)[0].since

    assert (since("Unchecked"), since("Healthy")) == (THEN, NOW)


def test_how_many_are_healthy_of_how_many() -> None:
    def told(*healths: str) -> str:
        return healthy_of([Standing(B1, Verdict(health), True, True) for health in healths])  # type: ignore[arg-type]

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
    assert (again.writes, again.status, again.happenings) == ((), story.xsvc.status, ())

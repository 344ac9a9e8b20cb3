"""Health begins with the status, changes by outcomes, and says what each outcome has changed."""

from collections import Counter

from msgspec.structs import replace

from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    EndpointStatus,
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    ExternalServiceStatus,
)
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage.core.health import Outcome
from moorage.core.model import Endpoint, Verdict
from moorage.operator.endpoint_health import Change, EndpointHealth

NOW = "2027-01-01T00:00:00Z"
ONE = Endpoint("backend1", "203.0.113.1", "addresses")
TWO = Endpoint("backend2", "203.0.113.2", "addresses")
CHECK = HealthCheck(fall=2)


def xsvc(*endpoints: EndpointStatus, check: HealthCheck | None = CHECK) -> ExternalService:
    return ExternalService(
        metadata=ObjectMeta(name="backend", namespace="frontend"),
        spec=ExternalServiceSpec(ports=[ExternalServicePort(port=80)], health_check=check),
        status=ExternalServiceStatus(endpoints=list(endpoints)),
    )


def written(name: str, health: str) -> EndpointStatus:
    address = {"backend1": "203.0.113.1", "backend2": "203.0.113.2"}[name]
    return EndpointStatus(name=name, address=address, source="addresses", health=health, ready=True, since=NOW)


def followed(service: ExternalService, *endpoints: Endpoint) -> EndpointHealth:
    health = EndpointHealth()
    health.follow(service, endpoints, NOW)
    return health


def changes(health: EndpointHealth, name: str, *failures: str | None) -> list[str | None]:
    """What each of these checks changes; None: it has not failed."""
    found = [health.observe(name, Outcome(failure is None, failure), NOW) for failure in failures]
    return [each.kind if each else None for each in found]


def test_what_the_status_says_is_where_it_begins() -> None:
    health = followed(xsvc(written("backend1", "Unhealthy")), ONE, TWO)
    assert {name: verdict.health for name, verdict in health.verdicts.items()} == {
        "backend1": "Unhealthy",
        "backend2": "Unknown",
    }
    assert health.counts == {"Unhealthy": 1, "Unknown": 1}


def test_an_outcome_that_changes_a_verdict_says_from_which_to_which() -> None:
    health = followed(xsvc(written("backend1", "Healthy")), ONE)
    assert changes(health, "backend1", None, "connection refused") == [None, None]
    unhealthy = Verdict("Unhealthy", NOW, "connection refused")
    turning = Verdict("Healthy", NOW, turning=True)
    assert health.observe("backend1", Outcome(False, "connection refused"), NOW) == Change(
        "Verdict", turning, unhealthy
    )
    assert health.verdicts == {"backend1": unhealthy}
    assert +Counter(health.counts) == {"Unhealthy": 1}


def test_a_check_that_says_otherwise_counts_only_while_one_is_unhealthy() -> None:
    health = followed(xsvc(written("backend1", "Healthy"), written("backend2", "Healthy")), ONE, TWO)
    assert changes(health, "backend1", "refused", "refused") == [None, "Verdict"]
    assert changes(health, "backend2", None, "refused", "refused", None) == [None, "Turned", "Verdict", "Turned"]


def test_first_checks_of_what_an_earlier_leader_found_matter_where_clients_are_moored() -> None:
    for affinity, kind in (("Mooring", "Checked"), ("ClientIP", None)):
        service = xsvc(written("backend1", "Healthy"), written("backend2", "Healthy"))
        service = replace(service, spec=replace(service.spec, session_affinity=affinity))
        health = followed(service, ONE, TWO)
        assert changes(health, "backend1", None, None, "refused", None) == [kind, None, None, None]
        assert changes(health, "backend2", "refused", None) == [kind, kind]
        assert changes(health, "backend2", "refused", "refused") == [None, "Verdict"]


def test_another_reason_of_the_same_verdict_is_told_apart() -> None:
    health = followed(xsvc(), ONE)
    assert changes(health, "backend1", "refused", "refused", "timed out") == ["Verdict", None, "Reworded"]


def test_the_outcome_of_an_endpoint_that_is_gone_counts_for_nothing() -> None:
    health = followed(xsvc(), ONE, TWO)
    assert health.counts == {"Unknown": 2}
    health.follow(xsvc(), [TWO], NOW)
    assert changes(health, "backend1", None) == [None]
    assert health.counts == {"Unknown": 1}
    assert set(health.verdicts) == {"backend2"}


def test_without_a_check_endpoints_count_as_unchecked() -> None:
    health = EndpointHealth()
    assert health.follow(xsvc(check=None), [ONE], NOW)["backend1"].check is None
    assert health.verdicts["backend1"].health == "Unchecked"


def test_what_fails_is_known_with_its_address() -> None:
    health = followed(xsvc(written("backend1", "Unhealthy"), written("backend2", "Healthy")), ONE, TWO)
    assert health.failing == {"backend1": "203.0.113.1"}
    health.follow(xsvc(), [ONE._replace(address="203.0.113.9"), TWO], NOW)
    assert health.failing == {}


def test_when_the_first_recovers_the_failures_of_others_count_only_from_their_second_check_on() -> None:
    """The first may have begun before."""
    health = followed(xsvc(written("backend1", "Healthy"), written("backend2", "Healthy")), ONE, TWO)
    changes(health, "backend1", "refused", "refused")
    changes(health, "backend2", "refused", "refused")
    assert not health.verdicts["backend2"].turning
    changes(health, "backend1", None, None)
    assert health.verdicts["backend2"].turning
    assert changes(health, "backend2", "refused", "refused", "refused") == [None, "Turned", None]
    assert not health.verdicts["backend2"].turning


def test_when_the_last_healthy_one_failed_only_for_a_moment_others_are_given_the_same_time() -> None:
    health = followed(xsvc(written("backend1", "Healthy"), written("backend2", "Healthy")), ONE, TWO)
    changes(health, "backend1", "refused")
    changes(health, "backend2", "refused", "refused")
    changes(health, "backend1", None)
    assert health.verdicts["backend2"].turning


def test_while_enough_pass_an_unhealthy_one_is_believed_when_another_recovers() -> None:
    three = ONE._replace(name="backend3", address="203.0.113.3")
    health = followed(xsvc(), ONE, TWO, three)
    changes(health, "backend1", None)
    changes(health, "backend2", "refused")
    changes(health, "backend3", "refused", None, None)
    assert not health.verdicts["backend2"].turning

"""The board: verdicts begin with the status, change by outcomes, and are only told of when they change."""

from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    EndpointStatus,
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    ExternalServiceStatus,
    HealthCheck,
)
from moorage.core.health import Outcome
from moorage.core.model import Endpoint, Verdict
from moorage.operator.board import Board

KEY = ObjectKey("frontend", "backend")
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


class Told:
    """What the board has told."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[ObjectKey, str]] = []
        self.reworded = 0
        self.turned = 0
        self.board = Board(lambda: NOW, self._changed, self._turned, self._reworded)

    def _changed(self, key: ObjectKey, name: str, before: Verdict, after: Verdict) -> None:
        assert before.health != after.health
        self.verdicts.append((key, after.health))

    def _turned(self, key: ObjectKey) -> None:
        self.turned += 1

    def _reworded(self, key: ObjectKey) -> None:
        self.reworded += 1


def test_what_the_status_says_is_where_it_begins() -> None:
    told = Told()
    told.board.expect(KEY, xsvc(written("backend1", "Unhealthy")), [ONE, TWO])
    assert {name: verdict.health for name, verdict in told.board.verdicts(KEY).items()} == {
        "backend1": "Unhealthy",
        "backend2": "Unknown",
    }
    assert told.board.counts == {"Unhealthy": 1, "Unknown": 1}


def test_only_outcomes_that_change_a_verdict_are_told() -> None:
    told = Told()
    told.board.expect(KEY, xsvc(written("backend1", "Healthy")), [ONE])
    told.board.observe(KEY, "backend1", Outcome(True))
    told.board.observe(KEY, "backend1", Outcome(False, "connection refused"))
    assert (told.verdicts, told.reworded) == ([], 0)
    told.board.observe(KEY, "backend1", Outcome(False, "connection refused"))
    assert (told.verdicts, told.reworded) == ([(KEY, "Unhealthy")], 0)
    assert told.board.verdicts(KEY)["backend1"] == Verdict("Unhealthy", NOW, "connection refused")


def test_a_check_that_says_otherwise_is_told_only_while_one_is_unhealthy() -> None:
    told = Told()
    told.board.expect(KEY, xsvc(written("backend1", "Healthy"), written("backend2", "Healthy")), [ONE, TWO])
    told.board.observe(KEY, "backend1", Outcome(False, "refused"))
    assert told.turned == 0
    told.board.observe(KEY, "backend1", Outcome(False, "refused"))
    assert (told.verdicts, told.turned) == ([(KEY, "Unhealthy")], 0)
    for success in (True, False, False, True):
        told.board.observe(KEY, "backend2", Outcome(success, None if success else "refused"))
    assert told.verdicts == [(KEY, "Unhealthy")] * 2
    assert told.turned == 2, "when it first failed, and when it passed again"


def test_another_reason_of_the_same_verdict_is_told_apart() -> None:
    told = Told()
    told.board.expect(KEY, xsvc(), [ONE])
    for message in ("refused", "refused", "timed out"):
        told.board.observe(KEY, "backend1", Outcome(False, message))
    assert (told.verdicts, told.reworded) == ([(KEY, "Unhealthy")], 1)


def test_the_outcome_of_an_endpoint_that_is_gone_counts_for_nothing() -> None:
    told = Told()
    told.board.expect(KEY, xsvc(), [ONE, TWO])
    told.board.expect(KEY, xsvc(), [TWO])
    told.board.observe(KEY, "backend1", Outcome(True))
    told.board.remove(KEY)
    told.board.observe(KEY, "backend2", Outcome(True))
    assert told.verdicts == []
    assert told.board.verdicts(KEY) == {}
    assert not any(told.board.counts.values())


def test_without_a_check_endpoints_count_as_unchecked() -> None:
    told = Told()
    subjects = told.board.expect(KEY, xsvc(check=None), [ONE])
    assert subjects["backend1"].check is None
    assert told.board.verdicts(KEY)["backend1"].health == "Unchecked"


def test_what_fails_is_told_with_its_address() -> None:
    board = Told().board
    board.expect(KEY, xsvc(written("backend1", "Unhealthy"), written("backend2", "Healthy")), [ONE, TWO])
    assert board.failing(KEY) == {"backend1": "203.0.113.1"}
    board.expect(KEY, xsvc(), [ONE._replace(address="203.0.113.9"), TWO])
    assert board.failing(KEY) == {}

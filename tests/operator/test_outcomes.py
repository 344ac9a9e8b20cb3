"""How soon the outcome of a check has its ExternalService looked at again."""

import pytest
from structlog.testing import capture_logs

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.operator.metrics import Metrics
from moorage.operator.outcomes import FIRST_VERDICTS_SECONDS, REWORDED_SECONDS, Outcomes
from moorage.operator.records import Records
from tests.operator.test_endpoint_health import NOW, ONE, TWO, xsvc

KEY = ObjectKey("frontend", "backend")


class Taken:
    """Outcomes of checks of two endpoints, and what they have put into the queue."""

    def __init__(self) -> None:
        self.queued: list[float] = []
        self.metrics = Metrics()
        self.records = Records()
        self.records.of(KEY).health.follow(xsvc(), [ONE, TWO], NOW)
        self._outcomes = Outcomes(
            self.records, lambda key, seconds: self.queued.append(seconds), self.metrics, lambda: NOW
        )

    def take(self, name: str, *failures: str | None) -> list[float]:
        """After how many seconds each of these checks has its ExternalService looked at."""
        self.queued.clear()
        for failure in failures:
            self._outcomes.take(KEY, name, Outcome(failure is None, failure))
        return self.queued


def test_first_verdicts_come_together_and_later_ones_at_once() -> None:
    taken = Taken()
    assert taken.take("backend1", None) == [FIRST_VERDICTS_SECONDS]
    assert taken.take("backend1", None, "refused") == []
    assert taken.take("backend1", "refused") == [0.0]
    text = taken.metrics.text().decode()
    assert 'moorage_verdict_changes_total{health="Unhealthy"} 1.0' in text
    assert 'moorage_probes_total{result="ok"} 2.0' in text
    assert 'moorage_probes_total{result="failed"} 2.0' in text


def test_who_reads_the_log_is_warned_of_what_is_unhealthy_and_told_when_it_is_over() -> None:
    taken = Taken()
    with capture_logs() as logs:
        taken.take("backend1", None, "refused", "refused", None, None, None)
    turned = [(each["log_level"], each["health"], each["why"]) for each in logs]
    assert turned == [("debug", "Healthy", None), ("warning", "Unhealthy", "refused"), ("info", "Healthy", None)]


def test_a_check_that_says_otherwise_is_looked_at_at_once_and_other_words_after_a_while() -> None:
    taken = Taken()
    taken.take("backend1", "refused")
    taken.take("backend2", None)
    assert taken.take("backend2", "refused") == [0.0]
    assert taken.take("backend1", "timed out") == [REWORDED_SECONDS]


def test_what_is_not_known_any_more_is_left_alone() -> None:
    taken = Taken()
    taken.records.drop(KEY)
    assert taken.take("backend1", None, "refused") == []


def test_a_check_that_cannot_be_counted_costs_that_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*args: object) -> None:
        raise TypeError

    taken = Taken()
    with monkeypatch.context() as patched:
        patched.setattr("moorage.core.health.observe", mistaken)
        assert taken.take("backend1", None) == []
    assert taken.take("backend1", None) == [FIRST_VERDICTS_SECONDS]

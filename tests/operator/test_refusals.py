"""Refused Moorings: tried again less and less often, and told in the server's words."""

import pytest

from moorage.operator.refusals import LONGEST_SECONDS, Refusals

QUOTA = 'moorings.moorage.dev "backend.a" is forbidden: exceeded quota: few, requested: 1, used: 2, limited: 2'


@pytest.fixture
def refusals() -> Refusals:
    return Refusals(jitter=lambda: 0.0)


def test_one_that_is_refused_waits_longer_each_time_up_to_a_bound(refusals: Refusals) -> None:
    waits, now = [], 0.0
    for _ in range(10):
        refusals.add("backend.a", "no", now)
        wait = refusals.wait(now)
        assert wait is not None
        assert refusals.holds("backend.a", now + wait - 0.1)
        now += wait
        assert not refusals.holds("backend.a", now)
        waits.append(wait)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, LONGEST_SECONDS, LONGEST_SECONDS]


def test_one_that_is_written_at_last_is_forgotten(refusals: Refusals) -> None:
    refusals.add("backend.a", "no", 0.0)
    refusals.drop("backend.a")
    assert not refusals.holds("backend.a", 0.0)
    assert refusals.wait(0.0) is None
    assert refusals.problems() == ()


def test_one_that_is_not_to_be_written_any_more_is_forgotten(refusals: Refusals) -> None:
    refusals.add("backend.a", "no", 0.0)
    refusals.add("backend.b", "no", 0.0)
    refusals.keep({"backend.b"})
    assert [each.message for each in refusals.problems()] == [
        "Mooring backend.b cannot be written: no; see who refuses it"
    ]


def test_many_are_told_as_one_problem_for_each_reason(refusals: Refusals) -> None:
    refusals.add("backend.a", QUOTA, 0.0)
    for name in ("backend.c", "backend.b"):
        refusals.share(name, "backend.a")
    refusals.add("backend.d", "admission webhook denied the request: not today.", 0.0)
    quota, webhook = refusals.problems()
    assert (quota.reason, webhook.reason) == ("QuotaExceeded", "WriteRefused")
    assert quota.message == (
        f"Mooring backend.a and 2 more cannot be written: {QUOTA}; raise the quota, or delete what uses it up"
    )
    assert webhook.message == (
        "Mooring backend.d cannot be written: admission webhook denied the request: not today; see who refuses it"
    )


def test_those_that_share_a_refusal_are_tried_at_the_same_time(refusals: Refusals) -> None:
    refusals.add("backend.a", QUOTA, 0.0)
    refusals.share("backend.b", "backend.a")
    assert refusals.holds("backend.b", 1.9)
    assert not refusals.holds("backend.b", 2.0)

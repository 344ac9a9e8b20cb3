"""Spans of time, and values that change over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.churn.spans import Spans, Timeline

SPANS = Spans([(20, 30), (10, 15), (28, 40)])
MOMENTS = st.integers(0, 100)


def test_spans_that_meet_are_one() -> None:
    assert SPANS.spans == [(10, 15), (20, 40)]
    assert (Spans([(1, 2)]) | Spans([(2, 5)])).spans == [(1, 5)]


def test_a_span_touches_another_at_its_ends_too() -> None:
    assert SPANS.touch(15, 16)
    assert SPANS.touch(0, 10)
    assert SPANS.touch(25, 26)
    assert not SPANS.touch(16, 19)
    assert not SPANS.touch(41, 99)


@pytest.mark.parametrize(
    ("moment", "seconds", "later"),
    [(0, 5, 5), (0, 10, 10), (8, 4, 17), (8, 8, 41), (12, 1, 16), (50, 3, 53), (20, 0, 20)],
)
def test_time_within_spans_does_not_count(moment: float, seconds: float, later: float) -> None:
    assert SPANS.later(moment, seconds) == later


@pytest.mark.parametrize(("moment", "seconds", "earlier"), [(5, 3, 2), (17, 4, 8), (41, 3, 18), (12, 1, 9)])
def test_nor_backwards(moment: float, seconds: float, earlier: float) -> None:
    assert SPANS.earlier(moment, seconds) == earlier


@given(st.lists(st.tuples(MOMENTS, MOMENTS).map(sorted).map(tuple)), MOMENTS, st.integers(1, 50))
def test_between_the_two_moments_so_many_seconds_are_outside_of_all_spans(
    spans: list[tuple[int, int]], moment: int, seconds: int
) -> None:
    found = Spans(spans)

    def free(since: int, until: int) -> int:
        return sum(not any(begin <= second < end for begin, end in spans) for second in range(since, until))

    assert free(moment, int(found.later(moment, seconds))) == seconds
    assert free(int(found.earlier(moment, seconds)), moment) == seconds


def test_a_value_is_what_it_was_changed_to_last() -> None:
    line = Timeline("a")
    line.add(10, "b")
    line.add(20, "c")
    assert [line.at(moment) for moment in (0, 10, 19, 20, 99)] == ["a", "b", "b", "c", "c"]
    assert line.last == "c"


def test_within_a_span_it_has_the_value_of_its_beginning_and_those_that_follow() -> None:
    line = Timeline("a")
    line.add(10, "b")
    line.add(20, "c")
    assert line.within(5, 10) == ["a", "b"]
    assert line.within(11, 19) == ["b"]
    assert line.changes(10, 19) == [10]

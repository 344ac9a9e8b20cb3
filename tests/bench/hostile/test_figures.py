import pytest

from bench.hostile.figures import lateness, missed, quantile


@pytest.mark.parametrize(
    ("times", "until", "count"),
    [
        ([0, 2, 4, 6], 8, 0),
        ([0, 2.1, 4.3, 6.9], 8, 0),
        ([0, 2, 6, 8], 8, 1),
        ([0, 2], 12, 4),
        ([0], 1, 0),
        ([], 60, 0),
    ],
)
def test_a_renewal_is_missed_when_the_next_one_is_due(times: list[float], until: float, count: int) -> None:
    assert missed(times, until, 2.0) == count


def test_a_check_is_late_by_what_it_came_after_the_earliest_time_that_it_was_due() -> None:
    assert lateness(0.0, [0.5, 1.45, 2.45, 3.6], 4.0, 1.0) == pytest.approx([0.0, 0.05, 0.2])


def test_a_gap_stands_for_each_check_that_did_not_come() -> None:
    assert lateness(0.0, [0.5, 3.95], 4.0, 1.0) == pytest.approx([2.5, 1.5, 0.5])


def test_an_endpoint_that_is_not_checked_any_more_is_late_until_the_end() -> None:
    assert lateness(0.0, [0.5, 1.45], 5.0, 1.0) == pytest.approx([0.0, 2.55, 1.55, 0.55])
    assert lateness(0.0, [], 3.5, 1.0) == pytest.approx([2.5, 1.5, 0.5])
    assert lateness(0.0, [3.25], 3.5, 1.0) == pytest.approx([2.25, 1.25, 0.25])


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4), (0.0, 1)])
def test_a_quantile_is_the_least_value_that_so_many_do_not_exceed(share: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], share) == value


def test_nothing_has_the_quantile_0() -> None:
    assert quantile([], 0.99) == 0

import math

from bench.scrape import Histogram, Scrape

TEXT = """\
# HELP writes_total Writes.
writes_total{kind="Service",verb="create"} 3.0
writes_total{kind="Service",verb="patch"} 2.0
writes_total{kind="Event",verb="create"} 7.0
late_seconds_bucket{le="0.1"} 98.0
late_seconds_bucket{le="0.05"} 50.0
late_seconds_bucket{le="+Inf"} 100.0
late_seconds_count 100.0
"""


def test_series_are_summed_by_labels() -> None:
    scrape = Scrape(TEXT)
    assert scrape.total("writes_total") == 12
    assert scrape.total("writes_total", kind="Service") == 5
    assert scrape.total("writes_total", verb="create|delete", kind="Service|Event") == 10
    assert scrape.total("writes_total", kind="Serv") == 0


def test_a_quantile_is_the_least_bound_that_holds_it() -> None:
    late = Scrape(TEXT).histogram("late_seconds")
    assert late == Histogram([0.05, 0.1], [50, 98, 100])
    assert [late.quantile(share) for share in (0.5, 0.51, 0.98, 0.99)] == [0.05, 0.1, 0.1, math.inf]
    assert late.since(Histogram([0.05, 0.1], [0, 48, 50])).quantile(1.0) == 0.05


def test_what_was_before_does_not_count() -> None:
    after, before = Histogram([0.05, 0.1], [50, 98, 100]), Histogram([0.05, 0.1], [10, 58, 60])
    assert after.since(before) == Histogram([0.05, 0.1], [40, 40, 40])

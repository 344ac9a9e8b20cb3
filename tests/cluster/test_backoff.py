import pytest

from moorage.cluster.backoff import backoff


def test_backoff_doubles_up_to_its_bound_less_the_jitter() -> None:
    assert [backoff(n, 0.0) for n in (1, 2, 3, 8, 9, 5000)] == [0.2, 0.4, 0.8, 25.6, 30.0, 30.0]
    assert backoff(2, 0.999) == pytest.approx(0.2, rel=0.01)

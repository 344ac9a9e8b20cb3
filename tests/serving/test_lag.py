"""How long the event loop lets others wait: a stall counts for as long as it is."""

import asyncio
import re

import pytest

from moorage.serving import lag
from moorage.serving.metrics import ProcessMetrics


@pytest.mark.parametrize(
    ("late", "counted"),
    [(0.0, [0.0]), (-0.001, [0.0]), (0.004, [0.004]), (0.01, [0.01, 0.0]), (0.035, [0.035, 0.025, 0.015, 0.005])],
)
def test_a_stall_counts_once_for_each_look_that_it_swallowed(late: float, counted: list[float]) -> None:
    assert list(lag.waits(late)) == pytest.approx(counted)


def test_a_process_that_was_frozen_for_an_hour_does_not_spend_long_counting() -> None:
    assert len(list(lag.waits(3600.0))) == lag.MAX_WAIT_SECONDS / lag.PERIOD_SECONDS + 1


@pytest.mark.looptime
async def test_a_loop_that_is_free_has_no_lag_and_one_that_was_held_up_has(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    loop = asyncio.get_running_loop()
    with lag.measured(seen.append):
        await asyncio.sleep(0.105)
        assert len(seen) == 10
        assert max(seen) < 0.002
        seen.clear()
        frozen, time = loop.time() + 0.3, loop.time
        monkeypatch.setattr(loop, "time", lambda: max(frozen, time()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0.28 < max(seen) <= 0.3
        assert len(seen) in (29, 30)
    monkeypatch.undo()
    seen.clear()
    await asyncio.sleep(0.5)
    assert seen == []


def test_prometheus_is_told_with_buckets_that_tell_50_ms_from_more() -> None:
    assert buckets(0.045) == {"0.04": 0, "0.05": 1}


def test_prometheus_is_told_with_buckets_that_tell_the_waits_of_a_second_from_those_of_some() -> None:
    assert buckets(0.9) == {"0.5": 0, "1.0": 1}
    assert buckets(1.5) == {"1.0": 0, "2.0": 1}
    assert buckets(3.0) == {"2.0": 0, "5.0": 1}


def buckets(late: float) -> dict[str, int]:
    """The last bucket that does not count a wait of so many seconds, and the first that does."""
    metrics = ProcessMetrics()
    metrics.loop_lag_seconds.observe(late)
    found = re.findall(r'moorage_loop_lag_seconds_bucket\{le="(.+?)"\} ([01])\.0', metrics.text().decode())
    last = [count for _, count in found].index("1") - 1
    return {bound: int(count) for bound, count in found[last : last + 2]}

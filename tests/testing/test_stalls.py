"""What counts as lost, and that ticks are noted."""

import time

import pytest

from testing.stalls import PAUSE_SECONDS, Stalls, late, lost


def test_what_a_tick_is_late_is_lost() -> None:
    assert lost([0, PAUSE_SECONDS, PAUSE_SECONDS + 2], 0, 3) == pytest.approx(2 - PAUSE_SECONDS)


def test_only_what_lies_between_the_two_times_counts() -> None:
    assert lost([0, 10, 20], 4, 7) == pytest.approx(3 - PAUSE_SECONDS)
    assert lost([0, 10, 20], 25, 30) == 0


def test_where_no_tick_is_late_nothing_is_lost() -> None:
    assert lost([number * PAUSE_SECONDS for number in range(100)], 0, 5) == pytest.approx(0)


def test_a_tick_that_is_late_was_due_after_a_pause() -> None:
    ticks = [0, PAUSE_SECONDS, 3, 3.5]
    assert late(ticks, 0.1) == [(2 * PAUSE_SECONDS, 3), (3 + PAUSE_SECONDS, 3.5)]
    assert late(ticks, 1) == [(2 * PAUSE_SECONDS, 3)]


def test_ticks_are_noted_until_the_end_of_the_block() -> None:
    began = time.monotonic()
    with Stalls() as stalls:
        time.sleep(3 * PAUSE_SECONDS)
        while stalls.since(began) > time.monotonic() - began - 2 * PAUSE_SECONDS:
            assert time.monotonic() - began < 30
    # Nobody ticks any more.
    ended = time.monotonic()
    time.sleep(3 * PAUSE_SECONDS)
    assert stalls.since(ended) >= PAUSE_SECONDS

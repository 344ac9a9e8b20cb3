"""When clients leave an endpoint that is being emptied."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.moorings_v1alpha1 import MooringStatus, PastMove
from moorage.core.drains import due, last_departure, next_departure
from testing.moorings import START, at, mooring

BEGAN = START.timestamp()


@given(st.integers(1, 50), st.integers(1, 500), st.lists(st.integers(1, 60), max_size=40))
def test_whenever_it_is_looked_at_they_leave_evenly_and_are_gone_in_time(
    clients: int, seconds: int, waits: list[int]
) -> None:
    left, last, now = clients, 0.0, 0.0
    for wait in waits:
        before, now = now, now + wait
        going = due(left, last, seconds, now)
        if going:
            left, last = left - going, now
        assert due(left, last, seconds, now) in (0, left if now >= seconds else 0)
        if now < seconds:
            assert going <= clients * (now - before) / seconds + 1 + clients * wait / seconds
            assert clients - left <= clients * now / seconds
    assert due(left, last, seconds, seconds) == left


def test_each_look_at_the_time_given_moves_one() -> None:
    left, last, moments = 4, 0.0, []
    while left:
        moment = next_departure(left, last, 100)
        assert due(left, last, 100, moment - 0.5) == 0
        assert due(left, last, 100, moment) == 1
        moments.append(moment)
        left, last = left - 1, moment
    assert moments == [25, 50, 75, 100]


def test_a_deadline_that_is_past_leaves_no_time() -> None:
    assert due(7, 50, 40, 50) == 7
    assert due(7, 50, 50, 50) == 7
    assert due(7, 50, 60, 50) == 0
    assert due(7, 50, 60, 40) == 0, "the clock went back"
    assert next_departure(7, 50, 40) == 50


def test_when_the_last_one_left_is_read_from_what_moorings_remember() -> None:
    def moved(*moves: tuple[float, str, str]) -> MooringStatus:
        return MooringStatus(moves=[PastMove(time=at(time), endpoint=name, reason=why) for time, name, why in moves])

    one = mooring("p", "a")
    all_of_them = [
        replace(one, status=moved((90, "c", "FailedOver"), (40, "b", "Drained"), (0, "a", "Assigned"))),
        replace(one, status=moved((60, "b", "Drained"), (0, "c", "Assigned"))),
        replace(one, status=moved((70, "b", "FailedOver"), (0, "a", "Assigned"))),
        replace(one, status=moved((80, "b", "Drained"))),
        replace(one, status=replace(moved((0, "b", "Drained"), (0, "a", "Drained")), moves=None)),
        one,
    ]
    assert last_departure("a", all_of_them, BEGAN) == BEGAN + 40
    assert last_departure("a", all_of_them, BEGAN + 50) == BEGAN + 50
    nonsense = replace(
        one,
        status=MooringStatus(
            moves=[
                PastMove(time="noon", endpoint="b", reason="Drained"),
                PastMove(time="", endpoint="a", reason="Assigned"),
            ]
        ),
    )
    assert last_departure("a", [nonsense], BEGAN) == BEGAN

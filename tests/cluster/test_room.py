"""What is held of answers at once is bounded, for each tenant and for all."""

import pytest

from moorage.cluster.room import House, NoRoomError, Room


def test_what_is_held_of_all_answers_counts_together() -> None:
    room = Room(100, House(1000))
    with room.holding() as one, room.holding() as two:
        one(60)
        two(40)
        with pytest.raises(NoRoomError, match="more than 100 bytes at once"):
            two(41)
        one(10)
        two(90)


def test_what_has_been_decoded_is_held_no_more() -> None:
    room = Room(100, House(1000))
    with room.holding() as hold:
        hold(100)
    with room.holding() as hold:
        hold(100)


def test_all_rooms_of_a_house_have_an_equal_part_of_it() -> None:
    house = House(100)
    first, second = Room(100, house), Room(100, house)
    with first.holding() as one, second.holding() as two:
        one(80)
        two(50)
        with pytest.raises(NoRoomError, match="more than 50 bytes"):
            two(51)
        with pytest.raises(NoRoomError):
            one(81)
        one(20)
        one(50)
    with second.holding() as alone:
        alone(100)

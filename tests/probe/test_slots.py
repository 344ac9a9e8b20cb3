from hypothesis import given
from hypothesis import strategies as st

from moorage.probe.slots import Slots


def test_what_finds_no_slot_waits_and_is_next() -> None:
    slots: Slots[str, str] = Slots(2, 2)
    assert slots.take("a", "a1")
    assert slots.take("b", "b1")
    assert not slots.take("c", "c1")
    assert slots.give_back("a") == "c1"
    assert slots.give_back("c") is None
    assert slots.take("a", "a2")


def test_a_key_waits_for_its_own_slots_while_others_are_free() -> None:
    slots: Slots[str, str] = Slots(4, 2)
    assert [slots.take("slow", name) for name in ("s1", "s2", "s3", "s4")] == [True, True, False, False]
    assert slots.take("quick", "q1")
    assert slots.give_back("quick") is None, "slow has all that it may have"
    assert slots.give_back("slow") == "s3"
    assert slots.give_back("slow") == "s4"
    assert slots.give_back("slow") is None


def test_keys_take_turns() -> None:
    slots: Slots[str, str] = Slots(2, 2)
    assert slots.take("a", "a1")
    assert slots.take("a", "a2")
    for item in ("a3", "a4", "b1", "b2", "c1"):
        assert not slots.take(item[0], item)
    assert [slots.give_back("a"), slots.give_back("a"), slots.give_back("b")] == ["b1", "c1", "a3"]
    assert [slots.give_back("c"), slots.give_back("a")] == ["b2", "a4"]


def test_what_has_withdrawn_is_not_next() -> None:
    slots: Slots[str, str] = Slots(1, 1)
    assert slots.take("a", "a1")
    assert not slots.take("b", "b1")
    assert not slots.take("b", "b2")
    slots.withdraw("b", "b1")
    slots.withdraw("b", "never waited")
    assert slots.give_back("a") == "b2"
    assert slots.give_back("b") is None


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("++-x"))))
def test_no_slot_stays_free_that_a_waiting_item_may_have(
    most: int, most_each: int, steps: list[tuple[str, str]]
) -> None:
    slots: Slots[str, int] = Slots(most, most_each)
    running: list[tuple[str, int]] = []
    waiting: list[tuple[str, int]] = []
    for number, (key, step) in enumerate(steps):
        if step == "+":
            (running if slots.take(key, number) else waiting).append((key, number))
        elif step == "x":
            for each in [each for each in waiting if each[0] == key][:1]:
                slots.withdraw(*each)
                waiting.remove(each)
        elif any(each[0] == key for each in running):
            running.remove(next(each for each in running if each[0] == key))
            following = slots.give_back(key)
            if following is not None:
                begun = next(each for each in waiting if each[1] == following)
                waiting.remove(begun)
                running.append(begun)
        by_key = {key: sum(each[0] == key for each in running) for key in "abc"}
        assert len(running) <= most
        assert max(by_key.values()) <= most_each
        if len(running) < most:
            assert all(by_key[key] == most_each for key, _ in waiting)

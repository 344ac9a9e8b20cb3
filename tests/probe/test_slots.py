from hypothesis import given
from hypothesis import strategies as st

from moorage.api.meta import ObjectKey
from moorage.probe.slots import Slots

A, B, C = ObjectKey("a", "x"), ObjectKey("b", "x"), ObjectKey("c", "x")


def test_what_finds_no_slot_waits_and_is_next() -> None:
    slots: Slots[str] = Slots(2, 2)
    assert slots.take(A, "a1")
    assert slots.take(B, "b1")
    assert not slots.take(C, "c1")
    assert slots.give_back(A) == ["c1"]
    assert slots.give_back(C) == []
    assert slots.take(A, "a2")


def test_a_key_waits_for_its_own_slots_while_others_are_free() -> None:
    slots: Slots[str] = Slots(5, 2)
    assert [slots.take(A, name) for name in ("s1", "s2", "s3", "s4")] == [True, True, False, False]
    assert slots.take(B, "q1")
    assert slots.give_back(B) == [], "it has all that it may have"
    assert slots.give_back(A) == ["s3"]
    assert slots.give_back(A) == ["s4"]
    assert slots.give_back(A) == []


def test_however_many_hold_their_slots_the_next_one_finds_some() -> None:
    slots: Slots[int] = Slots(4096, 1024)
    for name in range(12):
        for item in range(1024):
            slots.take(ObjectKey(f"tenant{name}", "slow"), item)
    assert slots.take(ObjectKey("late", "x"), 0)


def test_a_namespace_has_no_more_for_having_more_keys() -> None:
    slots: Slots[int] = Slots(100, 25)
    taken = sum(slots.take(ObjectKey("tenant", f"slow{name}"), item) for name in range(40) for item in range(40))
    assert taken == 50
    assert sum(slots.take(ObjectKey("late", "x"), item) for item in range(40)) == 25


def test_keys_take_turns() -> None:
    slots: Slots[str] = Slots(3, 3)
    assert slots.take(A, "a1")
    assert slots.take(A, "a2")
    assert slots.take(B, "b0")
    for key, item in ((A, "a3"), (A, "a4"), (B, "b1"), (B, "b2"), (C, "c1")):
        assert not slots.take(key, item)
    assert slots.give_back(A) == ["c1"]
    assert slots.give_back(A) == ["a3"]
    assert slots.give_back(B) == ["b1"]
    assert slots.give_back(A) == ["a4"]


def test_a_namespace_whose_keys_had_all_they_may_have_is_asked_again() -> None:
    slots: Slots[str] = Slots(4, 1)
    assert slots.take(A, "a1")
    assert not slots.take(A, "a2")
    assert slots.take(B, "b1")
    assert slots.give_back(B) == []
    assert slots.take(B, "b2")
    assert slots.take(C, "c1")
    assert not slots.take(ObjectKey("a", "y"), "y1"), "one slot is free, and the namespace has as many"
    assert slots.give_back(B) == ["y1"]


def test_what_has_withdrawn_is_not_next() -> None:
    slots: Slots[str] = Slots(1, 1)
    assert slots.take(A, "a1")
    assert not slots.take(B, "b1")
    assert not slots.take(B, "b2")
    slots.withdraw(B, "b1")
    slots.withdraw(B, "never waited")
    assert slots.give_back(A) == ["b2"]
    assert slots.give_back(B) == []


@given(
    st.integers(1, 9),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from([A, B, C, ObjectKey("a", "y")]), st.sampled_from("++-x")), max_size=60),
)
def test_no_slot_stays_free_that_a_waiting_item_may_have(
    most: int, max_each: int, steps: list[tuple[ObjectKey, str]]
) -> None:
    slots: Slots[int] = Slots(most, max_each)
    running: list[tuple[ObjectKey, int]] = []
    waiting: list[tuple[ObjectKey, int]] = []
    for number, (key, step) in enumerate(steps):
        if step == "+":
            (running if slots.take(key, number) else waiting).append((key, number))
        elif step == "x":
            for each in [each for each in waiting if each[0] == key][:1]:
                slots.withdraw(*each)
                waiting.remove(each)
        elif any(each[0] == key for each in running):
            running.remove(next(each for each in running if each[0] == key))
            for following in slots.give_back(key):
                begun = next(each for each in waiting if each[1] == following)
                waiting.remove(begun)
                running.append(begun)
        free = most - len(running)
        assert free >= 0
        for key, _ in waiting:
            of_key = sum(each[0] == key for each in running)
            of_namespace = sum(each[0][0] == key[0] for each in running)
            assert of_key <= max_each
            assert of_key >= min(max_each, free) or of_namespace >= free


def test_a_step_costs_the_same_however_many_wait() -> None:
    looked: list[ObjectKey] = []

    class Counting(Slots[int]):
        def _may(self, key: ObjectKey) -> bool:
            looked.append(key)
            return super()._may(key)

    for namespaces, names in ((1, 2000), (2000, 1)):
        slots = Counting(64, 16)
        keys = [ObjectKey(f"tenant{number % namespaces}", f"x{number % names}") for number in range(2000)]
        running = [key for key in keys if slots.take(key, 0)]
        looked.clear()
        for key in running:
            slots.give_back(key)
        assert len(looked) <= 6 * len(running)

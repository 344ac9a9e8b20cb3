import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.probe.turns import HALF_LIFE_SECONDS, LITTLE_SECONDS, TIDY_SECONDS, Turns


def turns(most: int = 2) -> Turns[str]:
    return Turns(most, 0.0)


def test_there_are_no_more_turns_at_once_than_asked_for_and_one_for_each_namespace() -> None:
    given = turns(2)
    for namespace in "abc":
        for number in range(2):
            given.wait(namespace, f"{namespace}{number}")
    assert [given.following(0.0) for _ in range(3)] == ["a0", "b0", None]
    given.done("a", 0.0, 0.0)
    assert given.following(0.0) == "a1"
    given.done("b", 1.0, 0.0)
    given.done("a", 1.0, 0.0)
    assert [given.following(0.0) for _ in range(3)] == ["c0", "b1", None]


def test_the_namespace_that_took_the_least_time_is_next() -> None:
    given = turns(1)
    for namespace, seconds in (("greedy", 0.5), ("modest", 0.1)):
        given.wait(namespace, "first")
        given.following(0.0)
        given.done(namespace, seconds, 0.0)
    for namespace in ("greedy", "modest", "new"):
        given.wait(namespace, f"of {namespace}")
    order = []
    for namespace in ("new", "modest", "greedy"):
        order.append(given.following(0.0))
        given.done(namespace, 0.001, 0.0)
    assert order == ["of new", "of modest", "of greedy"]


def test_of_one_namespace_the_item_that_has_waited_longest_is_next() -> None:
    given = turns()
    for item in ("first", "second", "third"):
        given.wait("a", item)
    given.withdraw("a", "second")
    given.withdraw("a", "never waited")
    assert given.following(0.0) == "first"
    given.done("a", 1.0, 0.0)
    assert given.following(0.0) == "third"
    given.done("a", 1.0, 0.0)
    assert given.following(0.0) is None


@pytest.mark.parametrize("later", [HALF_LIFE_SECONDS * 5, TIDY_SECONDS * 2, 1e9])
def test_time_that_was_taken_is_forgotten(later: float) -> None:
    given = turns(1)
    for namespace, seconds, now in (("before", 1.0, 0.0), ("now", 0.1, later)):
        given.wait(namespace, "first")
        given.following(now)
        given.done(namespace, seconds, now)
    for namespace in ("now", "before"):
        given.wait(namespace, f"of {namespace}")
    assert given.following(later) == "of before"


def test_one_turn_is_kept_for_those_who_take_little() -> None:
    given = turns(2)
    for namespace in ("a", "b"):
        given.wait(namespace, namespace)
        given.following(0.0)
        given.done(namespace, 2 * LITTLE_SECONDS, 0.0)
        given.wait(namespace, namespace)
    assert [given.following(0.0), given.following(0.0)] == ["a", None]
    given.wait("modest", "modest")
    assert given.following(0.0) == "modest"
    given.done("a", 0.0, 0.0)
    assert given.following(0.0) == "b", "while the other turn is in use too"
    given.wait("a", "a")
    given.done("modest", 0.0, 0.0)
    assert given.following(0.0) is None
    assert given.following(2 * HALF_LIFE_SECONDS) == "a", "it has been forgotten"


@pytest.mark.parametrize(("most", "begun"), [(1, 1), (2, 1), (3, 2)])
def test_those_who_take_much_have_all_turns_but_one_and_the_only_one(most: int, begun: int) -> None:
    given = turns(most)
    for namespace in "abc":
        given.wait(namespace, namespace)
        given.following(0.0)
        given.done(namespace, 2 * LITTLE_SECONDS, 0.0)
        given.wait(namespace, namespace)
    assert [given.following(0.0) for _ in range(3)] == [*"abc"[:begun], *[None] * (3 - begun)]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(1, 3))
def test_one_whose_items_are_short_waits_for_one_end_at_most(order: list[str], most: int) -> None:
    given = turns(most)
    now = 0.0
    for namespace in "abc":
        given.wait(namespace, namespace)
        given.following(now)
        given.done(namespace, 0.1, now)
    for number, namespace in enumerate(order):
        given.wait(namespace, f"{namespace}{number}")
    running = []
    while True:
        while (item := given.following(now)) is not None:
            running.append(item)
        if not running:
            break
        given.wait("modest", "modest")
        now += 0.1
        given.done(running.pop(0)[0], 0.1, now)
        assert given.following(now) == "modest"
        given.done("modest", 0.001, now)

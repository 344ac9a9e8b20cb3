"""The fewest moves to even."""

from collections import Counter
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.core.evenness import fewest_moves_to_even
from testing.moorings import GroupStory, clients, drained, end, member


def is_even(loads: dict[str, int], weights: dict[str, int]) -> bool:
    """Whether each client was assigned to a least-moored endpoint, in some order."""
    return all(
        (loads[one] - 1) / weights[one] <= loads[other] / weights[other]
        for one, other in product(weights, weights)
        if loads[one]
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), min_size=1, max_size=3))
def test_it_is_even_afterwards_and_no_fewer_moves_would_do(ends: list[tuple[int, int]]) -> None:
    weights = {f"e{number}": weight for number, (_, weight) in enumerate(ends)}
    story = GroupStory()
    for number, (count, weight) in enumerate(ends):
        story.members = [member(end(f"e{number}", weight=weight))]
        story.present |= clients(*(f"p{number}-{each}" for each in range(count)))
        story.present = {key: one for key, one in story.present.items() if key.name.startswith(f"p{number}-")}
        story.step()
    have = dict.fromkeys(weights, 0) | Counter(each for each in story.where().values() if each)
    story.present = clients(*story.where())
    story.members = [member(*(end(name, weight=weight) for name, weight in weights.items()))]
    moves = fewest_moves_to_even(story.snapshot())
    loads = Counter(have)
    for move in moves:
        loads[move.previous] -= 1
        loads[move.endpoint] += 1
    assert is_even(loads, weights)
    assert len({move.client.key for move in moves}) == len(moves)
    total = sum(have.values())
    needed = min(
        sum(max(0, have[name] - count) for name, count in zip(weights, counts, strict=True))
        for counts in product(range(total + 1), repeat=len(weights))
        if sum(counts) == total and is_even(dict(zip(weights, counts, strict=True)), weights)
    )
    assert len(moves) == needed


def test_who_came_last_would_move_and_a_drained_endpoint_has_no_part() -> None:
    story = GroupStory(member(end("a")), present=clients("p", "q"))
    story.step()
    story.present |= clients("late-1", "late-2")
    story.step(5)
    story.set(member(end("a"), end("b"), drained("c", 0)))
    moves = fewest_moves_to_even(story.snapshot())
    assert {(move.client.key.name, move.previous, move.endpoint) for move in moves} == {
        ("late-1", "a", "b"),
        ("late-2", "a", "b"),
    }
    assert {move.why for move in moves} == {"a has 4 clients, and b 0"}
    assert story.decide().writes == ()


def test_hints_bound_it_and_without_a_say_there_is_none() -> None:
    story = GroupStory(member(end("a"), client="Node"), present=clients(*(f"n{n}" for n in range(20)), kind="Node"))
    story.step()
    story.set(member(end("a"), end("b"), client="Node", by_kube_proxy=True))
    assert len(fewest_moves_to_even(story.snapshot())) == 8
    story.set(member(end("a"), end("b"), client="Node", counts=False))
    assert fewest_moves_to_even(story.snapshot()) == []

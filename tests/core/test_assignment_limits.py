"""Who leaves an endpoint that is drained, and how many clients an endpoint can have."""

from collections import Counter
from typing import Any

from moorage.api.topology import MAX_HINTS
from moorage.core.assignment import MAX_PASSES
from moorage.core.mooring_model import Drained
from testing.moorings import GroupStory, at, clients, drained, end, member, reasons

PODS = [f"frontend-{number}" for number in range(6)]


def nodes_story(count: int, *names: str, **fields: Any) -> GroupStory:
    """Nodes that kube-proxy moors to endpoints."""
    present = clients(*(f"n{number:02}" for number in range(count)), kind="Node")
    return GroupStory(member(*map(end, names), client="Node", by_kube_proxy=True, **fields), present=present)


# --- Drains --------------------------------------------------------------------------------------------------------


def test_without_a_deadline_clients_of_a_drained_endpoint_stay() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients(*PODS))
    story.step()
    story.set(member(end("a"), drained("b", 0)))
    decision = story.step(10_000)
    assert decision.writes == ()
    assert decision.again_seconds is None


def test_until_the_deadline_they_leave_evenly() -> None:
    story = GroupStory(member(end("a", takes=False), end("b")), present=clients(*(f"p{n}" for n in range(5))))
    story.step()
    story.set(member(end("a"), drained("b", 0, 100)))
    for number in range(6):
        decision = story.step()
        assert set(reasons(decision).values()) == ({"Drained"} if number else set())
        assert (len(decision.moves), decision.again_seconds) == (number > 0, 20 if number < 5 else None)
        story.now += 20
    assert set(story.where().values()) == {"a"}


def test_a_drain_that_nobody_has_recorded_yet_begins_now() -> None:
    story = GroupStory(member(end("a"), end("b", takes=False)), present=clients(*PODS))
    story.step()
    begins = end("a", takes=False, drained=Drained(None, at(160)))
    story.set(member(begins, end("b")))
    assert story.step(100).moves == ()
    story.set(member(end("a", takes=False, drained=Drained(at(100), at(160))), end("b")))
    assert [len(story.step(10).moves) for _ in range(6)] == [1] * 6


def test_those_that_are_left_share_the_time_when_others_go_by_themselves() -> None:
    story = GroupStory(member(end("a", takes=False), end("b")), present=clients(*(f"p{n}" for n in range(5))))
    story.step()
    story.set(member(end("a"), drained("b", 0, 100)))
    assert len(story.step(20).moves) == 1
    there = [name for name, where in story.where().items() if where == "b"]
    story.present = {key: each for key, each in story.present.items() if key.name not in there[:2]}
    decision = story.step()
    assert (len(decision.moves), decision.again_seconds) == (0, 40)


def test_after_the_deadline_whoever_is_still_there_leaves_at_once() -> None:
    story = GroupStory(member(end("a", takes=False), end("b")), present=clients(*PODS))
    story.step()
    story.set(member(end("a"), drained("b", 0, 100)))
    decision = story.step(101)
    assert len(decision.moves) == len(PODS)
    assert {each.why for each in decision.moves} == {f"b is drained, to be empty by {at(100)}"}


def test_who_cannot_go_anywhere_stays_and_nobody_is_asked_again() -> None:
    story = GroupStory(member(end("b")), present=clients(*PODS))
    story.step()
    story.set(member(drained("b", 0, 100)))
    decision = story.step(101)
    assert (decision.writes, decision.again_seconds) == ((), None)


def test_hundreds_of_clients_a_second_leave_evenly_too() -> None:
    story = GroupStory(member(end("a", takes=False), end("b")), present=clients(*(f"p{n}" for n in range(600))))
    story.step()
    story.set(member(end("a"), drained("b", 0, 10)))
    assert [len(story.step(1).moves) for _ in range(11)] == [60] * 10 + [0]


# --- Few clients an endpoint ---------------------------------------------------------------------------------------


def test_hints_bound_how_many_nodes_an_endpoint_gets() -> None:
    story = nodes_story(20, "a", "b")
    decision = story.step()
    assert Counter(story.where().values()) == {"a": MAX_HINTS, "b": MAX_HINTS}
    (problem,) = decision.moored.problems
    assert problem.reason == "TooManyNodes"
    assert "4 nodes" in problem.message
    assert story.decide().writes == ()


def test_of_the_heavier_one_no_more_than_it_has_room_for() -> None:
    ends = member(end("a", weight=3), end("b"), client="Node", by_kube_proxy=True)
    story = GroupStory(ends, present=nodes_story(12).present)
    story.step()
    assert Counter(story.where().values()) == {"a": 8, "b": 4}


def test_they_bound_zones_too_and_no_clients_of_node_agents() -> None:
    present = clients(*(f"z{number}" for number in range(9)), kind="Zone")
    story = GroupStory(member(end("a"), client="Zone", by_kube_proxy=True), present=present)
    decision = story.step()
    assert [each.reason for each in decision.moored.problems] == ["TooManyZones"]
    story = GroupStory(member(end("a"), client="Zone"), present=present)
    decision = story.step()
    assert (len(story.moorings), decision.moored.problems) == (9, ())


def test_they_bound_edits() -> None:
    story = nodes_story(16, "a", "b")
    story.step()
    who = next(name for name, where in story.where().items() if where == "a")
    story.edit(who, "b")
    assert story.step().moves == ()
    assert "8 nodes" in (story.of(who).status.message or "")
    other = next(name for name, where in story.where().items() if where == "b")
    story.present.pop(next(key for key in story.present if key.name == other))
    assert reasons(story.step()) == {who: "Moved"}


def test_who_finds_no_room_after_a_failure_stays_and_moves_when_there_is_some() -> None:
    story = nodes_story(16, "a", "b")
    story.step()
    names = [end("a", serves=False), end("b"), end("c")]
    story.set(member(*names[:2], client="Node", by_kube_proxy=True))
    decision = story.step()
    assert decision.writes == ()
    assert [each.reason for each in decision.moored.problems] == ["TooManyNodes"]
    story.set(member(*names, client="Node", by_kube_proxy=True))
    assert len(story.step().moves) == 8


def test_of_more_than_have_room_those_that_came_first_are_led() -> None:
    story = GroupStory(member(end("a"), client="Node"), present=clients(*(f"n{n}" for n in range(9)), kind="Node"))
    story.step()
    story.present |= clients("a-late-one", kind="Node")
    story.step(5)
    story.set(member(end("a"), client="Node", by_kube_proxy=True))
    decision = story.step()
    assert decision.writes == ()
    assert decision.moored.at == {"a": tuple(f"n{n}" for n in range(8))}
    assert "2 nodes" in decision.moored.problems[0].message


def test_one_that_leaves_makes_room_for_another_in_the_same_decision() -> None:
    story = nodes_story(16, "a", "b", on_recovery="Return")
    story.step()
    there = {where: [name for name, it in story.where().items() if it == where] for where in "ab"}
    story.set(member(*map(end, "abc"), client="Node", by_kube_proxy=True, on_recovery="Return"))
    story.edit(there["a"][0], "b")
    story.edit(there["b"][0], "c")
    assert reasons(story.step()) == {there["a"][0]: "Moved", there["b"][0]: "Moved"}
    assert story.decide().writes == ()


def test_a_long_chain_of_edits_is_followed_in_several_decisions() -> None:
    """Each waits for the room that the next one makes, and only the last one finds some."""
    names = [f"e{number:02}" for number in range(MAX_PASSES + 5)]
    story = nodes_story(MAX_HINTS * len(names), *names)
    story.step()
    at_ = {name: min(who for who, where in story.where().items() if where == name) for name in names}
    names.sort(key=lambda each: at_[each])
    story.set(member(*map(end, [*names, "free"]), client="Node", by_kube_proxy=True))
    for name, target in zip(names, [*names[1:], "free"], strict=True):
        story.edit(at_[name], target)
    assert [len(story.step().moves) for _ in range(3)] == [MAX_PASSES, 5, 0]
    assert [story.where()[at_[name]] for name in names] == [*names[1:], "free"]
    assert all(each.status.message is None for each in story.moorings)

"""What people write into Moorings: edits that move clients, and Moorings that they make."""

from typing import Any

import pytest

from moorage.core.assignment import decide_group
from moorage.core.model import Patch
from moorage.core.roster import Roster
from testing.moorings import GroupStory, at, clients, drained, end, member, mooring, reasons

PODS = [f"frontend-{number}" for number in range(6)]


def nodes_story(count: int, *names: str, **fields: Any) -> GroupStory:
    """Nodes that kube-proxy moors to endpoints."""
    present = clients(*(f"n{number:02}" for number in range(count)), kind="Node")
    return GroupStory(member(*map(end, names), client="Node", by_kube_proxy=True, **fields), present=present)


# --- Edits ---------------------------------------------------------------------------------------------------------


def test_a_person_moves_a_client_in_one_write_and_makes_it_its_home() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p"))
    story.step()
    old = story.where()["p"]
    new = "b" if old == "a" else "a"
    story.edit("p", new)
    decision = story.step(3)
    assert reasons(decision) == {"p": "Moved"}
    (write,) = decision.writes
    assert isinstance(write, Patch)
    assert "spec" not in write.body
    record = story.of("p").status
    assert (record.endpoint, record.home, record.previous, record.since) == (new, new, old, at(3))


def test_a_person_may_choose_one_that_takes_no_new_clients() -> None:
    story = GroupStory(member(end("a"), drained("b", 0)), present=clients("p"))
    story.step()
    story.edit("p", "b")
    assert reasons(story.step()) == {"p": "Moved"}
    assert story.decide().writes == ()


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ("x", "spec.endpoint: there is no endpoint x; there are a, b, c; the client stays at a"),
        ("b", "spec.endpoint: b does not serve ExternalService backend; the client stays at a until that changes"),
        ("c", f"spec.endpoint: c is drained, to be empty by {at(9)}; the client stays at a until that changes"),
    ],
)
def test_an_edit_that_cannot_be_followed_is_told_once_and_the_client_stays(wish: str, says: str) -> None:
    story = GroupStory(member(end("a"), end("b", serves=False), drained("c", 0, 9)), present=clients("p"))
    story.step()
    story.edit("p", wish)
    decision = story.step()
    assert decision.moves == ()
    assert len(decision.writes) == 1
    assert story.of("p").status.message == says
    assert (story.of("p").spec.endpoint, story.where()["p"]) == (wish, "a")
    assert [each.reason for each in decision.moored.problems] == ["MooringNotFollowed"]
    assert says in decision.moored.problems[0].message
    assert story.decide().writes == ()


def test_it_is_followed_as_soon_as_it_can_be() -> None:
    story = GroupStory(member(end("a"), end("b", serves=False)), present=clients("p"))
    story.step()
    story.edit("p", "b")
    story.step()
    story.set(member(end("a"), end("b")))
    assert reasons(story.step()) == {"p": "Moved"}
    assert story.of("p").status.message is None


def test_the_wish_outlives_a_failover() -> None:
    story = GroupStory(member(end("a"), end("b", serves=False), end("c", serves=False)), present=clients("p"))
    story.step()
    story.edit("p", "b")
    story.step()
    story.set(member(end("a", serves=False), end("b", serves=False), end("c")))
    assert reasons(story.step()) == {"p": "FailedOver"}
    assert (story.of("p").spec.endpoint, story.where()["p"]) == ("b", "c")
    assert story.decide().writes == ()


def test_an_edit_that_is_taken_back_leaves_no_message() -> None:
    story = GroupStory(member(end("a")), present=clients("p"))
    story.step()
    story.edit("p", "x")
    story.step()
    story.edit("p", "a")
    assert story.step().moves == ()
    assert story.of("p").status.message is None
    assert story.decide().writes == ()


# --- Made by people ------------------------------------------------------------------------------------------------


def test_a_mooring_that_a_person_makes_is_kept_for_its_client_and_honoured() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p"))
    story.step()
    story.make(mooring("later", "b"))
    assert story.step().writes == ()
    assert story.step(100_000).writes == ()
    story.present |= clients("later")
    decision = story.step()
    assert reasons(decision) == {"later": "Moved"}
    assert len(decision.writes) == 1
    assert story.where()["later"] == "b"


def test_messages_are_written_in_the_same_order_whatever_the_order_of_moorings() -> None:
    story = GroupStory(member(end("a")))
    for name in ("p", "q", "r"):
        story.make(mooring(name, "x"))
    snapshot = story.snapshot()
    decision = decide_group(snapshot)
    assert len(decision.writes) == 3
    roster = Roster.of(snapshot.roster.present, reversed(snapshot.roster.moorings.values()))
    assert decide_group(snapshot._replace(roster=roster)) == decision


def test_its_mistakes_are_told_before_the_client_is_there() -> None:
    story = GroupStory(member(end("a"), client="Node"))
    story.make(mooring("n1", "x", kind="Node"))
    story.make(mooring("p", "a", kind="Pod"))
    assert len(story.step().writes) == 2
    assert story.of("n1").status.message == "spec.endpoint: there is no endpoint x; there is a"
    assert "spec.client.kind" in (story.of("p").status.message or "")
    assert story.decide().writes == ()


def test_a_client_whose_mooring_names_no_endpoint_gets_one_all_the_same() -> None:
    story = GroupStory(member(end("a")))
    story.make(mooring("p", "x"))
    story.present = clients("p")
    assert reasons(story.step()) == {"p": "Assigned"}
    assert (story.of("p").spec.endpoint, story.where()["p"]) == ("x", "a")
    assert story.decide().writes == ()


def test_a_second_mooring_of_a_client_has_no_say() -> None:
    story = GroupStory(member(end("a"), end("b", takes=False)), present=clients("p"))
    story.step()
    story.make(mooring("p", "b", object_name="another"))
    decision = story.step()
    assert decision.moves == ()
    assert len(decision.writes) == 1
    told = next(each for each in story.moorings if each.metadata.name == "another")
    assert "backend.p" in (told.status.message or "")
    assert story.decide().writes == ()


def test_whoever_has_taken_the_name_of_a_mooring_delays_nobody() -> None:
    story = GroupStory(member(end("a")), present=clients("p"))
    story.make(mooring("another", "a", object_name="backend.p"))
    assert reasons(story.step()) == {"p": "Assigned"}

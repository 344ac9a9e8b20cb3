"""Where the clients of a group are moored, and what moves them."""

from collections import Counter
from typing import Any

import pytest

from moorage.api.contract import CLIENT_LABEL, GROUP_LABEL
from moorage.core.assignment import decide_group
from moorage.core.model import Create, Delete, Patch
from moorage.core.mooring_model import GroupDecision, Moored
from moorage.core.mooring_problems import AWAITED, NOBODY_COUNTS
from testing.moorings import GroupStory, at, clients, drained, end, member, mooring, reasons

PODS = [f"frontend-{number}" for number in range(6)]


def nodes_story(count: int, *names: str, **fields: Any) -> GroupStory:
    """Nodes that kube-proxy moors to endpoints."""
    present = clients(*(f"n{number:02}" for number in range(count)), kind="Node")
    return GroupStory(member(*map(end, names), client="Node", by_kube_proxy=True, **fields), present=present)


# --- New clients ---------------------------------------------------------------------------------------------------


def test_a_new_client_goes_where_the_fewest_are() -> None:
    story = GroupStory(member(end("a"), end("b"), end("c")), present=clients(*PODS))
    decision = story.step()
    assert Counter(story.where().values()) == {"a": 2, "b": 2, "c": 2}
    assert set(reasons(decision).values()) == {"Assigned"}
    assert all(isinstance(write, Create) for write in decision.writes)


def test_an_endpoint_of_more_weight_gets_more_of_them() -> None:
    story = GroupStory(member(end("a", weight=3), end("b")), present=clients(*PODS, "x", "y"))
    story.step()
    assert Counter(story.where().values()) == {"a": 6, "b": 2}


def test_whoever_is_gone_is_no_load() -> None:
    story = GroupStory(member(end("a")), present=clients(*PODS))
    story.step()
    story.present = {}
    story.set(member(end("a"), end("b")))
    story.present = clients("new-1", "new-2")
    story.step()
    assert {story.where()["new-1"], story.where()["new-2"]} == {"a", "b"}


def test_an_endpoint_that_takes_none_gets_none() -> None:
    story = GroupStory(member(end("a", takes=False), end("b")), present=clients(*PODS))
    story.step()
    assert set(story.where().values()) == {"b"}


@pytest.mark.parametrize("number", range(12))
def test_a_rollout_of_two_pods_on_two_endpoints_does_not_end_on_one(number: int) -> None:
    """New pods come before old ones go. Without a look at their owner a quarter of all rollouts would."""
    old = clients("old-1", "old-2", owner="ReplicaSet/old")
    story = GroupStory(member(end("a"), end("b")), present=old)
    story.step()
    new = clients(f"new-{number}", f"new-x{number}", owner="ReplicaSet/new")
    first, second = new
    story.present |= {first: new[first]}
    story.step()
    there = story.where()[first.name]
    gone = next(key for key in old if story.where()[key.name] == there)
    del story.present[gone]
    story.present |= {second: new[second]}
    story.step()
    assert story.where()[second.name] != there


def test_a_node_goes_to_its_zone_where_that_makes_no_difference_to_the_load() -> None:
    ends = [end(name, zone=f"eu-1{name}") for name in "abc"]
    present = clients("n1", kind="Node", zone="eu-1c") | clients("n2", kind="Node", zone="eu-1a")
    story = GroupStory(member(*ends, client="Node"), present=present)
    story.step()
    assert (story.where()["n1"], story.where()["n2"]) == ("c", "a")
    story.present |= clients("n3", kind="Node", zone="eu-1c")
    story.step()
    assert story.where()["n3"] == "b"


def test_which_of_equals_is_told_by_the_clients_name_alone() -> None:
    def first(name: str) -> str | None:
        story = GroupStory(member(*map(end, "abcd")), present=clients(name))
        story.step()
        return story.where()[name]

    firsts = {name: first(name) for name in (f"pod-{number}" for number in range(40))}
    assert firsts == {name: first(name) for name in firsts}
    assert min(Counter(firsts.values()).values()) >= 4


def test_a_client_that_nobody_takes_waits_and_that_is_told() -> None:
    story = GroupStory(member(end("a", takes=False)), present=clients("p"))
    decision = story.step()
    assert story.moorings == []
    (problem,) = decision.moored.problems
    assert problem.reason == "NoEndpointTakes"
    assert "1 pods" not in problem.message
    assert "p" in problem.message
    story.set(member(end("a")))
    assert reasons(story.step()) == {"p": "Assigned"}


def test_what_is_recorded_of_a_new_client() -> None:
    story = GroupStory(member(end("a")), present=clients("frontend-0"))
    story.step()
    (only,) = story.moorings
    assert only.metadata.name == "backend.frontend-0"
    assert only.metadata.labels == {GROUP_LABEL: "backend", CLIENT_LABEL: "pod.frontend-0"}
    assert only.spec.endpoint == only.status.endpoint == only.status.home == "a"
    assert (only.status.since, only.status.reason, only.status.previous) == (at(0), "Assigned", None)


# --- Nobody moves without a cause ----------------------------------------------------------------------------------


def test_an_endpoint_that_is_added_moves_nobody() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients(*PODS))
    story.step()
    story.set(member(end("a"), end("b"), end("c")))
    assert story.step() == GroupDecision((), (), story.decide().moored, None)


def test_a_lost_endpoints_clients_and_no_others_move() -> None:
    story = GroupStory(member(*map(end, "abc")), present=clients(*PODS))
    story.step()
    before = story.where()
    story.set(member(end("a"), end("b", serves=False), end("c")))
    decision = story.step(5)
    assert reasons(decision) == {name: "FailedOver" for name, where in before.items() if where == "b"}
    assert len(decision.writes) == 2
    assert all(isinstance(write, Patch) for write in decision.writes)
    assert Counter(story.where().values()) == {"a": 3, "c": 3}
    assert {each.why for each in decision.moves} == {"b does not serve ExternalService backend"}
    moved = next(each for each in story.moorings if each.status.reason == "FailedOver")
    assert (moved.status.previous, moved.status.home, moved.status.since) == ("b", "b", at(5))
    assert moved.spec.endpoint == moved.status.endpoint
    assert [(each.endpoint, each.reason) for each in moved.status.moves or ()] == [
        (moved.status.endpoint, "FailedOver"),
        ("b", "Assigned"),
    ]


def test_an_endpoint_that_is_gone_is_lost_too() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients(*PODS))
    story.step()
    story.set(member(end("a")))
    assert set(reasons(story.step()).values()) == {"FailedOver"}
    assert set(story.where().values()) == {"a"}


def test_one_that_only_takes_no_new_clients_keeps_those_that_it_has() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients(*PODS))
    story.step()
    story.set(member(end("a"), end("b", takes=False)))
    assert story.step().writes == ()


def test_where_there_is_no_other_endpoint_the_lost_ones_clients_stay_and_that_is_told() -> None:
    story = GroupStory(member(end("a"), end("b", takes=False)), present=clients("p", "q"))
    story.step()
    story.set(member(end("a", serves=False), end("b", takes=False)))
    decision = story.step()
    assert decision.writes == ()
    story.set(member(end("a", serves=False), end("b", serves=False)))
    assert story.step().writes == ()


def test_only_the_last_moves_are_remembered() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p"))
    story.step()
    for number in range(8):
        here = story.where()["p"]
        story.set(member(end("a", serves=here != "a"), end("b", serves=here != "b")))
        assert reasons(story.step(1)) == {"p": "FailedOver"}, number
    moves = story.of("p").status.moves or []
    assert [each.time for each in moves] == [at(second) for second in (8, 7, 6, 5, 4)]


# --- Recovery ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_recovery", "moved"), [("Stay", False), ("Return", True)])
def test_home_outlives_several_failovers(on_recovery: str, moved: bool) -> None:
    def ends(*lost: str) -> None:
        story.set(member(*(end(name, serves=name not in lost) for name in "abc"), on_recovery=on_recovery))

    story = GroupStory(present=clients("p"))
    ends("b", "c")
    story.step()
    for lost in ("a", "ab", "abc", "ac", "a"):
        ends(*lost)
        story.step(1)
    there = story.where()["p"]
    assert there != "a"
    ends()
    decision = story.step(1)
    assert reasons(decision) == ({"p": "Returned"} if moved else {})
    assert story.where()["p"] == ("a" if moved else there)


def test_a_home_that_takes_no_clients_is_not_returned_to() -> None:
    story = GroupStory(member(end("a"), end("b", serves=False), on_recovery="Return"), present=clients("p"))
    story.step()
    story.set(member(end("a", serves=False), end("b"), on_recovery="Return"))
    story.step()
    story.set(member(drained("a", 0), end("b"), on_recovery="Return"))
    assert story.step().writes == ()


def test_who_loses_its_endpoint_when_its_home_is_back_goes_home() -> None:
    story = GroupStory(member(end("a"), end("b", serves=False), end("c", serves=False), on_recovery="Return"))
    story.present = clients("p")
    story.step()
    story.set(member(end("a", serves=False), end("b"), end("c", serves=False), on_recovery="Return"))
    story.step()
    story.set(member(end("a"), end("b", serves=False), end("c"), on_recovery="Return"))
    assert reasons(story.step()) == {"p": "Returned"}


# --- Doubt ---------------------------------------------------------------------------------------------------------


def test_while_a_member_doubts_its_checks_only_people_move_clients() -> None:
    ends = [end("a"), end("b"), end("c")]
    story = GroupStory(member(*ends, on_recovery="Return"), present=clients(*PODS))
    story.step()
    who = next(name for name, where in story.where().items() if where == "a")
    story.set(member(end("a", serves=False), *ends[1:], on_recovery="Return", panic=True))
    assert story.step().writes == ()
    story.edit(who, "b")
    assert reasons(story.step()) == {who: "Moved"}


def test_members_that_do_not_agree_which_endpoint_is_down_move_nobody() -> None:
    story = GroupStory(member(end("a"), end("b")), member(end("a"), end("b"), name="db"), present=clients(*PODS))
    story.step()
    story.set(member(end("a", serves=False), end("b")), member(end("a"), end("b", serves=False), name="db"))
    decision = story.step()
    assert decision.writes == ()
    assert [each.reason for each in decision.moored.problems] == ["GroupPanic"]


def test_from_an_endpoint_that_is_gone_clients_move_also_while_checks_are_doubted() -> None:
    story = GroupStory(member(end("a"), end("b"), end("c")), present=clients(*PODS))
    story.step()
    story.set(member(end("a"), end("b"), panic=True))
    assert set(reasons(story.step()).values()) == {"FailedOver"}


# --- First checks --------------------------------------------------------------------------------------------------


def test_new_clients_wait_for_first_checks_and_are_spread_evenly_then() -> None:
    late = end("b", takes=False)
    story = GroupStory(member(end("a"), late, awaited_seconds=3, beginning=True), present=clients(*PODS))
    decision = story.step()
    assert decision == GroupDecision((), (), Moored("Pod", {}, (), AWAITED), 3)
    story.set(member(end("a"), end("b")))
    decision = story.step()
    assert (decision.again_seconds, decision.moored.pending) == (None, "")
    assert Counter(story.where().values()) == {"a": 3, "b": 3}


def test_first_checks_hold_up_nobody_who_has_an_endpoint_or_is_given_one() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p", "q"))
    story.step()
    old = GroupStory(member(end("a"), end("b")), present=clients("r"))
    old.step()
    lost, left = ("a", "b") if story.where()["p"] == "a" else ("b", "a")
    story.present |= clients("r", "new", "wished")
    story.past = old.moorings
    story.make(mooring("wished", left))
    ends = [end(lost, serves=False), end(left), end("c", takes=False)]
    story.set(member(*ends, awaited_seconds=3, beginning=True))
    decision = story.step()
    expected = {"p": "FailedOver", "wished": "Moved"}
    if old.where()["r"] == left:
        expected["r"] = "Assigned"
    assert reasons(decision) == expected
    assert decision.again_seconds == 3
    assert "new" not in story.where()


@pytest.mark.parametrize("there", ["a", "c"])
def test_clients_of_endpoints_that_were_replaced_wait_for_the_first_checks_of_the_new_ones(there: str) -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients(*PODS))
    story.step()
    story.set(member(end(there), end("d", takes=False), awaited_seconds=3))
    decision = story.step()
    assert (decision.moves, decision.again_seconds) == ((), 3)
    assert (decision.moored.pending, decision.moored.problems) == (AWAITED, ())
    story.set(member(end(there), end("d")))
    assert set(reasons(story.step()).values()) == {"FailedOver"}
    assert Counter(story.where().values()) == {there: 3, "d": 3}


def test_clients_whose_endpoint_fails_do_not_go_to_one_that_is_about_to_be_checked() -> None:
    story = GroupStory(member(end("a"), end("b"), end("c")), present=clients(*PODS))
    story.step()
    story.set(member(end("a", serves=False), end("b", doubted=True), end("c", doubted=True), awaited_seconds=3))
    decision = story.step()
    assert (decision.moves, decision.again_seconds) == ((), 3)
    assert (decision.moored.pending, decision.moored.problems) == (AWAITED, ())
    story.set(member(end("a", serves=False), end("b", doubted=True), end("c")))
    assert set(reasons(story.step()).values()) == {"FailedOver"}
    assert Counter(story.where().values()) == {"b": 2, "c": 4}


def test_first_checks_that_nobody_waits_for_are_no_cause_to_decide_again() -> None:
    story = GroupStory(member(end("a")), present=clients("p"))
    story.step()
    story.set(member(end("a"), end("b", takes=False), awaited_seconds=3, beginning=True))
    decision = story.step()
    assert (decision.again_seconds, decision.moored.pending) == (None, "")


def test_a_new_client_does_not_wait_for_an_endpoint_that_was_added() -> None:
    story = GroupStory(member(end("a"), end("b", takes=False), awaited_seconds=3), present=clients("p"))
    assert reasons(story.step()) == {"p": "Assigned"}


# --- Who has a say -------------------------------------------------------------------------------------------------


def test_while_no_member_counts_nothing_is_done() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients(*PODS))
    moored = story.step().moored
    story.set(member(end("a", serves=False), end("b"), counts=False))
    story.present |= clients("new")
    story.edit(PODS[0], "x")
    decision = story.step(1000)
    assert decision == GroupDecision((), (), moored._replace(pending=NOBODY_COUNTS), None)


def test_one_client_reaches_the_same_endpoint_of_all_members() -> None:
    story = GroupStory(member(end("a"), end("b")), member(end("b"), end("c"), name="db"), present=clients(*PODS))
    story.step()
    assert set(story.where().values()) == {"b"}


def test_without_members_moorings_go_when_their_clients_have_been_absent_long_enough() -> None:
    story = GroupStory(member(end("a")), present=clients("p"))
    story.step()
    story.members, story.present = [], {}
    assert story.step().again_seconds == 300
    assert story.moorings
    story.step(300)
    assert story.moorings == []


def test_a_mooring_of_a_group_that_nobody_is_in_says_so_until_somebody_is() -> None:
    story = GroupStory(present=clients("p"))
    story.make(mooring("p", "a"))
    story.step()
    assert story.of("p").status.message == (
        "spec.group: no ExternalService with sessionAffinity Mooring is in group backend"
    )
    assert story.step(1000).writes == ()
    story.set(member(end("a")))
    assert reasons(story.step()) == {"p": "Moved"}
    assert story.of("p").status.message is None
    story.members, story.present = [], {}
    assert story.step().writes == ()


# --- Moorings whose client is gone ---------------------------------------------------------------------------------


def test_a_mooring_outlives_its_client_by_the_grace_period() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p", "q"))
    story.step()
    del story.present[next(iter(clients("p")))]
    decision = story.step()
    assert (decision.writes, decision.again_seconds) == ((), 300)
    assert story.step(299).writes == ()
    (write,) = story.step(1).writes
    assert isinstance(write, Delete)
    assert set(story.where()) == {"q"}


def test_a_client_that_is_back_in_time_is_where_it_was() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p", "q"))
    story.step()
    story.present.pop(key := next(iter(clients("p"))))
    story.step()
    story.present |= clients("p")
    assert story.step(299).writes == ()
    story.present.pop(key)
    assert story.step(299).writes == (), "absence begins anew"


def test_of_one_that_is_expected_it_stays_for_ever_and_still_leads_slices() -> None:
    story = GroupStory(member(end("a")), present=clients("db-0"))
    story.step()
    story.expected = set(story.present)
    story.present = {}
    decision = story.step(100_000)
    assert decision.writes == ()
    assert decision.moored.at == {"a": ("db-0",)}


def test_an_absent_client_moves_when_it_is_back() -> None:
    story = GroupStory(member(end("a"), end("b", serves=False)), present=clients("p"))
    story.step()
    story.present = {}
    story.set(member(end("a", serves=False), end("b")))
    assert story.step().writes == ()
    story.present = clients("p")
    assert reasons(story.step()) == {"p": "FailedOver"}


def test_with_another_kind_of_client_the_old_moorings_go_and_the_new_ones_come() -> None:
    story = GroupStory(member(end("a"), client="Node"), present=clients("n1", kind="Node"))
    story.step()
    story.set(member(end("a"), client="Zone"))
    story.present = clients("eu-1a", kind="Zone")
    assert reasons(story.step()) == {"eu-1a": "Assigned"}
    story.step(300)
    assert set(story.where()) == {"eu-1a"}


def test_one_that_is_being_deleted_is_not_written() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p"))
    story.step()
    name = story.of("p").metadata.name
    story.cluster.objects["Mooring", name]["metadata"]["deletionTimestamp"] = at(0)
    story.set(member(end("a", serves=False), end("b", serves=False), end("c")))
    decision = story.decide()
    assert (decision.writes, decision.moves) == ((), ())
    story.present = {}
    story.now = 1000
    story.decide()
    story.now = 2000
    assert story.decide().writes == ()


# --- Another group -------------------------------------------------------------------------------------------------


def test_moorings_go_along_to_another_group() -> None:
    story = GroupStory(member(end("a"), end("b")), present=clients("p", "q"))
    story.step()
    new = GroupStory(member(end("a"), end("b"), end("c")), present=clients("p", "q", "r"))
    new.past, new.now = story.moorings, 50
    assert reasons(new.step()) == dict.fromkeys("pqr", "Assigned")
    where = new.where()
    assert {name: where[name] for name in "pq"} == story.where()
    assert where["r"] == "c"
    assert new.of("p").status == story.of("p").status
    assert new.decide().writes == ()


def test_who_has_a_mooring_there_already_keeps_that() -> None:
    story = GroupStory(member(end("a")), present=clients("p"))
    story.step()
    new = GroupStory(member(end("b"), end("a", takes=False)), present=clients("p"))
    new.step()
    new.past = story.moorings
    assert new.step().writes == ()


# --- Namespace -----------------------------------------------------------------------------------------------------


def test_a_namespace_has_one_endpoint_and_the_others_stand_by() -> None:
    story = GroupStory(
        member(end("a"), end("b"), client="Namespace", by_kube_proxy=True),
        present=clients("frontend", kind="Namespace"),
    )
    decision = story.step()
    active = story.where()["frontend"]
    assert active is not None
    assert decision.moored == Moored("Namespace", {active: ("frontend",)})
    other = "b" if active == "a" else "a"
    story.set(member(end(active, serves=False), end(other), client="Namespace", by_kube_proxy=True))
    assert reasons(story.step()) == {"frontend": "FailedOver"}
    story.set(member(end("a"), end("b"), client="Namespace", by_kube_proxy=True))
    assert story.step().writes == ()


# --- Size ----------------------------------------------------------------------------------------------------------


def test_many_clients_are_even_on_many_endpoints() -> None:
    names = [f"b{number:03}" for number in range(200)]
    story = GroupStory(member(*map(end, names)), present=clients(*(f"p{n}" for n in range(2000))))
    decision = story.decide()
    assert len(decision.moves) == 2000
    assert {len(each) for each in decision.moored.at.values()} == {10}
    assert decide_group(story.snapshot()) == decision


def test_a_mooring_of_a_node_that_an_operator_before_this_made_gets_its_labels_once() -> None:
    story = GroupStory(member(end("a"), client="Node"), present=clients("n1", kind="Node"))
    story.step()
    story.cluster.edit("Mooring", "backend.node.n1", {"metadata": {"labels": None}})
    story.step()
    (only,) = story.moorings
    assert only.metadata.labels == {GROUP_LABEL: "backend", CLIENT_LABEL: "node.n1"}
    assert story.decide().writes == ()

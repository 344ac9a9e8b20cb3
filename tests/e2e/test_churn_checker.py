"""A history that keeps every promise is found to, and one that breaks one is found to break that one."""

from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from e2e.churn.checker import RULES, judge, report
from e2e.churn.history import AnyRecord, Down, Edit, Ended, Kernel, Mooring, Run, Slices, Spec, Stall, Up
from tests.support.churned import NODES, SERVICE, Churned

CLIENTS, ENDPOINTS = ("c0", "c1", "c2", "c3"), ("e1", "e2", "e3")


def broken(records: list[AnyRecord]) -> set[str]:
    """The rules that are."""
    return {each.rule for each in judge(records).violations}


def words(story: Churned) -> str:
    return "\n".join(map(str, judge(story.records).violations))


# --- Histories that keep all -------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Churned, str, str], object]] = {
    "connect": lambda story, client, _: story.end(story.connect(client)),
    "hold": lambda story, client, _: story.connect(client, worker=f"long {story.now}"),
    "look": lambda story, *_: story.look(),
    "wait": lambda story, *_: story.later(7),
    "edit": lambda story, client, endpoint: story.edit(client, endpoint),
    "kill": lambda story, _, endpoint: story.kill(endpoint),
    "revive": lambda story, _, endpoint: story.revive(endpoint),
    "remove": lambda story, _, endpoint: story.remove(endpoint),
    "restore": lambda story, _, endpoint: story.restore(endpoint),
    "drain": lambda story, _, endpoint: story.drain(endpoint),
    "restart": lambda story, client, endpoint: story.restart(client, NODES[endpoint == "e1"]),
    "quiet": lambda story, *_: story.quiet(),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(CLIENTS), st.sampled_from(ENDPOINTS))))
def test_a_history_that_keeps_every_promise_is_not_complained_about(steps: list[tuple[str, str, str]]) -> None:
    story = Churned()
    for step, client, endpoint in steps:
        STEPS[step](story, client, endpoint)
    story.quiet()
    assert words(story) == ""


def test_what_it_looked_at_is_counted() -> None:
    story = Churned()
    story.end(story.connect("c0"))
    story.edit("c0", "e3")
    story.kill("e3")
    story.quiet()
    looked_at = judge(story.records).looked_at
    assert looked_at["connections"] == 1
    assert looked_at["moves: Assigned"] == len(CLIENTS)
    assert looked_at["moves: Moved"] == 1
    assert looked_at["moves: FailedOver"] == 2
    assert looked_at["downs: endpoint"] == 1
    assert looked_at["looks into kernels"] == 2 * len(NODES)


def agent(story: Churned) -> None:
    """That of `c0`."""
    story.add(Down(at=0, what="agent", name="n1"))


def api(story: Churned) -> None:
    story.add(Down(at=0, what="api"))


@pytest.mark.parametrize(("down", "up"), [(agent, "agent"), (api, "api")])
@pytest.mark.parametrize(("seconds", "late"), [(60, False), (0, True)], ids=["while-it-is", "long-after"])
def test_where_it_is_down_connections_go_where_the_client_was(
    down: Callable[[Churned], None], up: Literal["agent", "api"], seconds: float, late: bool
) -> None:
    story = Churned()
    former = story.moorings["c0"].endpoint
    down(story)
    story.edit("c0", "e3", after=seconds)
    if late:
        story.add(Up(at=0, what=up, name="n1" if up == "agent" else ""))
        story.later(8)
    story.end(story.connect("c0", former))
    assert broken(story.records) == ({"led"} if late else set())


def test_a_pod_that_has_just_come_back_is_led_by_a_hash_at_first() -> None:
    story = Churned()
    story.restart("c0", "n2")
    story.later(-2.9)
    story.end(story.connect("c0", "e3"))
    assert words(story) == ""


def test_a_machine_that_stands_still_makes_nobody_late() -> None:
    story = Churned()
    former = story.moorings["c0"].endpoint
    story.edit("c0", "e3")
    story.later(8)
    story.end(story.connect("c0", former))
    assert broken(story.records) == {"led"}
    story.records.append(Stall(at=story.now - 0.5, start=story.now - 7.5))
    assert words(story) == ""


def test_while_nobody_leads_an_endpoint_that_fails_stays_in_use() -> None:
    story = Churned()
    story.add(Down(at=0, what="operator"))
    story.add(Down(at=0, what="endpoint", name="e1"))
    story.later(15)
    story.fail("c0")
    story.add(Up(at=0, what="operator"))
    story.later(5)
    story.fail("c0")
    assert words(story) == ""
    story.later(15)
    story.fail("c0")
    assert broken(story.records) == {"answered", "verdicts"}


def test_while_nobody_leads_agents_follow_edits() -> None:
    story = Churned()
    former = story.moorings["c0"].endpoint
    held = story.connect("c0", worker="long")
    story.add(Down(at=0, what="operator"))
    story.later(5)
    story.ask("c0", "e3")
    story.later(0.1)
    story.end(held, "reset")
    story.later(5)
    story.end(story.connect("c0", "e3"))
    assert words(story) == ""
    story.end(story.connect("c0", former))
    assert broken(story.records) == {"led"}


def test_an_edit_that_is_refused_takes_its_client_back() -> None:
    story = Churned()
    former = story.moorings["c0"].endpoint
    story.ask("c0", "e3")
    held = story.connect("c0", "e3", worker="long")
    story.later(0.1)
    story.refuse("c0")
    story.end(held, "reset")
    story.later(5)
    story.end(story.connect("c0", former))
    assert words(story) == ""
    story.end(story.connect("c0", "e3"))
    assert broken(story.records) == {"led"}


def test_what_a_person_asks_for_is_not_to_be_had_while_it_does_not_serve() -> None:
    story = Churned()
    former = story.moorings["c0"].endpoint
    story.remove("e3")
    held = story.connect("c0", worker="long")
    story.ask("c0", "e3")
    story.later(5)
    story.end(story.connect("c0", former))
    assert words(story) == ""
    story.end(held, "reset")
    assert broken(story.records) == {"kept"}


def by_hints(story: Churned) -> Churned:
    """The same Service, carried by kube-proxy."""
    story.records = [replace(each, proxy="kube-proxy") if isinstance(each, Spec) else each for each in story.records]
    return story


def test_kube_proxy_goes_by_what_is_recorded_and_moves_no_open_connection() -> None:
    story = by_hints(Churned())
    former = story.moorings["c0"].endpoint
    held = story.connect("c0", worker="long")
    story.ask("c0", "e3")
    story.later(5)
    story.end(story.connect("c0", former))
    story.moor("c0", "e3", "Moved", home="e3")
    story.later(5)
    story.look()
    story.end(story.connect("c0", "e3"))
    assert words(story) == ""
    story.end(held, "reset")
    assert broken(story.records) == {"kept"}


def test_an_agent_that_is_killed_may_leave_a_connection_where_its_client_was() -> None:
    story = Churned()
    id = story.connect("c0", worker="long")
    story.later(2)
    former = story.moorings["c0"].endpoint
    story.edit("c0", "e3", after=0)
    story.records = [each for each in story.records if not isinstance(each, Ended)]
    story.held[id] = "c0", former
    agent(story)
    story.later(0.5)
    story.add(Up(at=0, what="agent", name="n1"))
    story.later(20)
    story.look()
    assert words(story) == ""


def test_a_connection_fails_while_its_client_is_moved() -> None:
    story = Churned()
    story.edit("c0", "e3")
    story.fail("c0", "reset")
    assert words(story) == ""


def test_a_connection_fails_while_its_endpoint_is_taken_out_of_use() -> None:
    story = Churned()
    story.remove("e1")
    story.fail("c0", "reset")
    assert words(story) == ""
    story.fail("c1", "reset")
    assert broken(story.records) == {"answered"}


def test_a_connection_fails_while_nobody_serves() -> None:
    story = Churned()
    story.add(Slices(at=0, service=SERVICE, serving=[], ready=[]))
    for endpoint in ENDPOINTS:
        story.add(Down(at=0, what="endpoint", name=endpoint))
    story.later(20)
    story.fail("c0")
    assert words(story) == ""


def test_a_connection_of_which_no_end_is_known_is_not_judged() -> None:
    story = Churned()
    story.connect("c0", worker="long")
    story.restart("c0", "n2")
    story.edit("c0", "e3")
    story.later(30)
    assert words(story) == ""


def test_a_client_returns_to_its_home_where_clients_do() -> None:
    story = Churned()
    story.spec = replace(story.spec, returns=True)
    story.add(story.spec)
    story.kill("e1")
    story.later(10)
    story.revive("e1")
    story.move("c0", "e1", "Returned")
    story.quiet()
    assert words(story) == ""


def test_weights_count() -> None:
    story = Churned(clients=0)
    story.spec = replace(story.spec, weights={"e1": 4, "e2": 1, "e3": 1})
    story.add(story.spec)
    story.later(20)
    for number in range(6):
        story.start(f"c{number}", "n1")
    assert [each.endpoint for each in story.moorings.values()] == ["e1", "e2", "e3", "e1", "e1", "e1"]
    assert words(story) == ""


def test_a_kernel_that_nobody_looked_into_is_not_judged_to_be_right() -> None:
    story = Churned()
    assert words(story) == ""
    story.records.append(Run(at=story.now, seed=1, nodes=[*NODES, "n3"]))
    assert broken(story.records) == {"missed"}


@pytest.mark.parametrize(
    ("leads_to", "complaints"), [(["e1"], set()), (["e1", "e2"], {"agreed"}), ([], {"agreed"})], ids=str
)
def test_where_nodes_are_clients_a_kernel_leads_to_the_endpoint_of_its_node(
    leads_to: list[str], complaints: set[str]
) -> None:
    records: list[AnyRecord] = [
        Run(at=1.0, seed=1, nodes=["n1"]),
        Spec(at=2.0, service="bynode", kind="Node", weights={"e1": 1, "e2": 1}, taking=["e1", "e2"]),
        Slices(at=2.0, service="bynode", serving=["e1", "e2"], ready=["e1", "e2"]),
        Mooring(at=3.0, service="bynode", client="Node/n1", requested="e1", endpoint="e1", reason="Assigned"),
        Kernel(at=30.0, node="n1", misses=0, moorings={}, ready={"bynode": leads_to}),
    ]
    assert broken(records) == complaints


def test_a_report_has_counts_and_what_was_broken() -> None:
    story = Churned()
    story.fail("c0")
    lines = report(judge(story.records)).splitlines()
    assert "      1 connections that failed" in lines
    assert "      1 promises broken" in lines
    assert lines[-1].endswith("answered: c0 on n1 was not connected to backend (e1) in 0.0 s: refused")


# --- Histories that break one ------------------------------------------------------------------------------------


def a_connection_is_broken_at_a_healthy_endpoint(story: Churned) -> None:
    story.end(story.connect("c0", took=0.01), "reset")


def a_connection_is_broken_long_before_its_client_is_moved(story: Churned) -> None:
    id = story.connect("c0")
    story.later(5)
    story.end(id, "reset")
    story.later(5)
    story.edit("c0", "e3")


def a_move_breaks_two_connections_one_after_the_other(story: Churned) -> None:
    id, former = story.connect("c0", worker="long"), story.moorings["c0"].endpoint
    story.edit("c0", "e3")
    assert id not in story.held
    again = story.connect("c0", former, worker="long")
    story.later(0.2)
    story.end(again, "reset")


def a_first_mooring_breaks_a_connection(story: Churned) -> None:
    story.moorings["c9"] = replace(story.moorings["c0"], endpoint="e3")
    story.start("c9", "n1")
    id = story.connect("c9")
    story.moor("c9", "e3", "Assigned", previous="")
    story.end(id, "reset")


def a_client_that_is_moved_keeps_its_connection(story: Churned) -> None:
    id = story.connect("c0", worker="long")
    story.later(2)
    story.moorings["c0"] = replace(story.moorings["c0"], requested="e3")
    story.add(Edit(at=0, service=SERVICE, client="Pod/c0", endpoint="e3"))
    story.add(story.moorings["c0"])
    story.moor("c0", "e3", "Moved", home="e3")
    story.later(5)
    story.look()
    assert id in story.held


def a_connection_goes_elsewhere(story: Churned) -> None:
    story.end(story.connect("c0", "e3"))


def a_connection_goes_where_its_client_was_long_ago(story: Churned) -> None:
    former = story.moorings["c0"].endpoint
    story.edit("c0", "e3")
    story.later(4)
    story.end(story.connect("c0", former))


def a_connection_of_a_pod_that_came_back_goes_elsewhere(story: Churned) -> None:
    story.restart("c0", "n2")
    story.later(1)
    story.end(story.connect("c0", "e3"))


def a_connection_goes_to_an_endpoint_that_was_removed(story: Churned) -> None:
    story.remove("e3")
    story.later(5)
    story.start("c9", "n1")
    story.moorings["c9"] = replace(story.moorings["c9"], gone=True)
    story.add(story.moorings["c9"])
    story.later(5)
    story.end(story.connect("c9", "e3"))


def a_connection_is_refused_for_no_reason(story: Churned) -> None:
    story.fail("c0")


def a_connection_is_refused_long_after_an_endpoint_failed(story: Churned) -> None:
    story.kill("e1")
    story.later(10)
    story.fail("c0")


def a_connection_is_refused_by_an_endpoint_where_its_client_is_not(story: Churned) -> None:
    story.alive.discard("e3")
    story.add(Down(at=0, what="endpoint", name="e3"))
    story.later(1)
    story.fail("c0")


def an_endpoint_that_failed_stays_in_use(story: Churned) -> None:
    story.add(Down(at=0, what="endpoint", name="e3"))
    story.later(30)
    story.add(Up(at=0, what="endpoint", name="e3"))


def an_endpoint_is_taken_out_of_use_for_no_reason(story: Churned) -> None:
    story.add(Slices(at=0, service=SERVICE, serving=["e1", "e2"], ready=["e1", "e2"]))
    story.later(0.5)
    story.add(Slices(at=0, service=SERVICE, serving=[*ENDPOINTS], ready=[*ENDPOINTS]))


def a_look_up_misses(story: Churned) -> None:
    story.quiet(misses=1)


def a_kernel_has_a_client_elsewhere(story: Churned) -> None:
    story.later(10)
    kernel = story.kernel("n1")
    kernel.moorings[SERVICE][story.pods["c0"].address] = "e3"
    story.add(kernel)


def a_kernel_lacks_a_client(story: Churned) -> None:
    story.later(10)
    kernel = story.kernel("n1")
    del kernel.moorings[SERVICE][story.pods["c0"].address]
    story.add(kernel)


def a_kernel_has_a_client_that_is_gone(story: Churned) -> None:
    story.later(10)
    kernel = story.kernel("n1")
    kernel.moorings[SERVICE]["10.0.0.200"] = "e1"
    story.add(kernel)


def a_kernel_has_an_endpoint_that_was_lost(story: Churned) -> None:
    story.kill("e3")
    story.later(10)
    kernel = story.kernel("n1")
    kernel.ready[SERVICE].append("e3")
    story.add(kernel)


def a_client_is_assigned_to_an_endpoint_with_more_than_another(story: Churned) -> None:
    story.appear("c9", "n1")
    story.moor("c9", "e1", "Assigned", previous="", home="e1")


def two_clients_come_at_once_to_an_endpoint_with_as_many_as_another(story: Churned) -> None:
    for client in ("c8", "c9"):
        story.appear(client, "n1")
    for client in ("c8", "c9"):
        story.moor(client, "e2", "Assigned", previous="", home="e2")


def a_client_fails_over_to_an_endpoint_that_is_drained(story: Churned) -> None:
    story.drain("e3")
    story.later(20)
    story.alive.discard("e2")
    story.add(Down(at=0, what="endpoint", name="e2"))
    story.later(4)
    story.move("c1", "e3", "FailedOver")


def a_client_moves_without_an_edit(story: Churned) -> None:
    story.move("c0", "e3", "Moved")


def a_client_fails_over_from_a_healthy_endpoint(story: Churned) -> None:
    story.move("c0", "e3", "FailedOver")


def a_client_leaves_an_endpoint_that_is_not_drained(story: Churned) -> None:
    story.move("c0", "e3", "Drained")


def a_client_returns_though_it_should_stay(story: Churned) -> None:
    story.move("c0", "e3", "Returned", home="e3")


def a_client_is_assigned_though_it_was_somewhere(story: Churned) -> None:
    story.move("c0", "e3", "Assigned")


def a_client_moves_without_a_reason(story: Churned) -> None:
    story.move("c0", "e3", "")


def a_move_names_another_endpoint_as_the_former(story: Churned) -> None:
    story.moorings["c0"] = replace(story.moorings["c0"], endpoint="e3")
    story.alive.discard("e1")
    story.add(Down(at=0, what="endpoint", name="e1"))
    story.later(4)
    story.moor("c0", "e3", "FailedOver", previous="e2")


def a_mooring_is_deleted_while_its_client_is_there(story: Churned) -> None:
    story.add(replace(story.moorings["c0"], gone=True))


BREAKS: dict[str, tuple[Callable[[Churned], None], ...]] = {
    "kept": (
        a_connection_is_broken_at_a_healthy_endpoint,
        a_connection_is_broken_long_before_its_client_is_moved,
        a_move_breaks_two_connections_one_after_the_other,
        a_first_mooring_breaks_a_connection,
    ),
    "reset": (a_client_that_is_moved_keeps_its_connection,),
    "led": (
        a_connection_goes_elsewhere,
        a_connection_goes_where_its_client_was_long_ago,
        a_connection_of_a_pod_that_came_back_goes_elsewhere,
    ),
    "served": (a_connection_goes_to_an_endpoint_that_was_removed,),
    "answered": (
        a_connection_is_refused_for_no_reason,
        a_connection_is_refused_long_after_an_endpoint_failed,
        a_connection_is_refused_by_an_endpoint_where_its_client_is_not,
    ),
    "verdicts": (an_endpoint_that_failed_stays_in_use, an_endpoint_is_taken_out_of_use_for_no_reason),
    "missed": (a_look_up_misses,),
    "agreed": (
        a_kernel_has_a_client_elsewhere,
        a_kernel_lacks_a_client,
        a_kernel_has_a_client_that_is_gone,
        a_kernel_has_an_endpoint_that_was_lost,
    ),
    "least": (
        a_client_is_assigned_to_an_endpoint_with_more_than_another,
        two_clients_come_at_once_to_an_endpoint_with_as_many_as_another,
        a_client_fails_over_to_an_endpoint_that_is_drained,
    ),
    "caused": (
        a_client_moves_without_an_edit,
        a_client_fails_over_from_a_healthy_endpoint,
        a_client_leaves_an_endpoint_that_is_not_drained,
        a_client_returns_though_it_should_stay,
        a_client_is_assigned_though_it_was_somewhere,
        a_client_moves_without_a_reason,
        a_move_names_another_endpoint_as_the_former,
        a_mooring_is_deleted_while_its_client_is_there,
    ),
}


def test_there_is_a_broken_history_for_each_rule() -> None:
    assert BREAKS.keys() == RULES.keys()


@pytest.mark.parametrize(
    ("rule", "breaks"),
    [pytest.param(rule, each, id=f"{rule}-{each.__name__}") for rule, breaks in BREAKS.items() for each in breaks],
)
def test_a_promise_that_is_broken_is_found(rule: str, breaks: Callable[[Churned], None]) -> None:
    story = Churned()
    assert words(story) == ""
    breaks(story)
    assert rule in broken(story.records), words(story) or "no complaint"

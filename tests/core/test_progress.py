"""How tools judge an ExternalService, in each state that the operator can leave it in."""

import pytest

from moorage.api.meta import Condition
from moorage.core.progress import TYPES, stalled_by
from testing.gitops import kstatus
from testing.xsvc import LATER, NOW, answers, endpoints, verdicts
from tests.support.judged import FAILED, SILENT, State, changed, of, served, states

STATES = states()
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.what)


def conditions(state: State) -> dict[str, Condition]:
    return {each.type: each for each in state.xsvc.status.conditions or ()}


@each_state
def test_kstatus_tells_current_in_progress_and_failed_right(state: State) -> None:
    assert kstatus(state.json) == state.kstatus


@each_state
def test_at_most_one_of_stalled_and_reconciling_is_there_and_says_why(state: State) -> None:
    found = [each for each in state.xsvc.status.conditions or () if each.type in TYPES]
    assert len(found) <= 1
    for each in found:
        assert each.status == "True", "they are left out where they do not hold"
        assert each.message
        causes = [one for type_, one in conditions(state).items() if type_ not in TYPES]
        assert (each.reason, each.message) in [(one.reason, one.message) for one in causes]


def test_a_stall_that_is_over_leaves_nothing_behind() -> None:
    story = served()
    story.change(drain=None, endpoints=[])
    story.do(story.decide_from((), {}))
    assert kstatus({"metadata": {}, "status": {"conditions": [{"type": "Stalled", "status": "True"}]}}) == "Failed"
    assert [each.type for each in story.xsvc.status.conditions or ()][-1] == "Stalled"
    story.do(story.decide_from(answers(endpoints(2)), verdicts(endpoints(2))))
    assert [each.type for each in story.xsvc.status.conditions or ()] == ["Accepted", "Resolved", "Healthy", "Ready"]


def test_the_time_of_a_stall_is_that_of_its_beginning() -> None:
    story = served()
    story.change(endpoints=[])
    story.do(story.decide_from((), {}))
    story.do(story.decide_from((), {}, LATER))
    (stalled,) = (each for each in story.xsvc.status.conditions or () if each.type == "Stalled")
    assert (stalled.last_transition_time, stalled.observed_generation) == (NOW, 2)


def test_what_is_waited_for_is_told() -> None:
    waits = {each.type: each for each in of(SILENT).status.conditions or ()}["Reconciling"]
    assert (waits.reason, waits.message) == ("Pending", "cluster/backend has not answered yet")
    waits = {each.type: each for each in of(FAILED).status.conditions or ()}["Reconciling"]
    assert waits.reason == "SecretMissing"


def test_a_source_whose_endpoints_are_in_use_is_not_waited_for() -> None:
    """Or every restart of the operator, and every outage of a source, would alarm whoever deploys."""
    restarted = changed([SILENT._replace(source="addresses")])
    assert [each.type for each in restarted.status.conditions or ()] == ["Accepted", "Resolved", "Healthy", "Ready"]


def test_nothing_stalls_where_nothing_is_known() -> None:
    assert stalled_by({}) is None
